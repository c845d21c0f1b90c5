//! Backups in a bucket: one dump to disk and bucket at once, read back from either, and what becomes of it when one of them fails.

use pgkeep_testkit::{Ceph, PostgresServer, dump_text, saas};

use crate::setup::Setup;

fn setup(url: &str, bucket: &str) -> Setup {
    let ceph = Ceph::shared();
    let mut setup = Setup::new(url).with("AWS_S3_BACKUP_BUCKET", bucket);
    for (name, value) in ceph.environment() {
        setup.set(name, value);
    }
    setup
}

#[test]
fn one_dump_goes_to_disk_and_bucket_and_comes_back_from_either() {
    let server = PostgresServer::shared(17);
    let source = server.create_database("both");
    saas::load(server, &source, 0.2);
    let ceph = Ceph::shared();
    let bucket = ceph.create_bucket("both");
    let setup = setup(&source.url(), &bucket);
    setup.pgkeep(&["backup", "--daily"]);
    let keys = ceph.keys(&bucket);
    let archive = setup.archive();
    let name = archive.file_name().and_then(|name| name.to_str()).expect("UTF-8").to_owned();
    for suffix in ["", ".meta"] {
        assert!(keys.contains(&format!("database-backups/daily/{name}{suffix}")), "{keys:?}");
    }
    let verified = setup.pgkeep(&["verify", "--latest", "--deep"]);
    assert!(verified.stdout.contains("local") && verified.stdout.contains("bucket"), "{verified}");

    let before = dump_text(server, &source);
    let target = format!("{}_disk", source.name());
    setup.pgkeep(&["restore", "--latest", "--target-db", &target, "--yes"]);
    assert_eq!(before, dump_text(server, &target));

    // A blank host: nothing but the bucket.
    std::fs::remove_dir_all(setup.backups()).expect("removed");
    let target = format!("{}_bucket", source.name());
    let url = format!("s3://{bucket}/database-backups/daily/{name}");
    let restore = setup.run("restore-database", &["--from-s3", &url, "--target-db", &target, "--force"]);
    assert_eq!(restore.code, Some(0), "{restore}");
    assert_eq!(before, dump_text(server, &target));

    source.psql("DROP SCHEMA app CASCADE");
    let restore = setup.run("restore-database", &["--latest", "--force"]);
    assert_eq!(restore.code, Some(0), "{restore}");
    assert_eq!(before, dump_text(server, &source));
    assert!(ceph.unfinished_uploads(&bucket).is_empty());
}

#[test]
fn a_missing_bucket_fails_the_run_and_the_local_copy_is_made_good_later() {
    let server = PostgresServer::shared(17);
    let source = server.create_database("later");
    saas::load(server, &source, 0.03);
    let ceph = Ceph::shared();
    let bucket = pgkeep_testkit::unique("later").replace('_', "-");
    let missing = setup(&source.url(), &bucket);
    let run = missing.run("pgkeep", &["backup"]);
    run.failed_with(6, &[&bucket]);
    let real = ceph.create_bucket("later");
    let mut working = missing;
    working.set("AWS_S3_BACKUP_BUCKET", &real);
    let local_only = working.run("pgkeep", &["backup", "--weekly", "--no-upload"]);
    assert_eq!(local_only.code, Some(0), "{local_only}");
    working.pgkeep(&["backup", "--daily"]);
    let keys = ceph.keys(&real);
    assert!(
        keys.iter().any(|key| key.starts_with("database-backups/weekly/") && key.ends_with(".meta")),
        "the missing copy was made good: {keys:?}"
    );
    assert!(keys.iter().any(|key| key.starts_with("database-backups/daily/") && key.ends_with(".meta")), "{keys:?}");
    working.pgkeep(&["verify", "--all", "--stored"]);
}

#[test]
fn keys_and_region_come_from_a_profile_as_aws_configure_writes_it() {
    let server = PostgresServer::shared(17);
    let source = server.create_database("profile");
    source.psql("CREATE TABLE t AS SELECT generate_series(1, 10) n");
    let ceph = Ceph::shared();
    let bucket = ceph.create_bucket("profile");
    let mut setup = Setup::new(&source.url()).with("AWS_S3_BACKUP_BUCKET", &bucket).with("BACKUP_DIR", "none");
    let environment: std::collections::BTreeMap<_, _> = ceph.environment().into_iter().collect();
    let write = |name: &str, text: String| {
        let path = setup.folder().join(name);
        std::fs::write(&path, text).expect("written");
        path
    };
    let credentials = write(
        "credentials",
        format!(
            "[backups]\naws_access_key_id = {}\naws_secret_access_key = {}\n",
            environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"]
        ),
    );
    let config = write("config", format!("[profile backups]\nregion = {}\n", environment["AWS_REGION"]));
    setup.set("AWS_SHARED_CREDENTIALS_FILE", credentials);
    setup.set("AWS_CONFIG_FILE", config);
    setup.set("AWS_PROFILE", "backups");
    for name in ["AWS_ENDPOINT_URL", "AWS_ALLOW_HTTP"] {
        setup.set(name, &environment[name]);
    }
    setup.pgkeep(&["backup"]);
    assert!(ceph.keys(&bucket).iter().any(|key| key.ends_with(".meta")), "{:?}", ceph.keys(&bucket));

    setup.set("AWS_PROFILE", "nobody");
    setup.run("pgkeep", &["backup"]).failed_with(6, &["credentials"]);
}

#[test]
fn wrong_credentials_are_named() {
    let source = PostgresServer::shared(17).create_database("denied");
    source.psql("CREATE TABLE t AS SELECT 1 AS n");
    let bucket = Ceph::shared().create_bucket("denied");
    let denied = setup(&source.url(), &bucket).with("AWS_SECRET_ACCESS_KEY", "not-the-key");
    denied.run("pgkeep", &["backup"]).failed_with(6, &[]);
    let closed = setup(&source.url(), &bucket).with("AWS_ENDPOINT_URL", "http://127.0.0.1:1");
    closed.run("pgkeep", &["backup"]).failed_with(6, &[]);
}

#[test]
fn a_restore_proves_the_copy_that_was_read_and_clears_no_damage_of_another() {
    let server = PostgresServer::shared(17);
    let source = server.create_database("credited");
    saas::load(server, &source, 0.03);
    let bucket = Ceph::shared().create_bucket("credited");
    let setup = setup(&source.url(), &bucket);
    setup.pgkeep(&["backup", "--daily"]);
    let archive = setup.archive();
    let mut bytes = std::fs::read(&archive).expect("read");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    std::fs::write(&archive, &bytes).expect("written");
    let verified = setup.run("pgkeep", &["verify", "daily", "--deep"]);
    assert_eq!(verified.code, Some(4), "{verified}");
    // The other copy is read, and only that is proven by it.
    setup.pgkeep(&["restore", "--latest", "--target-db", &format!("{}_beside", source.name()), "--yes"]);
    let shown = setup.pgkeep(&["show", "--latest", "--output", "json"]);
    let document: serde_json::Value = serde_json::from_str(&shown.stdout).expect("JSON");
    let proofs = document["backup"]["proofs"].as_array().expect("proofs");
    let restored = proofs.iter().find(|proof| proof["kind"] == "restore").expect("a proof of the restore");
    assert_eq!(restored["destination"], "bucket", "{shown}");
    let listed = setup.pgkeep(&["list"]);
    assert!(listed.stdout.contains("local(damaged)"), "{listed}");
}
