//! Repositories that somebody else may write to.

use std::os::unix::fs::symlink;

use pgkeep_testkit::PostgresServer;
use serde_json::json;

use crate::world::World;

/// A world with one backup of a small database.
fn backed_up(label: &str) -> (pgkeep_testkit::ScratchDatabase<'static>, World) {
    let source = PostgresServer::shared(17).create_database(label);
    source.psql("CREATE TABLE victim AS SELECT 1 n");
    let world = World::of(&source.url());
    world.pgkeep(&["backup"]);
    (source, world)
}

#[test]
fn no_name_in_a_repository_leads_out_of_it_or_to_another_backups_objects() {
    let (_source, world) = backed_up("places");
    let outside = world.path("outside.globals.sql.zst");
    std::fs::write(&outside, "mine").unwrap();
    let other = world.path("backups/daily_20200101_000000.globals.sql.zst");
    std::fs::write(&other, "another's").unwrap();
    let honest = std::fs::read(world.meta()).unwrap();
    for (key, value, said) in [
        ("globals", "../outside.globals.sql.zst", "its globals are another backup's"),
        ("globals", outside.to_str().unwrap(), "its globals are another backup's"),
        ("globals", "daily_20200101_000000.globals.sql.zst", "its globals are another backup's"),
        ("backup_file", "../outside.globals.sql.zst", "names another archive"),
        ("id", "../../outside", "names another archive"),
    ] {
        world.forge_meta(|meta| {
            if key == "globals" {
                meta["globals"]["file"] = json!(value);
            } else {
                // Globals of the same name would be refused for that.
                meta["globals"] = json!(null);
                meta[key] = json!(value);
            }
        });
        let list = world.run(&["list"]);
        assert!(list.stderr.contains(said) || list.stdout.contains(said), "{key} {value}\n{list:?}");
        for arguments in [&["prune"][..], &["restore", "--latest", "--dry-run"], &["verify", "--all"]] {
            world.run(arguments);
        }
        std::fs::write(world.meta(), &honest).unwrap();
    }
    // What says that objects without a meta may be swept.
    let mark = json!({"id": "daily_20200101_000000", "hostname": "h", "archive": "../outside.globals.sql.zst",
        "objects": [{"key": "../outside.globals.sql.zst", "bytes": 4}, {"key": "/etc/hostname", "bytes": 1}]});
    std::fs::write(world.path("backups/.pgkeep/unpublished-daily_20200101_000000-0"), mark.to_string()).unwrap();
    world.run(&["prune"]);
    assert_eq!(std::fs::read_to_string(&outside).unwrap(), "mine");
    assert_eq!(std::fs::read_to_string(&other).unwrap(), "another's");
    world.pgkeep(&["verify", "--latest", "--deep"]);
}

#[test]
fn links_in_the_local_folder_lead_nowhere() {
    let (_source, world) = backed_up("links");
    let archive = world.meta().with_extension("");
    let outside = world.path("outside");
    std::fs::copy(&archive, &outside).unwrap();
    std::fs::remove_file(&archive).unwrap();
    symlink(&outside, &archive).unwrap();
    symlink("/etc/passwd", world.path("backups/daily_20200101_000000.dump.meta")).unwrap();
    symlink("/etc", world.path("backups/monthly")).unwrap();
    for arguments in
        [&["verify", "--latest", "--stored"][..], &["restore", "--latest", "--dry-run"], &["prune"], &["backup"]]
    {
        let gave = world.run(arguments);
        assert!(!gave.stdout.contains("root:") && !gave.stderr.contains("root:"), "{gave:?}");
    }
    assert!(outside.is_file());
    let list = world.pgkeep(&["list"]);
    assert!(!list.stdout.contains("daily_20200101"), "{list:?}");
    assert!(list.stdout.contains("(damaged)"), "what a link stands for is not there\n{list:?}");
}

