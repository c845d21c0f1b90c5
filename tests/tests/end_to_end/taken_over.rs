//! A folder that the shell scripts used before: what they left stays, is shown, and can be adopted; what runs of ours left is swept.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use pgkeep_testkit::{PostgresServer, client_tools, saas};

use crate::setup::{Run, Setup};

const DAILY: &str = "daily_20251016_030001.dump.gz";
const WEEKLY: &str = "weekly_2025_W42_030001.dump.gz";
const METADATA: &str = r#"{
  "backup_file": "daily_20251016_030001.dump.gz",
  "backup_type": "daily",
  "timestamp": "20251016_030001",
  "date": "2025-10-16T03:00:01+00:00",
  "hostname": "prod-server-01",
  "database_url": "***REDACTED***",
  "size": "45M",
  "duration_seconds": 132,
  "compression": "gzip-9",
  "pg_dump_version": "pg_dump (PostgreSQL) 14.9"
}
"#;

fn age(file: &Path, days: u64) {
    let opened = fs::File::options().write(true).open(file).expect("it is there");
    opened.set_modified(SystemTime::now() - Duration::from_hours(24 * days)).expect("its time can be set");
}

fn archive(url: &str, to: &Path) {
    let script = format!("{} -Fc -d \"$1\" | gzip -1 > {}", client_tools(17).join("pg_dump").display(), to.display());
    let made = Command::new("bash").args(["-o", "pipefail", "-c", &script, "bash", url]).status().expect("bash");
    assert!(made.success());
}

fn document(run: &Run) -> serde_json::Value {
    serde_json::from_str(&run.stdout).expect("JSON")
}

fn metas(setup: &Setup) -> Vec<String> {
    let ours = setup.files().into_iter().filter(|file| file.ends_with(".meta") && !file.starts_with(DAILY));
    ours.collect()
}

#[test]
fn the_old_scripts_archives_survive_every_backup_and_can_be_adopted() {
    let source = PostgresServer::shared(17).create_database("taken_over");
    saas::load(source.server(), &source, 0.03);
    let setup = Setup::new(&source.url())
        .with("BACKUP_RETENTION_LOCAL_DAILY_MAX", "1")
        .with("BACKUP_RETENTION_LOCAL_DAILY_MIN", "0");
    fs::create_dir_all(setup.backups()).expect("made");
    let old = [DAILY, WEEKLY].map(|name| setup.backups().join(name));
    let metadata = setup.backups().join(format!("{DAILY}.meta"));
    fs::write(&metadata, METADATA).expect("written");
    age(&metadata, 60);
    for file in &old {
        archive(&source.url(), file);
        age(file, 60);
    }
    let before = old.each_ref().map(|file| fs::read(file).expect("read"));

    let dry = setup.run("backup-database", &["--daily", "--dry-run"]);
    assert_eq!(dry.code, Some(0), "{dry}");
    assert!(!dry.stdout.contains("LEFT OVER"), "{dry}");
    for _ in 0..3 {
        let run = setup.run("backup-database", &["--daily"]);
        assert_eq!(run.code, Some(0), "{run}");
        assert!(!run.stderr.contains("can't be read"), "{run}");
    }
    assert_eq!(metas(&setup).len(), 1, "retention goes on beside old metadata: {:?}", setup.files());
    assert_eq!(old.each_ref().map(|file| fs::read(file).expect("still there")), before);
    assert_eq!(fs::read_to_string(&metadata).expect("still there"), METADATA);

    let listed = document(&setup.pgkeep(&["list", "--output", "json"]));
    let adoptable = listed["adoptable"].as_array().expect("a list");
    let mut keys: Vec<_> = adoptable.iter().filter_map(|archive| archive["key"].as_str()).collect();
    keys.sort_unstable();
    assert_eq!(keys, [DAILY, WEEKLY], "{listed}");
    let drop_in = setup.run("restore-database", &["--list-backups"]);
    assert!(drop_in.stderr.contains("pgkeep adopt"), "{drop_in}");

    setup.pgkeep(&["adopt", old[0].to_str().expect("UTF-8")]);
    setup.pgkeep(&["verify", "daily_20251016_030001", "--deep"]);
    let shown = document(&setup.pgkeep(&["show", "daily_20251016_030001", "--output", "json"]));
    assert_eq!(shown["backup"]["hostname"], "prod-server-01", "{shown}");
    let listed = document(&setup.pgkeep(&["list", "--output", "json"]));
    assert_eq!(listed["adoptable"].as_array().map(Vec::len), Some(1), "{listed}");
}

#[test]
fn what_a_killed_run_left_is_shown_by_a_dry_run_and_then_swept() {
    let source = PostgresServer::shared(17).create_database("killed");
    source.psql("CREATE TABLE t AS SELECT 1 AS n");
    let setup = Setup::new(&source.url());
    setup.pgkeep(&["backup"]);
    // As a run leaves it that is killed between its archive and its meta: the archive, and the mark that names it.
    let name = "daily_20240102_030405.dump.zst";
    let left = setup.backups().join(name);
    let bytes = fs::copy(setup.archive(), &left).expect("copied");
    let mark = setup.backups().join(".pgkeep/unpublished-daily_20240102_030405-0123456789abcdef");
    let says = format!(
        r#"{{"id": "daily_20240102_030405", "hostname": "h", "archive": "{name}", "objects": [{{"key": "{name}", "bytes": {bytes}}}]}}"#
    );
    fs::write(&mark, says).expect("written");
    for file in [&left, &mark] {
        age(file, 3);
    }
    let prune = setup.pgkeep(&["prune", "--dry-run"]);
    let backup = setup.run("backup-database", &["--daily", "--dry-run"]);
    for run in [&prune, &backup] {
        assert!(run.stdout.contains("LEFT OVER") && run.stdout.contains(name), "{run}");
    }
    assert!(left.exists() && mark.exists());
    let planned = document(&setup.pgkeep(&["prune", "--dry-run", "--output", "json"]));
    assert_eq!(planned["sweep"][0]["leftovers"][0]["key"], name, "{planned}");
    setup.pgkeep(&["prune"]);
    assert!(!left.exists() && !mark.exists());
    setup.pgkeep(&["verify", "--all", "--deep"]);
}

#[test]
fn a_backup_of_a_part_never_replaces_the_live_database() {
    let source = PostgresServer::shared(17).create_database("part");
    saas::load(source.server(), &source, 0.03);
    let setup = Setup::new(&source.url());
    setup.pgkeep(&["backup", "--daily"]);
    let setup = setup.with("PGDUMP_OPTIONS", "--exclude-table-data=app.*");
    setup.pgkeep(&["backup", "--weekly"]);
    let latest = setup.pgkeep(&["restore", "--latest", "--dry-run", "--skip-snapshot", "--output", "json"]);
    assert!(document(&latest)["plan"].to_string().contains("daily_"), "{latest}");
    assert!(latest.stderr.contains("holds a part of the database only"), "{latest}");
    let refused = setup.run("pgkeep", &["restore", "weekly", "--yes", "--skip-snapshot"]);
    assert_ne!(refused.code, Some(0), "{refused}");
    assert!(refused.stderr.contains("--target-db"), "{refused}");
    assert_eq!(source.relatives().len(), 1, "nothing was begun: {:?}", source.relatives());
    let target = format!("{}_beside", source.name());
    setup.pgkeep(&["restore", "weekly", "--target-db", &target, "--yes"]);
}
