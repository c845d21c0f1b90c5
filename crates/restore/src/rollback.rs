//! Going back: the live and a kept database exchange their names again.

use pgkeep_metrics::Event;

use crate::journal::{self, Act, Note};
use crate::kept::{RollbackPlan, RollbackReport};
use crate::names::{self, Role};
use crate::recovery::{kept, lock, not_kept, pinned, unlock};
use crate::survey::survey;
use crate::swap::{Comment, Exchange, Present};
use crate::{Error, Restorer, Result, sessions};

impl Restorer {
    /// What [`Self::rollback`] would do, to the newest kept database or the one named.
    pub async fn plan_rollback(&self, wanted: Option<&str>) -> Result<RollbackPlan> {
        let live = self.settings.database();
        let facts = survey(&self.settings, live, false).await?;
        let mut connection = sessions::maintenance(&facts.connect, &[]).await?;
        let all = kept(&mut connection, live).await?;
        let chosen = match wanted {
            None => all.first(),
            Some(name) => all.iter().find(|kept| kept.name == name),
        };
        let Some(chosen) = chosen.cloned() else {
            return Err(not_kept(wanted.unwrap_or(&format!("of {live}")), &all));
        };
        let mut plan = RollbackPlan {
            database: live.to_owned(),
            kept: chosen,
            kept_as: names::derived(live, Role::Before, &names::free_stamp(live, self.clock.now(), &facts.databases)),
            sessions: 0,
            blockers: Vec::new(),
            warnings: Vec::new(),
            live_oid: None,
        };
        if !facts.role.superuser && !facts.role.create_databases {
            plan.blockers.push(format!("role {} may not rename databases: it lacks CREATEDB", facts.role.name));
        }
        if facts.standby {
            plan.blockers.push("the server is a standby".to_owned());
        }
        if let Some(present) = &facts.database {
            plan.live_oid = Some(present.oid);
            plan.sessions = present.sessions.iter().map(|session| session.count).sum();
            if !present.owned {
                plan.blockers.push(format!("role {} does not own database {live}", facts.role.name));
            }
            plan.blockers.extend(
                present.prepared.iter().map(|gid| format!("database {live} has the prepared transaction {gid}")),
            );
            plan.warnings.extend(
                present
                    .slots
                    .iter()
                    .map(|slot| format!("replication slot {slot} stays with the database that is live now")),
            );
        } else {
            plan.warnings.push(format!("there is no database {live} now: the kept one only takes its name"));
        }
        plan.warnings.push(format!(
            "what was written to {live} since {} is in {} only afterwards",
            plan.kept.replaced_at.format("%Y-%m-%d %H:%M:%S UTC"),
            plan.kept_as
        ));
        Ok(plan)
    }

    /// Exchanges the names of the live and a kept database. The one that was live is kept, so a rollback can be rolled back.
    /// After [`Error::Uncertain`] they may or may not be exchanged; on every other error nothing has changed.
    pub async fn rollback(&self, plan: &RollbackPlan) -> Result<RollbackReport> {
        if !plan.blockers.is_empty() {
            return Err(Error::Blocked { blockers: plan.blockers.clone() });
        }
        let mut connection = sessions::maintenance(&self.settings, &[&plan.database, &plan.kept.name]).await?;
        if !lock(&mut connection, &plan.database).await? {
            return Err(Error::Busy { database: plan.database.clone() });
        }
        // What an earlier run left unsaid is said before anything is exchanged.
        let recovery = self.recover_locked(&mut connection, &plan.database).await?;
        for leftover in recovery.leftovers {
            self.observer.notice(&Event::Info { message: leftover.story });
        }
        let mut warnings = recovery.warnings;
        let settings = pinned(&connection, &plan.database);
        let present = plan.live_oid.map(|oid| Present { oid, kept_as: plan.kept_as.clone() });
        let exchange = Exchange {
            live: plan.database.clone(),
            present,
            new: plan.kept.name.clone(),
            new_oid: plan.kept.oid,
            comment: Comment::Keep,
        };
        let note = Note {
            act: Act::Rollback,
            server: settings.server(),
            database: plan.database.clone(),
            begun: self.clock.now(),
            backup: plan.kept.name.clone(),
            live_oid: plan.live_oid,
            new_oid: Some(plan.kept.oid),
            kept_as: plan.live_oid.map(|_| plan.kept_as.clone()),
            snapshot: None,
        };
        let key = journal::write(self.journal.as_deref(), &note, &mut warnings).await;
        let outcome = exchange.run(&settings, &*self.observer).await;
        for message in warnings {
            self.observer.notice(&Event::Warning { message });
        }
        // Where it is not known what happened, the next run tells by the note.
        if !matches!(outcome, Err(Error::Uncertain { .. })) {
            journal::clear(self.journal.as_deref(), key.as_ref()).await;
        }
        unlock(connection, &plan.database).await;
        outcome?;
        Ok(RollbackReport {
            database: plan.database.clone(),
            restored: plan.kept.name.clone(),
            kept_as: plan.live_oid.map(|_| plan.kept_as.clone()),
        })
    }
}
