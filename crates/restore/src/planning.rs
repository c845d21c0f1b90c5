//! Making the plan: backup and server are looked at, nothing is changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};
use pgkeep_archive::{Toc, TocEntry};
use pgkeep_core::Meta;
use pgkeep_dump::ClientTools;

use crate::lists::{Lists, TableLists};
use crate::names::{self, Role};
use crate::needs::{Needs, beyond};
use crate::plan::{BackupFacts, Disk, ExtensionFact, Method, RestorePlan};
use crate::survey::{Database, TargetFacts, free_bytes, survey};
use crate::{Error, RestoreRequest, Restorer, Result, Target, roles, tables};

impl Restorer {
    /// What [`Self::execute`] would do. Connects and reads, changes nothing.
    pub async fn plan(&self, request: &RestoreRequest) -> Result<RestorePlan> {
        let toc = request.source.toc().await?;
        let target = self.target_name(request)?;
        let inside =
            request.target == Target::InPlace || (!request.tables.is_empty() && request.target == Target::Live);
        let facts = survey(&self.settings, &target, inside).await?;
        let lists = if request.tables.is_empty() {
            TableLists { lists: Lists::everything(&toc.entries), ..TableLists::default() }
        } else {
            Lists::of_tables(&toc.entries, &request.tables)?
        };
        let created_roles = self.roles_to_create(request, &facts).await?;
        let now = self.clock.now();
        let mut draft = Draft {
            restorer: self,
            request,
            toc: &toc,
            facts: &facts,
            lists: &lists,
            blockers: Vec::new(),
            warnings: Vec::new(),
        };
        let method = draft.method();
        draft.look_at_target(&target, method);
        if method == Method::Tables {
            for table in tables::existing(&facts.connect, &request.tables).await? {
                draft.blockers.push(format!(
                    "table {table} exists in {target}: rename or drop it first, or restore it beside with --target-db NAME"
                ));
            }
        }
        draft.look_at_archive();
        let needs = Needs::of(&toc, &lists.lists);
        let missing_roles = draft.missing_roles(&needs, &created_roles);
        let extensions = draft.extensions(&needs);
        draft.look_at_tablespaces(&needs);
        let pg_restore = draft.pg_restore();
        let stamp = names::free_stamp(&target, now, &facts.databases);
        let builds = matches!(method, Method::Create | Method::Swap);
        let backup = backup_facts(request, &toc, now);
        let Draft { mut blockers, mut warnings, .. } = draft;
        let beyond_role = beyond(&toc, &lists.lists, &facts, !request.no_owner);
        if !beyond_role.is_empty() && !request.force {
            blockers.push(format!(
                "role {} cannot restore {} (see \"beyond this role\"); restore as a superuser, or pass --force to go without",
                facts.role.name,
                crate::error::plural(beyond_role.len(), "item")
            ));
        }
        warnings.extend(lists.left_out.iter().cloned());
        if request.source.meta.is_none() {
            warnings.push("a foreign archive without a meta: rows are counted while loading and compared with the result, but nothing says what was there when it was made".to_owned());
        }
        let wants_snapshot =
            !request.skip_snapshot && facts.database.is_some() && matches!(method, Method::Swap | Method::InPlace);
        if method == Method::InPlace && request.skip_snapshot {
            warnings.push("no pre-restore snapshot: what the database holds now is lost for good".to_owned());
        }
        Ok(RestorePlan {
            server: facts.connect.server(),
            server_version: facts.version.clone(),
            user: facts.role.name.clone(),
            superuser: facts.role.superuser,
            exists: facts.database.is_some(),
            present_bytes: facts.database.as_ref().and_then(|database| database.bytes),
            method,
            tables: request.tables.clone(),
            built_as: builds.then(|| names::derived(&target, Role::New, &stamp)),
            kept_as: (method == Method::Swap).then(|| names::derived(&target, Role::Before, &stamp)),
            dropped: dropped(method, &target),
            sessions: match method {
                Method::Swap | Method::InPlace => {
                    facts.database.as_ref().map(|database| database.sessions.clone()).unwrap_or_default()
                }
                Method::Create | Method::Tables => Vec::new(),
            },
            disk: Disk { needed_bytes: needed_bytes(request, &toc, method), free_bytes: free_bytes(&facts) },
            pg_restore,
            missing_roles,
            created_roles: created_roles.into_iter().collect(),
            extensions,
            beyond_role,
            wants_snapshot,
            blockers,
            warnings,
            not_promised: not_promised(method),
            backup,
            database: target,
            request: request.clone(),
            toc,
            lists,
            facts,
        }
        .with_disk_warning())
    }

