//! Databases of unusual shapes, backed up and restored by the real programs: what comes back is what was there.

use pgkeep_testkit::{PostgresOptions, PostgresServer, ScratchDatabase, contents, large_objects};

use crate::scaled;
use crate::setup::Setup;

/// Backs the database up by the parallel engine and restores it beside itself, where it must prove the same; the restored one's name, and the
/// proof.
fn there_and_back(source: &ScratchDatabase<'_>) -> (String, serde_json::Value) {
    let setup = Setup::new(&source.url()).with("BACKUP_ENGINE", "parallel");
    setup.pgkeep(&["backup", "--jobs", "2"]);
    let meta = std::fs::read_to_string(format!("{}.meta", setup.archive().display())).unwrap();
    assert!(meta.contains("\"engine\": \"parallel\""), "it fell back");
    let target = format!("{}_target", source.name());
    let restored =
        setup.pgkeep(&["restore", "--latest", "--jobs", "2", "--target-db", &target, "--yes", "--output", "json"]);
    let document: serde_json::Value = serde_json::from_str(&restored.stdout).unwrap();
    let proof = document["restore"]["proof"].clone();
    for flaws in ["differences", "renderings", "unprovable"] {
        assert_eq!(proof[flaws], serde_json::json!([]), "{proof:#}");
    }
    (target, proof)
}

#[test]
fn a_table_of_a_thousand_partitions_comes_back() {
    let server = PostgresServer::shared(17);
    let source = server.create_database("partitions");
    source.psql(
        "CREATE TABLE measured (day date NOT NULL, sensor int NOT NULL, value float8) PARTITION BY RANGE (day);
         DO $$ BEGIN FOR n IN 0..999 LOOP
             EXECUTE format('CREATE TABLE measured_%s PARTITION OF measured FOR VALUES FROM (%L) TO (%L)',
                            n, date '2020-01-01' + n, date '2020-01-02' + n);
         END LOOP; END $$;
         CREATE INDEX ON measured (sensor);
         INSERT INTO measured SELECT date '2020-01-01' + n % 1000, n, n / 7.0 FROM generate_series(1, 100000) n",
    );
    let (target, proof) = there_and_back(&source);
    assert_eq!(proof["rows"], 100_000);
    assert_eq!(contents(server, &source), contents(server, &target));
    assert_eq!(server.psql(&target, "SELECT count(*) FROM pg_inherits WHERE inhparent = 'measured'::regclass"), "1000");
}

#[test]
fn a_table_of_as_many_columns_as_there_can_be_comes_back() {
    let server = PostgresServer::shared(17);
    let source = server.create_database("columns");
    // Of which most are null, as they have to be: a row fits a page.
    source.psql(
        "DO $$ BEGIN EXECUTE (SELECT 'CREATE TABLE wide (' || string_agg(format('column_number_%s int', n), ', ') || ')'
                              FROM generate_series(1, 1600) n); END $$;
         DO $$ BEGIN FOR n IN 0..39 LOOP EXECUTE (
             SELECT format('INSERT INTO wide (%s) SELECT %s FROM generate_series(1, 50) row',
                           string_agg(format('column_number_%s', 40 * k + n + 1), ', '), string_agg(format('row * %s', k + 1), ', '))
             FROM generate_series(0, 39) k);
         END LOOP; END $$",
    );
    let (target, proof) = there_and_back(&source);
    assert_eq!(proof["rows"], 2_000);
    assert_eq!(contents(server, &source), contents(server, &target));
    assert_eq!(
        server.psql(&target, "SELECT count(*) FROM pg_attribute WHERE attrelid = 'wide'::regclass AND attnum > 0"),
        "1600"
    );
}

#[test]
fn a_hundred_thousand_large_objects_come_back() {
    let count = scaled(20_000, 100_000);
    let server = PostgresServer::shared(17);
    let source = server.create_database("large_objects");
    source.psql(&format!(
        "SELECT count(lo_from_bytea(n, sha256(n::text::bytea))) FROM generate_series(1000000, 1000000 + {count} - 1) n"
    ));
    let (target, proof) = there_and_back(&source);
    assert_eq!(proof["large_objects"], count);
    assert_eq!(large_objects(server, &source), large_objects(server, &target));
    assert_eq!(server.psql(&target, "SELECT count(*) FROM pg_largeobject_metadata"), count.to_string());
}

#[test]
fn twenty_thousand_tables_come_back() {
    let thousands = scaled(1, 20);
    // What pg_dump alone needs for as many locks, and pg_restore for as many tables made in one transaction.
    let settings = [("max_locks_per_transaction", "1000"), ("max_connections", "40")];
    let options = PostgresOptions {
        settings: settings.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        ..PostgresOptions::default()
    };
    let server = PostgresServer::start(17, &options);
    let source = server.create_database("tables");
    for thousand in 0..thousands {
        source.psql(&format!(
            "DO $$ BEGIN FOR n IN 1..1000 LOOP EXECUTE format('CREATE TABLE t_%s (id int, note text)', {thousand} * 1000 + n); END LOOP; END $$;
             DO $$ BEGIN FOR n IN 1..1000 LOOP EXECUTE format('INSERT INTO t_%s VALUES (%s, ''x'')', {thousand} * 1000 + n, n); END LOOP; END $$"
        ));
    }
    let (target, proof) = there_and_back(&source);
    assert_eq!(proof["tables"], thousands * 1000);
    let sums = |database: &str| {
        server.psql(
            database,
            "CREATE TEMP TABLE sums (name text, sum bigint);
             DO $$ DECLARE t text; BEGIN FOR t IN SELECT relname FROM pg_class WHERE relname ~ '^t_' AND relkind = 'r' LOOP
                 EXECUTE format('INSERT INTO sums SELECT %L, sum(id) FROM %I', t, t);
             END LOOP; END $$;
             SELECT count(*), sum(sum), md5(string_agg(name || sum, ',' ORDER BY name)) FROM sums",
        )
    };
    let sums_of_source = sums(&source);
    assert_eq!(sums_of_source, sums(&target));
    assert!(sums_of_source.starts_with(&format!("{}|", thousands * 1000)), "{sums_of_source}");
}
