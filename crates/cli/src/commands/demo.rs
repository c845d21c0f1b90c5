//! `pgkeep demo`: the whole story on a throw-away server, told by the real commands.

mod sample;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgkeep_core::VerifyDepth;
use pgkeep_dump::{ConnectSettings, Connection, SessionSettings};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use super::Done;
use super::cluster::{Cluster, Purpose};
use crate::args::{
    BackupArgs, Command, DemoArgs, ExportArgs, GlobalArgs, IdentityArgs, ListArgs, RestoreArgs, VerifyArgs,
};
use crate::failure::{Failure, Result};
use crate::hint::Code;
use crate::invocation::{Invocation, Program};
use crate::render::{elapsed, size, tables};
use crate::reporter::Reporter;
use crate::surroundings::Surroundings;
use sample::{Census, Text};

/// The sample database's name.
const DATABASE: &str = "demo";

pub(super) async fn run(
    args: &DemoArgs,
    globals: &GlobalArgs,
    surroundings: &Surroundings,
    reporter: &Arc<Reporter>,
    cancel: &CancellationToken,
) -> Result<Done> {
    if !(args.scale > 0.0 && args.scale <= 1_000.0) {
        return Err(Failure::settings("--scale is a number above 0, up to 1000"));
    }
    let cluster = Cluster::start(Purpose::Demo, args.bin_dir.as_deref(), surroundings, reporter, cancel).await?;
    let demo = Demo { args, globals, surroundings, reporter, cancel, cluster: &cluster };
    let told = tokio::select! {
        told = demo.tell() => told,
        () = cancel.cancelled() => Err(Failure::new(Code::Interrupted, "interrupted")),
    };
    if args.keep {
        reporter.show(&how_to_go_on(&cluster));
        cluster.leave();
    } else {
        cluster.remove(reporter).await;
    }
    told
}

struct Demo<'d> {
    args: &'d DemoArgs,
    globals: &'d GlobalArgs,
    surroundings: &'d Surroundings,
    reporter: &'d Arc<Reporter>,
    cancel: &'d CancellationToken,
    cluster: &'d Cluster,
}