    /// The name of the database that will hold the result.
    fn target_name(&self, request: &RestoreRequest) -> Result<String> {
        let name = match &request.target {
            Target::Live | Target::InPlace => self.settings.database(),
            Target::Database { name, .. } => name,
        };
        if name.is_empty() || name.len() > names::NAME_BYTES || name.contains('\0') {
            return Err(Error::Usage(format!(
                "\"{name}\" cannot be a database's name (1 to {} bytes)",
                names::NAME_BYTES
            )));
        }
        if request.target == Target::InPlace && !request.tables.is_empty() {
            return Err(Error::Usage(
                "--table and --in-place do not go together: --table never removes anything".to_owned(),
            ));
        }
        Ok(name.to_owned())
    }

    async fn roles_to_create(&self, request: &RestoreRequest, facts: &TargetFacts) -> Result<BTreeSet<String>> {
        if !request.roles {
            return Ok(BTreeSet::new());
        }
        let Some(globals) = request.source.globals().await? else { return Ok(BTreeSet::new()) };
        Ok(roles::Globals::read(&String::from_utf8_lossy(&globals)).missing(&facts.roles))
    }
}

impl RestorePlan {
    fn with_disk_warning(mut self) -> Self {
        if let Disk { needed_bytes: Some(needed), free_bytes: Some(free) } = self.disk
            && needed > free
        {
            self.warnings.push(format!(
                "the server's disk has {} free, and about {} are needed",
                crate::plan::size(free),
                crate::plan::size(needed)
            ));
        }
        self
    }
}

/// Extensions that cannot be restored like others, and why.
const PARTICULAR: &[(&str, &str)] = &[
    (
        "pg_cron",
        "can be created in the database that cron.database_name names and in no other, so not in one under construction: \
         pass --in-place, or --force to go without it",
    ),
    (
        "timescaledb",
        "wants timescaledb_pre_restore() before a restore and timescaledb_post_restore() after it, which is not done here: \
         restore with pg_restore as its documentation says, or pass --force to try",
    ),
];

/// What is being weighed.
#[derive(Debug)]
struct Draft<'a> {
    restorer: &'a Restorer,
    request: &'a RestoreRequest,
    toc: &'a Toc,
    facts: &'a TargetFacts,
    lists: &'a TableLists,
    blockers: Vec<String>,
    warnings: Vec<String>,
}

