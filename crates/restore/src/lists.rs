//! Which entries of the table of contents are restored, and in which pass.
//!
//! First pass: what `pg_restore --section=pre-data --list` lists, without grants (a table's owner may have revoked its own
//! INSERT), plus the large objects' metadata (data section since 17). Then the data. Second pass: everything else that is
//! no data; pg_restore keeps its own order in it (main, grants, materialized views and event triggers).

use std::collections::{BTreeSet, HashMap, HashSet};

use pgkeep_archive::{PgText, Section, TocEntry, copy_columns, copy_target, list_line};

use crate::sessions::qualified;
use crate::{Error, Result, TableName};

/// Dump ids per pass, in archive order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Lists {
    /// Schema that must be there before the data.
    pub(crate) before: Vec<i32>,
    /// Entries with data.
    pub(crate) data: Vec<i32>,
    /// The rest.
    pub(crate) after: Vec<i32>,
}

/// The lists for some tables.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct TableLists {
    /// The lists.
    pub(crate) lists: Lists,
    /// Of these, what the tables need but is not their own: types, functions, schemas. May exist already.
    pub(crate) needed: BTreeSet<i32>,
    /// What was left out and why, one line each.
    pub(crate) left_out: Vec<String>,
}

/// Where an entry belongs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Pass {
    Before,
    Data,
    After,
    Never,
}

impl Lists {
    /// Everything.
    pub(crate) fn everything(entries: &[TocEntry]) -> Self {
        Self::of(entries, |_| true)
    }

    fn of(entries: &[TocEntry], wanted: impl Fn(i32) -> bool) -> Self {
        let mut lists = Self::default();
        let mut section = Section::PreData;
        for entry in entries {
            // An entry of no section belongs to the section it stands in, as in pg_restore.
            if entry.section != Section::None {
                section = entry.section;
            }
            let list = match pass(entry, section) {
                Pass::Before => &mut lists.before,
                Pass::Data => &mut lists.data,
                Pass::After => &mut lists.after,
                Pass::Never => continue,
            };
            if wanted(entry.dump_id) {
                list.push(entry.dump_id);
            }
        }
        lists
    }

    /// Only what these tables are made of: the tables with their partitions, types, sequences, defaults, indexes,
    /// constraints, triggers, policies, statistics, comments, grants and data, and whatever those need.
    pub(crate) fn of_tables(entries: &[TocEntry], tables: &[TableName]) -> Result<TableLists> {
        let mut closure = Closure::new(entries);
        for table in tables {
            closure.want(table)?;
        }
        Ok(closure.finish())
    }

    /// Without these entries.
    pub(crate) fn without(mut self, ids: &HashSet<i32>) -> Self {
        for list in [&mut self.before, &mut self.data, &mut self.after] {
            list.retain(|id| !ids.contains(id));
        }
        self
    }
}

fn pass(entry: &TocEntry, section: Section) -> Pass {
    match entry.desc.as_str() {
        // Applied by pg_restore without being listed, or generated from facts instead (they carry the old name).
        "ENCODING" | "STDSTRINGS" | "SEARCHPATH" | "DATABASE" | "DATABASE PROPERTIES"
        // Collected anew, for this server.
        | "STATISTICS DATA" => Pass::Never,
        "ACL" | "COMMENT" | "SECURITY LABEL" if entry.tag.0.starts_with(b"DATABASE ") => Pass::Never,
        _ if entry.has_data => Pass::Data,
        "BLOB METADATA" => Pass::Before,
        "ACL" => Pass::After,
        _ if section == Section::PreData => Pass::Before,
        _ => Pass::After,
    }
}

/// The text of a `--use-list` file.
pub(crate) fn list_text(entries: &[TocEntry], ids: &[i32]) -> String {
    let wanted: HashSet<i32> = ids.iter().copied().collect();
    let mut text = String::new();
    for entry in entries.iter().filter(|entry| wanted.contains(&entry.dump_id)) {
        text.push_str(&list_line(entry));
        text.push('\n');
    }
    text
}

