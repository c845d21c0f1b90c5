//! Same database in, same text out: by our restore, and by the stock tools alone.

use std::path::Path;
use std::process::{Command, Stdio};

use pgkeep_testkit::{
    MAJORS, PostgresServer, client_tools, contents, dump_text, dump_text_sorted, large_objects, nasty, saas,
};

use crate::setup::Setup;

/// Fills `target` from `archive` with nothing but the stock decompressor and pg_restore.
fn restore_by_stock_tools(archive: &Path, major: u16, target_url: &str) {
    let decompressor = match archive.extension().and_then(|extension| extension.to_str()) {
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        other => panic!("no stock tool for {other:?}"),
    };
    let mut plain = Command::new(decompressor)
        .arg("-dc")
        .arg(archive)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the stock tool is installed");
    let output = Command::new(client_tools(major).join("pg_restore"))
        .args(["--exit-on-error", "-d", target_url])
        .stdin(plain.stdout.take().expect("piped"))
        .output()
        .expect("pg_restore can be run");
    assert!(plain.wait().expect("ends").success(), "{decompressor} refused {}", archive.display());
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

fn same(server: &PostgresServer, source: &str, restored: &str) {
    let (wanted, found) = (dump_text(server, source), dump_text(server, restored));
    if wanted != found {
        let first = wanted.lines().zip(found.lines()).find(|(one, other)| one != other);
        panic!(
            "{restored} is not {source}; {} and {} lines; first difference: {first:.400?}",
            wanted.lines().count(),
            found.lines().count()
        );
    }
    assert_eq!(contents(server, source), contents(server, restored));
    assert_eq!(large_objects(server, source), large_objects(server, restored));
}

/// The engine that this suite runs with has made the one backup, and no other in its stead.
fn made_by_its_engine(setup: &Setup) {
    let meta = format!("{}.meta", setup.archive().display());
    let meta: serde_json::Value = serde_json::from_slice(&std::fs::read(meta).expect("a meta")).expect("JSON");
    let wanted = std::env::var("PGKEEP_TEST_ENGINE").ok().filter(|engine| engine != "auto");
    assert_eq!(meta["engine"], wanted.as_deref().unwrap_or("parallel"), "the log says why");
}

fn nasty_comes_back(major: u16) {
    let server = PostgresServer::shared(major);
    let source = server.create_database("nasty");
    nasty::load_light(server, &source);
    let setup = Setup::new(&source.url());

    let backup = setup.run("backup-database", &["--daily"]);
    assert_eq!(backup.code, Some(0), "{backup}");
    assert!(setup.archive().extension().is_some_and(|extension| extension == "gz"), "the drop-in keeps gzip");
    made_by_its_engine(&setup);
    setup.pgkeep(&["verify", "--latest", "--deep"]);

    let stock = server.create_database_with("stock", "TEMPLATE template0");
    restore_by_stock_tools(&setup.archive(), major, &stock.url());
    same(server, &source, &stock);

    let before = dump_text(server, &source);
    source.psql("DROP SCHEMA IF EXISTS nasty CASCADE; CREATE TABLE public.lost (n int)");
    let restore = setup.run("restore-database", &["--latest", "--force"]);
    assert_eq!(restore.code, Some(0), "{restore}");
    assert_eq!(before, dump_text(server, &source), "restored over the live name");
    assert!(source.relatives().iter().any(|name| name.contains("_before_")), "the old database is kept");
    assert!(
        setup.files().iter().any(|file| file.starts_with("pre-restore_") && file.ends_with(".meta")),
        "a snapshot was taken"
    );
}

#[test]
fn the_nasty_database_comes_back_on_15() {
    nasty_comes_back(MAJORS[0]);
}

#[test]
fn the_nasty_database_comes_back_on_17() {
    nasty_comes_back(MAJORS[1]);
}

#[test]
fn the_nasty_database_comes_back_on_18() {
    nasty_comes_back(MAJORS[2]);
}

#[test]
fn a_value_of_64_mib_comes_back() {
    let server = PostgresServer::shared(17);
    let source = server.create_database("huge");
    nasty::load(server, &source);
    let setup = Setup::new(&source.url());
    setup.pgkeep(&["backup"]);
    let target = format!("{}_restored", source.name());
    setup.pgkeep(&["restore", "--latest", "--target-db", &target, "--yes"]);
    // Several lanes load a table of this size, so its rows may stand in another order.
    assert!(dump_text_sorted(server, &source) == dump_text_sorted(server, &target), "{target} is another");
    assert_eq!(contents(server, &source), contents(server, &target));
    assert_eq!(large_objects(server, &source), large_objects(server, &target));
}

#[test]
fn a_sample_database_comes_back_by_every_codec() {
    let server = PostgresServer::shared(17);
    let source = server.create_database("saas");
    saas::load(server, &source, 0.05);
    for codec in ["zstd:1", "gzip:1", "lz4", "none"] {
        let setup = Setup::new(&source.url()).with("BACKUP_COMPRESSION", codec);
        setup.pgkeep(&["backup", "--weekly"]);
        made_by_its_engine(&setup);
        let target = format!("{}_{}", source.name(), codec.replace(':', ""));
        setup.pgkeep(&["restore", "--latest", "--target-db", &target, "--yes"]);
        same(server, &source, &target);
    }
}

#[test]
fn an_archive_of_the_old_scripts_comes_back() {
    let server = PostgresServer::shared(15);
    let source = server.create_database("old");
    saas::load(server, &source, 0.03);
    let setup = Setup::new(&source.url());
    let archive = setup.folder().join("daily_20240101_030000.dump.gz");
    let script = format!(
        "set -o pipefail; {} --format=custom -d \"$1\" | gzip -9 > {}",
        client_tools(15).join("pg_dump").display(),
        archive.display()
    );
    let made = Command::new("bash").args(["-c", &script, "bash", &source.url()]).status().expect("bash can be run");
    assert!(made.success());
    let target = format!("{}_restored", source.name());
    let restore = setup.run("restore-database", &[archive.to_str().expect("UTF-8"), "--target-db", &target, "--force"]);
    assert_eq!(restore.code, Some(0), "{restore}");
    same(server, &source, &target);
}

#[test]
fn one_table_comes_back_with_what_belongs_to_it() {
    let server = PostgresServer::shared(17);
    let source = server.create_database("one");
    saas::load(server, &source, 0.03);
    let setup = Setup::new(&source.url());
    setup.pgkeep(&["backup"]);
    let target = server.create_database_with("one_target", "TEMPLATE template0");
    setup.pgkeep(&[
        "restore",
        "--latest",
        "--table",
        "app.customers",
        "--target-db",
        &target,
        "--replace-target",
        "--yes",
    ]);
    let table = "\"app\".\"customers\"";
    let of = |database: &str| {
        contents(server, database).into_iter().find(|(name, _)| name.replace('"', "") == "app.customers")
    };
    assert!(of(&source).is_some(), "{table}");
    assert_eq!(of(&source), of(&target));
    assert_eq!(contents(server, &target).len(), 1, "nothing else came");
}
