//! Tables that are being added to a database that exists. Their names are the ones that applications use, so what a killed
//! run left of them is not dropped behind anybody's back: it is told, and a restore of the same tables shows in its plan that
//! it drops them first. A note in the repository says which they are, by OID and name.

use std::collections::BTreeMap;
use std::fmt;

use pgkeep_archive::Toc;
use pgkeep_dump::{ConnectSettings, Connection, SessionSettings, quote_identifier, quote_literal};
use pgkeep_storage::Key;
use serde::{Deserialize, Serialize};

use crate::error::Doing;
use crate::journal::{self, Act, Note};
use crate::lists::TableLists;
use crate::passes::PG_RESTORE;
use crate::survey::truth;
use crate::tables::{self, Made, Relation};
use crate::{Restorer, Result, TableName};

/// One relation of tables that are being added.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct HalfMade {
    /// `table` or `sequence`.
    pub(crate) kind: String,
    pub(crate) name: TableName,
    /// `None` while it is only about to be made, and empty.
    pub(crate) oid: Option<u32>,
}

impl fmt::Display for HalfMade {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.kind, self.name)
    }
}

/// The note about the tables of one run.
#[derive(Debug)]
pub(crate) struct TablesNote<'a> {
    pub(crate) restorer: &'a Restorer,
    pub(crate) note: Note,
    /// Where it is, once it is written.
    pub(crate) key: &'a mut Option<Key>,
}

impl TablesNote<'_> {
    /// Notes what is about to be made, then what was made; the later note takes the earlier one's place.
    pub(crate) async fn tell(&mut self, relations: &[Relation], made: &Made, warnings: &mut Vec<String>) {
        let storage = self.restorer.journal.as_deref();
        self.note.tables = noted(relations, made);
        if let Some(later) = journal::write(storage, &self.note, warnings).await {
            let earlier = self.key.replace(later);
            journal::clear(storage, earlier.as_ref()).await;
        }
    }
}

/// Indexes come and go with their tables.
fn noted(relations: &[Relation], made: &Made) -> Vec<HalfMade> {
    let one = |relation: &Relation, oid| HalfMade { kind: relation.kind.to_owned(), name: relation.name.clone(), oid };
    let alone = relations.iter().filter(|relation| relation.kind != "index");
    match made {
        Made::Nothing => Vec::new(),
        Made::Perhaps(_) => alone.map(|relation| one(relation, None)).collect(),
        Made::These(oids) => {
            alone.filter_map(|relation| Some(one(relation, Some(*oids.get(&relation.name)?)))).collect()
        }
    }
}

/// Which of the noted relations are still what the note says, with the OIDs they have now: they have the name and, where it
/// was known, the OID.
pub(crate) async fn remaining(connect: &ConnectSettings, note: &Note) -> Result<Vec<(HalfMade, u32)>> {
    let doing = || format!("looking for what is left of {} in {}", note.backup, note.database);
    let mut connection = Connection::connect(connect, SessionSettings::Admin).await.doing(doing())?;
    let names = note.tables.iter().map(|one| &one.name);
    let known = tables::oids(&mut connection, names).await.doing(doing())?;
    let _ = connection.close().await;
    let now = |one: &HalfMade| Some((one.clone(), *known.get(&one.name)?));
    Ok(note.tables.iter().filter_map(now).filter(|(one, oid)| one.oid.is_none_or(|noted| noted == *oid)).collect())
}

/// What stands where the wanted tables are to go.
#[derive(Debug, Default)]
pub(crate) struct InTheWay {
    /// What a killed run left, with nothing in it that is not of the backup as far as can be seen; it may be dropped.
    pub(crate) half_made: BTreeMap<TableName, u32>,
    /// The same in words.
    pub(crate) words: Vec<String>,
    /// Reasons why it can't be done.
    pub(crate) blockers: Vec<String>,
}

