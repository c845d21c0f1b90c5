//! Backups in an archive tier: refused with what it takes, thawed, waited for, restored.

use pgkeep_testkit::{Moto, PostgresServer, contents, saas};

use crate::setup::Setup;

#[test]
fn a_backup_in_glacier_is_thawed_and_restored() {
    let server = PostgresServer::shared(17);
    let source = server.create_database("glacier");
    saas::load(server, &source, 0.03);
    let moto = Moto::start();
    let bucket = moto.create_bucket("glacier");
    let mut setup = Setup::new(&source.url())
        .with("AWS_S3_BACKUP_BUCKET", &bucket)
        .with("BACKUP_DIR", "none")
        .with("BACKUP_STORAGE_CLASS_MONTHLY", "GLACIER");
    for (name, value) in moto.environment() {
        setup.set(name, value);
    }
    setup.pgkeep(&["backup", "--monthly"]);

    // Only the archive lies there: the backup can be listed, looked at and verified without reading it.
    let listed = moto.request("GET", &format!("/{bucket}?list-type=2"), "");
    let classes: Vec<(&str, bool)> = listed
        .split("<Contents>")
        .skip(1)
        .map(|object| {
            let key = object.split_once("<Key>").and_then(|(_, rest)| rest.split_once("</Key>")).expect("a key").0;
            (key, object.contains("<StorageClass>GLACIER"))
        })
        .collect();
    assert_eq!(classes.iter().filter(|(_, archived)| *archived).count(), 1, "{classes:?}");
    assert!(classes.iter().all(|(key, archived)| *archived == key.ends_with(".dump.zst")), "{classes:?}");
    assert!(setup.pgkeep(&["list"]).stdout.contains("monthly_"));
    setup.pgkeep(&["verify", "--latest", "--quick"]);

    let target = format!("{}_restored", source.name());
    let restore = ["restore", "--latest", "--target-db", &target, "--yes"];
    let refused = setup.run("pgkeep", &restore);
    refused.failed_with(6, &["GLACIER", "--thaw standard", "3 to 5 hours", "--thaw bulk", "$"]);
    // Whoever verifies everything is told of what can't be read now, and fails only if that was asked for.
    let outside = setup.pgkeep(&["verify", "--latest", "--stored"]);
    assert!(outside.stderr.contains("only presence and size were verified"), "{outside}");
    let strict = setup.run("pgkeep", &["verify", "--latest", "--stored", "--strict"]);
    assert_eq!(strict.code, Some(8), "{strict}");

    setup.run("pgkeep", &["drill", "--monthly"]).failed_with(6, &["backup_integrity: FAIL", "GLACIER", "--thaw bulk"]);

    moto.thaw_takes(2);
    let restored = setup.pgkeep(&[&restore[..], &["--thaw", "expedited"]].concat());
    assert!(restored.stderr.contains("1 to 5 minutes") && restored.stderr.contains("can be read now"), "{restored}");
    assert_eq!(contents(server, &source), contents(server, &target));
    server.psql("postgres", &format!("DROP DATABASE \"{target}\" WITH (FORCE)"));
    // Once there, it needs no asking.
    setup.pgkeep(&["verify", "--latest", "--deep"]);
    setup.pgkeep(&["drill", "--monthly", "--thaw", "expedited"]);
}
