//! Drills: what they try out, what they say in their reports, what they leave behind, which is nothing.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use pgkeep_testkit::{Fault, FaultyTools, MAJORS, PostgresServer, ScratchDatabase, client_tools_path, saas};
use roxmltree::Document;
use serde_json::Value;

use crate::setup::{Run, Setup};

const ALL_STEPS: [&str; 7] = [
    "backup_creation",
    "backup_compression",
    "backup_integrity",
    "s3_upload",
    "database_restore",
    "data_integrity",
    "backup_performance",
];

/// A database with some rows, and a set-up for it.
fn source(major: u16, label: &str) -> (ScratchDatabase<'static>, Setup) {
    let source = PostgresServer::shared(major).create_database(label);
    saas::load(source.server(), &source, 0.03);
    let setup = Setup::new(&source.url());
    (source, setup)
}

/// The newest report, in each of its forms: text, JSON, XML.
fn reports(setup: &Setup) -> (String, Value, String) {
    let newest = |extension: &str| {
        let folder = setup.folder().join("test-results");
        let mut files: Vec<PathBuf> = std::fs::read_dir(folder)
            .expect("there are reports")
            .flatten()
            .map(|entry| entry.path())
            .filter(|path| path.extension().is_some_and(|found| found == extension))
            .collect();
        files.sort_by_key(|path| (path.metadata().and_then(|metadata| metadata.modified()).ok(), path.clone()));
        std::fs::read_to_string(files.last().expect("a report")).expect("UTF-8")
    };
    (newest("md"), serde_json::from_str(&newest("json")).expect("JSON"), newest("xml"))
}

/// Name and result of each step, as each form of the report says it; they agree.
fn steps(setup: &Setup) -> Vec<(String, String)> {
    let (text, json, xml) = reports(setup);
    let from_json: Vec<(String, String)> = json["steps"]
        .as_array()
        .expect("steps")
        .iter()
        .map(|step| (text_of(&step["name"]), text_of(&step["result"])))
        .collect();
    let document = Document::parse(&xml).expect("JUnit is well-formed XML");
    let from_xml: Vec<(String, String)> = document
        .descendants()
        .filter(|node| node.has_tag_name("testcase"))
        .map(|node| {
            let has = |tag: &str| node.children().any(|child| child.has_tag_name(tag));
            let result = if has("failure") {
                "FAIL"
            } else if has("skipped") {
                "SKIP"
            } else {
                "PASS"
            };
            (node.attribute("name").expect("a name").to_owned(), result.to_owned())
        })
        .collect();
    assert_eq!(from_json, from_xml);
    let suite = document.root_element().first_element_child().expect("a suite");
    let count = |result: &str| from_json.iter().filter(|(_, found)| found == result).count().to_string();
    assert_eq!(suite.attribute("tests"), Some(from_json.len().to_string().as_str()));
    assert_eq!(suite.attribute("failures"), Some(count("FAIL").as_str()));
    assert_eq!(suite.attribute("skipped"), Some(count("SKIP").as_str()));
    for (name, result) in &from_json {
        assert!(text.lines().any(|line| line.starts_with(&format!("| {name} |")) && line.contains(result)), "{text}");
    }
    from_json
}

fn text_of(value: &Value) -> String {
    value.as_str().expect("text").to_owned()
}

fn result<'s>(steps: &'s [(String, String)], name: &str) -> &'s str {
    steps.iter().find(|(found, _)| found == name).map_or("none", |(_, result)| result)
}

/// Nothing but the live database is on the server, and no file of ours in the temporary folder.
fn nothing_is_left(source: &ScratchDatabase<'_>, temporary: &Path) {
    assert_eq!(source.relatives(), [source.name()]);
    let left: Vec<_> = std::fs::read_dir(temporary).expect("a folder").flatten().map(|entry| entry.path()).collect();
    assert!(left.is_empty(), "{left:?}");
}

fn temporary(setup: &mut Setup) -> PathBuf {
    let folder = setup.folder().join("tmp");
    std::fs::create_dir_all(&folder).expect("a folder");
    // The server of a throw-away cluster runs as somebody else.
    Command::new("chmod").args(["755"]).arg(setup.folder()).status().expect("chmod can be run");
    setup.set("TMPDIR", &folder);
    folder
}

fn is_alive(process: u32) -> bool {
    let status = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    !status.is_empty() && !status.contains(") Z ")
}

fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_mins(1);
    while !holds() {
        assert!(Instant::now() < until, "{what}: not within a minute");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn signal(process: u32, signal: &str) {
    let sent = Command::new("kill").args([signal, &process.to_string()]).status().expect("kill can be run");
    assert!(sent.success());
}

#[test]
fn a_full_drill_passes_on_every_major_and_says_so() {
    for major in MAJORS {
        let (source, mut setup) = source(major, "drill");
        let temporary = temporary(&mut setup);
        // What keeps a database from being dropped.
        source.psql("CREATE SUBSCRIPTION s CONNECTION 'host=127.0.0.1 port=1' PUBLICATION p WITH (connect = false)");
        let queries = ["SELECT count(*) > 0 FROM app.salons", "SELECT count(*) FROM app.bookings"];
        setup.set("BACKUP_DRILL_QUERIES", queries[0]);
        let run = setup.pgkeep(&["drill", "--query", queries[1]]);
        assert!(run.stdout.contains("restore time") && run.stdout.contains("met"), "{run}");
        let steps = steps(&setup);
        let mut names: Vec<_> = steps.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names.remove(6), "queries");
        assert_eq!(names, ALL_STEPS);
        for (name, result) in &steps {
            assert_eq!(result, if name == "s3_upload" { "SKIP" } else { "PASS" }, "{name}");
        }
        let (text, json, _) = reports(&setup);
        assert!(text.starts_with("# Backup and restore drill: PASSED\n"), "{text}");
        assert!(text.contains("| SELECT count(\\*) > 0 FROM app.salons | true | PASS |"), "{text}");
        assert_eq!(json["outcome"], "passed");
        assert_eq!(json["restore_success"], true);
        assert!(json["restore_seconds"].as_f64().is_some_and(|seconds| seconds > 0.0));
        assert_eq!(json["queries"].as_array().map(Vec::len), Some(2));
        nothing_is_left(&source, &temporary);
        let shown = setup.pgkeep(&["show", "--latest", "--output", "json"]);
        let shown: Value = serde_json::from_str(&shown.stdout).expect("JSON");
        let proofs = shown.to_string();
        assert!(proofs.contains("\"restore\""), "the proof is stored: {proofs}");
    }
}

#[test]
fn with_a_second_place_the_upload_is_read_back() {
    let (_source, mut setup) = source(17, "uploaded");
    let store = setup.folder().join("store");
    std::fs::create_dir(&store).expect("a folder");
    setup.set("BACKUP_STORE", format!("file://{}", store.display()));
    let run = setup.run("test-backup-restore", &["--backup-only"]);
    assert_eq!(run.code, Some(0), "{run}");
    let steps = steps(&setup);
    assert_eq!(steps.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ALL_STEPS[..4]);
    assert!(steps.iter().all(|(_, result)| result == "PASS"), "{steps:?}");
}

#[test]
fn a_corrupted_backup_fails_with_its_cause_and_is_never_the_newest_good_one_again() {
    let (source, mut setup) = source(17, "corrupted");
    let temporary = temporary(&mut setup);
    setup.pgkeep(&["backup"]);
    let archive = setup.archive();
    let mut bytes = std::fs::read(&archive).expect("the archive");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x40;
    std::fs::write(&archive, bytes).expect("written");
    let run = setup.run("test-backup-restore", &["--restore-only"]);
    run.failed_with(4, &["database_restore: FAIL"]);
    let steps = steps(&setup);
    assert_eq!(result(&steps, "database_restore"), "FAIL");
    assert_eq!(result(&steps, "data_integrity"), "SKIP");
    let (text, json, xml) = reports(&setup);
    let name = archive.file_name().and_then(|name| name.to_str()).expect("UTF-8").split('.').next().expect("a stem");
    let reason = json["steps"][0]["reason"].as_str().expect("a reason").to_owned();
    assert!(reason.contains(name) || reason.contains("frame"), "{reason}");
    assert!(text.contains("## What to do"), "{text}");
    assert!(Document::parse(&xml).expect("XML").descendants().any(|node| node.attribute("message") == Some(&reason)));
    assert_eq!(json["restore_success"], false);
    nothing_is_left(&source, &temporary);
    // What is known to be damaged is not tried again, and status knows it.
    let again = setup.run("pgkeep", &["drill", "--restore-only"]);
    again.failed_with(3, &[]);
    setup.run("pgkeep", &["status"]).failed_with(10, &["no good backup"]);
}