impl Restorer {
    /// Looks for the tables in the target. `rows` is how many the backup has of them, where that is known.
    pub(crate) async fn in_the_way(
        &self,
        connect: &ConnectSettings,
        toc: &Toc,
        lists: &TableLists,
        rows: Option<u64>,
    ) -> Result<InTheWay> {
        let own = tables::own(toc, lists);
        let existing = tables::existing(connect, &own).await?;
        if existing.is_empty() {
            return Ok(InTheWay::default());
        }
        let target = connect.database();
        let mut left: BTreeMap<TableName, (HalfMade, u32)> = BTreeMap::new();
        let (notes, _) = journal::read(self.journal.as_deref(), &connect.server(), target).await;
        for (_, note) in notes.iter().filter(|(_, note)| note.act == Act::Tables) {
            left.extend(remaining(connect, note).await?.into_iter().map(|found| (found.0.name.clone(), found)));
        }
        left.retain(|name, _| own.iter().any(|relation| relation.name == *name));
        let theirs = existing.iter().filter(|relation| !left.contains_key(&relation.name));
        let mut blockers: Vec<String> = theirs
            .map(|relation| {
                format!(
                    "{relation} exists in {target}: rename or drop it first, or restore it beside with --target-db NAME"
                )
            })
            .collect();
        let words: Vec<String> = left.values().map(|(one, _)| one.to_string()).collect();
        if written_to(connect, left.values(), rows).await? {
            blockers.push(format!(
                "a restore that was cut off left {} in {target}, and somebody has written to it since: rename or drop it first",
                words.join(", ")
            ));
        }
        if !blockers.is_empty() {
            return Ok(InTheWay { blockers, ..InTheWay::default() });
        }
        let words = words.iter().map(|one| format!("{one}, which a restore that was cut off left half made")).collect();
        Ok(InTheWay { half_made: left.into_iter().map(|(name, (_, oid))| (name, oid)).collect(), words, blockers })
    }
}

/// Whether there is more in the tables than the backup has of them, or something was changed: a restore only adds.
async fn written_to(
    connect: &ConnectSettings,
    left: impl Iterator<Item = &(HalfMade, u32)>,
    rows: Option<u64>,
) -> Result<bool> {
    let doing = || format!("looking at what a restore left in {}", connect.database());
    let mut connection = Connection::connect(connect, SessionSettings::Admin).await.doing(doing())?;
    let mut loaded: u64 = 0;
    for (one, oid) in left {
        let name = format!("{}.{}", quote_identifier(&one.name.schema), quote_identifier(&one.name.name));
        let used = match (one.kind.as_str(), one.oid) {
            ("table", noted) => {
                let changed = format!(
                    "SELECT coalesce(sum(n_tup_upd + n_tup_del), 0) > 0 FROM pg_catalog.pg_stat_all_tables WHERE relid = {oid}"
                );
                let changed = truth(&connection.query_one(changed).await.doing(doing())?, 0);
                let most = if noted.is_none() { Some(0) } else { rows };
                let limit = most.map_or_else(String::new, |most| format!("LIMIT {}", most.saturating_add(1)));
                let counted = format!("SELECT count(*) FROM (SELECT FROM ONLY {name} {limit}) AS sample");
                let counted: u64 = connection.query_one(counted).await.and_then(|row| row.get(0)).doing(doing())?;
                loaded += counted;
                changed || most.is_some_and(|most| counted > most)
            }
            // Nothing is set before it is known what was made.
            ("sequence", None) => {
                let called = format!("SELECT is_called FROM {name}");
                truth(&connection.query_one(called).await.doing(doing())?, 0)
            }
            _ => false,
        };
        if used {
            return Ok(true);
        }
    }
    let _ = connection.close().await;
    Ok(rows.is_some_and(|rows| loaded > rows))
}

/// Ends what a killed restore left at work: its `pg_restore` outlives it. Whoever calls this has the lock of restores of the database.
pub(crate) async fn end_orphans(connect: &ConnectSettings) -> Result<()> {
    let doing = || format!("ending what a killed restore left at work in {}", connect.database());
    let mut connection = Connection::connect(connect, SessionSettings::Admin).await.doing(doing())?;
    let sql = format!(
        "SELECT pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity \
         WHERE datname = pg_catalog.current_database() AND usename = current_user AND application_name = {}",
        quote_literal(PG_RESTORE)
    );
    connection.query(sql).await.doing(doing())?;
    let _ = connection.close().await;
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_note_of_tables_is_read_back_and_one_of_an_earlier_version_has_none() {
        let one = HalfMade { kind: "table".into(), name: "public.a".parse().unwrap(), oid: Some(7) };
        let note = Note { act: Act::Tables, tables: vec![one], ..journal::tests::note() };
        let json = serde_json::to_string(&note).unwrap();
        assert_eq!(serde_json::from_str::<Note>(&json).unwrap(), note);
        let earlier = journal::tests::note();
        let json = serde_json::to_string(&earlier).unwrap();
        assert!(!json.contains("tables"), "{json}");
        assert_eq!(serde_json::from_str::<Note>(&json).unwrap(), earlier);
    }
}
