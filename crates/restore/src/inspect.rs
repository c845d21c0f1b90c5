//! Looking whether a database is sound: indexes, pages by amcheck, extensions.

use std::collections::{BTreeSet, HashMap};

use pgkeep_core::Meta;
use pgkeep_dump::{Connection, SessionSettings};
use serde::Serialize;

use crate::error::Doing;
use crate::survey::truth;
use crate::{Difference, Restorer, Result};

/// What a look at a database found.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Inspection {
    /// The database.
    pub database: String,
    /// Indexes looked at.
    pub indexes: u64,
    /// Indexes that are invalid.
    pub invalid_indexes: Vec<Difference>,
    /// What amcheck said; `None` where it is not installed.
    pub amcheck: Option<AmcheckReport>,
    /// Extensions.
    pub extensions: Vec<ExtensionState>,
}

/// What amcheck said.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct AmcheckReport {
    /// The extension's version.
    pub version: String,
    /// B-tree indexes checked with every row looked up in them.
    pub indexes: u64,
    /// Tables whose pages were checked.
    pub tables: u64,
    /// Damage. Empty is good.
    pub findings: Vec<Difference>,
    /// What could not be checked, one line each.
    pub unprovable: Vec<String>,
}

/// One extension.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExtensionState {
    /// Its name.
    pub name: String,
    /// The version in the backup.
    pub backup: Option<String>,
    /// The version in the database; `None` if it is not there.
    pub installed: Option<String>,
    /// The version this server would install.
    pub available: Option<String>,
}

impl Inspection {
    /// Everything that is damage.
    pub fn findings(&self) -> impl Iterator<Item = &Difference> {
        self.invalid_indexes.iter().chain(self.amcheck.iter().flat_map(|report| &report.findings))
    }
}

impl Restorer {
    /// Looks whether indexes, pages (with amcheck, where it is installed) and extensions of the database of
    /// [`Self::settings`] are sound; `meta` says which extensions there were. Reads only. Damage is a finding, not an error.
    pub async fn inspect(&self, meta: Option<&Meta>) -> Result<Inspection> {
        let doing = "looking at the database";
        let mut connection = self.look().await?;
        let mut inspection = Inspection { database: self.settings.database().to_owned(), ..Inspection::default() };
        let look = async {
            invalid_indexes(&mut connection, &mut inspection).await.doing(doing)?;
            inspection.amcheck = amcheck(&mut connection).await.doing("running amcheck")?;
            inspection.extensions = extensions(&mut connection, meta).await.doing(doing)?;
            Ok(())
        };
        self.unless_cancelled(look).await?;
        let _ = connection.close().await;
        Ok(inspection)
    }

    /// A session that looks.
    pub(crate) async fn look(&self) -> Result<Connection> {
        Connection::connect(&self.settings, SessionSettings::Admin)
            .await
            .doing(format!("connecting to database {}", self.settings.database()))
    }
}

async fn invalid_indexes(connection: &mut Connection, inspection: &mut Inspection) -> Result<(), pgkeep_dump::Error> {
    let rows = connection
        .query(
            "SELECT n.nspname, c.relname, c.relkind, i.indisvalid AND i.indisready FROM pg_catalog.pg_index i \
             JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             ORDER BY 1, 2",
        )
        .await?;
    inspection.indexes = rows.len() as u64;
    // A partitioned index is invalid until every partition has its part, and holds nothing itself.
    let invalid = rows.iter().filter(|row| !truth(row, 3) && row.text(2).as_deref() != Some("I"));
    inspection.invalid_indexes = invalid
        .map(|row| Difference {
            subject: format!("index {}.{}", row.text(0).unwrap_or_default(), row.text(1).unwrap_or_default()),
            problem: "is invalid: it is not used, and its uniqueness not kept; REINDEX INDEX CONCURRENTLY it"
                .to_owned(),
        })
        .collect();
    Ok(())
}