impl Draft<'_> {
    fn method(&self) -> Method {
        let exists = self.facts.database.is_some();
        match (&self.request.target, exists) {
            (Target::InPlace, _) => Method::InPlace,
            (_, false) => Method::Create,
            (_, true) if !self.request.tables.is_empty() => Method::Tables,
            (_, true) => Method::Swap,
        }
    }

    fn look_at_target(&mut self, target: &str, method: Method) {
        let role = &self.facts.role;
        if self.facts.standby {
            self.blockers.push("the server is a standby: restore on its primary".to_owned());
        }
        if matches!(method, Method::Create | Method::Swap) && !role.superuser && !role.create_databases {
            self.blockers.push(format!(
                "role {} may not create databases: run ALTER ROLE {} CREATEDB, or pass --in-place",
                role.name,
                pgkeep_dump::quote_identifier(&role.name)
            ));
        }
        let Some(database) = &self.facts.database else {
            if method == Method::InPlace {
                self.blockers.push(format!("database {target} does not exist: restore without --in-place"));
            }
            return;
        };
        match method {
            Method::Swap => self.look_at_swap(target, database),
            Method::InPlace => self.look_at_in_place(target, database),
            Method::Create | Method::Tables => {}
        }
    }

    fn look_at_swap(&mut self, target: &str, database: &Database) {
        if let Target::Database { replace: false, name } = &self.request.target
            && (name == self.restorer.settings.database() || !database.empty)
        {
            self.blockers.push(format!("database {target} exists and is not empty: pass --replace-target to replace it (it is kept under another name)"));
        }
        if database.template {
            self.blockers.push(format!("database {target} is a template, which is not replaced"));
        }
        if !database.owned {
            self.blockers
                .push(format!("role {} does not own database {target}, so it cannot rename it", self.facts.role.name));
        }
        self.look_at_guests(target, database);
        for slot in &database.slots {
            self.warnings.push(format!(
                "replication slot {slot} stays with the old database: its consumer stops, and it holds back WAL until it is dropped"
            ));
        }
        for session in database.sessions.iter().filter(|session| !session.can_be_ended) {
            self.warnings.push(format!(
                "role {} cannot end {} of {} ({}): the exchange waits for their end and fails if they stay",
                self.facts.role.name,
                crate::error::plural(session.count as usize, "session"),
                session.user,
                session.application
            ));
        }
    }

    fn look_at_in_place(&mut self, target: &str, database: &Database) {
        if !database.owned {
            self.blockers
                .push(format!("role {} does not own database {target}, so it cannot empty it", self.facts.role.name));
        }
        self.look_at_guests(target, database);
    }

    /// What keeps a database busy, or would go on in the old one.
    fn look_at_guests(&mut self, target: &str, database: &Database) {
        for gid in &database.prepared {
            self.blockers.push(format!(
                "database {target} has the prepared transaction {gid}: COMMIT PREPARED or ROLLBACK PREPARED it"
            ));
        }
        for name in &database.subscriptions {
            self.blockers.push(format!(
                "subscription {name} is enabled and would go on in the old database: ALTER SUBSCRIPTION {} DISABLE",
                pgkeep_dump::quote_identifier(name)
            ));
        }
    }

    fn look_at_archive(&mut self) {
        let lists = &self.lists.lists;
        let odd: Vec<_> = lists
            .data
            .iter()
            .filter_map(|&id| self.toc.entry(id))
            .filter(|entry| !entry.holds_copy_text() && !entry.holds_large_objects())
            .map(TocEntry::title)
            .collect();
        if let Some(first) = odd.first() {
            self.blockers.push(format!(
                "the archive holds rows as INSERT statements ({first}{}): restore it with pg_restore itself",
                if odd.len() > 1 { ", …" } else { "" }
            ));
        }
        if self.request.tables.is_empty()
            && let Some(meta) = self.request.source.meta.as_deref()
        {
            if !meta.selection.is_empty() {
                self.warnings
                    .push(format!("the backup holds a part of the database only ({})", meta.selection.join(" ")));
            }
            self.warnings.extend(meta.warnings.iter().map(|warning| format!("when it was backed up: {warning}")));
        }
        let major = self.source_major();
        if major > self.facts.version_num / 10_000 {
            self.warnings.push(format!(
                "the backup is of PostgreSQL {major}, newer than this server: it may use what the server does not know"
            ));
        }
        for entry in self.toc.entries.iter().filter(|entry| entry.desc == "SUBSCRIPTION") {
            self.warnings.push(format!(
                "subscription {} is restored disabled, with the slot of the old one: never enable both",
                entry.tag.lossy()
            ));
        }
    }

    fn source_major(&self) -> u32 {
        self.toc.server_version.split(['.', ' ']).next().and_then(|major| major.parse().ok()).unwrap_or(0)
    }

    fn missing_roles(&mut self, needs: &Needs, created: &BTreeSet<String>) -> Vec<String> {
        let lacks = |role: &&String| !self.facts.roles.contains(*role) && !created.contains(*role);
        let owners: Vec<_> = needs.owners.iter().filter(|_| !self.request.no_owner).filter(lacks).cloned().collect();
        let grantees: Vec<_> = needs.grantees.iter().filter(|_| !self.request.no_acl).filter(lacks).cloned().collect();
        if !owners.is_empty() {
            self.blockers.push(format!(
                "roles that own objects are missing: {}; create them, or pass --roles or --no-owner",
                owners.join(", ")
            ));
        }
        if !grantees.is_empty() {
            self.blockers.push(format!(
                "roles that hold grants are missing: {}; create them, or pass --roles or --no-acl",
                grantees.join(", ")
            ));
        }
        let named = needs.owners.iter().chain(&needs.grantees);
        named.filter(|role| !self.facts.roles.contains(*role)).collect::<BTreeSet<_>>().into_iter().cloned().collect()
    }

    fn extensions(&mut self, needs: &Needs) -> Vec<ExtensionFact> {
        let versions: BTreeMap<&str, &str> = self
            .request
            .source
            .meta
            .iter()
            .flat_map(|meta| &meta.extensions)
            .map(|(name, version)| (name.as_str(), version.as_str()))
            .collect();
        let mut facts = Vec::new();
        for name in &needs.extensions {
            let version = versions.get(name.as_str()).map(|&version| version.to_owned());
            let available = self.facts.extensions.get(name).map(|(version, _)| version.clone());
            match (&version, &available) {
                (_, None) => self.blockers.push(format!("extension {name} is not installed on this server")),
                (Some(version), Some(available)) if version != available => {
                    self.warnings.push(format!("extension {name} was {version}, and this server installs {available}"));
                }
                _ => {}
            }
            if let Some((_, why)) = PARTICULAR.iter().find(|(particular, _)| particular == name)
                && self.method() != Method::InPlace
                && !self.request.force
            {
                self.blockers.push(format!("extension {name} {why}"));
            }
            facts.push(ExtensionFact { name: name.clone(), version, available });
        }
        facts
    }

    fn look_at_tablespaces(&mut self, needs: &Needs) {
        let missing: Vec<_> =
            needs.tablespaces.iter().filter(|space| !self.facts.tablespaces.contains(*space)).cloned().collect();
        if !missing.is_empty() {
            self.warnings.push(format!("tablespaces are missing, so nothing is put into any: {}", missing.join(", ")));
        }
    }

    fn pg_restore(&mut self) -> Option<String> {
        match choose_pg_restore(&self.restorer.tools, self.toc.lowest_pg_restore(), self.facts.version_num / 10_000) {
            Ok(tools) => Some(format!("{} ({})", tools.version, tools.folder.display())),
            Err(error) => {
                let hint = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
                self.blockers.push(format!("{error}{hint}"));
                None
            }
        }
    }
}

