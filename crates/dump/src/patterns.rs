//! Which relations pg_dump takes, in SQL: its name patterns and its rules of inclusion.

use crate::{Selection, quote_literal};

/// A condition on `c` and `n`: what pg_dump takes of the database (selectDumpableTable and selectDumpableNamespace in
/// pg_dump.c). Members of extensions are left out, their configuration tables are not.
pub(crate) fn dumped(selection: &Selection) -> String {
    let mut conditions = vec![
        "c.relpersistence <> 't'".to_owned(),
        "NOT EXISTS (SELECT FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid \
         WHERE d.classid = 'pg_catalog.pg_class'::pg_catalog.regclass AND d.objid = c.oid AND d.deptype = 'e' \
         AND d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass AND c.oid <> ALL (coalesce(e.extconfig, '{}')))"
            .to_owned(),
    ];
    if let Some(tables) = union(selection, &["table"], &["table-and-children"]) {
        conditions.push(format!("c.oid IN ({tables})"));
    } else {
        let schemas =
            |option| any(selection.values(option).map(|pattern| matches("n.nspname", &Pattern::parse(pattern).name)));
        if let Some(included) = schemas("schema") {
            conditions.push(included);
        } else {
            conditions.push("n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'".to_owned());
            if let Some(excluded) = schemas("exclude-schema") {
                conditions.push(format!("NOT {excluded}"));
            }
        }
    }
    if let Some(tables) = union(selection, &["exclude-table"], &["exclude-table-and-children"]) {
        conditions.push(format!("c.oid NOT IN ({tables})"));
    }
    conditions.join(" AND ")
}

fn any(conditions: impl Iterator<Item = String>) -> Option<String> {
    let conditions: Vec<String> = conditions.collect();
    (!conditions.is_empty()).then(|| format!("({})", conditions.join(" OR ")))
}

/// A query for the OIDs that the patterns of some options match, children with those of `trees`.
pub(crate) fn union(selection: &Selection, alone: &[&str], trees: &[&str]) -> Option<String> {
    let matching = |pattern: &str| {
        let pattern = Pattern::parse(pattern);
        let place = pattern
            .schema
            .as_ref()
            .map_or_else(|| "pg_catalog.pg_table_is_visible(x.oid)".to_owned(), |schema| matches("y.nspname", schema));
        format!(
            "SELECT x.oid FROM pg_catalog.pg_class x JOIN pg_catalog.pg_namespace y ON y.oid = x.relnamespace \
             WHERE x.relkind IN ('r', 'p', 'S', 'v', 'm', 'f') AND {} AND {place}",
            matches("x.relname", &pattern.name)
        )
    };
    let with_children = |pattern: &str| {
        format!(
            "(WITH RECURSIVE tree (oid) AS ({} UNION SELECT i.inhrelid FROM tree JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.oid) \
             SELECT oid FROM tree)",
            matching(pattern)
        )
    };
    let mut parts: Vec<String> = Vec::new();
    for option in alone {
        parts.extend(selection.values(option).map(matching));
    }
    for option in trees {
        parts.extend(selection.values(option).map(with_children));
    }
    (!parts.is_empty()).then(|| parts.join(" UNION ALL "))
}

fn matches(column: &str, expression: &str) -> String {
    format!("{column} OPERATOR(pg_catalog.~) {} COLLATE pg_catalog.default", quote_literal(expression))
}

/// A name pattern of psql and pg_dump as regular expressions (processSQLNamePattern in string_utils.c).
#[derive(Debug, PartialEq, Eq)]
struct Pattern {
    schema: Option<String>,
    name: String,
}

impl Pattern {
    fn parse(pattern: &str) -> Self {
        let mut parts = vec![String::new()];
        let mut quoted = false;
        let mut rest = pattern.chars().peekable();
        while let Some(c) = rest.next() {
            let Some(part) = parts.last_mut() else { break };
            match c {
                '"' if quoted && rest.peek() == Some(&'"') => {
                    rest.next();
                    part.push('"');
                }
                '"' => quoted = !quoted,
                '.' if !quoted => parts.push(String::new()),
                '*' if !quoted => part.push_str(".*"),
                '?' if !quoted => part.push('.'),
                '$' => part.push_str("\\$"),
                '[' if !quoted && rest.peek() == Some(&']') => part.push_str("\\["),
                '|' | '*' | '+' | '?' | '(' | ')' | '[' | ']' | '{' | '}' | '.' | '^' | '\\' if quoted => {
                    part.push('\\');
                    part.push(c);
                }
                _ if quoted => part.push(c),
                _ => part.extend(c.to_lowercase()),
            }
        }
        let anchored = |part: String| format!("^({part})$");
        let name = anchored(parts.pop().unwrap_or_default());
        Self { schema: parts.pop().map(anchored), name }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_become_regular_expressions_as_psql_makes_them() {
        for (pattern, schema, name) in [
            ("users", None, "^(users)$"),
            ("Public.Us*", Some("^(public)$"), "^(us.*)$"),
            ("\"Odd.Name*\"", None, "^(Odd\\.Name\\*)$"),
            ("a?b|c", None, "^(a.b|c)$"),
            ("\"say \"\"hi\"\"\"", None, "^(say \"hi\")$"),
            ("price$", None, "^(price\\$)$"),
            ("db.s.t", Some("^(s)$"), "^(t)$"),
            ("array[]", None, "^(array\\[])$"),
        ] {
            let expected = Pattern { schema: schema.map(str::to_owned), name: name.to_owned() };
            assert_eq!(Pattern::parse(pattern), expected, "{pattern}");
        }
    }
}
