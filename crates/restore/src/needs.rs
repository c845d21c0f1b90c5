//! What an archive needs of a server and of the role that restores it, told from its table of contents.

use std::collections::BTreeSet;

use pgkeep_archive::{Toc, TocEntry};

use crate::lists::Lists;
use crate::survey::TargetFacts;

/// Roles, extensions and tablespaces that the listed entries name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    /// Owners.
    pub(crate) owners: BTreeSet<String>,
    /// Whom something is granted to, or revoked from.
    pub(crate) grantees: BTreeSet<String>,
    /// Extensions.
    pub(crate) extensions: BTreeSet<String>,
    /// Tablespaces.
    pub(crate) tablespaces: BTreeSet<String>,
}

impl Needs {
    /// Of the entries in `lists`.
    pub(crate) fn of(toc: &Toc, lists: &Lists) -> Self {
        let mut needs = Self::default();
        let listed = lists.before.iter().chain(&lists.after).filter_map(|&id| toc.entry(id));
        for entry in listed {
            if let Some(owner) = entry.owner.as_ref().filter(|owner| !owner.is_empty()) {
                needs.owners.insert(owner.lossy());
            }
            if let Some(space) = entry.tablespace.as_ref().filter(|space| !space.is_empty()) {
                needs.tablespaces.insert(space.lossy());
            }
            match entry.desc.as_str() {
                "ACL" | "DEFAULT ACL" => needs.grantees.extend(grantees(&entry.definition.lossy())),
                "EXTENSION" => {
                    needs.extensions.insert(entry.tag.lossy());
                }
                _ => {}
            }
        }
        needs
    }
}

/// The roles that GRANT and REVOKE statements (as pg_dump writes them, one a line) name, PUBLIC left out.
pub(crate) fn grantees(sql: &str) -> Vec<String> {
    let mut roles = Vec::new();
    for statement in sql.lines() {
        let statement = statement.trim_end().trim_end_matches(';');
        let statement = statement.strip_suffix(" WITH GRANT OPTION").unwrap_or(statement);
        let word = if statement.contains("REVOKE ") { " FROM " } else { " TO " };
        let default = statement.strip_prefix("ALTER DEFAULT PRIVILEGES FOR ROLE ");
        if let Some((role, _)) = default.and_then(identifier) {
            roles.push(role);
        }
        // The last one: the object's own name comes before, in quotes at the most.
        if let Some(at) = statement.rfind(word)
            && let Some((role, rest)) = identifier(&statement[at + word.len()..])
            && rest.is_empty()
            && role != "PUBLIC"
        {
            roles.push(role);
        }
    }
    roles
}

/// An identifier at the beginning of `text`, without its quotes, and what follows.
pub(crate) fn identifier(text: &str) -> Option<(String, &str)> {
    if let Some(quoted) = text.strip_prefix('"') {
        let mut name = String::new();
        let mut characters = quoted.char_indices().peekable();
        while let Some((at, character)) = characters.next() {
            if character != '"' {
                name.push(character);
            } else if characters.peek().is_some_and(|&(_, next)| next == '"') {
                name.push('"');
                characters.next();
            } else {
                return Some((name, &quoted[at + 1..]));
            }
        }
        return None;
    }
    let end = text.find(|c: char| !(c.is_alphanumeric() || c == '_' || c == '$')).unwrap_or(text.len());
    (end > 0).then(|| (text[..end].to_owned(), &text[end..]))
}

/// What a role that is no superuser cannot restore, one line each.
pub(crate) fn beyond(toc: &Toc, lists: &Lists, facts: &TargetFacts, owners: bool) -> Vec<String> {
    let role = &facts.role;
    if role.superuser {
        return Vec::new();
    }
    let mut lines = Vec::new();
    let listed = lists.before.iter().chain(&lists.after).filter_map(|&id| toc.entry(id));
    for entry in listed {
        if let Some(why) = needs_superuser(entry, facts) {
            lines.push(format!("{} ({why})", entry.title()));
        }
    }
    if owners {
        let needs = Needs::of(toc, lists);
        // Whoever owns the database is a member of pg_database_owner by that.
        let others = needs.owners.iter().filter(|owner| {
            facts.roles.contains(*owner) && !facts.member_of.contains(*owner) && *owner != "pg_database_owner"
        });
        for owner in others {
            lines.push(format!(
                "objects of {owner} (role {} is no member of it; grant it, or pass --no-owner)",
                role.name
            ));
        }
    }
    lines
}

fn needs_superuser(entry: &TocEntry, facts: &TargetFacts) -> Option<&'static str> {
    let definition = entry.definition.lossy();
    match entry.desc.as_str() {
        "EVENT TRIGGER" => Some("only superusers create event triggers"),
        "PUBLICATION" if definition.contains(" FOR ALL TABLES") => Some("only superusers publish all tables"),
        "PUBLICATION TABLES IN SCHEMA" => Some("only superusers publish whole schemas"),
        "SUBSCRIPTION" if !facts.role.create_subscriptions => Some("needs pg_create_subscription or a superuser"),
        "FOREIGN DATA WRAPPER" => Some("only superusers create foreign data wrappers"),
        "ACCESS METHOD" => Some("only superusers create access methods"),
        "FUNCTION" | "PROCEDURE" | "AGGREGATE"
            if definition.contains("LANGUAGE c ")
                || definition.contains("LANGUAGE internal")
                || definition.contains("LANGUAGE c\n") =>
        {
            Some("only superusers create functions in C")
        }
        "TYPE" if definition.contains("INTERNALLENGTH") => Some("only superusers create base types"),
        "OPERATOR CLASS" | "OPERATOR FAMILY" => Some("only superusers create operator classes"),
        "TEXT SEARCH PARSER" | "TEXT SEARCH TEMPLATE" => Some("only superusers create it"),
        "PROCEDURAL LANGUAGE" if !definition.contains("TRUSTED") => Some("only superusers create untrusted languages"),
        "EXTENSION" => match facts.extensions.get(&entry.tag.lossy()) {
            Some((_, false)) => Some("only superusers create this extension"),
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grantees_are_the_last_word() {
        let sql = "REVOKE ALL ON TABLE public.\"x TO y\" FROM \"App Owner\";\n\
                   GRANT SELECT ON TABLE public.t TO PUBLIC;\n\
                   GRANT SELECT(a),UPDATE(b) ON TABLE public.t TO reader WITH GRANT OPTION;\n\
                   ALTER DEFAULT PRIVILEGES FOR ROLE app IN SCHEMA public GRANT SELECT ON TABLES TO \"we\"\"ird\";\n";
        assert_eq!(grantees(sql), ["App Owner", "reader", "app", "we\"ird"]);
    }

    #[test]
    fn identifiers_lose_their_quotes() {
        assert_eq!(identifier("abc def"), Some(("abc".to_owned(), " def")));
        assert_eq!(identifier("\"a\"\"b\".c"), Some(("a\"b".to_owned(), ".c")));
        assert_eq!(identifier(""), None);
        assert_eq!(identifier("\"open"), None);
    }
}