/// The `pg_restore` for an archive and a server: one that reads the archive, of the server's major version where there is
/// one (an older one writes what the server still understands, a newer one makes settings it does not know).
pub(crate) fn choose_pg_restore(tools: &[ClientTools], needed: u32, server_major: u32) -> Result<&ClientTools> {
    let readers = || tools.iter().filter(|tools| tools.major >= needed);
    readers()
        .filter(|tools| tools.major >= server_major)
        .min_by_key(|tools| tools.major)
        .or_else(|| readers().max_by_key(|tools| tools.major))
        .ok_or_else(|| Error::NoPgRestore { needed, found: tools.iter().map(|tools| tools.version.clone()).collect() })
}

fn backup_facts(request: &RestoreRequest, toc: &Toc, now: DateTime<Utc>) -> BackupFacts {
    let source = &request.source;
    let tables = toc.entries.iter().filter(|entry| entry.has_data && !entry.holds_large_objects()).count() as u64;
    let Some(meta) = source.meta.as_deref() else {
        let (year, month, day, hour, minute, second) = toc.created;
        // Local time of the host that dumped; good enough to say how old it is.
        let created = NaiveDate::from_ymd_opt(year, month, day)
            .and_then(|date| date.and_hms_opt(hour, minute, second.min(59)))
            .map(|time| time.and_utc());
        return BackupFacts {
            name: source.key.name().to_owned(),
            place: source.place.clone(),
            catalogued: false,
            database: toc.database.lossy(),
            server: None,
            server_version: toc.server_version.clone(),
            snapshot_time: created,
            age_seconds: created.map(|time| (now - time).num_seconds()),
            stored_bytes: None,
            plain_bytes: None,
            tables,
            rows: None,
            large_objects: None,
        };
    };
    BackupFacts {
        name: meta.id.to_string(),
        place: source.place.clone(),
        catalogued: true,
        database: meta.database.name.clone(),
        server: Some(meta.database.server.clone()),
        server_version: meta.database.server_version.clone(),
        snapshot_time: Some(meta.snapshot_time),
        age_seconds: Some((now - meta.snapshot_time).num_seconds()),
        stored_bytes: Some(meta.stored.bytes),
        plain_bytes: Some(meta.plain.bytes),
        tables,
        rows: Some(meta.entries.iter().map(|entry| entry.rows).sum()),
        large_objects: Some(meta.large_objects.count),
    }
}

