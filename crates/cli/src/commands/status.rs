//! `pgkeep status`: would I get my data back, how old would it be, how long would it take?

mod calendar;
mod chart;
mod page;
mod screen;

use std::io::Write as _;
use std::path::Path;

use pgkeep_core::{Objectives, Problem, ProblemKind, Severity, Status};
use pgkeep_restore::{KeptDatabase, RecoveryAction};
use serde::Serialize;
use serde_json::json;

use super::{Context, Done};
use crate::args::{ColorChoice, StatusArgs};
use crate::failure::{Failure, Result};
use crate::hint::Code;
use crate::settings::variable;
use crate::wire::Access;

/// What the database's server says.
#[derive(Debug, Clone, Default, Serialize)]
struct Server {
    /// The database and its server; `None` where none is set.
    database: Option<String>,
    /// Why it could not be asked.
    unreachable: Option<String>,
    /// Old databases kept from restores, newest first.
    kept: Vec<KeptDatabase>,
}

pub(super) async fn run(context: &Context, args: &StatusArgs) -> Result<Done> {
    let objectives = context.objectives()?;
    let keeper = context.keeper(Access::Read).await?;
    let (status, (server, problems)) =
        tokio::join!(keeper.status(&objectives, &context.settings.policy), server(context));
    let mut status = status?;
    status.problems.extend(problems);
    status.problems.sort_by_key(|problem| problem.severity);

    if let Some(file) = &args.html {
        let file = context.surroundings.directory.join(file);
        write(&file, &page::page(&status, &server))
            .map_err(|error| Failure::io(format_args!("write {}", file.display()), &error))?;
        context.reporter.detail(format!("written: {}", file.display()));
    }
    let colors = match context.globals.color {
        ColorChoice::Always => true,
        ColorChoice::Never => false,
        ColorChoice::Auto => {
            let surroundings = &context.surroundings;
            surroundings.stdout_is_terminal
                && surroundings.variable("TERM") != Some("dumb")
                && surroundings.variable("NO_COLOR").is_none()
        }
    };
    let text = screen::screen(&status, &server, colors);
    let failure = failure(&status);
    let done = Done::new(text, "status", json!(status)).with("server", json!(server));
    Ok(Done { failure, ..done })
}

impl Context {
    /// What backups are held to.
    pub(super) fn objectives(&self) -> Result<Objectives> {
        let layers = &self.settings.layers;
        let default = Objectives::default();
        Ok(Objectives {
            rpo: layers.duration(&variable::RPO)?.unwrap_or(default.rpo),
            rto: layers.duration(&variable::RTO)?.unwrap_or(default.rto),
            grace: layers.duration(&variable::GRACE)?.unwrap_or(default.grace),
            proof_age: layers.duration(&variable::PROOF_AGE)?.unwrap_or(default.proof_age),
            schedule: self.settings.schedule.clone(),
        })
    }
}

/// A place that could not be asked comes first, then what is overdue or damaged, then what is unproven.
fn failure(status: &Status) -> Option<Failure> {
    let critical: Vec<_> = status.problems.iter().filter(|problem| problem.severity == Severity::Critical).collect();
    let find = |kinds: &[ProblemKind]| critical.iter().find(|problem| kinds.contains(&problem.kind));
    let (code, problem) = if let Some(problem) = find(&[ProblemKind::PlaceUnreachable]) {
        (Code::StoreUnreachable, problem)
    } else if let Some(problem) = find(&[ProblemKind::NoBackup, ProblemKind::Overdue, ProblemKind::ClassOverdue]) {
        (Code::Overdue, problem)
    } else {
        (Code::Unproven, critical.first()?)
    };
    Some(Failure::new(code, problem.message.clone()).hint(problem.advice.clone()))
}

/// What only the server knows. That it is down says nothing about the backups.
async fn server(context: &Context) -> (Server, Vec<Problem>) {
    let mut server = Server::default();
    let mut problems = Vec::new();
    if context.settings.layers.get(&variable::DATABASE_URL).is_none() {
        return (server, problems);
    }
    let asked = async {
        let settings = context.connect_settings()?;
        server.database = Some(format!("{} at {}", settings.database(), settings.server()));
        // Found without the client tools: nothing is dumped or restored.
        let restorer = context.asker(settings);
        server.kept = restorer.kept_databases().await?;
        let leftovers = restorer.leftovers(None).await?.leftovers;
        Ok::<_, Failure>(leftovers)
    };
    match asked.await {
        Ok(leftovers) => {
            for leftover in leftovers.into_iter().filter(|leftover| leftover.action != RecoveryAction::Note) {
                let advice = if leftover.action == RecoveryAction::Drop {
                    "the next restore clears it up"
                } else {
                    "restore again, or go back: pgkeep list --type pre-restore"
                };
                problems.push(Problem::new(Severity::Warning, ProblemKind::Leftover, leftover.story, advice));
            }
        }
        Err(failure) => {
            let advice =
                failure.hint.clone().unwrap_or_else(|| "what is told of the backups holds all the same".to_owned());
            let message = format!("the database server could not be asked: {}", failure.message);
            server.unreachable = Some(failure.message);
            problems.push(Problem::new(Severity::Warning, ProblemKind::DatabaseUnreachable, message, advice));
        }
    }
    for kept in &server.kept {
        let size = kept.bytes.map_or_else(String::new, |bytes| format!(", {}", crate::render::size(bytes)));
        problems.push(Problem::new(
            Severity::Note,
            ProblemKind::KeptDatabase,
            format!("{} is kept from a restore{size}", kept.name),
            format!(
                "pgkeep rollback brings it back; when it is no longer needed: DROP DATABASE {};",
                pgkeep_dump::quote_identifier(&kept.name)
            ),
        ));
    }
    (server, problems)
}

/// Writes the whole file or leaves the one before: a web server may be reading it.
fn write(file: &Path, text: &str) -> std::io::Result<()> {
    let folder = file.parent().unwrap_or(Path::new("/"));
    let mut whole = tempfile::NamedTempFile::new_in(folder)?;
    whole.write_all(text.as_bytes())?;
    // Others may read it, as they may read what a web server shows.
    let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o644);
    whole.as_file().set_permissions(mode)?;
    whole.persist(file).map_err(|error| error.error)?;
    Ok(())
}