#[test]
fn texts_of_a_meta_stay_texts_in_the_sql_of_a_restore() {
    let (source, world) = backed_up("texts");
    let server = source.server();
    let sql = "x\"'; DROP DATABASE texts_witness; --";
    server.psql("postgres", "CREATE DATABASE texts_witness");
    world.forge_meta(|meta| {
        for key in ["locale_provider", "owner", "tablespace", "comment", "locale", "icu_rules"] {
            meta["database"][key] = json!(sql);
        }
        meta["database"]["name"] = json!(sql);
        meta["hostname"] = json!(sql);
        meta["extensions"] = json!([[sql, sql]]);
        meta["warnings"] = json!([sql]);
    });
    let gave = world.run(&["restore", "--latest", "--target-db", "texts_back", "--yes", "--accept-differences"]);
    assert_eq!(server.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname = 'texts_witness'").trim(), "1");
    assert_eq!(gave.code, Some(0), "{gave:?}");
    assert_eq!(server.psql("texts_back", "SELECT n FROM victim").trim(), "1");
    // A text that the server takes as text does no harm, and makes no statement.
    for key in ["collate", "lc_monetary", "encoding"] {
        world.forge_meta(|meta| meta["database"][key] = json!(sql));
        world.run(&["restore", "--latest", "--target-db", "texts_back2", "--yes"]);
    }
    // Arguments for pg_dump are those that select, or none.
    world.forge_meta(|meta| meta["selection"] = json!(["--file=/tmp/pgkeep-was-here", "--dbname=other"]));
    world.run(&["restore", "--latest", "--target-db", "texts_back2", "--yes"]);
    assert!(!std::path::Path::new("/tmp/pgkeep-was-here").exists());
    assert_eq!(server.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname = 'texts_witness'").trim(), "1");
    server.psql("postgres", "DROP DATABASE texts_witness");
    server.psql("postgres", "DROP DATABASE IF EXISTS texts_back");
    server.psql("postgres", "DROP DATABASE IF EXISTS texts_back2");
}

#[test]
fn a_huge_meta_is_left_out_of_the_list_and_not_held() {
    let (_source, world) = backed_up("huge");
    let huge = world.path("backups/daily_20200101_000000.dump.meta");
    std::fs::File::create(&huge).unwrap().set_len(1 << 30).unwrap();
    let gave = world.pgkeep(&["list"]);
    assert!(gave.stdout.contains("daily_"), "{gave:?}");
    assert!(gave.stderr.contains("daily_20200101_000000"), "it is told of\n{gave:?}");
    assert!(gave.peak_kib < 100 << 10, "{} KiB", gave.peak_kib);
    // Nor does it stand in the way of what matters.
    for file in ["source.json", ".pgkeep/lock-00000099", ".pgkeep/unpublished-daily_20200101_000000-0"] {
        let path = world.path("backups").join(file);
        let before = std::fs::read(&path).unwrap_or_default();
        std::fs::File::create(&path).unwrap().set_len(1 << 30).unwrap();
        let gave = world.run(&["restore", "--latest", "--dry-run"]);
        assert_eq!(gave.code, Some(0), "{file}\n{gave:?}");
        if before.is_empty() { std::fs::remove_file(path).unwrap() } else { std::fs::write(path, before).unwrap() }
    }
    std::fs::remove_file(huge).unwrap();
    // Millions of frames, none of which can be.
    let honest: serde_json::Value = serde_json::from_slice(&std::fs::read(world.meta()).unwrap()).unwrap();
    let many = vec![1; 3_000_000];
    world.forge_meta(|meta| meta["frames"] = json!({"stored": many, "plain": many, "entry": many, "aligned": many}));
    let gave = world.run(&["list"]);
    assert!(gave.stderr.contains("do not add up"), "{gave:?}");
    assert!(gave.peak_kib < 400 << 10, "{} KiB", gave.peak_kib);
    // One frame of a terabyte, and the archive that fits it, as it says.
    world.forge_meta(|meta| {
        *meta = honest;
        meta.as_object_mut().unwrap().remove("self_sha256");
        let bytes = 1_u64 << 40;
        meta["frames"] = json!({"stored": [bytes], "plain": [bytes], "entry": [0], "aligned": [1]});
        (meta["stored"]["bytes"], meta["plain"]["bytes"]) = (json!(bytes), json!(bytes));
    });
    let gave = world.run(&["list"]);
    assert!(gave.stderr.contains("too large"), "{gave:?}");
}
