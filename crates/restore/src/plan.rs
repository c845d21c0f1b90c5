//! The plan of a restore: facts to show, and reasons to refuse.

use std::fmt::{self, Write as _};
use std::sync::Arc;

use chrono::{DateTime, Utc};
use pgkeep_archive::Toc;
use serde::Serialize;

use crate::{RestoreRequest, TableName};

/// How a restore reaches its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Method {
    /// The target does not exist: built under another name, named in the end.
    Create,
    /// The target exists: built beside it, names exchanged in the end, the old one kept.
    Swap,
    /// The target is emptied and filled again.
    InPlace,
    /// Tables are added to a database that exists.
    Tables,
}

/// What is restored.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BackupFacts {
    /// Its name, or the file's.
    pub name: String,
    /// Where it is read from.
    pub place: String,
    /// Made by pgkeep, with a meta. Without one, only what is counted while loading can be proven.
    pub catalogued: bool,
    /// The database it is of.
    pub database: String,
    /// The server it is of.
    pub server: Option<String>,
    /// The server's version.
    pub server_version: String,
    /// The data is as of then.
    pub snapshot_time: Option<DateTime<Utc>>,
    /// How old that was when the plan was made, in seconds.
    pub age_seconds: Option<i64>,
    /// Stored bytes.
    pub stored_bytes: Option<u64>,
    /// Decompressed bytes.
    pub plain_bytes: Option<u64>,
    /// Tables with data.
    pub tables: u64,
    /// Their rows.
    pub rows: Option<u64>,
    /// Large objects.
    pub large_objects: Option<u64>,
}

/// Sessions on the target database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct SessionFact {
    /// Their user.
    pub user: String,
    /// Their application's name.
    pub application: String,
    /// How many.
    pub count: u64,
    /// Whether this role may end them.
    pub can_be_ended: bool,
}

/// Disk space on the server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Disk {
    /// Bytes the restored database will take, about; `None` if nothing tells.
    pub needed_bytes: Option<u64>,
    /// Bytes free where the server keeps its data; `None` unless it runs on this host and tells where.
    pub free_bytes: Option<u64>,
}

/// An extension of the backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ExtensionFact {
    /// Its name.
    pub name: String,
    /// Its version when backed up, where known.
    pub version: Option<String>,
    /// The version this server would install; `None` if it has none.
    pub available: Option<String>,
}

/// What a restore will do. Made by [`Restorer::plan`](crate::Restorer::plan); `Display` shows it line by line.
#[derive(Debug, Clone, Serialize)]
pub struct RestorePlan {
    /// The backup.
    pub backup: BackupFacts,
    /// `host:port` or the socket's path.
    pub server: String,
    /// The server's version.
    pub server_version: String,
    /// The role that restores.
    pub user: String,
    /// Whether it is a superuser.
    pub superuser: bool,
    /// The database that will hold the result.
    pub database: String,
    /// Whether it exists now.
    pub exists: bool,
    /// Its size now, in bytes.
    pub present_bytes: Option<u64>,
    /// How.
    pub method: Method,
    /// Only these tables; empty is everything.
    pub tables: Vec<TableName>,
    /// The name under which the new database is built.
    pub built_as: Option<String>,
    /// The name under which the present database is kept.
    pub kept_as: Option<String>,
    /// What is lost for good, one line each.
    pub dropped: Vec<String>,
    /// Open sessions on the target; they are ended.
    pub sessions: Vec<SessionFact>,
    /// Disk space.
    pub disk: Disk,
    /// The `pg_restore` that is used: `15.18`.
    pub pg_restore: Option<String>,
    /// Roles the backup names and the server lacks.
    pub missing_roles: Vec<String>,
    /// Of these, the ones that will be created.
    pub created_roles: Vec<String>,
    /// Extensions the backup needs.
    pub extensions: Vec<ExtensionFact>,
    /// What this role cannot restore, one line each.
    pub beyond_role: Vec<String>,
    /// Whether a pre-restore snapshot is part of the plan. False if the target does not exist or it was waived.
    pub wants_snapshot: bool,
    /// Reasons why it cannot be carried out, one line each, each with what to do.
    pub blockers: Vec<String>,
    /// What should be known before, one line each.
    pub warnings: Vec<String>,
    /// What cannot be promised, one line each.
    pub not_promised: Vec<String>,
    #[serde(skip)]
    pub(crate) request: RestoreRequest,
    #[serde(skip)]
    pub(crate) toc: Arc<Toc>,
    #[serde(skip)]
    pub(crate) lists: crate::lists::TableLists,
    #[serde(skip)]
    pub(crate) facts: crate::survey::TargetFacts,
}

impl RestorePlan {
    /// Whether source and target differ, so that the question asks for the database's name (COMMANDS §5).
    pub fn crosses_databases(&self) -> bool {
        self.backup.database != self.database
            || self.backup.server.as_ref().is_some_and(|server| *server != self.server)
    }

