//! Secrets, in everything that is said of a run that fails, and in what other programs are given.

use pgkeep_testkit::PostgresServer;

use crate::world::World;

const PASSWORD: &str = "url-s3cret-canary";

/// A world in which every secret there is is set.
fn full_of_secrets(url: &str) -> World {
    let mut world = World::of(url);
    for (name, value) in [
        ("AWS_ACCESS_KEY_ID", "AKIAcanary"),
        ("AWS_SECRET_ACCESS_KEY", "aws-s3cret-canary"),
        ("AWS_SESSION_TOKEN", "token-s3cret-canary"),
        ("NOTIFICATION_EMAIL", "a@example.org"),
        ("NOTIFICATION_SMTP_URL", "smtps://user:smtp-s3cret-canary@127.0.0.1:1"),
        ("NOTIFICATION_WEBHOOK_URL", "http://127.0.0.1:1/hook-s3cret-canary"),
        ("BACKUP_PING_URL", "http://127.0.0.1:1/ping-s3cret-canary"),
        ("BACKUP_PASSPHRASE", "phrase-s3cret-canary"),
        ("BACKUP_STORE", "s3://bucket/prefix"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
        ("AWS_ALLOW_HTTP", "true"),
        ("AWS_MAX_ATTEMPTS", "1"),
        ("BACKUP_TIMEOUT", "20s"),
        ("RUST_BACKTRACE", "full"),
        ("RUST_LIB_BACKTRACE", "full"),
        ("RUST_LOG", "trace"),
    ] {
        world.set(name, value);
    }
    world
}

#[test]
fn no_secret_is_in_errors_backtraces_json_logs_or_shown_settings() {
    let nowhere = format!("postgresql://keeper:{PASSWORD}@127.0.0.1:1/app");
    let malformed = format!("postgresql://keeper:{PASSWORD}/x@127.0.0.1:1/app");
    let unknown = format!("postgresql://keeper:{PASSWORD}@127.0.0.1:1/app?nonsense=1");
    // Most of their time they wait for channels that do not answer.
    std::thread::scope(|scope| {
        for url in [&nowhere, &malformed, &unknown] {
            scope.spawn(|| fails_without_a_word_of_secrets(url));
        }
    });
}

fn fails_without_a_word_of_secrets(url: &str) {
    let world = full_of_secrets(url);
    for arguments in [
        &["check", "--show-settings"][..],
        &["check", "--show-settings", "--output", "json"],
        &["backup", "--no-upload", "--output", "json", "--verbose"],
    ] {
        let gave = world.run(arguments);
        let log = std::fs::read_to_string(world.path("backups.log")).unwrap_or_default();
        for text in [&gave.stdout, &gave.stderr, &log] {
            assert!(!text.contains("s3cret-canary"), "{arguments:?}\n{text}");
        }
        assert!(!gave.stdout.is_empty(), "{gave:?}");
    }
}

#[test]
fn children_and_hooks_are_given_no_secret_in_arguments_or_environment() {
    let server = PostgresServer::shared(17);
    let source = server.create_database("children");
    server.psql("postgres", &format!("CREATE ROLE canary SUPERUSER LOGIN PASSWORD '{PASSWORD}'"));
    source.psql("CREATE TABLE t AS SELECT generate_series(1, 10) n");
    let url = server.url_as("canary", PASSWORD, source.name());
    let mut world = full_of_secrets(&url);
    for name in ["BACKUP_STORE", "BACKUP_PASSPHRASE"] {
        world.set(name, "");
    }
    world.set("PG_BINDIRS", noting_tools(&world));
    world.set("BACKUP_HOOK_BEFORE_BACKUP", "sh -c 'env >> noted'");
    world.set("BACKUP_HOOK_AFTER_BACKUP", "sh -c 'env >> noted'");
    for arguments in [&["backup"][..], &["restore", "--latest", "--target-db", "children_back", "--yes"]] {
        let gave = world.run(arguments);
        assert_eq!(gave.code, Some(0), "{arguments:?}\n{gave:?}");
    }
    let noted = std::fs::read_to_string(world.path("noted")).unwrap();
    for tool in ["pg_dump ", "pg_dumpall ", "pg_restore ", "PGKEEP_EVENT=before_backup", "PGPASSFILE="] {
        assert!(noted.contains(tool), "nothing of {tool}");
    }
    assert!(!noted.contains("s3cret-canary"), "{noted}");
    server.psql("postgres", "DROP DATABASE children_back; DROP OWNED BY canary");
    drop(source);
    server.psql("postgres", "DROP ROLE canary");
}

/// Client tools that note their arguments and environment before they are what they are.
fn noting_tools(world: &World) -> std::path::PathBuf {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = world.path("tools");
    std::fs::create_dir(&folder).unwrap();
    for entry in std::fs::read_dir(pgkeep_testkit::client_tools(17)).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        let path = folder.join(&name);
        let note = world.path("noted");
        let script = format!(
            "#!/bin/sh\nenv >> '{0}'; echo \"{name} $*\" >> '{0}'\nexec '{1}' \"$@\"\n",
            note.display(),
            entry.path().display()
        );
        std::fs::write(&path, script).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
    }
    folder
}
