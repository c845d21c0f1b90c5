//! Commands of the user's own around backups and restores.

use std::os::unix::fs::PermissionsExt;

use pgkeep_testkit::PostgresServer;

use crate::world::World;

/// A program in the world's folder that writes its environment to `seen` and ends with this status.
fn hook(world: &World, name: &str, status: u8) -> String {
    let path = world.path(name);
    let seen = world.path("seen");
    let text =
        format!("#!/bin/sh\nenv | sort > '{}-'\"$PGKEEP_EVENT\"\necho last words >&2\nexit {status}\n", seen.display());
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    path.display().to_string()
}

#[test]
fn run_around_backup_and_restore_without_secrets() {
    let server = PostgresServer::shared(17);
    let source = server.create_database("hooks");
    source.psql("CREATE TABLE t AS SELECT 1 AS n");
    let world = World::of(&source.url()).with("AWS_SECRET_ACCESS_KEY", "s3cret-aws").with("AWS_ACCESS_KEY_ID", "id");
    let program = hook(&world, "hook", 0);
    world.write(
        "pgkeep.toml",
        &format!("[hooks]\nbefore_backup = '{program} one'\nafter_backup = '{program}'\nbefore_restore = '{program}'\nafter_restore = '{program}'\n"),
    );
    let gave = world.pgkeep(&["backup", "--weekly", "--strict"]);
    assert_eq!(gave.code, Some(0), "{gave}");
    let target = format!("{}_restored", source.name());
    let gave = world.pgkeep(&["restore", "--latest", "--target-db", &target, "--yes"]);
    assert_eq!(gave.code, Some(0), "{gave}");
    for event in ["before_backup", "after_backup", "before_restore", "after_restore"] {
        let seen = std::fs::read_to_string(world.path(&format!("seen-{event}"))).unwrap();
        for secret in ["s3cret-aws", "DATABASE_URL", server.password()] {
            assert!(!seen.contains(secret), "{event}: {secret}");
        }
        assert!(seen.contains("PATH="), "{seen}");
    }
    let seen = std::fs::read_to_string(world.path("seen-after_backup")).unwrap();
    assert!(seen.contains("PGKEEP_OUTCOME=ok\n") && seen.contains("PGKEEP_BACKUP=weekly_"), "{seen}");
    let seen = std::fs::read_to_string(world.path("seen-after_restore")).unwrap();
    assert!(seen.contains(&format!("PGKEEP_TARGET_DATABASE={target}\n")), "{seen}");
}

#[test]
fn one_that_fails_before_stops_the_run_and_after_is_a_warning() {
    let source = PostgresServer::shared(17).create_database("hooks_fail");
    source.psql("CREATE TABLE t AS SELECT 1 AS n");
    let world = World::of(&source.url());
    let failing = hook(&world, "failing", 3);
    world.write("before.toml", &format!("[hooks]\nbefore_backup = '{failing}'\n"));
    let gave = world.pgkeep(&["backup", "--config", "before.toml"]);
    assert_eq!(gave.code, Some(1), "{gave}");
    assert!(gave.stderr.contains("hook before_backup failed: exit status: 3: last words"), "{gave}");
    assert!(!world.path("backups").exists(), "there is no backup");
    world.write("after.toml", &format!("[hooks]\nafter_backup = '{failing}'\n"));
    let gave = world.pgkeep(&["backup", "--config", "after.toml", "--strict"]);
    assert_eq!(gave.code, Some(8), "{gave}");
    assert!(gave.stderr.contains("[WARN] hook after_backup failed"), "{gave}");
}

#[test]
fn one_that_hangs_is_ended_with_all_it_started() {
    let source = PostgresServer::shared(17).create_database("hooks_hang");
    let world = World::of(&source.url());
    world.write(
        "pgkeep.toml",
        "[hooks]\nbefore_backup = \"sh -c 'sleep 1000 & echo $! > child; wait'\"\ntimeout = '2s'\n",
    );
    let gave = world.pgkeep(&["backup"]);
    assert_eq!(gave.code, Some(1), "{gave}");
    assert!(gave.stderr.contains("it took longer than 2 seconds"), "{gave}");
    let child = std::fs::read_to_string(world.path("child")).unwrap();
    let state = || std::fs::read_to_string(format!("/proc/{}/stat", child.trim())).unwrap_or_default();
    let is_gone = || state().is_empty() || state().contains(") Z");
    for _ in 0..200 {
        if !is_gone() {
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    }
    assert!(is_gone(), "{}", state());
}

#[test]
fn one_named_in_an_env_file_is_not_run() {
    let source = PostgresServer::shared(17).create_database("hooks_env");
    let world = World::of(&source.url());
    world.write(".env", "BACKUP_HOOK_BEFORE_BACKUP=/bin/false\n");
    let gave = world.pgkeep(&["backup"]);
    assert_eq!(gave.code, Some(0), "{gave}");
    assert!(gave.stderr.contains("BACKUP_HOOK_BEFORE_BACKUP in"), "{gave}");
    world.write("pgkeep.toml", "[hooks]\nbefore_backup = '/nowhere/hook'\n");
    let (code, document) = world.check(&[]);
    assert_eq!(code, 2, "{:#}", document.0);
    assert_eq!(document.state("hooks.before_backup"), "fail");
}
