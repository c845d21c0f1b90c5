//! Planted secrets appear in no log, argument, error, output or meta (law 9, P-A16).

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pgkeep_testkit::{Ceph, PostgresServer, nasty};

use crate::setup::Setup;

/// The arguments of every process on this machine, again and again until told to stop.
fn watch_arguments(stop: &Arc<AtomicBool>) -> std::thread::JoinHandle<BTreeSet<String>> {
    let stop = Arc::clone(stop);
    std::thread::spawn(move || {
        let mut seen = BTreeSet::new();
        while !stop.load(Ordering::Relaxed) {
            for entry in std::fs::read_dir("/proc").expect("proc").flatten() {
                if let Ok(arguments) = std::fs::read(entry.path().join("cmdline")) {
                    seen.insert(String::from_utf8_lossy(&arguments).replace('\0', " "));
                }
            }
            std::thread::sleep(std::time::Duration::from_millis(2));
        }
        seen
    })
}

#[test]
fn secrets_appear_nowhere() {
    let server = PostgresServer::start(17, &pgkeep_testkit::PostgresOptions::default());
    server.psql("postgres", "CREATE DATABASE app");
    nasty::load_light(&server, "app");
    server.psql("postgres", "ALTER DATABASE app SET app.secret = 'app-setting-s3cret'; CREATE ROLE keeper SUPERUSER LOGIN PASSWORD 'url-passw0rd-s3cret'");
    let ceph = Ceph::shared();
    let bucket = ceph.create_bucket("secrets");
    let mut setup =
        Setup::new(&server.url_as("keeper", "url-passw0rd-s3cret", "app")).with("AWS_S3_BACKUP_BUCKET", &bucket);
    for (name, value) in ceph.environment() {
        setup.set(name, value);
    }
    setup.set("RUST_LOG", "trace");

    let stop = Arc::new(AtomicBool::new(false));
    let watcher = watch_arguments(&stop);
    let mut said = String::new();
    for arguments in [
        &["backup", "--verbose"][..],
        &["backup", "--weekly", "--output", "json"],
        &["list"],
        &["show", "daily", "--output", "json"],
        &["verify", "--all", "--deep", "--verbose"],
        &["restore", "--latest", "--yes", "--verbose"],
        &["prune", "--dry-run", "--verbose"],
    ] {
        let run = setup.run("pgkeep", arguments);
        assert_eq!(run.code, Some(0), "{arguments:?}\n{run}");
        said.push_str(&run.to_string());
    }
    let refused = Setup::new(&server.url_as("keeper", "wrong-passw0rd-s3cret", "app"));
    said.push_str(&refused.run("pgkeep", &["backup", "--verbose"]).to_string());
    stop.store(true, Ordering::Relaxed);
    let arguments = watcher.join().expect("no panic");
    assert!(arguments.iter().any(|line| line.contains("pg_dump")), "the watcher saw no child at all");

    let mut secrets: Vec<String> = nasty::SECRETS.iter().map(|secret| (*secret).to_owned()).collect();
    secrets.extend(["app-setting-s3cret", "url-passw0rd-s3cret", "wrong-passw0rd-s3cret"].map(str::to_owned));
    secrets.push(ceph.secret_key().to_owned());
    let written: Vec<_> = setup
        .everything_written()
        .into_iter()
        .map(|(path, bytes)| (path, String::from_utf8_lossy(&bytes).into_owned()))
        .collect();
    for secret in &secrets {
        assert!(!said.contains(secret.as_str()), "{secret} was said:\n{said}");
        // The testkit's own psql runs in the container with scripts on stdin, so arguments here are pgkeep's and its children's.
        assert!(!arguments.iter().any(|line| line.contains(secret.as_str())), "{secret} was in a process's arguments");
        // What the database itself contains is in the archive and the globals; they are compressed, and SECURITY.md says so.
        for (path, text) in &written {
            assert!(!text.contains(secret.as_str()), "{secret} is in {}", path.display());
        }
    }
}

#[test]
fn backups_are_readable_by_their_owner_only() {
    use std::os::unix::fs::PermissionsExt as _;
    let source = PostgresServer::shared(17).create_database("modes");
    source.psql("CREATE TABLE t AS SELECT generate_series(1, 10) n");
    let setup = Setup::new(&source.url());
    setup.pgkeep(&["backup"]);
    for file in setup.files() {
        let mode = std::fs::metadata(setup.backups().join(&file)).expect("a file").permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{file}");
    }
    let folder = std::fs::metadata(setup.backups()).expect("a folder").permissions().mode() & 0o777;
    assert_eq!(folder, 0o700);
}
