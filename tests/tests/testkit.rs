//! The test bench itself: servers start, stop and come back, the nasty database survives PostgreSQL's own
//! tools on every major, and the oracles see what they should see.

use pgkeep_testkit::{
    Ceph, Fault, FaultyTools, MAJORS, PostgresOptions, PostgresServer, client_tools, contents, dump_text,
    large_objects, nasty, saas,
};
use std::process::Command;

#[test]
fn the_nasty_database_survives_stock_tools_on_every_major() {
    for major in MAJORS {
        let server = PostgresServer::shared(major);
        let source = server.create_database("nasty");
        let target = server.create_database("nasty_restored");
        // Once with the 64 MiB value is enough.
        let is_big = major == 17;
        if is_big {
            nasty::load(server, &source);
        } else {
            nasty::load_light(server, &source);
        }

        let script = format!(
            "pg_dump -U postgres -Fc -Z0 {} >/tmp/nasty.dump && pg_restore -U postgres --exit-on-error -d {} /tmp/nasty.dump && rm /tmp/nasty.dump",
            source.name(),
            target.name()
        );
        let output = server.exec(&["sh", "-c", &script]);
        assert!(output.status.success(), "{major}: {}", String::from_utf8_lossy(&output.stderr));

        let (before, after) = (dump_text(server, &source), dump_text(server, &target));
        assert_eq!(before.len() > 128 << 20, is_big, "{major}: {} bytes of text", before.len());
        if let Some((left, right)) = before.lines().zip(after.lines()).find(|(left, right)| left != right) {
            panic!("{major}: {left:.300}\n{right:.300}");
        }
        assert_eq!(before.len(), after.len());
        assert_eq!(contents(server, &source), contents(server, &target), "{major}");
        assert_eq!(large_objects(server, &source), large_objects(server, &target), "{major}");
        assert_eq!(large_objects(server, &source).count, 1204);
    }
}

#[test]
fn the_oracles_see_small_differences() {
    let server = PostgresServer::shared(17);
    let source = server.create_database("differences");
    nasty::load_light(server, &source);
    let before = contents(server, &source);
    source.psql("UPDATE nasty.every_type SET f8 = '0' WHERE f8 = '5e-324'");
    source.psql("SELECT nextval('nasty.untouched')");
    let after = contents(server, &source);
    let changed: Vec<_> = before.keys().filter(|name| before[*name] != after[*name]).map(String::as_str).collect();
    assert_eq!(changed, ["nasty.every_type", "nasty.untouched"]);
    assert_eq!(after["nasty.no_columns"].rows, 5);
    assert_eq!(after["nasty.hashed"].rows, 200);

    let objects = large_objects(server, &source);
    source.psql("SELECT lo_put(4000000002, 0, 'x')");
    assert_ne!(large_objects(server, &source), objects);
}

#[test]
fn the_sample_database_is_the_same_each_time() {
    let server = PostgresServer::shared(17);
    let (one, other) = (server.create_database("saas"), server.create_database("saas"));
    saas::load(server, &one, 0.02);
    saas::load(server, &other, 0.02);
    assert_eq!(contents(server, &one), contents(server, &other));
}

#[test]
fn a_server_comes_back_after_stop_kill_and_pause() {
    let options = PostgresOptions {
        settings: vec![("work_mem".into(), "5MB".into())],
        locale: "de_DE.ISO-8859-1".into(),
        initdb_arguments: "--encoding=LATIN1".into(),
    };
    let server = PostgresServer::start(17, &options);
    let port = server.port();
    assert_eq!(server.psql("postgres", "SHOW work_mem; SHOW server_encoding"), "5MB\nLATIN1");
    server.psql("postgres", "CREATE TABLE kept AS SELECT 1 AS one");
    server.stop();
    assert!(server.try_psql("postgres", "SELECT 1").is_err());
    server.start_again();
    server.kill();
    server.start_again();
    server.pause();
    server.unpause();
    assert_eq!(server.psql("postgres", "SELECT one FROM kept"), "1");
    assert_eq!(server.port(), port);
}

#[test]
fn client_tools_of_every_major_run_on_this_machine() {
    for major in MAJORS {
        let server = PostgresServer::shared(major);
        let database = server.create_database("tools");
        database.psql("CREATE TABLE t AS SELECT 'ü' AS v");
        for (tool, wanted) in [("pg_dump", "'ü'"), ("pg_dumpall", "CREATE ROLE postgres")] {
            let mut command = Command::new(client_tools(major).join(tool));
            match tool {
                "pg_dump" => command.args(["--inserts", "--dbname", &database.url()]),
                _ => command.args(["--globals-only", "--dbname", &database.url()]),
            };
            let output = command.output().expect("the tool runs");
            let text = String::from_utf8_lossy(&output.stdout);
            assert!(output.status.success() && text.contains(wanted), "{tool} {major}: {output:?}");
        }
    }
}

#[test]
fn faulty_tools_have_their_faults() {
    let server = PostgresServer::shared(17);
    let database = server.create_database("faults");
    database.psql("CREATE TABLE t AS SELECT n, md5(n::text) FROM generate_series(1, 20000) n");
    let run = |fault: &Fault| {
        let tools = FaultyTools::new(17, "pg_dump", fault);
        let version = Command::new(tools.path().join("pg_dump")).arg("--version").output().expect("it runs");
        assert!(version.status.success());
        let output = Command::new(tools.path().join("pg_dump"))
            .args(["-Fc", "-Z0", "-d", &database.url()])
            .output()
            .expect("it runs");
        assert_eq!((tools.calls().len(), tools.processes().len()), (1, 1));
        output
    };
    let whole = run(&Fault::Slow { milliseconds: 1 });
    assert!(whole.status.success() && whole.stdout.len() > 700_000, "{} {:?}", whole.stdout.len(), whole.stderr);
    let dead = run(&Fault::DiesAfter { bytes: 100_000 });
    assert_eq!((dead.status.code(), dead.stdout.len()), (Some(1), 100_000));
    let killed = run(&Fault::KilledAfter { bytes: 100_000 });
    assert_eq!((killed.status.code(), killed.stdout.len()), (None, 100_000));
    let truncated = run(&Fault::TruncatesAfter { bytes: 100_000 });
    assert_eq!((truncated.status.code(), truncated.stdout.len()), (Some(0), 100_000));
    let warning = run(&Fault::Warns("pg_dump: warning: it's odd".into()));
    assert!(warning.status.success() && warning.stdout.len() == whole.stdout.len());
    assert!(String::from_utf8_lossy(&warning.stderr).contains("it's odd"));
    assert_eq!(run(&Fault::EndsWith(3)).status.code(), Some(3));
}

#[test]
fn ceph_is_an_s3_server() {
    let ceph = Ceph::shared();
    let bucket = ceph.create_bucket("testkit");
    ceph.s3("PUT", &format!("/{bucket}/a%20b"), "contents");
    ceph.s3("POST", &format!("/{bucket}/unfinished?uploads="), "");
    assert_eq!(ceph.s3("GET", &format!("/{bucket}/a%20b"), ""), "contents");
    assert_eq!(ceph.keys(&bucket), ["a b"]);
    assert_eq!(ceph.unfinished_uploads(&bucket), ["unfinished"]);
    assert!(ceph.try_s3("GET", "/no-such-bucket", "").is_err());
}
