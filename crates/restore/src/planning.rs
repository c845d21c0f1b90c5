//! Making the plan: backup and server are looked at, nothing is changed.

use std::collections::BTreeSet;
use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};
use pgkeep_archive::Toc;
use pgkeep_core::Meta;
use pgkeep_dump::ClientTools;

use crate::draft::Draft;
use crate::lists::{Lists, TableLists};
use crate::names::{self, Role};
use crate::needs::{Needs, beyond};
use crate::plan::{BackupFacts, Disk, Method, RestorePlan};
use crate::survey::{TargetFacts, free_bytes, survey};
use crate::{Error, RestoreRequest, Restorer, Result, Target, in_place, roles, tables};

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
            for relation in tables::existing(&facts.connect, &tables::own(&toc, &lists)).await? {
                draft.blockers.push(format!(
                    "{relation} exists in {target}: rename or drop it first, or restore it beside with --target-db NAME"
                ));
            }
        }
        if method == Method::InPlace && facts.database.is_some() {
            draft.look_at_others(&target, &in_place::of_others(&facts.connect).await?);
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
            "sessions are ended and writers wait while the pre-restore snapshot is taken; then they fail",
            "what is done to sequences and large objects during the pre-restore snapshot, or without one to anything, is lost",
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
        assert!(not_promised(Method::InPlace).iter().any(|line| line.contains("is lost")));
    }
}