#[test]
fn ctrl_c_and_sigterm_in_the_middle_leave_nothing() {
    let (source, mut setup) = source(17, "interrupted");
    setup.pgkeep(&["backup"]);
    let temporary = temporary(&mut setup);
    for (name, code) in [("-INT", 130), ("-TERM", 143)] {
        let tools = FaultyTools::new(17, "pg_restore", &Fault::HangsAfter { bytes: 0 });
        setup.set("PG_BINDIRS", tools.path());
        let child = setup.start("pgkeep", &["drill", "--restore-only"]);
        eventually("pg_restore runs", || !tools.processes().is_empty());
        eventually("the scratch database is there", || source.relatives().len() > 1);
        signal(child.id(), name);
        let run = Run::of(&child.wait_with_output().expect("it ends"));
        assert_eq!(run.code, Some(code), "{run}");
        assert!(tools.processes().into_iter().all(|process| !is_alive(process)), "a process was left");
        nothing_is_left(&source, &temporary);
        assert_eq!(result(&steps(&setup), "database_restore"), "FAIL", "the report says how far it came");
    }
}

#[test]
fn a_killed_drill_is_cleared_up_by_the_next() {
    let (source, mut setup) = source(17, "killed");
    setup.pgkeep(&["backup"]);
    let tools = FaultyTools::new(17, "pg_restore", &Fault::HangsAfter { bytes: 0 });
    setup.set("PG_BINDIRS", tools.path());
    let mut child = setup.start("pgkeep", &["drill", "--restore-only"]);
    eventually("the scratch database is there", || source.relatives().len() > 1 && !tools.processes().is_empty());
    signal(child.id(), "-KILL");
    child.wait().expect("it ends");
    for process in tools.processes().into_iter().filter(|process| is_alive(*process)) {
        signal(process, "-KILL");
    }
    source.server().psql("postgres", &format!("CREATE DATABASE \"{}_pgkeep_drill\"", source.name()));
    setup.set("PG_BINDIRS", client_tools_path());
    eventually("the lock of the killed one is gone", || {
        setup.run("pgkeep", &["drill", "--restore-only"]).code == Some(0)
    });
    assert_eq!(source.relatives(), [source.name()]);
}

#[test]
fn queries_and_objectives_decide_too() {
    let (source, setup) = source(17, "asked");
    setup.pgkeep(&["backup"]);
    for (query, said) in [
        ("SELECT count(*) < 0 FROM app.salons", "false"),
        ("SELECT 1 WHERE false", "no row"),
        ("SELECT * FROM app.nowhere", "does not exist"),
        ("DELETE FROM app.audit", "read-only"),
    ] {
        let run = setup.run("pgkeep", &["drill", "--restore-only", "--query", query]);
        run.failed_with(4, &["queries: FAIL", said]);
    }
    let slow = Setup::new(&source.url()).with("BACKUP_RTO", "0s").with("BACKUP_DIR", setup.backups());
    let run = slow.run("pgkeep", &["drill", "--performance"]);
    run.failed_with(4, &["backup_performance: FAIL"]);
    assert!(reports(&slow).0.contains("**MISSED**"));
    assert_eq!(source.relatives(), [source.name()]);
}

#[test]
fn the_monthly_test_takes_the_newest_monthly_backup() {
    let (source, setup) = source(18, "monthly");
    setup.pgkeep(&["backup", "--monthly"]);
    setup.pgkeep(&["backup", "--daily"]);
    let run = setup.pgkeep(&["drill", "--monthly", "--output", "json"]);
    let document: Value = serde_json::from_str(&run.stdout).expect("JSON");
    assert!(document["drill"]["backup"].as_str().is_some_and(|name| name.starts_with("monthly_")), "{run}");
    let steps = steps(&setup);
    let names: Vec<_> = steps.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["backup_integrity", "database_restore", "data_integrity", "backup_performance"]);
    assert_eq!(source.relatives(), [source.name()]);
}

#[test]
fn another_server_takes_the_restore() {
    let (source, mut setup) = source(15, "elsewhere");
    source.psql("CREATE ROLE drill_owner; ALTER TABLE app.salons OWNER TO drill_owner");
    setup.pgkeep(&["backup"]);
    let other = PostgresServer::shared(17);
    setup.set("BACKUP_DRILL_SERVER", other.url("postgres"));
    let run = setup.run("pgkeep", &["drill", "--restore-only"]);
    source.psql("REASSIGN OWNED BY drill_owner TO postgres; DROP ROLE drill_owner");
    assert_eq!(run.code, Some(0), "{run}");
    let (text, _, _) = reports(&setup);
    assert!(text.contains("drill\\_owner") || text.contains("drill_owner"), "{text}");
    let count = format!("SELECT count(*) FROM pg_database WHERE starts_with(datname, '{}')", source.name());
    assert_eq!(other.psql("postgres", &count), "0");
    assert_eq!(source.relatives(), [source.name()]);
    assert!(!format!("{text}{run}").contains(other.password()), "a secret");
}

