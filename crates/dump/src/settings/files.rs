//! libpq's password file and service file.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use secrecy::SecretString;

use super::conninfo::Pairs;
use crate::{Error, Result};

/// A password file that was read, or the reason why it is not used.
#[derive(Default)]
pub(super) struct PasswordFile {
    text: String,
}

impl PasswordFile {
    /// Reads it. One that is not there is empty; one that others can read is not used, with a notice.
    pub(super) fn read(path: &Path, notices: &mut Vec<String>) -> Result<Self> {
        let Ok(metadata) = std::fs::metadata(path) else { return Ok(Self::default()) };
        if !metadata.is_file() {
            notices.push(format!("password file {} is not used: it is not a plain file", path.display()));
            return Ok(Self::default());
        }
        if metadata.permissions().mode() & 0o077 != 0 {
            notices.push(format!(
                "password file {} is not used: group or others have access to it; chmod 0600 it",
                path.display()
            ));
            return Ok(Self::default());
        }
        match std::fs::read(path) {
            Ok(bytes) => Ok(Self { text: String::from_utf8_lossy(&bytes).into_owned() }),
            Err(source) if source.kind() == io::ErrorKind::PermissionDenied => {
                notices.push(format!("password file {} is not used: it cannot be read", path.display()));
                Ok(Self::default())
            }
            Err(source) => Err(Error::io(format!("read the password file {}", path.display()), source)),
        }
    }

    #[cfg(test)]
    pub(super) fn from_text(text: &str) -> Self {
        Self { text: text.to_owned() }
    }

    /// The password of the first line that fits; `hosts` are the names by which the server is known.
    pub(super) fn find(&self, hosts: &[&str], port: u16, database: &str, user: &str) -> Option<SecretString> {
        let port = port.to_string();
        self.text.lines().filter(|line| !line.starts_with('#')).find_map(|line| {
            let rest = hosts.iter().find_map(|host| field_matches(line, host))?;
            let rest = field_matches(rest, &port)?;
            let rest = field_matches(rest, database)?;
            let password = unescape(field_matches(rest, user)?);
            (!password.is_empty()).then(|| password.into())
        })
    }
}

/// If the line's first field is `*` or means `wanted`, what follows its colon.
fn field_matches<'l>(line: &'l str, wanted: &str) -> Option<&'l str> {
    if let Some(rest) = line.strip_prefix("*:") {
        return Some(rest);
    }
    let mut expected = wanted.chars();
    let mut characters = line.char_indices();
    while let Some((at, character)) = characters.next() {
        let meant = match character {
            ':' => return expected.next().is_none().then(|| &line[at + 1..]),
            '\\' => characters.next().map_or('\\', |(_, escaped)| escaped),
            other => other,
        };
        if expected.next() != Some(meant) {
            return None;
        }
    }
    None
}

/// The field at the beginning of `text`, without its escapes.
fn unescape(text: &str) -> String {
    let mut plain = String::new();
    let mut characters = text.chars();
    while let Some(character) = characters.next() {
        match character {
            ':' => break,
            '\\' => plain.push(characters.next().unwrap_or('\\')),
            other => plain.push(other),
        }
    }
    plain
}

/// A field of a password file.
pub(super) fn escape(text: &str) -> String {
    text.replace('\\', "\\\\").replace(':', "\\:")
}

/// The parameters of a service: the user's file first, then the system's.
pub(super) fn read_service(service: &str, files: &[PathBuf]) -> Result<Pairs> {
    for file in files {
        let bytes = match std::fs::read(file) {
            Ok(bytes) => bytes,
            Err(source) if source.kind() == io::ErrorKind::NotFound => continue,
            Err(source) => return Err(Error::io(format!("read the service file {}", file.display()), source)),
        };
        if let Some(pairs) = find_service(service, &String::from_utf8_lossy(&bytes), file)? {
            return Ok(pairs);
        }
    }
    Err(Error::setting("service", format!("{service} is defined in no service file")))
}

