//! Every option of pg_dump, and what is done with it.

use crate::{Error, Result};

/// What is done with an option.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Rule {
    /// Passed on.
    Pass,
    /// Passed on, with a caution.
    Caution(&'static str),
    /// Left out: it means nothing here.
    Drop(&'static str),
    /// Translated.
    Format,
    Jobs,
    Compress,
    LockWait,
    /// Refused.
    Refuse(&'static str),
}

#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) long: &'static str,
    pub(crate) short: Option<char>,
    pub(crate) value: bool,
    /// First pg_dump major that knows it; 0 where all that we use do.
    pub(crate) since: u32,
    pub(crate) rule: Rule,
}

const fn known(long: &'static str, short: Option<char>, value: bool, since: u32, rule: Rule) -> Known {
    Known { long, short, value, since, rule }
}

const AT_RESTORE: &str = "an archive holds it either way; choose when restoring";
const NOT_ARCHIVE: &str = "it shapes SQL scripts, not archives";
const CONNECTION: &str = "the connection comes from the connection settings";
const INSERTS: &str =
    "rows written as INSERT statements can be neither counted nor proven; the archive holds COPY data";
const PARTIAL: &str = "the backup is not complete and cannot be restored by itself";
const NO_DATA: &str = "the backup holds no rows";
const VALUE: bool = true;
const FLAG: bool = false;

/// Every option of pg_dump 15 to 18.
pub(crate) const OPTIONS: &[Known] = &[
    // which objects
    known("table", Some('t'), VALUE, 0, Rule::Pass),
    known("exclude-table", Some('T'), VALUE, 0, Rule::Pass),
    known("table-and-children", None, VALUE, 16, Rule::Pass),
    known("exclude-table-and-children", None, VALUE, 16, Rule::Pass),
    known("schema", Some('n'), VALUE, 0, Rule::Pass),
    known("exclude-schema", Some('N'), VALUE, 0, Rule::Pass),
    known("extension", Some('e'), VALUE, 0, Rule::Pass),
    known("exclude-extension", None, VALUE, 17, Rule::Pass),
    known("filter", None, VALUE, 17, Rule::Pass),
    known("strict-names", None, FLAG, 0, Rule::Pass),
    // which of their data
    known("exclude-table-data", None, VALUE, 0, Rule::Pass),
    known("exclude-table-data-and-children", None, VALUE, 16, Rule::Pass),
    known("include-foreign-data", None, VALUE, 0, Rule::Pass),
    known("no-unlogged-table-data", None, FLAG, 0, Rule::Pass),
    known("blobs", Some('b'), FLAG, 0, Rule::Pass),
    known("large-objects", None, FLAG, 16, Rule::Pass),
    known("no-blobs", Some('B'), FLAG, 0, Rule::Caution("the backup holds no large objects")),
    known("no-large-objects", None, FLAG, 16, Rule::Caution("the backup holds no large objects")),
    known("enable-row-security", None, FLAG, 0, Rule::Caution("the backup holds only the rows that this role may see")),
    known("sequence-data", None, FLAG, 18, Rule::Pass),
    known("statistics", None, FLAG, 18, Rule::Pass),
    known("no-statistics", None, FLAG, 18, Rule::Pass),
    // which parts
    known("schema-only", Some('s'), FLAG, 0, Rule::Caution(NO_DATA)),
    known("no-data", None, FLAG, 18, Rule::Caution(NO_DATA)),
    known("data-only", Some('a'), FLAG, 0, Rule::Caution(PARTIAL)),
    known("no-schema", None, FLAG, 18, Rule::Caution(PARTIAL)),
    known("statistics-only", None, FLAG, 18, Rule::Caution(PARTIAL)),
    known("section", None, VALUE, 0, Rule::Caution(PARTIAL)),
    // which properties
    known("no-privileges", Some('x'), FLAG, 0, Rule::Pass),
    known("no-acl", None, FLAG, 0, Rule::Pass),
    known("no-comments", None, FLAG, 0, Rule::Pass),
    known("no-policies", None, FLAG, 18, Rule::Caution("row-level security policies will be missing")),
    known("no-publications", None, FLAG, 0, Rule::Pass),
    known("no-security-labels", None, FLAG, 0, Rule::Pass),
    known("no-subscriptions", None, FLAG, 0, Rule::Pass),
    known("no-toast-compression", None, FLAG, 0, Rule::Pass),
    known("encoding", Some('E'), VALUE, 0, Rule::Pass),
    known("quote-all-identifiers", None, FLAG, 0, Rule::Pass),
    known("load-via-partition-root", None, FLAG, 0, Rule::Pass),
    known("serializable-deferrable", None, FLAG, 0, Rule::Pass),
    // ours to decide
    known("format", Some('F'), VALUE, 0, Rule::Format),
    known("jobs", Some('j'), VALUE, 0, Rule::Jobs),
    known("compress", Some('Z'), VALUE, 0, Rule::Compress),
    known("lock-wait-timeout", None, VALUE, 0, Rule::LockWait),
    // without effect on an archive
    known("no-owner", Some('O'), FLAG, 0, Rule::Drop(AT_RESTORE)),
    known("clean", Some('c'), FLAG, 0, Rule::Drop(AT_RESTORE)),
    known("if-exists", None, FLAG, 0, Rule::Drop(AT_RESTORE)),
    known("create", Some('C'), FLAG, 0, Rule::Drop(AT_RESTORE)),
    known("superuser", Some('S'), VALUE, 0, Rule::Drop(AT_RESTORE)),
    known("disable-triggers", None, FLAG, 0, Rule::Drop(AT_RESTORE)),
    known("use-set-session-authorization", None, FLAG, 0, Rule::Drop(AT_RESTORE)),
    known("no-tablespaces", None, FLAG, 0, Rule::Drop(AT_RESTORE)),
    known("no-table-access-method", None, FLAG, 0, Rule::Drop(AT_RESTORE)),
    known("disable-dollar-quoting", None, FLAG, 0, Rule::Drop(NOT_ARCHIVE)),
    known("restrict-key", None, VALUE, 0, Rule::Drop(NOT_ARCHIVE)),
    known("verbose", Some('v'), FLAG, 0, Rule::Drop("progress is ours to show")),
    known("no-sync", None, FLAG, 0, Rule::Drop("pg_dump writes no file here")),
    known("no-password", Some('w'), FLAG, 0, Rule::Drop("nobody is ever asked for a password")),
    // refused
    known("inserts", None, FLAG, 0, Rule::Refuse(INSERTS)),
    known("column-inserts", None, FLAG, 0, Rule::Refuse(INSERTS)),
    known("attribute-inserts", None, FLAG, 0, Rule::Refuse(INSERTS)),
    known("rows-per-insert", None, VALUE, 0, Rule::Refuse(INSERTS)),
    known("on-conflict-do-nothing", None, FLAG, 0, Rule::Refuse(INSERTS)),
    known("extra-float-digits", None, VALUE, 0, Rule::Refuse("floating-point numbers are always written exactly")),
    known("snapshot", None, VALUE, 0, Rule::Refuse("the snapshot is ours to take")),
    known("binary-upgrade", None, FLAG, 0, Rule::Refuse("it is for pg_upgrade only")),
    known("file", Some('f'), VALUE, 0, Rule::Refuse("where a backup goes is a matter of the destinations")),
    known(
        "role",
        None,
        VALUE,
        0,
        Rule::Refuse("connect as that role, or add options=-crole%3DNAME to the connection URL"),
    ),
    known("dbname", Some('d'), VALUE, 0, Rule::Refuse(CONNECTION)),
    known("host", Some('h'), VALUE, 0, Rule::Refuse(CONNECTION)),
    known("port", Some('p'), VALUE, 0, Rule::Refuse(CONNECTION)),
    known("username", Some('U'), VALUE, 0, Rule::Refuse(CONNECTION)),
    known("password", Some('W'), FLAG, 0, Rule::Refuse(CONNECTION)),
    known("version", Some('V'), FLAG, 0, Rule::Refuse("it makes no dump")),
    known("help", Some('?'), FLAG, 0, Rule::Refuse("it makes no dump")),
];

pub(crate) fn find(name: &str) -> Result<&'static Known> {
    if let Some(known) = OPTIONS.iter().find(|known| known.long == name) {
        return Ok(known);
    }
    let mut matching = OPTIONS.iter().filter(|known| known.long.starts_with(name));
    match (matching.next(), matching.next()) {
        (Some(known), None) => Ok(known),
        (first, _) => Err(unknown(format!("--{name}"), first.map(|known| known.long))),
    }
}

pub(crate) fn unknown(option: String, similar: Option<&str>) -> Error {
    let problem = similar
        .map_or_else(|| "it is not known".to_owned(), |similar| format!("it is not known; did you mean --{similar}?"));
    Error::DumpOption { option, problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        for (index, known) in OPTIONS.iter().enumerate() {
            for other in &OPTIONS[index + 1..] {
                assert_ne!(known.long, other.long);
                assert!(known.short.is_none() || known.short != other.short);
            }
        }
    }
}
