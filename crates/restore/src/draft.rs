//! Weighing a plan: what stands in its way, and what should be known before.

use std::collections::{BTreeMap, BTreeSet};

use pgkeep_archive::{Toc, TocEntry};

use crate::lists::TableLists;
use crate::needs::Needs;
use crate::plan::{ExtensionFact, Method};
use crate::planning::choose_pg_restore;
use crate::survey::{Database, TargetFacts};
use crate::{RestoreRequest, Restorer, Target};

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

/// How many of many things a blocker names.
const NAMED: usize = 10;

/// What is being weighed.
#[derive(Debug)]
pub(crate) struct Draft<'a> {
    pub(crate) restorer: &'a Restorer,
    pub(crate) request: &'a RestoreRequest,
    pub(crate) toc: &'a Toc,
    pub(crate) facts: &'a TargetFacts,
    pub(crate) lists: &'a TableLists,
    pub(crate) blockers: Vec<String>,
    pub(crate) warnings: Vec<String>,
}

impl Draft<'_> {
    pub(crate) fn method(&self) -> Method {
        let exists = self.facts.database.is_some();
        match (&self.request.target, exists) {
            (Target::InPlace, _) => Method::InPlace,
            (_, false) => Method::Create,
            (_, true) if !self.request.tables.is_empty() => Method::Tables,
            (_, true) => Method::Swap,
        }
    }

    pub(crate) fn look_at_target(&mut self, target: &str, method: Method) {
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

    /// What other roles own cannot be dropped.
    pub(crate) fn look_at_others(&mut self, target: &str, others: &[String]) {
        if others.is_empty() {
            return;
        }
        let more = others.len().saturating_sub(NAMED);
        self.blockers.push(format!(
            "role {} cannot drop what others own in database {target}: {}{}; drop it as its owner, restore as a superuser, \
             or restore beside with --target-db NAME",
            self.facts.role.name,
            others.iter().take(NAMED).map(String::as_str).collect::<Vec<_>>().join(", "),
            if more > 0 { format!(", and {more} more") } else { String::new() }
        ));
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

    pub(crate) fn look_at_archive(&mut self) {
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
            let live = match &self.request.target {
                Target::Live | Target::InPlace => true,
                Target::Database { name, .. } => name == self.restorer.settings.database(),
            };
            let replaces_live = live && matches!(self.method(), Method::Swap | Method::InPlace);
            if replaces_live && !meta.is_whole() {
                self.blockers.push(format!(
                    "the backup holds a part of the database only ({}), and the live database would lose the rest: \
                     pass --target-db to restore it beside, or --table for some tables",
                    meta.selection.join(" ")
                ));
            } else if !meta.selection.is_empty() {
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

    pub(crate) fn missing_roles(&mut self, needs: &Needs, created: &BTreeSet<String>) -> Vec<String> {
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

    pub(crate) fn extensions(&mut self, needs: &Needs) -> Vec<ExtensionFact> {
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

    pub(crate) fn look_at_tablespaces(&mut self, needs: &Needs) {
        let missing: Vec<_> =
            needs.tablespaces.iter().filter(|space| !self.facts.tablespaces.contains(*space)).cloned().collect();
        if !missing.is_empty() {
            self.warnings.push(format!("tablespaces are missing, so nothing is put into any: {}", missing.join(", ")));
        }
    }

    pub(crate) fn pg_restore(&mut self) -> Option<String> {
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
