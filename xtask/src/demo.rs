//! The whole of pgkeep in a minute, on a throw-away server: back up, list, verify, lose, restore, prove.

mod janitor;
mod proof;
mod server;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::process::{self, Result, capture, cargo, seconds, workspace};
use proof::Evidence;
use server::Server;

const DATABASE: &str = "salon";
const SAMPLE: &str = include_str!("../../crates/testkit/sql/saas.sql");

pub(crate) fn run() -> Result {
    let mut story = Story::default();
    let server = story.step("find PostgreSQL, start a throw-away server", Server::start)?;
    story.step("build pgkeep", || process::run(cargo().args(["build", "--package", "pgkeep", "--bin", "pgkeep"])))?;
    story.step("fill a sample database", || {
        server.psql("postgres", &format!("CREATE DATABASE {DATABASE} TEMPLATE template0 ENCODING 'UTF8'"))?;
        server.psql_with(DATABASE, SAMPLE, &["-v", "scale=1", "-o", "/dev/null"])
    })?;
    println!("    {}", server.psql(DATABASE, WHAT_IS_THERE)?.replace('\n', "\n    "));
    let before = story
        .step("take evidence: counts, fingerprints, pg_dump's text", || Evidence::take(&server, DATABASE, "before"))?;

    let pgkeep = Pgkeep { program: program()?, home: server.directory().to_owned(), url: server.url(DATABASE) };
    story.step("pgkeep backup", || pgkeep.run(&["backup"]))?;
    story.step("pgkeep list", || pgkeep.run(&["list"]))?;
    story.step("pgkeep verify --latest --deep", || pgkeep.run(&["verify", "--latest", "--deep"]))?;

    println!("\n==> now the accident: app.messages is dropped, half of the customers lose their names");
    server.psql(DATABASE, ACCIDENT)?;
    let lost = before.differences(&Evidence::take(&server, DATABASE, "lost")?)?;
    println!("    what differs now: {}", lost.join(", "));
    if lost.len() < 2 {
        return Err("the accident did not happen".into());
    }

    story.step("pgkeep restore --latest --yes", || pgkeep.run(&["restore", "--latest", "--yes"]))?;
    let after = story.step("take evidence again", || Evidence::take(&server, DATABASE, "after"))?;
    let differences = before.differences(&after)?;
    if !differences.is_empty() {
        return Err(format!("the restored database differs: {}", differences.join(", ")).into());
    }
    let databases =
        server.psql("postgres", "SELECT datname FROM pg_database WHERE datname LIKE 'salon%' ORDER BY 1")?;
    report(&story, &server, &before, &databases)?;
    server.clean_up();
    Ok(())
}

const WHAT_IS_THERE: &str = "
    SELECT format('%s in %s tables, %s large objects', pg_size_pretty(pg_database_size(current_database())),
                  count(*), (SELECT count(*) FROM pg_largeobject_metadata))
    FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'app'::regnamespace";

const ACCIDENT: &str = "
    SET client_min_messages = warning;
    DROP TABLE app.messages CASCADE;
    SET session_replication_role = replica;
    UPDATE app.customers SET name = '' WHERE balance > 1700";

/// The real program, in an environment with nothing but the demo's settings.
struct Pgkeep {
    program: PathBuf,
    home: PathBuf,
    url: String,
}

impl Pgkeep {
    fn run(&self, arguments: &[&str]) -> Result {
        process::run(
            Command::new(&self.program)
                .args(arguments)
                .current_dir(&self.home)
                .env_clear()
                .envs(["PATH", "TERM", "LANG"].iter().filter_map(|name| Some((name, std::env::var_os(name)?))))
                .env("HOME", &self.home)
                .env("DATABASE_URL", &self.url)
                .env("BACKUP_DIR", self.home.join("backups"))
                .env("LOG_FILE", self.home.join("backups.log")),
        )
    }
}

fn program() -> Result<PathBuf> {
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| workspace().join("target"), PathBuf::from);
    fs::canonicalize(target.join("debug/pgkeep")).map_err(|error| format!("pgkeep was not built: {error}").into())
}

/// What was done, and how long each step took.
#[derive(Default)]
struct Story(Vec<(&'static str, Duration)>);

impl Story {
    fn step<T>(&mut self, name: &'static str, act: impl FnOnce() -> Result<T>) -> Result<T> {
        println!("\n==> {name}");
        let started = Instant::now();
        let outcome = act()?;
        self.0.push((name, started.elapsed()));
        Ok(outcome)
    }
}

fn report(story: &Story, server: &Server, evidence: &Evidence, databases: &str) -> Result {
    let rule = "─".repeat(72);
    println!("\n{rule}\nThe report: it is all there\n{rule}");
    for (name, elapsed) in &story.0 {
        println!("{name:<58}{:>14}", seconds(*elapsed));
    }
    println!("{rule}");
    println!("PostgreSQL {}", server.version()?);
    println!("{:<40}{:>12}  fingerprint, before and after", "table", "rows");
    for (table, rows, fingerprint) in evidence.tables() {
        println!("{table:<40}{rows:>12}  {fingerprint}");
    }
    println!(
        "pg_dump's text of the database, before and after: {} bytes, equal (the order of rows aside)",
        evidence.text_bytes()?
    );
    println!("databases now: {}", databases.replace('\n', ", "));
    for file in listed(&server.directory().join("backups"))? {
        println!("stored: {file}");
    }
    println!("{rule}");
    Ok(())
}

fn listed(directory: &Path) -> Result<Vec<String>> {
    let files = capture(Command::new("find").arg(directory).args(["-type", "f", "-printf", "%P  %s bytes\\n"]))?;
    let mut files: Vec<String> = files.lines().map(str::to_owned).collect();
    files.sort();
    Ok(files)
}