    /// Whether an existing database is replaced, emptied or written to.
    pub fn touches_existing(&self) -> bool {
        self.method != Method::Create
    }

    /// Label and value of every fact, in the order of showing.
    pub fn lines(&self) -> Vec<(&'static str, String)> {
        let mut lines = vec![
            ("backup", self.backup_line()),
            ("read from", self.backup.place.clone()),
            ("server", format!("{} (PostgreSQL {})", self.server, self.server_version)),
            ("database", self.database_line()),
            ("method", self.method_line()),
        ];
        if let Some(kept) = &self.kept_as {
            lines.push(("kept", format!("the present database, as {kept}")));
        }
        lines.extend(self.dropped.iter().map(|line| ("dropped", line.clone())));
        for session in &self.sessions {
            let can = if session.can_be_ended { "" } else { ", which this role cannot end" };
            lines.push((
                "open sessions",
                format!("{} of {} ({}){can}", session.count, session.user, session.application),
            ));
        }
        lines.push(("disk", self.disk_line()));
        if let Some(version) = &self.pg_restore {
            lines.push(("pg_restore", version.clone()));
        }
        if !self.missing_roles.is_empty() {
            lines.push(("missing roles", self.missing_roles.join(", ")));
        }
        if !self.created_roles.is_empty() {
            lines.push(("created roles", self.created_roles.join(", ")));
        }
        for extension in &self.extensions {
            lines.push(("extension", extension.to_string()));
        }
        lines.push(("snapshot", if self.wants_snapshot { "yes, before anything changes" } else { "no" }.to_owned()));
        lines.extend(self.beyond_role.iter().map(|line| ("beyond this role", line.clone())));
        lines.extend(self.not_promised.iter().map(|line| ("not promised", line.clone())));
        lines.extend(self.warnings.iter().map(|line| ("warning", line.clone())));
        lines.extend(self.blockers.iter().map(|line| ("BLOCKED", line.clone())));
        lines
    }

    fn backup_line(&self) -> String {
        let backup = &self.backup;
        let mut text =
            format!("{} of database {} (PostgreSQL {})", backup.name, backup.database, backup.server_version);
        if let Some(time) = backup.snapshot_time {
            let _ = write!(text, ", as of {}", time.format("%Y-%m-%d %H:%M:%S UTC"));
        }
        if let Some(rows) = backup.rows {
            let _ = write!(text, ", {} tables, {rows} rows", backup.tables);
        }
        if let Some(bytes) = backup.stored_bytes {
            let _ = write!(text, ", {} stored", size(bytes));
        }
        text
    }

    fn database_line(&self) -> String {
        match (self.exists, self.present_bytes) {
            (true, Some(bytes)) => format!("{} (exists, {})", self.database, size(bytes)),
            (true, None) => format!("{} (exists)", self.database),
            (false, _) => format!("{} (will be created)", self.database),
        }
    }

    fn method_line(&self) -> String {
        let built = self.built_as.as_deref().unwrap_or("a new database");
        match self.method {
            Method::Create => format!("restored as {built}, proven, then named {}", self.database),
            Method::Swap => format!("restored beside as {built}, proven, then both names exchanged at once"),
            Method::InPlace => {
                "in place: the whole backup verified, then the database emptied and filled again".to_owned()
            }
            Method::Tables => {
                let tables: Vec<_> = self.tables.iter().map(ToString::to_string).collect();
                format!("{} added to the existing database", tables.join(", "))
            }
        }
    }

    fn disk_line(&self) -> String {
        let part = |bytes: Option<u64>| bytes.map_or_else(|| "not known".to_owned(), size);
        format!("{} needed, {} free", part(self.disk.needed_bytes), part(self.disk.free_bytes))
    }
}

impl fmt::Display for ExtensionFact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        if let Some(version) = &self.version {
            write!(f, " {version}")?;
        }
        match &self.available {
            None => f.write_str(", not installed on this server"),
            Some(available) if self.version.as_ref().is_some_and(|version| version != available) => {
                write!(f, ", {available} on this server")
            }
            Some(_) => Ok(()),
        }
    }
}

impl fmt::Display for RestorePlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (label, value) in self.lines() {
            writeln!(f, "{label:>16}  {value}")?;
        }
        Ok(())
    }
}