/// Kinds that belong to the table (or index, constraint, sequence…) they depend on.
const BELONGING: &[&str] = &[
    "ACL",
    "CHECK CONSTRAINT",
    "COMMENT",
    "CONSTRAINT",
    "DEFAULT",
    "FK CONSTRAINT",
    "INDEX",
    "INDEX ATTACH",
    "MATERIALIZED VIEW DATA",
    "POLICY",
    "ROW SECURITY",
    "RULE",
    "SECURITY LABEL",
    "SEQUENCE",
    "SEQUENCE OWNED BY",
    "SEQUENCE SET",
    "STATISTICS",
    "TABLE ATTACH",
    "TABLE DATA",
    "TRIGGER",
];

/// What belongs to something that is only needed.
const ATTACHED: &[&str] = &["ACL", "COMMENT", "SECURITY LABEL", "SEQUENCE SET"];

fn is_relation(entry: &TocEntry) -> bool {
    matches!(entry.desc.as_str(), "TABLE" | "FOREIGN TABLE" | "VIEW" | "MATERIALIZED VIEW")
}

fn positions(entries: &[TocEntry]) -> HashMap<i32, usize> {
    entries.iter().enumerate().map(|(at, entry)| (entry.dump_id, at)).collect()
}

/// Partition → the table it is attached to.
fn parents(entries: &[TocEntry], position: &HashMap<i32, usize>) -> HashMap<i32, i32> {
    let mut parents = HashMap::new();
    for attach in entries.iter().filter(|entry| entry.desc == "TABLE ATTACH") {
        let tables: Vec<&TocEntry> = attach
            .dependencies
            .iter()
            .filter_map(|id| position.get(id).map(|&at| &entries[at]))
            .filter(|entry| is_relation(entry))
            .collect();
        // The entry is named after the partition.
        let child = tables.iter().find(|table| table.tag == attach.tag && table.namespace == attach.namespace);
        if let Some(child) = child
            && let Some(parent) = tables.iter().find(|table| table.dump_id != child.dump_id)
        {
            parents.insert(child.dump_id, parent.dump_id);
        }
    }
    parents
}

/// Schema and name of a table.
pub(crate) type Named = (PgText, PgText);

fn named(entry: &TocEntry) -> Named {
    (entry.namespace.clone().unwrap_or_default(), entry.tag.clone())
}

/// Which table the rows of an entry are loaded into. `pg_dump` has the rows of some partitions loaded through the root of
/// their tree (POSTGRES A7); where only a part of the tree is restored, that root is not there, or not ours: they go through
/// the top-most table that is restored with all its partitions, or into their own.
#[derive(Debug)]
pub(crate) struct Routes<'a> {
    entries: &'a [TocEntry],
    position: HashMap<i32, usize>,
    parents: HashMap<i32, i32>,
    tables: HashMap<Named, i32>,
    /// Partitioned tables below which there is data that is not wanted.
    partial: HashSet<i32>,
    /// All data of the archive is wanted.
    everything: bool,
}

impl<'a> Routes<'a> {
    /// For a restore of the data entries that are wanted.
    pub(crate) fn new(entries: &'a [TocEntry], wanted: impl Fn(i32) -> bool) -> Self {
        let position = positions(entries);
        let parents = parents(entries, &position);
        let tables: HashMap<Named, i32> =
            entries.iter().filter(|entry| is_relation(entry)).map(|entry| (named(entry), entry.dump_id)).collect();
        let mut partial = HashSet::new();
        let mut everything = true;
        for entry in entries.iter().filter(|entry| entry.holds_copy_text() && !wanted(entry.dump_id)) {
            everything = false;
            let mut table = tables.get(&named(entry));
            while let Some(parent) = table.and_then(|table| parents.get(table)) {
                partial.insert(*parent);
                table = Some(parent);
            }
        }
        Self { entries, position, parents, tables, partial, everything }
    }