#[test]
fn a_throw_away_cluster_is_gone_afterwards() {
    let (source, mut setup) = source(15, "cluster");
    let temporary = temporary(&mut setup);
    source.psql("CREATE ROLE cluster_owner; ALTER TABLE app.salons OWNER TO cluster_owner");
    setup.pgkeep(&["backup"]);
    let run = setup.run(
        "pgkeep",
        &[
            "drill",
            "--restore-only",
            "--scratch",
            "--query",
            "SELECT tableowner FROM pg_tables WHERE tablename = 'salons'",
        ],
    );
    assert_eq!(run.code, Some(0), "{run}");
    assert!(reports(&setup).1.to_string().contains("cluster_owner"), "roles are made in it");
    nothing_is_left(&source, &temporary);

    let child = setup.start("pgkeep", &["drill", "--restore-only", "--scratch"]);
    let server = || -> Option<u32> {
        std::fs::read_dir(&temporary).ok()?.flatten().find_map(|entry| {
            std::fs::read_to_string(entry.path().join("data/postmaster.pid")).ok()?.lines().next()?.parse().ok()
        })
    };
    eventually("the cluster runs", || server().is_some());
    let postmaster = server();
    signal(child.id(), "-INT");
    let run = Run::of(&child.wait_with_output().expect("it ends"));
    source.psql("REASSIGN OWNED BY cluster_owner TO postgres; DROP ROLE cluster_owner");
    assert_eq!(run.code, Some(130), "{run}");
    nothing_is_left(&source, &temporary);
    assert!(postmaster.is_none_or(|process| !is_alive(process)), "the server was left");
}

#[test]
fn the_live_database_is_looked_at_after_a_restore() {
    for major in MAJORS {
        let (source, setup) = source(major, "sound");
        source.psql("CREATE EXTENSION amcheck");
        setup.pgkeep(&["backup"]);
        let name = setup.archive().file_name().and_then(|name| name.to_str()).expect("UTF-8").to_owned();
        setup.pgkeep(&["restore", "--latest", "--yes", "--skip-snapshot"]);
        let run = setup.run("test-backup-restore", &["--integrity-only"]);
        assert_eq!(run.code, Some(0), "{run}");
        let (_, json, _) = reports(&setup);
        let details = json["steps"].to_string();
        assert!(
            details.contains("all equal") && details.contains("amcheck") && details.contains("all sound"),
            "{details}"
        );
        assert!(!details.contains("written to since"), "nobody wrote: {details}");

        // What is written since is no damage, unless somebody says that nothing was.
        source.psql("UPDATE app.salons SET city = 'Ulm'");
        setup.pgkeep(&["drill", "--integrity-only"]);
        assert!(reports(&setup).0.contains("written to since"));
        let run = setup.run("pgkeep", &["drill", "--integrity-only", "--backup", &name]);
        run.failed_with(4, &["data_integrity: FAIL", "app.salons"]);

        // Nor is what was emptied on purpose.
        source.psql("TRUNCATE app.media");
        setup.pgkeep(&["drill", "--integrity-only"]);

        // An index that lies.
        source.psql("UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'app.salons_pkey'::regclass");
        let run = setup.run("pgkeep", &["drill", "--integrity-only"]);
        run.failed_with(4, &["index_integrity: FAIL", "salons_pkey"]);
        let kept = source.relatives();
        assert!(!kept.iter().any(|name| name.contains("drill")), "{kept:?}");
    }
}

#[test]
fn an_encrypted_backup_is_tried_out_with_its_key_only() {
    let (source, mut setup) = source(17, "sealed_trial");
    let made = setup.pgkeep(&["keygen", "--to", "drill.key"]);
    setup.set("BACKUP_ENCRYPT_TO", made.stdout.trim().strip_prefix("Public key: ").expect("the public key"));
    let run = setup.pgkeep(&["drill", "--identity", "drill.key"]);
    assert!(setup.files().iter().any(|file| file.ends_with(".dump.zst.age")), "{:?}", setup.files());
    let steps = steps(&setup);
    assert!(steps.iter().all(|(name, result)| result == if name == "s3_upload" { "SKIP" } else { "PASS" }), "{run}");
    setup.pgkeep(&["restore", "--latest", "--yes", "--skip-snapshot", "--identity", "drill.key"]);
    setup.set("BACKUP_IDENTITY_FILE", setup.folder().join("drill.key"));
    setup.pgkeep(&["drill", "--integrity-only"]);
    assert!(reports(&setup).0.contains("all equal"), "{}", reports(&setup).0);
    setup.pgkeep(&["status"]);
    setup.set("BACKUP_IDENTITY_FILE", "");
    setup.run("pgkeep", &["drill", "--restore-only"]).failed_with(2, &["database_restore: FAIL", "key", "--identity"]);
    assert!(!source.relatives().iter().any(|name| name.contains("drill_")), "{:?}", source.relatives());
}