async fn amcheck(connection: &mut Connection) -> Result<Option<AmcheckReport>, pgkeep_dump::Error> {
    let installed = connection
        .query(
            "SELECT e.extversion, pg_catalog.quote_ident(n.nspname) FROM pg_catalog.pg_extension e \
             JOIN pg_catalog.pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'amcheck'",
        )
        .await?;
    let Some(row) = installed.first() else { return Ok(None) };
    let (version, schema) = (row.text(0).unwrap_or_default(), row.text(1).unwrap_or_default());
    let mut report = AmcheckReport { version, ..AmcheckReport::default() };
    let indexes = connection
        .query(
            "SELECT c.oid, n.nspname, c.relname FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid \
             JOIN pg_catalog.pg_am a ON a.oid = c.relam JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE a.amname = 'btree' AND c.relkind = 'i' AND c.relpersistence = 'p' AND i.indisvalid AND i.indisready ORDER BY 2, 3",
        )
        .await?;
    for index in &indexes {
        let oid = index.text(0).unwrap_or_default();
        let subject = format!("index {}.{}", index.text(1).unwrap_or_default(), index.text(2).unwrap_or_default());
        match connection.query(format!("SELECT {schema}.bt_index_check({oid}, true)")).await {
            Ok(_) => report.indexes += 1,
            Err(error) => weigh(error, subject, &mut report)?,
        }
    }
    if connection.server_version() < 140_000 {
        return Ok(Some(report));
    }
    let tables = connection
        .query(
            "SELECT c.oid, n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_am a ON a.oid = c.relam \
             JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
             WHERE a.amname = 'heap' AND c.relkind IN ('r', 'm', 't') AND c.relpersistence = 'p' ORDER BY 2, 3",
        )
        .await?;
    for table in &tables {
        let oid = table.text(0).unwrap_or_default();
        let subject = format!("table {}.{}", table.text(1).unwrap_or_default(), table.text(2).unwrap_or_default());
        match connection.query(format!("SELECT blkno, msg FROM {schema}.verify_heapam({oid})")).await {
            Ok(rows) => {
                report.tables += 1;
                if let Some(first) = rows.first() {
                    let (page, said) = (first.text(0).unwrap_or_default(), first.text(1).unwrap_or_default());
                    let more = if rows.len() > 1 { format!(" (and {} more)", rows.len() - 1) } else { String::new() };
                    report.findings.push(Difference { subject, problem: format!("page {page}: {said}{more}") });
                }
            }
            Err(error) => weigh(error, subject, &mut report)?,
        }
    }
    Ok(Some(report))
}

/// What amcheck refuses for another reason than damage is not damage.
fn weigh(error: pgkeep_dump::Error, subject: String, report: &mut AmcheckReport) -> Result<(), pgkeep_dump::Error> {
    match error {
        pgkeep_dump::Error::Server(said) if !said.is_fatal() => {
            // index_corrupted, data_corrupted.
            if matches!(said.sqlstate.as_str(), "XX001" | "XX002") {
                report.findings.push(Difference { subject, problem: said.message });
            } else {
                report.unprovable.push(format!("{subject} could not be checked: {}", said.message));
            }
            Ok(())
        }
        error => Err(error),
    }
}

async fn extensions(
    connection: &mut Connection,
    meta: Option<&Meta>,
) -> Result<Vec<ExtensionState>, pgkeep_dump::Error> {
    let rows = connection
        .query("SELECT name, installed_version, default_version FROM pg_catalog.pg_available_extensions ORDER BY 1")
        .await?;
    let available: HashMap<String, (Option<String>, Option<String>)> =
        rows.iter().map(|row| (row.text(0).unwrap_or_default(), (row.text(1), row.text(2)))).collect();
    let installed = connection.query("SELECT extname, extversion FROM pg_catalog.pg_extension ORDER BY 1").await?;
    let installed: HashMap<String, Option<String>> =
        installed.iter().map(|row| (row.text(0).unwrap_or_default(), row.text(1))).collect();
    let stored: HashMap<&str, &str> = meta
        .into_iter()
        .flat_map(|meta| &meta.extensions)
        .map(|(name, version)| (name.as_str(), version.as_str()))
        .collect();
    let names: BTreeSet<&str> = installed.keys().map(String::as_str).chain(stored.keys().copied()).collect();
    let state = |name: &str| ExtensionState {
        name: name.to_owned(),
        backup: stored.get(name).map(|version| (*version).to_owned()),
        installed: installed.get(name).cloned().flatten(),
        available: available.get(name).and_then(|(_, default)| default.clone()),
    };
    Ok(names.into_iter().map(state).collect())
}
