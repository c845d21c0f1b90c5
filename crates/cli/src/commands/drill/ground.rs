//! Where a drill restores to: a scratch database beside the live one, on another server, or in a throw-away cluster.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgkeep_core::BackupSource;
use pgkeep_dump::ConnectSettings;
use pgkeep_metrics::{Event, Observer};
use pgkeep_restore::{Error as RestoreError, RestoreReport, RestoreRequest, Restorer, Scratch, Target};

use crate::args::DrillArgs;
use crate::commands::Context;
use crate::commands::cluster::{Cluster, Purpose};
use crate::failure::{Failure, Result, chain};
use crate::hint::Code;
use crate::reporter::Reporter;

/// A server that is ready, and the name that is reserved on it.
#[derive(Debug)]
pub(super) struct Ground {
    restorer: Restorer,
    scratch: Scratch,
    cluster: Option<Cluster>,
    /// It is not the live database's server.
    elsewhere: bool,
}

/// What a restore came to.
#[derive(Debug)]
pub(super) enum Restored {
    /// All there.
    Equal(Box<RestoreReport>),
    /// Restored, and not what was there; the database is dropped already.
    Different {
        /// How long it took.
        took: Duration,
        /// One line each.
        differences: Vec<String>,
    },
}

impl Restored {
    /// How long it took.
    pub(super) fn took(&self) -> Duration {
        match self {
            Self::Equal(report) => report.times.total,
            Self::Different { took, .. } => *took,
        }
    }
}

impl Ground {
    /// Makes ready what a restore of a backup of the database `live` needs.
    pub(super) async fn prepare(context: &Context, args: &DrillArgs, live: &str) -> Result<Self> {
        let other = context.drill_server()?;
        if args.scratch {
            let Context { surroundings, reporter, cancel, .. } = context;
            let cluster =
                Cluster::start(Purpose::Drill, args.bin_dir.as_deref(), surroundings, reporter, cancel).await?;
            return match Self::on_cluster(context, &cluster, live).await {
                Ok((restorer, scratch)) => Ok(Self { restorer, scratch, cluster: Some(cluster), elsewhere: true }),
                Err(failure) => {
                    cluster.remove(reporter).await;
                    Err(failure)
                }
            };
        }
        let elsewhere = other.is_some();
        let settings = match other {
            Some(settings) => settings,
            None => context.connect_settings()?,
        };
        let restorer = quiet(context.restorer(settings, None).await?, &context.reporter);
        let scratch = restorer.scratch(live).await?;
        Ok(Self { restorer, scratch, cluster: None, elsewhere })
    }

    async fn on_cluster(context: &Context, cluster: &Cluster, live: &str) -> Result<(Restorer, Scratch)> {
        let settings = ConnectSettings::parse(&cluster.url("postgres"), &BTreeMap::new(), None)?;
        let tools = context.client_tools_and(&[cluster.bin_dir().to_owned()]).await?;
        let restorer = Restorer { tools, ..context.restorer(settings, None).await? };
        let restorer = quiet(restorer, &context.reporter);
        let scratch = restorer.scratch(live).await?;
        Ok((restorer, scratch))
    }

    /// Where it is, for people.
    pub(super) fn describe(&self) -> String {
        match &self.cluster {
            Some(cluster) => format!("a throw-away cluster from {}", cluster.bin_dir().display()),
            None => format!("database {} at {}", self.scratch.name(), self.scratch.settings().server()),
        }
    }

    /// What looks at the scratch database.
    pub(super) fn inspector(&self) -> Restorer {
        Restorer { settings: self.scratch.settings().clone(), ..self.restorer.clone() }
    }

    /// Restores into the scratch database, which must not be there yet. Adds what is worth knowing to `details`.
    pub(super) async fn restore(
        &self,
        source: BackupSource,
        jobs: usize,
        details: &mut Vec<String>,
    ) -> Result<Restored> {
        let target = Target::Database { name: self.scratch.name().to_owned(), replace: false };
        let mut request = RestoreRequest {
            jobs,
            skip_snapshot: true,
            // The cluster is ours: whoever owned something may be created in it.
            roles: self.cluster.is_some(),
            ..RestoreRequest::new(source, target)
        };
        let mut plan = self.restorer.plan(&request).await?;
        if !plan.blockers.is_empty() && !plan.missing_roles.is_empty() && self.elsewhere {
            details.push(format!(
                "without owners and grants: roles that are not on that server are {}",
                plan.missing_roles.join(", ")
            ));
            request = RestoreRequest { roles: false, no_owner: true, no_acl: true, ..request };
            plan = self.restorer.plan(&request).await?;
        }
        if !plan.blockers.is_empty() {
            let message = format!("the restore can't be carried out: {}", plan.blockers.join("; "));
            return Err(Failure::new(Code::Blocked, message));
        }
        let began = Instant::now();
        match self.restorer.execute(&plan, None).await {
            Ok(report) => {
                details.extend(report.warnings.iter().cloned());
                Ok(Restored::Equal(Box::new(report)))
            }
            Err(RestoreError::Unproven { differences }) => {
                Ok(Restored::Different { took: began.elapsed(), differences })
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Drops the database, or the whole cluster. What can't be removed now is told, and the next drill removes it.
    pub(super) async fn remove(self, reporter: &Reporter) {
        let name = self.scratch.name().to_owned();
        match self.cluster {
            Some(cluster) => {
                drop(self.scratch);
                cluster.remove(reporter).await;
            }
            None => {
                if let Err(error) = self.scratch.remove().await {
                    let message = format!("the scratch database {name} could not be dropped: {}", chain(&error));
                    reporter.warn(format!("{message}; the next drill drops it"));
                }
            }
        }
    }
}

fn quiet(restorer: Restorer, reporter: &Arc<Reporter>) -> Restorer {
    Restorer { observer: Arc::new(Aside(Arc::clone(reporter))), ..restorer }
}

/// Hears what the steps are made of: progress is shown, lines are details.
#[derive(Debug)]
pub(super) struct Aside(pub(super) Arc<Reporter>);

impl Observer for Aside {
    fn notice(&self, event: &Event) {
        match event {
            Event::Info { message } => self.0.detail(message),
            event => self.0.notice(event),
        }
    }
}