pub(super) fn find_service(service: &str, text: &str, file: &Path) -> Result<Option<Pairs>> {
    let mut pairs: Option<Pairs> = None;
    for (number, line) in text.lines().enumerate() {
        let wrong = |problem: &str| Err(Error::setting(format!("{}, line {}", file.display(), number + 1), problem));
        let line = line.trim_end().trim_start_matches([' ', '\t']);
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        if let Some(section) = line.strip_prefix('[') {
            if pairs.is_some() {
                break;
            }
            if section.strip_suffix(']').unwrap_or(section) == service {
                pairs = Some(Pairs::new());
            }
            continue;
        }
        let Some(pairs) = &mut pairs else { continue };
        if line.starts_with("ldap") && !line.contains('=') || line.starts_with("ldap://") {
            return wrong("services from LDAP are not supported");
        }
        match line.split_once('=') {
            Some(("service" | "servicefile", _)) => return wrong("a service cannot name another service"),
            Some((name, value)) => {
                // In a service file the first of two wins.
                if !pairs.iter().any(|(known, _)| known == name) {
                    pairs.push((name.to_owned(), value.to_owned()));
                }
            }
            None => return wrong("is not key=value"),
        }
    }
    Ok(pairs)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use secrecy::ExposeSecret;

    use super::*;

    fn found(text: &str, hosts: &[&str], database: &str, user: &str) -> Option<String> {
        PasswordFile::from_text(text)
            .find(hosts, 5432, database, user)
            .map(|password| password.expose_secret().to_owned())
    }

    #[test]
    fn password_file_rules() {
        let file = "# comment:5432:app:ada:no\n\
                    other:5432:app:ada:wrong\n\
                    db:5433:app:ada:wrong port\n\
                    db:*:app:ada:plain\n\
                    db:5432:*:col\\:on:a\\:b\\\\c\n\
                    db:5432:*:tail:pass word :ignored\n\
                    *:*:*:empty:\n\
                    *:*:*:empty:later\n\
                    /run/pg:5432:*:*:by path\n\
                    localhost:*:*:*:local";
        let cases: &[(&[&str], &str, &str, Option<&str>)] = &[
            (&["db"], "app", "ada", Some("plain")),
            (&["db"], "any", "col:on", Some("a:b\\c")),
            (&["db"], "any", "tail", Some("pass word ")),
            (&["db"], "any", "empty", Some("later")),
            (&["db"], "any", "nobody", None),
            (&["d"], "app", "ada", None),
            (&["dbx"], "app", "ada", None),
            (&["/run/pg"], "app", "eve", Some("by path")),
            (&["/tmp", "localhost"], "app", "eve", Some("local")),
        ];
        for (hosts, database, user, expected) in cases {
            assert_eq!(found(file, hosts, database, user).as_deref(), *expected, "{hosts:?} {database} {user}");
        }
    }

    #[test]
    fn services() {
        let text = "# all\n[other]\nhost=o\n\n[mine]\n  host=db.example.org  \nport=5433\nport=1\n#x\ndbname=a=b\n[mine]\nuser=late\n";
        let pairs = find_service("mine", text, Path::new("f")).unwrap().unwrap();
        let expected = [("host", "db.example.org"), ("port", "5433"), ("dbname", "a=b")];
        assert_eq!(pairs, expected.map(|(name, value)| (name.to_owned(), value.to_owned())));
        assert!(find_service("none", text, Path::new("f")).unwrap().is_none());
        for bad in ["[s]\nhost\n", "[s]\nservice=x\n", "[s]\nldap://h/x\n"] {
            let error = find_service("s", bad, Path::new("/etc/f")).unwrap_err();
            assert!(error.to_string().starts_with("connection setting /etc/f, line 2"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn escaped_fields_are_found_again(user in "[^\n\r\0]{1,20}", database in "[^\n\r\0]{1,20}", password in "[^\n\r\0]{1,40}") {
            let line = format!("{}:5432:{}:{}:{}", escape("h:1"), escape(&database), escape(&user), escape(&password));
            prop_assume!(!line.starts_with('#') && user != "*" && database != "*");
            prop_assert_eq!(found(&line, &["h:1"], &database, &user), Some(password));
        }

        #[test]
        fn any_text_is_survived(text in "\\PC{0,200}", host in "\\PC{0,20}") {
            let _ = found(&text, &[&host], "d", "u");
            let _ = find_service(&host, &text, Path::new("f"));
        }
    }
}
