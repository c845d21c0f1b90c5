//! Several databases in one config file.

use pgkeep_testkit::{Ceph, PostgresServer};
use serde_json::Value;

use crate::world::World;

#[test]
fn each_goes_to_its_own_prefix_and_one_that_fails_does_not_stop_the_others() {
    let server = PostgresServer::shared(17);
    let (shop, crm) = (server.create_database("shop"), server.create_database("crm"));
    for database in [&shop, &crm] {
        database.psql("CREATE TABLE t AS SELECT generate_series(1, 10) AS n");
    }
    let bucket = Ceph::shared().create_bucket("several");
    let world = World::new().with_bucket(&bucket).without("AWS_S3_BACKUP_BUCKET");
    let config = format!(
        "bucket = '{bucket}'\n[[database]]\nname = 'shop'\ndatabase_url = '{}'\n\
         [[database]]\nname = 'gone'\ndatabase_url = '{}'\n\
         [[database]]\nname = 'crm'\ndatabase_url = '{}'\nprefix = 'elsewhere'\n",
        shop.url(),
        server.url("no_such_database"),
        crm.url()
    );
    world.write("pgkeep.toml", &config);
    let gave = world.pgkeep(&["backup", "--all", "--output", "json"]);
    assert_eq!(gave.code, Some(5), "{gave}");
    let document: Value = serde_json::from_str(&gave.stdout).unwrap();
    let outcomes: Vec<_> = document["databases"]
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (entry["name"].as_str().unwrap(), entry["outcome"].as_str().unwrap()))
        .collect();
    assert_eq!(outcomes, [("shop", "ok"), ("gone", "failed"), ("crm", "ok")]);
    assert_eq!(document["databases"][1]["error"]["code"], "database_missing");
    assert_eq!(document["error"]["message"], "1 of 3 databases failed: gone");
    let metas: Vec<_> = Ceph::shared().keys(&bucket).into_iter().filter(|key| key.ends_with(".meta")).collect();
    assert_eq!(metas.len(), 2, "{metas:?}");
    assert!(metas.iter().any(|key| key.starts_with("database-backups/shop/daily/")), "{metas:?}");
    assert!(metas.iter().any(|key| key.starts_with("elsewhere/daily/")), "{metas:?}");
    // The environment's directory is shared out too.
    assert!(world.path("backups/shop").is_dir() && world.path("backups/crm").is_dir());

    let list = world.pgkeep(&["list", "--database", "crm"]);
    assert_eq!((list.code, list.stdout.lines().count()), (Some(0), 2), "{list}");
    let check = world.pgkeep(&["check", "--all", "--dry-run"]);
    assert_eq!(check.code, Some(5), "{check}");
    assert!(check.stdout.contains("== shop\n") && check.stdout.contains("== crm\n"), "{check}");

    let alone = world.pgkeep(&["backup"]);
    assert_eq!(alone.code, Some(2), "{alone}");
    assert!(alone.stderr.contains("shop, gone, crm") && alone.stderr.contains("--all"), "{alone}");
}

#[test]
fn more_destinations_get_a_copy_each_and_an_optional_one_may_fail() {
    let source = PostgresServer::shared(17).create_database("offsite");
    source.psql("CREATE TABLE t AS SELECT 1 AS n");
    let ceph = Ceph::shared();
    let (near, far) = (ceph.create_bucket("near"), ceph.create_bucket("far"));
    let world = World::of(&source.url()).with_bucket(&near);
    let nas = world.path("nas").display().to_string();
    let config = |extra: &str| {
        format!(
            "[[destination]]\nname = 'offsite'\nstore = 's3://{far}/copies'\nretention.daily.days = 90\n\
             [[destination]]\nname = 'nas'\nstore = 'file://{nas}'\n{extra}"
        )
    };
    world.write("pgkeep.toml", &config(""));
    let (code, document) = world.check(&[]);
    assert_eq!(code, 0, "{:#}", document.0);
    assert_eq!((document.findings("put").len(), document.findings("write").len()), (2, 2), "each is tried");
    assert!(!world.path("nas").exists(), "and left as it was");
    let gave = world.pgkeep(&["backup"]);
    assert_eq!(gave.code, Some(0), "{gave}");
    assert!(ceph.keys(&near).iter().any(|key| key.starts_with("database-backups/daily/") && key.ends_with(".meta")));
    assert!(ceph.keys(&far).iter().any(|key| key.starts_with("copies/daily/") && key.ends_with(".meta")));
    let on_nas = std::fs::read_dir(world.path("nas")).unwrap().flatten();
    assert!(on_nas.map(|entry| entry.path()).any(|path| path.extension().is_some_and(|suffix| suffix == "meta")));

    let missing = "[[destination]]\nname = 'gone'\nstore = 's3://no-such-bucket-here'\n";
    world.write("pgkeep.toml", &config(&format!("{missing}required = false\n")));
    let gave = world.pgkeep(&["backup", "--weekly"]);
    assert_eq!(gave.code, Some(0), "{gave}");
    assert!(gave.stderr.contains("[WARN]") && gave.stderr.contains("gone"), "{gave}");
    let (code, document) = world.check(&[]);
    assert_eq!((code, document.0["outcome"].as_str()), (0, Some("warnings")), "{:#}", document.0);
    world.write("pgkeep.toml", &config(missing));
    assert_eq!(world.pgkeep(&["backup", "--monthly"]).code, Some(6));
    assert_eq!(world.check(&[]).0, 6);
}

#[test]
fn a_variable_that_would_make_them_all_the_same_is_refused() {
    let world = World::of("postgresql://u:s3cret@127.0.0.1:1/d");
    world.write(
        "pgkeep.toml",
        "[database.a]\ndatabase_url = 'postgresql:///a'\n[database.b]\ndatabase_url = 'postgresql:///b'\n",
    );
    for arguments in [vec!["backup", "--all"], vec!["backup", "--database", "a"]] {
        let gave = world.pgkeep(&arguments);
        assert_eq!(gave.code, Some(2), "{gave}");
        assert!(gave.stderr.contains("DATABASE_URL would be the same for every [[database]]"), "{gave}");
    }
}