/// Bytes the result will take, about.
fn needed_bytes(request: &RestoreRequest, toc: &Toc, method: Method) -> Option<u64> {
    let meta: &Arc<Meta> = request.source.meta.as_ref()?;
    if method != Method::Tables && request.tables.is_empty() {
        return Some(meta.database.size_bytes);
    }
    // Indexes and page overhead weigh about as much as the text of the rows.
    let wanted = |id: i32| {
        toc.entry(id).is_some_and(|entry| {
            request.tables.iter().any(|table| {
                entry.tag == *table.name.as_str()
                    && entry.namespace.as_ref().is_some_and(|schema| *schema == *table.schema.as_str())
            })
        })
    };
    Some(meta.entries.iter().filter(|entry| wanted(entry.dump_id)).map(|entry| entry.bytes * 2).sum())
}

fn dropped(method: Method, target: &str) -> Vec<String> {
    match method {
        Method::InPlace => vec![format!("everything that database {target} holds now")],
        Method::Create | Method::Swap | Method::Tables => Vec::new(),
    }
}

fn not_promised(method: Method) -> Vec<String> {
    let lines: &[&str] = match method {
        Method::Create => &[],
        Method::Swap => &[
            "what is written to the present database after the backup's snapshot is in the kept one only",
            "connected clients see one error and must connect again",
        ],
        Method::InPlace => &[
            "the database is empty, then half full, until the restore has ended; clients see that",
            "a failure in the middle leaves it incomplete; the way back is to restore the pre-restore snapshot",
            "grants and properties of schema public, default privileges and settings that only the present database has may stay",
        ],
        Method::Tables => &["tables are added one by one, not all at once"],
    };
    lines.iter().map(|&line| line.to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn tools(majors: &[u32]) -> Vec<ClientTools> {
        let tools = |&major: &u32| ClientTools {
            major,
            version: format!("pg_dump (PostgreSQL) {major}.1"),
            folder: PathBuf::from("/opt"),
        };
        majors.iter().map(tools).collect()
    }

    #[test]
    fn pg_restore_reads_the_archive_and_suits_the_server() {
        for (installed, needed, server, chosen) in [
            (&[15, 17, 18][..], 12, 15, Some(15)),
            (&[15, 17, 18], 17, 15, Some(17)),
            (&[15, 17, 18], 12, 16, Some(17)),
            // An older one writes what a newer server still understands.
            (&[15, 17], 12, 18, Some(17)),
            (&[15], 17, 15, None),
            (&[], 12, 15, None),
        ] {
            let tools = tools(installed);
            let found = choose_pg_restore(&tools, needed, server);
            assert_eq!(found.as_ref().ok().map(|tools| tools.major), chosen, "{installed:?} {needed} {server}");
            if let Err(error) = found {
                assert!(error.hint().is_some_and(|hint| hint.contains(&format!("postgresql-client-{needed}"))));
            }
        }
    }

    #[test]
    fn everything_lost_is_said_beforehand() {
        assert_eq!(dropped(Method::InPlace, "app"), ["everything that database app holds now"]);
        assert!(dropped(Method::Swap, "app").is_empty());
        assert!(!not_promised(Method::Swap).is_empty());
    }
}