    /// Schema and name of the table that the entry's rows are loaded into; `None` if the entry has no statement for that.
    pub(crate) fn target(&self, entry: &TocEntry) -> Option<Named> {
        let wished = copy_target(entry)?;
        if self.everything {
            // Nothing is missing. Old archives do not tell what is attached to what, either.
            return Some(wished);
        }
        Some(self.root(entry).map_or_else(|| named(entry), named))
    }

    /// `COPY … FROM stdin` into that table.
    pub(crate) fn statement(&self, entry: &TocEntry) -> Vec<u8> {
        match (self.target(entry), copy_columns(entry)) {
            (Some((schema, name)), Some(columns))
                if copy_target(entry).is_some_and(|root| root != (schema.clone(), name.clone())) =>
            {
                [b"COPY ", &qualified(Some(&schema), &name)[..], b" (", columns, b") FROM stdin"].concat()
            }
            _ => {
                let statement = entry.copy.0.trim_ascii_end();
                statement.strip_suffix(b";").unwrap_or(statement).to_vec()
            }
        }
    }

    /// The table that the entry's rows go through, if it is not their own.
    fn root(&self, entry: &TocEntry) -> Option<&'a TocEntry> {
        let wished = copy_target(entry).filter(|wished| *wished != named(entry))?;
        let mut root = None;
        let mut table = self.tables.get(&named(entry))?;
        while let Some(parent) = self.parents.get(table).filter(|parent| !self.partial.contains(*parent)) {
            let found = self.position.get(parent).map(|&at| &self.entries[at])?;
            root = Some(found);
            if named(found) == wished {
                break;
            }
            table = parent;
        }
        root
    }
}

#[derive(Debug)]
struct Closure<'a> {
    entries: &'a [TocEntry],
    position: HashMap<i32, usize>,
    /// Partition → the table it is attached to.
    parents: HashMap<i32, i32>,
    own: HashSet<i32>,
    needed: BTreeSet<i32>,
}

impl<'a> Closure<'a> {
    fn new(entries: &'a [TocEntry]) -> Self {
        let position = positions(entries);
        let parents = parents(entries, &position);
        Self { entries, position, parents, own: HashSet::new(), needed: BTreeSet::new() }
    }

    fn want(&mut self, table: &TableName) -> Result<()> {
        let named = |entry: &&TocEntry| {
            matches!(entry.desc.as_str(), "TABLE" | "FOREIGN TABLE")
                && entry.tag == *table.name.as_str()
                && entry.namespace.as_ref().is_some_and(|schema| *schema == *table.schema.as_str())
        };
        let Some(entry) = self.entries.iter().find(named) else {
            let candidates = self
                .entries
                .iter()
                .filter(|entry| entry.desc == "TABLE" && entry.tag.lossy().eq_ignore_ascii_case(&table.name))
                .map(|entry| entry.title().replacen("TABLE ", "", 1))
                .collect();
            return Err(Error::NotFound { what: format!("table {table} in the backup"), candidates });
        };
        self.own.insert(entry.dump_id);
        Ok(())
    }

    fn finish(mut self) -> TableLists {
        // Each turn can make more belong or be needed; sets only grow, so it ends.
        loop {
            let before = self.own.len() + self.needed.len();
            self.take_partitions();
            self.take_roots();
            self.take_belongings();
            self.take_needs();
            if self.own.len() + self.needed.len() == before {
                break;
            }
        }
        let left_out = self.left_out();
        let lists = Lists::of(self.entries, |id| self.own.contains(&id) || self.needed.contains(&id));
        TableLists { lists, needed: self.needed, left_out }
    }

    fn has(&self, id: i32) -> bool {
        self.own.contains(&id) || self.needed.contains(&id)
    }

