//! Connection strings: URLs and `key=value` (libpq's conninfo_uri_parse and conninfo_parse in fe-connect.c).
//!
//! No error repeats any part of the string except parameter names: a password with a character that should have been
//! percent-encoded ends up anywhere.

use crate::{Error, Result};

/// Parameters in the order in which they stand; a later one replaces an earlier one of the same name.
pub(crate) type Pairs = Vec<(String, String)>;

const WHAT: &str = "string";

/// Takes a connection string apart. An empty one is no parameters.
pub(crate) fn parse(conninfo: &str) -> Result<Pairs> {
    if conninfo.contains('\0') {
        return Err(Error::setting(WHAT, "holds a NUL character"));
    }
    if let Some(rest) = conninfo.strip_prefix("postgresql://").or_else(|| conninfo.strip_prefix("postgres://")) {
        return parse_url(rest);
    }
    if let Some((scheme, _)) = conninfo.split_once("://")
        && !scheme.contains('=')
    {
        return Err(Error::setting(
            WHAT,
            "begins with another scheme than postgresql:// or postgres:// (what only a driver knows, as in postgresql+asyncpg:// or jdbc:, must go)",
        ));
    }
    parse_key_value(conninfo)
}

/// Whether a URL has an `@` that does not end user and password: the sign of a password that needs percent-encoding.
pub(crate) fn has_stray_at(conninfo: &str) -> bool {
    let Some((_, rest)) = conninfo.split_once("://") else { return false };
    let authority = rest.split('/').next().unwrap_or(rest);
    let signs = rest.matches('@').count();
    if authority.contains('@') { signs > 1 } else { signs > 0 }
}

fn parse_url(rest: &str) -> Result<Pairs> {
    let mut pairs = Pairs::new();
    let authority_end = rest.find('/').unwrap_or(rest.len());
    let mut rest = rest;
    if let Some(at) = rest[..authority_end].find('@') {
        let credentials = &rest[..at];
        let (user, password) = credentials.split_once(':').unwrap_or((credentials, ""));
        for (name, value) in [("user", user), ("password", password)] {
            if !value.is_empty() {
                pairs.push((name.to_owned(), decode(value, name)?));
            }
        }
        rest = &rest[at + 1..];
    }

    let (mut hosts, mut ports) = (Vec::new(), Vec::new());
    loop {
        let host = if let Some(inside) = rest.strip_prefix('[') {
            let end = inside.find(']').ok_or_else(|| Error::setting("host", "has a `[` without its `]`"))?;
            if end == 0 {
                return Err(Error::setting("host", "has an empty IPv6 address"));
            }
            rest = &inside[end + 1..];
            if !(rest.is_empty() || rest.starts_with([':', '/', '?', ','])) {
                return Err(Error::setting("host", "has something between `]` and the port"));
            }
            &inside[..end]
        } else {
            let end = rest.find([':', '/', '?', ',']).unwrap_or(rest.len());
            let host = &rest[..end];
            rest = &rest[end..];
            host
        };
        let mut port = "";
        if let Some(after) = rest.strip_prefix(':') {
            let end = after.find(['/', '?', ',']).unwrap_or(after.len());
            port = &after[..end];
            rest = &after[end..];
        }
        hosts.push(host);
        ports.push(port);
        match rest.strip_prefix(',') {
            Some(next) => rest = next,
            None => break,
        }
    }
    if hosts.iter().any(|host| !host.is_empty()) || hosts.len() > 1 {
        pairs.push(("host".to_owned(), decode(&hosts.join(","), "host")?));
    }
    if ports.iter().any(|port| !port.is_empty()) {
        pairs.push(("port".to_owned(), decode(&ports.join(","), "port")?));
    }

    if let Some(path) = rest.strip_prefix('/') {
        let end = path.find('?').unwrap_or(path.len());
        if end > 0 {
            pairs.push(("dbname".to_owned(), decode(&path[..end], "dbname")?));
        }
        rest = &path[end..];
    }
    if let Some(query) = rest.strip_prefix('?') {
        parse_query(query, &mut pairs)?;
    }
    Ok(pairs)
}

fn parse_query(query: &str, pairs: &mut Pairs) -> Result<()> {
    for parameter in query.split('&').filter(|parameter| !parameter.is_empty()) {
        let (name, value) = parameter
            .split_once('=')
            .ok_or_else(|| Error::setting(WHAT, "has a parameter without `=` after the `?`"))?;
        let name = decode(name, WHAT)?;
        if value.contains('=') {
            return Err(Error::setting(name, "has a second `=`, which must be written %3D"));
        }
        let value = decode(value, &name)?;
        // JDBC's way of asking for TLS, which libpq takes too.
        if name == "ssl" {
            if value != "true" {
                return Err(Error::setting(name, "is only understood as ssl=true; use sslmode"));
            }
            pairs.push(("sslmode".to_owned(), "require".to_owned()));
            continue;
        }
        pairs.push((name, value));
    }
    Ok(())
}

fn decode(text: &str, parameter: &str) -> Result<String> {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] != b'%' {
            decoded.push(bytes[at]);
            at += 1;
            continue;
        }
        let digit = |offset: usize| bytes.get(at + offset).and_then(|byte| char::from(*byte).to_digit(16));
        let byte = match (digit(1), digit(2)) {
            (Some(high), Some(low)) => (high * 16 + low) as u8,
            _ => {
                return Err(Error::setting(
                    parameter,
                    "has a `%` without two hexadecimal digits; a percent sign is written %25",
                ));
            }
        };
        if byte == 0 {
            return Err(Error::setting(parameter, "holds a NUL character (%00)"));
        }
        decoded.push(byte);
        at += 3;
    }
    String::from_utf8(decoded).map_err(|_| Error::setting(parameter, "is not UTF-8 once it is decoded"))
}

fn parse_key_value(conninfo: &str) -> Result<Pairs> {
    let mut pairs = Pairs::new();
    let mut rest = conninfo.trim_start_matches(is_space);
    while !rest.is_empty() {
        let name_end = rest.find(|c| c == '=' || is_space(c)).unwrap_or(rest.len());
        let name = &rest[..name_end];
        let after = rest[name_end..].trim_start_matches(is_space);
        let Some(value) = after.strip_prefix('=') else {
            return Err(Error::setting(
                WHAT,
                "is neither a URL (postgresql://user@host/database) nor key=value: a word is not followed by `=`",
            ));
        };
        if name.is_empty() {
            return Err(Error::setting(WHAT, "has a `=` without a parameter before it"));
        }
        let (value, after) = key_value_value(value.trim_start_matches(is_space), name)?;
        pairs.push((name.to_owned(), value));
        rest = after.trim_start_matches(is_space);
    }
    Ok(pairs)
}

/// The value at the beginning of `text`, and what follows it.
fn key_value_value<'t>(text: &'t str, name: &str) -> Result<(String, &'t str)> {
    let mut value = String::new();
    let (quoted, body) = match text.strip_prefix('\'') {
        Some(body) => (true, body),
        None => (false, text),
    };
    let mut characters = body.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '\'' if quoted => return Ok((value, &body[at + 1..])),
            '\\' => value.extend(characters.next().map(|(_, escaped)| escaped)),
            space if !quoted && is_space(space) => return Ok((value, &body[at..])),
            other => value.push(other),
        }
    }
    if quoted {
        return Err(Error::setting(name, "has a quoted value without its closing quote"));
    }
    Ok((value, ""))
}

/// As C's isspace in the C locale.
fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\r' | '\x0b' | '\x0c')
}