impl Demo<'_> {
    async fn tell(&self) -> Result<Done> {
        let mut report = Vec::new();

        self.chapter(1, "a sample database");
        let began = Instant::now();
        let database = self.database()?;
        let mut server = Connection::connect(&database.with_database("postgres"), SessionSettings::Admin).await?;
        server.execute(format!("CREATE DATABASE {DATABASE}")).await?;
        server.close().await?;
        sample::fill(&database, self.args.scale, self.reporter).await?;
        let before = sample::census(&database).await?;
        let text_before = self.text().await?;
        report.push((
            "sample database",
            format!(
                "{}, {} tables, {} rows ({})",
                size(before.bytes),
                before.tables.len(),
                before.rows(),
                elapsed(began.elapsed())
            ),
        ));

        self.chapter(2, "back it up");
        let (took, done) = self.command("backup", Command::Backup(BackupArgs::default())).await?;
        let name = done.fields["backup"]["id"].as_str().unwrap_or_default().to_owned();
        let stored = done.fields["backup"]["stored_bytes"].as_u64().unwrap_or_default();
        report.push(("backup", format!("{name}, {} stored ({})", size(stored), elapsed(took))));

        self.chapter(3, "see what there is");
        self.command("list", Command::List(ListArgs::default())).await?;

        self.chapter(4, "verify it: every byte, every row");
        let verify = VerifyArgs { latest: true, ..VerifyArgs::default() };
        debug_assert_eq!(verify.depth.depth(), VerifyDepth::Deep);
        let (took, _) = self.command("verify --latest --deep", Command::Verify(verify)).await?;
        report.push(("verified", format!("deep, good ({})", elapsed(took))));

        self.chapter(5, "it is a standard archive: what PostgreSQL's own pg_restore says");
        let entries = self.stock_tool(&name).await?;
        report.push(("stock pg_restore", format!("lists {entries} entries")));

        self.chapter(6, "an accident");
        let lost = sample::accident(&database).await?;
        self.reporter.info(format!("Lost: {lost}"));
        report.push(("accident", lost));

        self.chapter(7, "restore it");
        let restore = RestoreArgs { latest: true, yes: true, ..RestoreArgs::default() };
        let (took, _) = self.command("restore --latest --yes", Command::Restore(restore)).await?;
        report.push(("restored", format!("beside the live database, proven, swapped in ({})", elapsed(took))));

        self.chapter(8, "is it all there? Asked of the database itself");
        let after = sample::census(&database).await?;
        let equal = before.compare(&after);
        let all = before.tables.len();
        report.push(("equal tables", format!("{} of {all}", equal.len())));
        let text_after = self.text().await?;
        let text_verdict = if text_before == text_after { "equal" } else { "DIFFERENT" };
        report.push(("pg_dump text", format!("{text_verdict}, {} lines", text_after.lines)));
        self.reporter.show(&census_table(&before, &after));

        let text =
            format!("\nREPORT\n{}\n", tables::facts(report.iter().map(|(label, value)| (*label, value.clone()))));
        let facts: serde_json::Map<_, _> =
            report.into_iter().map(|(label, value)| (label.replace(' ', "_"), json!(value))).collect();
        let mut done = Done::new(text, "demo", serde_json::Value::Object(facts))
            .with("equal_tables", json!(equal))
            .with("tables", json!(all));
        if equal.len() == all && after.tables.len() == all && text_before == text_after {
            done.text.push_str("Everything came back as it was.\n");
        } else {
            done.failure = Some(Failure::new(
                Code::ProofFailed,
                format!("{} of {all} tables came back equal; pg_dump's text is {text_verdict}", equal.len()),
            ));
        }
        Ok(done)
    }

    /// What stock `pg_dump` says of the database: its definitions and its rows.
    async fn text(&self) -> Result<Text> {
        Text::of(self.cluster.bin_dir(), &self.cluster.url(DATABASE)).await
    }

    fn chapter(&self, number: u32, title: &str) {
        self.reporter.show(&format!("\n{number}. {title}\n"));
    }

    fn database(&self) -> Result<ConnectSettings> {
        Ok(ConnectSettings::parse(&self.cluster.url(DATABASE), &std::collections::BTreeMap::new(), None)?)
    }

    /// Runs a command as if it had been typed.
    async fn command(&self, typed: &str, command: Command) -> Result<(Duration, Done)> {
        self.reporter.show(&format!("$ pgkeep {typed}\n"));
        let mut surroundings = self.surroundings.clone();
        surroundings.variables.retain(|name, _| matches!(name.as_str(), "PATH" | "HOME" | "TERM" | "TMPDIR"));
        let folder = self.cluster.folder();
        for (name, value) in [
            ("DATABASE_URL", self.cluster.url(DATABASE)),
            ("BACKUP_DIR", folder.join("backups").display().to_string()),
            ("LOG_FILE", folder.join("backups.log").display().to_string()),
            ("PG_BINDIRS", self.cluster.bin_dir().display().to_string()),
        ] {
            surroundings.variables.insert(name.to_owned(), value);
        }
        folder.clone_into(&mut surroundings.directory);
        let globals = GlobalArgs { config: None, env_file: None, database: None, ..self.globals.clone() };
        let invocation = Invocation { program: Program::Pgkeep, globals, command };
        let began = Instant::now();
        let run = super::run(invocation, surroundings, Arc::clone(self.reporter), self.cancel.clone());
        let mut done = Box::pin(run).await?;
        self.reporter.show(&done.text);
        match done.failure.take() {
            Some(failure) => Err(failure),
            None => Ok((began.elapsed(), done)),
        }
    }

    /// Exports the backup and has it listed by `pg_restore`.
    async fn stock_tool(&self, name: &str) -> Result<usize> {
        let file = self.cluster.folder().join("export.dump");
        let export = ExportArgs {
            backup: Some(name.to_owned()),
            latest: false,
            table: Vec::new(),
            to: file.clone(),
            keys: IdentityArgs::default(),
        };
        self.command(&format!("export {name} --to export.dump"), Command::Export(export)).await?;
        self.reporter.show("$ pg_restore --list export.dump | wc -l\n");
        let output = tokio::process::Command::new(self.cluster.bin_dir().join("pg_restore"))
            .arg("--list")
            .arg(&file)
            .stdin(std::process::Stdio::null())
            .output()
            .await
            .map_err(|error| Failure::io("run pg_restore", &error))?;
        if !output.status.success() {
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            return Err(Failure::new(Code::NotAnArchive, format!("pg_restore refused the export: {}", said.trim())));
        }
        remove(&file);
        let entries = String::from_utf8_lossy(&output.stdout).lines().filter(|line| !line.starts_with(';')).count();
        self.reporter.show(&format!("{entries}\n"));
        Ok(entries)
    }
}

/// How to use what was left.
fn how_to_go_on(cluster: &Cluster) -> String {
    let folder = cluster.folder().display();
    format!(
        "\nThe server goes on:\n  export DATABASE_URL='{}' BACKUP_DIR={folder}/backups LOG_FILE={folder}/backups.log\n  \
         pgkeep list\nTo end it: kill -INT $(head -1 {folder}/data/postmaster.pid) && rm -r {folder}\n",
        cluster.url(DATABASE)
    )
}

fn remove(file: &Path) {
    let _ = std::fs::remove_file(file);
}

fn census_table(before: &Census, after: &Census) -> String {
    let rows = before.tables.iter().map(|(table, was)| {
        let is = after.tables.get(table);
        let verdict = if is == Some(was) { "equal" } else { "DIFFERENT" };
        [
            table.clone(),
            was.rows.to_string(),
            is.map_or_else(|| "-".to_owned(), |is| is.rows.to_string()),
            verdict.to_owned(),
        ]
    });
    tables::table(["TABLE", "ROWS BEFORE", "ROWS NOW", "CONTENT"], &[1, 2], rows)
}