    fn entry(&self, id: i32) -> Option<&'a TocEntry> {
        self.position.get(&id).map(|&at| &self.entries[at])
    }

    fn take_partitions(&mut self) {
        let partitions: Vec<i32> =
            self.parents.iter().filter(|(_, parent)| self.own.contains(parent)).map(|(&child, _)| child).collect();
        self.own.extend(partitions);
    }

    /// Rows that go through a root go to where it routes them: if all of the tree's data is restored, so is the root.
    fn take_roots(&mut self) {
        let routes = Routes::new(self.entries, |id| self.own.contains(&id));
        let data = self.entries.iter().filter(|entry| entry.holds_copy_text() && self.own.contains(&entry.dump_id));
        let roots: Vec<i32> = data.filter_map(|entry| routes.root(entry)).map(|root| root.dump_id).collect();
        for root in roots {
            self.own.insert(root);
            self.needed.remove(&root);
        }
    }

    fn take_belongings(&mut self) {
        for entry in self.entries {
            if self.own.contains(&entry.dump_id) {
                continue;
            }
            let of_own = entry.dependencies.iter().any(|id| self.own.contains(id));
            if of_own && BELONGING.contains(&entry.desc.as_str()) && self.complete(entry) {
                self.own.insert(entry.dump_id);
                self.needed.remove(&entry.dump_id);
            } else if ATTACHED.contains(&entry.desc.as_str())
                && entry.dependencies.iter().any(|id| self.needed.contains(id))
            {
                self.needed.insert(entry.dump_id);
            }
        }
    }

    /// Whether every table and constraint that the entry refers to is restored too.
    fn complete(&self, entry: &TocEntry) -> bool {
        entry.dependencies.iter().all(|&id| {
            self.has(id)
                || self
                    .entry(id)
                    .is_none_or(|other| !is_relation(other) && other.desc != "CONSTRAINT" && other.desc != "INDEX")
        })
    }

    fn take_needs(&mut self) {
        let mut open: Vec<i32> = self.own.iter().chain(&self.needed).copied().collect();
        while let Some(id) = open.pop() {
            let Some(entry) = self.entry(id) else { continue };
            for &need in &entry.dependencies {
                let parent = self.parents.get(&id) == Some(&need);
                if !parent && !self.has(need) && self.entry(need).is_some() {
                    self.needed.insert(need);
                    open.push(need);
                }
            }
            // An entry does not always list its schema.
            if let Some(schema) = entry
                .namespace
                .as_ref()
                .and_then(|name| self.entries.iter().find(|other| other.desc == "SCHEMA" && other.tag == *name))
                && !self.has(schema.dump_id)
            {
                self.needed.insert(schema.dump_id);
                open.push(schema.dump_id);
            }
        }
    }

    fn left_out(&self) -> Vec<String> {
        let belongs = |entry: &&TocEntry| {
            BELONGING.contains(&entry.desc.as_str())
                && !self.has(entry.dump_id)
                && entry.dependencies.iter().any(|id| self.own.contains(id))
        };
        self.entries
            .iter()
            .filter(belongs)
            .map(|entry| format!("{} refers to a table that is not restored, and is left out", entry.title()))
            .collect()
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use pgkeep_archive::{DataOffset, PgText};

    use super::*;

    /// An entry of schema `public`.
    pub(crate) fn entry(dump_id: i32, desc: &str, tag: &str, section: Section, dependencies: &[i32]) -> TocEntry {
        TocEntry {
            dump_id,
            has_data: matches!(desc, "TABLE DATA" | "BLOBS"),
            catalog_oid: 0,
            oid: 0,
            tag: tag.into(),
            desc: desc.to_owned(),
            section,
            definition: PgText::default(),
            drop: PgText::default(),
            copy: PgText::default(),
            namespace: Some("public".into()),
            tablespace: None,
            access_method: None,
            relkind: None,
            owner: Some("app".into()),
            dependencies: dependencies.to_vec(),
            offset: DataOffset::NotSet,
            offset_position: 0,
        }
    }

    use Section::{Data, None as NoSection, PostData, PreData};

    #[test]
    fn grants_wait_and_large_objects_come_first() {
        let entries = [
            entry(1, "ENCODING", "ENCODING", NoSection, &[]),
            entry(2, "DATABASE", "app", PreData, &[]),
            entry(3, "COMMENT", "DATABASE app", NoSection, &[2]),
            entry(4, "TABLE", "t", PreData, &[]),
            entry(5, "ACL", "TABLE t", NoSection, &[4]),
            entry(6, "COMMENT", "TABLE t", NoSection, &[4]),
            entry(7, "BLOB METADATA", "1..2", Data, &[]),
            entry(8, "ACL", "LARGE OBJECTS 1..2", Data, &[7]),
            entry(9, "TABLE DATA", "t", Data, &[4]),
            entry(10, "BLOBS", "BLOBS", Data, &[7]),
            entry(11, "SEQUENCE SET", "s", Data, &[]),
            entry(12, "STATISTICS DATA", "t", Data, &[4]),
            entry(13, "INDEX", "i", PostData, &[4]),
            entry(14, "COMMENT", "INDEX i", NoSection, &[13]),
        ];
        let lists = Lists::everything(&entries);
        assert_eq!(lists.before, [4, 6, 7]);
        assert_eq!(lists.data, [9, 10]);
        assert_eq!(lists.after, [5, 8, 11, 13, 14]);
        assert_eq!(
            list_text(&entries, &lists.data),
            "9; 0 0 TABLE DATA public t app\n10; 0 0 BLOBS public BLOBS app\n"
        );
    }

    #[test]
    fn a_table_brings_its_own_and_what_it_needs() {
        let mut schema = entry(2, "SCHEMA", "public", PreData, &[]);
        schema.namespace = None;
        let entries = [
            schema,
            entry(3, "TYPE", "mood", PreData, &[2]),
            entry(4, "TABLE", "people", PreData, &[2]),
            entry(5, "TABLE", "orders", PreData, &[2, 3]),
            entry(6, "SEQUENCE", "orders_id_seq", PreData, &[5]),
            entry(7, "SEQUENCE OWNED BY", "orders_id_seq", PreData, &[5, 6]),
            entry(8, "DEFAULT", "orders id", PreData, &[5, 6]),
            entry(9, "VIEW", "big_orders", PreData, &[5]),
            entry(10, "FUNCTION", "touch()", PreData, &[2]),
            entry(11, "ACL", "TABLE orders", NoSection, &[5]),
            entry(12, "TABLE DATA", "people", Data, &[4]),
            entry(13, "TABLE DATA", "orders", Data, &[5]),
            entry(14, "SEQUENCE SET", "orders_id_seq", Data, &[6]),
            entry(15, "CONSTRAINT", "people people_pkey", PostData, &[4]),
            entry(16, "CONSTRAINT", "orders orders_pkey", PostData, &[5]),
            entry(17, "FK CONSTRAINT", "orders orders_people_fkey", PostData, &[5, 4, 15]),
            entry(18, "TRIGGER", "orders touched", PostData, &[5, 10]),
            entry(19, "COMMENT", "TYPE mood", NoSection, &[3]),
        ];
        let one = Lists::of_tables(&entries, &["orders".parse().unwrap()]).unwrap();
        assert_eq!(one.lists.before, [2, 3, 5, 6, 7, 8, 10]);
        assert_eq!(one.lists.data, [13]);
        assert_eq!(one.lists.after, [11, 14, 16, 18, 19]);
        assert_eq!(one.needed.into_iter().collect::<Vec<_>>(), [2, 3, 10, 19]);
        assert_eq!(one.left_out.len(), 1, "{:?}", one.left_out);

        let both = Lists::of_tables(&entries, &["orders".parse().unwrap(), "people".parse().unwrap()]).unwrap();
        assert!(both.lists.after.contains(&17));
        assert!(both.left_out.is_empty());

        let error = Lists::of_tables(&entries, &["Orders".parse().unwrap()]).unwrap_err();
        assert!(matches!(&error, Error::NotFound { candidates, .. } if candidates == &["public.orders"]), "{error}");
    }

    #[test]
    fn rows_of_partitions_go_through_what_is_restored_of_their_tree() {
        let leaf = |dump_id: i32, name: &str, table: i32| {
            let mut leaf = entry(dump_id, "TABLE DATA", name, Data, &[table]);
            leaf.copy = "COPY public.root (id, word) FROM stdin;\n".into();
            leaf
        };
        let entries = [
            entry(1, "TABLE", "root", PreData, &[]),
            entry(2, "TABLE", "middle", PreData, &[1]),
            entry(3, "TABLE", "a", PreData, &[2]),
            entry(4, "TABLE", "b", PreData, &[2]),
            entry(5, "TABLE", "c", PreData, &[1]),
            entry(6, "TABLE ATTACH", "middle", PreData, &[1, 2]),
            entry(7, "TABLE ATTACH", "a", PreData, &[2, 3]),
            entry(8, "TABLE ATTACH", "b", PreData, &[2, 4]),
            entry(9, "TABLE ATTACH", "c", PreData, &[1, 5]),
            leaf(10, "a", 3),
            leaf(11, "b", 4),
            leaf(12, "c", 5),
        ];
        let into = |tables: &[&str]| {
            let tables: Vec<TableName> = tables.iter().map(|table| table.parse().unwrap()).collect();
            let lists = Lists::of_tables(&entries, &tables).unwrap().lists;
            let routes = Routes::new(&entries, |id| lists.data.contains(&id));
            let statements = lists.data.iter().map(|id| {
                let entry = entries.iter().find(|entry| entry.dump_id == *id).unwrap();
                String::from_utf8(routes.statement(entry)).unwrap()
            });
            (lists.before.clone(), statements.collect::<Vec<_>>())
        };
        let copy = |table: &str| format!("COPY public.{table} (id, word) FROM stdin");
        let quoted = |table: &str| format!("COPY \"public\".\"{table}\" (id, word) FROM stdin");
        assert_eq!(into(&["root"]).1, [copy("root"), copy("root"), copy("root")]);
        assert_eq!(into(&["a"]), (vec![3], vec![quoted("a")]));
        assert_eq!(into(&["a", "c"]).1, [quoted("a"), quoted("c")]);
        assert_eq!(into(&["middle"]), (vec![2, 3, 4, 7, 8], vec![quoted("middle"), quoted("middle")]));
        // All that has rows: the root comes with them.
        assert_eq!(into(&["a", "b", "c"]), into(&["root"]));

        // Archives of old versions do not tell what is attached to what; all of one goes where it says.
        let old: Vec<TocEntry> = entries.iter().filter(|entry| entry.desc != "TABLE ATTACH").cloned().collect();
        let routes = Routes::new(&old, |_| true);
        let leaf = old.iter().find(|entry| entry.dump_id == 10).unwrap();
        assert_eq!(routes.statement(leaf), copy("root").as_bytes());
        assert_eq!(routes.target(leaf), Some(("public".into(), "root".into())));
    }

    #[test]
    fn a_partitioned_table_brings_its_partitions_and_a_partition_comes_alone() {
        let entries = [
            entry(1, "TABLE", "root", PreData, &[]),
            entry(2, "TABLE", "leaf", PreData, &[1]),
            entry(3, "TABLE ATTACH", "leaf", PreData, &[1, 2]),
            entry(4, "TABLE DATA", "leaf", Data, &[2]),
            entry(5, "CONSTRAINT", "root root_pkey", PostData, &[1]),
            entry(6, "CONSTRAINT", "leaf leaf_pkey", PostData, &[2]),
            entry(7, "INDEX ATTACH", "leaf_pkey", PostData, &[5, 6]),
        ];
        let root = Lists::of_tables(&entries, &["root".parse().unwrap()]).unwrap();
        assert_eq!((root.lists.before, root.lists.data, root.lists.after), (vec![1, 2, 3], vec![4], vec![5, 6, 7]));
        let leaf = Lists::of_tables(&entries, &["leaf".parse().unwrap()]).unwrap();
        assert_eq!((leaf.lists.before, leaf.lists.data, leaf.lists.after), (vec![2], vec![4], vec![6]));
    }
}
