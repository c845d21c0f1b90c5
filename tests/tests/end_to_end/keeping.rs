//! Listing, showing, choosing, pruning, exporting and adopting what is kept.

use pgkeep_testkit::{PostgresServer, client_tools, contents, saas};

use crate::setup::Setup;

fn with_backups(label: &str, classes: &[&str]) -> (pgkeep_testkit::ScratchDatabase<'static>, Setup) {
    let source = PostgresServer::shared(17).create_database(label);
    saas::load(source.server(), &source, 0.03);
    let setup = Setup::new(&source.url());
    for class in classes {
        setup.pgkeep(&["backup", class]);
    }
    (source, setup)
}

#[test]
fn the_drop_ins_list_has_the_name_in_its_fourth_field() {
    let (_source, setup) = with_backups("listed", &["--daily", "--weekly", "--monthly"]);
    let list = setup.run("restore-database", &["--list-backups"]);
    assert_eq!(list.code, Some(0), "{list}");
    let monthly = list.stdout.lines().find(|line| line.contains("monthly")).expect("a monthly one");
    let name = monthly.split_whitespace().nth(3).expect("four fields");
    assert!(name.starts_with("monthly_"), "{list}");
    let verified = setup.run("restore-database", &[name, "--verify-only"]);
    assert_eq!(verified.code, Some(0), "{verified}");
    let classes: Vec<&str> =
        list.stdout.lines().filter_map(|line| line.split_whitespace().nth(3)?.split('_').next()).collect();
    let wanted: Vec<&str> =
        classes.iter().copied().filter(|class| ["daily", "weekly", "monthly"].contains(class)).collect();
    assert_eq!(wanted, ["monthly", "weekly", "daily"], "newest first: {list}");
}

#[test]
fn a_dry_run_writes_nothing() {
    let (source, setup) = with_backups("dry", &["--daily"]);
    let before = setup.files();
    let backup = setup.run("backup-database", &["--weekly", "--dry-run"]);
    assert_eq!(backup.code, Some(0), "{backup}");
    assert!(backup.stdout.contains("weekly_") || backup.stderr.contains("weekly_"), "{backup}");
    let restore = setup.run("restore-database", &["--latest", "--dry-run"]);
    assert_eq!(restore.code, Some(0), "{restore}");
    setup.pgkeep(&["prune", "--dry-run"]);
    assert_eq!(setup.files(), before);
    assert_eq!(source.relatives().len(), 1, "{:?}", source.relatives());
}

#[test]
fn without_a_terminal_and_without_yes_nothing_is_restored() {
    let (source, setup) = with_backups("asked", &["--daily"]);
    source.psql("CREATE TABLE mine (n int)");
    let run = setup.run("pgkeep", &["restore", "--latest"]);
    assert!(matches!(run.code, Some(2 | 9)), "{run}");
    assert_eq!(source.psql("SELECT count(*) FROM mine").trim(), "0");
    let existing = PostgresServer::shared(17).create_database("asked_target");
    existing.psql("CREATE TABLE precious AS SELECT 1 AS n");
    let run = setup.run("pgkeep", &["restore", "--latest", "--target-db", &existing, "--yes"]);
    assert!(run.code != Some(0), "--yes only skips the question: {run}");
    assert_eq!(existing.psql("SELECT n FROM precious").trim(), "1");
}

#[test]
fn retention_by_count_removes_the_oldest_and_never_the_last() {
    let (_source, setup) = with_backups("pruned", &["--daily", "--daily", "--daily"]);
    let keep_one =
        Setup::with(setup, "BACKUP_RETENTION_LOCAL_DAILY_MAX", "1").with("BACKUP_RETENTION_LOCAL_DAILY_MIN", "0");
    let metas = |setup: &Setup| setup.files().iter().filter(|file| file.ends_with(".meta")).count();
    assert_eq!(metas(&keep_one), 3);
    keep_one.pgkeep(&["prune"]);
    assert_eq!(metas(&keep_one), 1);
    keep_one.pgkeep(&["verify", "--all", "--deep"]);
}

#[test]
fn an_exported_backup_is_what_stock_pg_restore_reads_side_by_side() {
    let (source, setup) = with_backups("exported", &["--daily"]);
    setup.pgkeep(&["export", "--latest", "--to", "plain.dump"]);
    let server = source.server();
    let target = server.create_database_with("exported_target", "TEMPLATE template0");
    let output = std::process::Command::new(client_tools(17).join("pg_restore"))
        .args(["--jobs=2", "--exit-on-error", "-d", &target.url()])
        .arg(setup.folder().join("plain.dump"))
        .output()
        .expect("pg_restore can be run");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(contents(server, &source), contents(server, &target));
}

#[test]
fn damage_is_found_named_and_never_restored() {
    let (source, setup) = with_backups("damaged", &["--daily"]);
    let archive = setup.archive();
    let mut bytes = std::fs::read(&archive).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(&archive, &bytes).expect("written");
    let verified = setup.run("pgkeep", &["verify", "daily", "--stored"]);
    assert_eq!(verified.code, Some(4), "{verified}");
    let target = format!("{}_restored", source.name());
    let restore = setup.run("pgkeep", &["restore", "daily", "--target-db", &target, "--yes"]);
    assert_eq!(restore.code, Some(4), "{restore}");
    assert_eq!(source.relatives().len(), 1, "nothing is left of it: {:?}", source.relatives());
    bytes.truncate(middle);
    std::fs::write(&archive, &bytes).expect("written");
    let verified = setup.run("pgkeep", &["verify", "daily", "--quick"]);
    assert_eq!(verified.code, Some(4), "{verified}");
}

#[test]
fn a_foreign_archive_is_adopted_and_then_proven() {
    let (source, setup) = with_backups("adopted", &["--daily"]);
    let archive = setup.backups().join("weekly_2024_W10_020000.dump.gz");
    let script =
        format!("{} -Fc -d \"$1\" | gzip -1 > {}", client_tools(17).join("pg_dump").display(), archive.display());
    let made = std::process::Command::new("bash")
        .args(["-o", "pipefail", "-c", &script, "bash", &source.url()])
        .status()
        .expect("bash");
    assert!(made.success());
    setup.pgkeep(&["adopt", archive.to_str().expect("UTF-8")]);
    setup.pgkeep(&["verify", "weekly_2024_W10_020000", "--deep"]);
    let target = format!("{}_restored", source.name());
    setup.pgkeep(&["restore", "weekly_2024_W10_020000", "--target-db", &target, "--yes"]);
    let server = source.server();
    assert_eq!(contents(server, &source), contents(server, &target));
}