/// Bytes for people: `187 MB`, in steps of 1024 as PostgreSQL prints them.
pub(crate) fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["bytes", "kB", "MB", "GB"] {
        if value < 10_240.0 {
            return format!("{value:.0} {unit}");
        }
        value /= 1024.0;
    }
    format!("{value:.0} TB")
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use pgkeep_core::BackupSource;
    use pgkeep_dump::ConnectSettings;
    use pgkeep_storage::{Key, ObjectStorage};

    use super::*;
    use crate::Target;
    use crate::lists::TableLists;
    use crate::survey::{Role, TargetFacts};

    /// Header and TOC of an archive without entries, format 1.14.
    fn empty_toc() -> Toc {
        let mut raw = b"PGDMP\x01\x0e\x00\x04\x08\x01".to_vec();
        let int = |raw: &mut Vec<u8>, value: i32| {
            raw.push(0);
            raw.extend(value.to_le_bytes());
        };
        for value in [0, 1, 30, 3, 17, 9, 125, 0] {
            int(&mut raw, value);
        }
        for text in ["app", "15.18", "15.18"] {
            int(&mut raw, text.len() as i32);
            raw.extend(text.as_bytes());
        }
        int(&mut raw, 0);
        Toc::parse(raw.into()).unwrap()
    }

    fn plan() -> RestorePlan {
        let source = BackupSource::foreign(Arc::new(ObjectStorage::memory()), Key::new("x.dump").unwrap());
        RestorePlan {
            backup: BackupFacts {
                name: "daily_20251017_030001".into(),
                place: "bucket".into(),
                catalogued: true,
                database: "app".into(),
                server: Some("db:5432".into()),
                server_version: "15.18".into(),
                snapshot_time: DateTime::from_timestamp(1_760_670_001, 0),
                age_seconds: Some(3600),
                stored_bytes: Some(187 << 20),
                plain_bytes: None,
                tables: 12,
                rows: Some(3400),
                large_objects: Some(0),
            },
            server: "db:5432".into(),
            server_version: "15.18".into(),
            user: "postgres".into(),
            superuser: true,
            database: "app".into(),
            exists: true,
            present_bytes: Some(300 << 20),
            method: Method::Swap,
            tables: Vec::new(),
            built_as: Some("app_pgkeep_20251017_103001".into()),
            kept_as: Some("app_before_20251017_103001".into()),
            dropped: Vec::new(),
            sessions: vec![SessionFact {
                user: "web".into(),
                application: "puma".into(),
                count: 7,
                can_be_ended: false,
            }],
            disk: Disk { needed_bytes: Some(300 << 20), free_bytes: None },
            pg_restore: Some("15.18".into()),
            missing_roles: vec!["reader".into()],
            created_roles: Vec::new(),
            extensions: vec![ExtensionFact {
                name: "citext".into(),
                version: Some("1.6".into()),
                available: Some("1.7".into()),
            }],
            beyond_role: Vec::new(),
            wants_snapshot: true,
            blockers: vec!["no".into()],
            warnings: vec!["careful".into()],
            not_promised: Vec::new(),
            request: RestoreRequest::new(source, Target::Live),
            toc: Arc::new(empty_toc()),
            lists: TableLists::default(),
            facts: TargetFacts {
                connect: ConnectSettings::parse("postgresql://postgres@db/app", &BTreeMap::new(), None).unwrap(),
                version_num: 150_018,
                version: "15.18".into(),
                standby: false,
                role: Role::default(),
                database: None,
                roles: BTreeSet::new(),
                member_of: BTreeSet::new(),
                extensions: BTreeMap::new(),
                tablespaces: BTreeSet::new(),
                databases: BTreeSet::new(),
                data_folder: None,
            },
        }
    }

    #[test]
    fn a_plan_is_shown_fact_by_fact() {
        let expected = "          backup  daily_20251017_030001 of database app (PostgreSQL 15.18), as of 2025-10-17 03:00:01 UTC, 12 tables, 3400 rows, 187 MB stored\n\
       read from  bucket\n\
          server  db:5432 (PostgreSQL 15.18)\n\
        database  app (exists, 300 MB)\n\
          method  restored beside as app_pgkeep_20251017_103001, proven, then both names exchanged at once\n\
            kept  the present database, as app_before_20251017_103001\n\
   open sessions  7 of web (puma), which this role cannot end\n\
            disk  300 MB needed, not known free\n\
      pg_restore  15.18\n\
   missing roles  reader\n\
       extension  citext 1.6, 1.7 on this server\n\
        snapshot  yes, before anything changes\n\
         warning  careful\n\
         BLOCKED  no\n";
        let shown = plan().to_string();
        let words = |text: &str| text.lines().map(|line| line.trim().to_owned()).collect::<Vec<_>>();
        assert_eq!(words(&shown), words(expected));
    }

    #[test]
    fn another_database_or_server_is_crossed() {
        assert!(!plan().crosses_databases());
        assert!(RestorePlan { database: "staging".into(), ..plan() }.crosses_databases());
        assert!(RestorePlan { server: "other:5432".into(), ..plan() }.crosses_databases());
        assert!(!RestorePlan { method: Method::Create, ..plan() }.touches_existing());
    }

    #[test]
    fn sizes_are_as_postgresql_prints_them() {
        assert_eq!(
            [size(0), size(10_239), size(10_240), size(187 << 20), size(20 << 40)],
            ["0 bytes", "10239 bytes", "10 kB", "187 MB", "20 TB"]
        );
    }
}
