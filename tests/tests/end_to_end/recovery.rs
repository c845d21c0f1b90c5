//! The three disasters of docs/RECOVERY.md, recovered from by the scripts that it shows.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Stdio;

use pgkeep_testkit::{Ceph, PostgresOptions, PostgresServer, client_tools, dump_text, dump_text_sorted, program, saas};

use crate::setup::{Run, Setup};

/// A set-up with a local folder and a bucket of its own.
fn with_bucket(url: &str, label: &str) -> (Setup, String) {
    let ceph = Ceph::shared();
    let bucket = ceph.create_bucket(label);
    (of_bucket(url, &bucket), bucket)
}

fn of_bucket(url: &str, bucket: &str) -> Setup {
    let mut setup = Setup::new(url).with("AWS_S3_BACKUP_BUCKET", bucket);
    for (name, value) in Ceph::shared().environment() {
        setup.set(name, value);
    }
    setup
}

/// Runs one of `examples/recovery/`, which must succeed.
fn recover(setup: &Setup, script: &str, arguments: &[&str]) -> Run {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/recovery").join(script);
    let programs = program("pgkeep").parent().expect("a program lies in a folder").to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths([programs, client_tools(18)].into_iter().chain(std::env::split_paths(&path)));
    let mut command = setup.stock("bash");
    command.arg(script).args(arguments).env("PATH", path.expect("no colon in a folder's name")).stdin(Stdio::null());
    let run = Run::of(&command.output().expect("bash can be run"));
    assert_eq!(run.code, Some(0), "{run}");
    run
}

#[test]
fn a_damaged_database_is_replaced_by_its_newest_backup() {
    let server = PostgresServer::start(17, &PostgresOptions::default());
    let source = server.create_database("damaged");
    saas::load(&server, &source, 0.05);
    let (setup, _) = with_bucket(&source.url(), "damaged");
    setup.pgkeep(&["backup", "--daily"]);
    let before = dump_text(&server, &source);

    // A disk that lies: the pages of one table are overwritten while the server is down.
    let file = source
        .psql("CHECKPOINT; SELECT current_setting('data_directory') || '/' || pg_relation_filepath('app.customers')");
    let script = format!("dd if=/dev/urandom of={} bs=8192 count=2 conv=notrunc", file.trim());
    server.exec(&["sh", "-c", &script]);
    server.restart();
    assert!(source.try_psql("SELECT count(*) FROM app.customers").is_err(), "the table is damaged");

    let run = recover(&setup, "corruption.sh", &[]);
    assert_eq!(before, dump_text(&server, &source));
    assert!(run.stderr.contains("WARN"), "the damaged database could not be backed up, and that was said: {run}");
}

#[test]
fn a_lost_server_comes_back_from_the_bucket_on_a_blank_host() {
    let lost = PostgresServer::start(17, &PostgresOptions::default());
    let database = "saas_production";
    lost.psql("postgres", &format!("CREATE ROLE salon_owner; CREATE DATABASE {database}"));
    saas::load(&lost, database, 0.05);
    lost.psql(database, "ALTER TABLE app.salons OWNER TO salon_owner; GRANT SELECT ON app.customers TO salon_owner");
    let (mut setup, bucket) = with_bucket(&lost.url(database), "lost");
    let made = setup.pgkeep(&["keygen", "--to", "backup.key"]);
    setup.set("BACKUP_ENCRYPT_TO", made.stdout.trim().strip_prefix("Public key: ").expect("the public key"));
    setup.pgkeep(&["backup", "--daily"]);
    let key = std::fs::read(setup.folder().join("backup.key")).expect("the key, which is kept elsewhere");
    let before = dump_text(&lost, database);
    // The host goes with all that is on it.
    lost.kill();
    drop(setup);

    let new = PostgresServer::start(18, &PostgresOptions::default());
    let mut blank = of_bucket(&new.url(database), &bucket);
    let file = blank.folder().join("backup.key");
    std::fs::write(&file, key).expect("written");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("its owner's alone");
    blank.set("BACKUP_IDENTITY_FILE", file);
    recover(&blank, "server-lost.sh", &[]);
    assert_eq!(new.psql(database, "SELECT count(*) > 0 FROM app.customers"), "t");
    assert_eq!(
        new.psql(database, "SELECT relowner::regrole FROM pg_class WHERE oid = 'app.salons'::regclass"),
        "salon_owner"
    );
    lost.start_again();
    assert_eq!(data_of(&before), data_of(&dump_text(&new, database)));
}

/// The rows of a dump, without what differs between the versions of pg_dump.
fn data_of(dump: &str) -> Vec<&str> {
    let mut inside = false;
    let rows = dump.lines().filter(|line| {
        let was = inside;
        inside = if inside { *line != "\\." } else { line.starts_with("COPY ") };
        was || inside
    });
    rows.collect()
}

#[test]
fn deleted_rows_come_back_and_living_ones_stay() {
    let server = PostgresServer::shared(17);
    let source = server.create_database("deleted");
    saas::load(server, &source, 0.05);
    let (setup, _) = with_bucket(&source.url(), "deleted");
    setup.pgkeep(&["backup", "--daily"]);
    let before = dump_text_sorted(server, &source);
    // As people say it: a whole second, not before the backup's snapshot.
    let then = "SELECT to_char(now() AT TIME ZONE 'UTC' + interval '1 second', 'YYYY-MM-DD HH24:MI:SS')";
    let then = source.psql(then);
    std::thread::sleep(std::time::Duration::from_millis(1100));

    source.psql("DELETE FROM app.media WHERE id % 3 = 0");
    // Life goes on, and so do backups: the newest one is without the rows.
    source.psql("INSERT INTO app.audit (what) VALUES ('life went on')");
    let changed =
        source.psql("UPDATE app.media SET message_id = message_id WHERE id % 3 = 1 RETURNING id").lines().count();
    assert!(changed > 0);
    setup.pgkeep(&["backup", "--daily"]);
    assert_ne!(before, dump_text_sorted(server, &source));

    let run = recover(&setup, "deleted-rows.sh", &["app.media", &then]);
    let (_, statement) = run.stdout.rsplit_once("DROP DATABASE ").expect("how to drop the copy is said");
    let copy = statement.trim().trim_end_matches('\'').to_owned();
    server.psql("postgres", &format!("DROP DATABASE \"{copy}\""));
    source.psql("DELETE FROM app.audit WHERE what = 'life went on'");
    assert_eq!(before, dump_text_sorted(server, &source));
}
