//! Comparing schemas item by item: what the archive would create against what the new database holds.

use std::collections::BTreeMap;

use pgkeep_archive::{PgText, SchemaItem, Toc, schema_lines};

use crate::Difference;

/// How exact the comparison may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rules {
    /// Both were written by the same major version of pg_dump: texts and additional items say something.
    pub(crate) same_writer: bool,
    /// Owners were restored.
    pub(crate) owners: bool,
    /// Grants were restored.
    pub(crate) grants: bool,
    /// The backup holds everything of its database, so that more in the new one is worth a word.
    pub(crate) whole: bool,
}

/// What the comparison found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SchemaFindings {
    /// Items compared.
    pub(crate) items: u64,
    /// Missing, or somebody else's.
    pub(crate) differences: Vec<Difference>,
    /// There, but described with other words.
    pub(crate) renderings: Vec<Difference>,
}

type Key<'i> = (&'i str, Option<&'i PgText>, &'i PgText);

/// Compares them.
pub(crate) fn compare(archive: &Toc, restored: &Toc, rules: Rules) -> SchemaFindings {
    findings(&schema_lines(archive), &schema_lines(restored), rules)
}

fn findings(expected: &[SchemaItem], found: &[SchemaItem], rules: Rules) -> SchemaFindings {
    let considered = |item: &&SchemaItem| {
        // What is restored without data of its own is not there to be dumped again (excluded data, for instance).
        let grant = matches!(item.desc.as_str(), "ACL" | "DEFAULT ACL");
        rules.grants || !grant
    };
    let expected = grouped(expected.iter().filter(considered));
    let mut found = grouped(found.iter().filter(considered));
    let mut findings = SchemaFindings::default();
    for (key, items) in &expected {
        findings.items += items.len() as u64;
        let title = title(key);
        let others = found.remove(key).unwrap_or_default();
        if others.len() < items.len() {
            let difference = Difference { subject: title, problem: "is missing in the restored database".to_owned() };
            // What is said about things, and by default: another server may have it of its own accord, or not at all.
            let aside = matches!(key.0, "ACL" | "DEFAULT ACL" | "COMMENT" | "SECURITY LABEL");
            if aside {
                findings.renderings.push(difference);
            } else {
                findings.differences.push(difference);
            }
            continue;
        }
        if rules.owners
            && let (Some(was), Some(is)) = (&items[0].owner, &others[0].owner)
            && was != is
            && items.len() == 1
        {
            findings.differences.push(Difference {
                subject: title.clone(),
                problem: format!("belonged to {}, and belongs to {} now", was.lossy(), is.lossy()),
            });
        }
        let same = items.len() == others.len() && items.iter().zip(&others).all(|(was, is)| was.text == is.text);
        if rules.same_writer && !same {
            findings
                .renderings
                .push(Difference { subject: title, problem: "is described differently by pg_dump now".to_owned() });
        }
    }
    if rules.same_writer && rules.whole {
        for key in found.keys().filter(|key| key.0 != "TABLE DATA") {
            findings.renderings.push(Difference { subject: title(key), problem: "is not in the backup".to_owned() });
        }
    }
    findings
}

fn grouped<'i>(items: impl Iterator<Item = &'i SchemaItem>) -> BTreeMap<Key<'i>, Vec<&'i SchemaItem>> {
    let mut groups: BTreeMap<Key<'i>, Vec<&'i SchemaItem>> = BTreeMap::new();
    for item in items {
        groups.entry((&item.desc, item.namespace.as_ref(), &item.tag)).or_default().push(item);
    }
    groups
}

fn title(key: &Key<'_>) -> String {
    match key.1.filter(|namespace| !namespace.is_empty()) {
        Some(namespace) => format!("{} {}.{}", key.0, namespace.lossy(), key.2.lossy()),
        None => format!("{} {}", key.0, key.2.lossy()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn item(desc: &str, tag: &str, owner: &str, text: &str) -> SchemaItem {
        SchemaItem {
            desc: desc.to_owned(),
            namespace: Some("public".into()),
            tag: tag.into(),
            owner: Some(owner.into()),
            text: text.as_bytes().to_vec(),
        }
    }

    const ALL: Rules = Rules { same_writer: true, owners: true, grants: true, whole: true };

    #[test]
    fn the_missing_is_damage_and_other_words_are_not() {
        let expected = [
            item("COMMENT", "TABLE a", "app", "x"),
            item("INDEX", "i", "app", "CREATE INDEX i"),
            item("TABLE", "a", "app", "CREATE TABLE a"),
            item("TABLE", "b", "app", "CREATE TABLE b"),
        ];
        let found = [
            item("TABLE", "a", "app", "CREATE TABLE a ()"),
            item("TABLE", "b", "other", "CREATE TABLE b"),
            item("TABLE", "c", "app", "CREATE TABLE c"),
        ];
        let findings_all = findings(&expected, &found, ALL);
        let lines = |differences: &[Difference]| differences.iter().map(|d| d.subject.clone()).collect::<Vec<_>>();
        assert_eq!(findings_all.items, 4);
        assert_eq!(lines(&findings_all.differences), ["INDEX public.i", "TABLE public.b"]);
        assert_eq!(lines(&findings_all.renderings), ["COMMENT public.TABLE a", "TABLE public.a", "TABLE public.c"]);
        let loose = findings(&expected, &found, Rules { same_writer: false, owners: false, ..ALL });
        assert_eq!(lines(&loose.differences), ["INDEX public.i"]);
        assert_eq!(lines(&loose.renderings), ["COMMENT public.TABLE a"]);
    }

    #[test]
    fn the_same_is_the_same() {
        let items = [item("TABLE", "a", "app", "x"), item("ACL", "TABLE a", "app", "GRANT")];
        assert_eq!(findings(&items, &items, ALL), SchemaFindings { items: 2, ..SchemaFindings::default() });
        let without = findings(&items, &items[..1], Rules { grants: false, ..ALL });
        assert!(without.differences.is_empty() && without.renderings.is_empty());
    }
}
