//! What comes back is what was there, by the server's own word.

use pgkeep_restore::{Method, RestoreRequest, Target};
use pgkeep_testkit::{PostgresServer, contents, dump_text, large_objects, nasty, saas, schema_text};

use crate::bench::{Bench, Doomed, assert_same, beside, request, settings};

/// What is about a database and not in it: settings, grants, comment, limit, encoding.
fn outside(server: &PostgresServer, database: &str) -> String {
    server.psql(
        "postgres",
        &format!(
            "SELECT pg_encoding_to_char(encoding), datcollate, datctype, datconnlimit, shobj_description(d.oid, 'pg_database'), \
             (SELECT string_agg(concat_ws(' ', a.grantee::regrole, a.privilege_type, a.is_grantable), ',' ORDER BY a.grantee::regrole::text, a.privilege_type) \
              FROM aclexplode(coalesce(datacl, acldefault('d', datdba))) a), \
             (SELECT string_agg(concat_ws(' ', setrole::regrole, setconfig), ',' ORDER BY setrole) FROM pg_db_role_setting WHERE setdatabase = d.oid) \
             FROM pg_database d WHERE datname = '{database}'"
        ),
    )
}

async fn nasty_round_trip(major: u16) {
    let server = PostgresServer::shared(major);
    let source = server.create_database("nasty_source");
    nasty::load_light(server, &source);
    let bench = Bench::new().await;
    let backup = bench.backup(&source.url()).await;
    let target = Doomed::new(server, "nasty_target");
    let report = bench.restore(&source.url(), &beside(&backup, &target.name)).await.unwrap();
    assert_eq!(report.method, Method::Create);
    assert!(report.proof.differences.is_empty(), "{:?}", report.proof);
    assert!(report.proof.unprovable.is_empty(), "{:?}", report.proof);
    assert!(
        report.proof.tables > 20 && report.proof.schema_items > 100 && report.proof.sequences > 3,
        "{:?}",
        report.proof
    );
    assert_same(&dump_text(server, &source), &dump_text(server, &target.name));
    assert_eq!(large_objects(server, &source), large_objects(server, &target.name));
    assert_eq!(outside(server, &source), outside(server, &target.name));
    assert_eq!(report.warnings, [""; 0]);
    assert!(report.restored_bytes > 0 && report.rows > 0);
    // Statistics are there before anybody comes.
    let analysed = server.psql(&target.name, "SELECT count(*) > 10 FROM pg_stats WHERE schemaname = 'nasty'");
    assert_eq!(analysed.trim(), "t");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nasty_database_comes_back_on_15() {
    nasty_round_trip(15).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nasty_database_comes_back_on_17() {
    nasty_round_trip(17).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_nasty_database_comes_back_on_18() {
    nasty_round_trip(18).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_plan_says_what_will_happen_and_changes_nothing() {
    let server = PostgresServer::shared(17);
    let source = server.create_database("planned");
    source.psql("CREATE TABLE t AS SELECT 1 AS a");
    let bench = Bench::new().await;
    let backup = bench.backup(&source.url()).await;
    let restorer = bench.restorer(&source.url());
    let plan = restorer.plan(&request(&backup, Target::Live)).await.unwrap();
    assert_eq!(plan.method, Method::Swap);
    assert!(plan.blockers.is_empty(), "{plan}");
    let text = plan.to_string();
    for fact in ["as of", "1 tables, 1 rows", "names exchanged at once", "_before_", "needed"] {
        assert!(text.contains(fact), "{fact} is not in\n{text}");
    }
    assert_eq!(source.relatives(), [source.name()]);
    let json = serde_json::to_value(&plan).unwrap();
    assert_eq!(json["method"], "swap");
    assert_eq!(json["backup"]["rows"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_archive_comes_back_from_gzip() {
    let server = PostgresServer::shared(15);
    let source = server.create_database("foreign_source");
    nasty::load_light(server, &source);
    let dumped = server.exec(&["sh", "-c", &format!("pg_dump -U postgres -Fc '{}' | gzip", source.name())]);
    assert!(dumped.status.success());
    let bench = Bench::new().await;
    let backup = bench.foreign("old.dump.gz", &dumped.stdout);
    let target = Doomed::new(server, "foreign_target");
    let report = bench.restore(&source.url(), &beside(&backup, &target.name)).await.unwrap();
    assert!(!report.backup.catalogued);
    assert!(report.proof.differences.is_empty() && report.proof.tables > 20, "{:?}", report.proof);
    assert_same(&dump_text(server, &source), &dump_text(server, &target.name));
}

#[tokio::test(flavor = "multi_thread")]
async fn other_encodings_come_back_byte_by_byte() {
    let server = PostgresServer::shared(17);
    let bench = Bench::new().await;
    for (label, encoding) in [("latin", "LATIN1"), ("ascii", "SQL_ASCII")] {
        let options = format!("ENCODING '{encoding}' LOCALE 'C' TEMPLATE template0");
        let source = server.create_database_with(label, &options);
        // In SQL_ASCII the server does not know what the bytes mean.
        source.psql(
            "CREATE TABLE words (id int PRIMARY KEY, word text); \
             INSERT INTO words SELECT g, chr(65 + g % 20) || g FROM generate_series(1, 1000) g",
        );
        let umlaut = if encoding == "LATIN1" { "chr(228)" } else { r"convert_from('\xe4'::bytea, 'SQL_ASCII')" };
        source.psql(&format!("INSERT INTO words VALUES (0, {umlaut})"));
        source.psql(&format!(
            "DO $do$ BEGIN EXECUTE format('CREATE TABLE %I (v text); INSERT INTO %I VALUES (%L)', 't' || {umlaut}, 't' || {umlaut}, {umlaut}); END $do$"
        ));
        let backup = bench.backup(&source.url()).await;
        let target = Doomed::new(server, label);
        let report = bench.restore(&source.url(), &beside(&backup, &target.name)).await.unwrap();
        assert!(report.proof.differences.is_empty() && report.proof.unprovable.is_empty(), "{:?}", report.proof);
        let bytes = |database: &str| {
            let dumped = server.exec(&["pg_dump", "-U", "postgres", "--restrict-key=k", database]);
            assert!(dumped.status.success());
            dumped.stdout
        };
        assert_eq!(bytes(&source), bytes(&target.name), "{encoding}");
        let stored = server.psql(
            &target.name,
            "SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()",
        );
        assert_eq!(stored.trim(), encoding);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_owner_without_power_restores_what_is_his() {
    let server = PostgresServer::shared(17);
    let owner = pgkeep_testkit::unique("owner");
    server.psql("postgres", &format!("CREATE ROLE {owner} LOGIN CREATEDB PASSWORD 'secret'"));
    let source = server.create_database_with("owned", &format!("OWNER {owner}"));
    let url = server.url_as(&owner, "secret", &source);
    server.psql(
        &source,
        &format!(
            "SET ROLE {owner}; CREATE SCHEMA app; \
             CREATE TABLE app.ledger (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, amount numeric, doc oid); \
             INSERT INTO app.ledger (amount, doc) SELECT g, lo_from_bytea(0, decode(repeat('ab', g), 'hex')) FROM generate_series(1, 50) g; \
             CREATE TABLE app.entry (id int PRIMARY KEY, ledger bigint REFERENCES app.ledger); \
             INSERT INTO app.entry SELECT g, g FROM generate_series(1, 50) g; \
             CREATE MATERIALIZED VIEW app.total AS SELECT sum(amount) FROM app.ledger; \
             REVOKE INSERT ON app.ledger FROM {owner}; GRANT SELECT ON app.ledger TO PUBLIC"
        ),
    );
    let bench = Bench::new().await;
    let backup = bench.backup(&url).await;
    // In place of the live one, as its owner.
    let before = dump_text(server, &source);
    let report = bench.restore(&url, &request(&backup, Target::Live)).await.unwrap();
    assert_eq!(report.method, Method::Swap);
    assert!(report.proof.differences.is_empty() && report.proof.unprovable.is_empty(), "{:?}", report.proof);
    assert_same(&before, &dump_text(server, &source));
    assert_eq!(report.large_objects, 50);
    assert_eq!(settings(&url).database(), source.name());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_with_few_connections_restores_by_fewer_jobs() {
    let server = PostgresServer::shared(17);
    let owner = pgkeep_testkit::unique("few");
    server.psql("postgres", &format!("CREATE ROLE {owner} LOGIN CREATEDB PASSWORD 'secret'"));
    let source = server.create_database_with("few", &format!("OWNER {owner}"));
    let url = server.url_as(&owner, "secret", &source);
    server.psql(
        &source,
        &format!(
            "SET ROLE {owner}; CREATE SCHEMA app; \
             CREATE TABLE app.first AS SELECT g AS id, lo_from_bytea(0, 'x') AS doc FROM generate_series(1, 50) g; \
             CREATE TABLE app.second AS SELECT g AS id, md5(g::text) AS note FROM generate_series(1, 5000) g"
        ),
    );
    let bench = Bench::new().await;
    let backup = bench.backup(&url).await;
    let before = dump_text(server, &source);
    for (limit, jobs) in [(5, 1), (7, 2)] {
        server.psql("postgres", &format!("ALTER ROLE {owner} CONNECTION LIMIT {limit}"));
        let wanted = RestoreRequest { jobs: 4, ..request(&backup, Target::Live) };
        let report = bench.restore(&url, &wanted).await.unwrap();
        assert!(report.proof.differences.is_empty() && report.proof.unprovable.is_empty(), "{:?}", report.proof);
        assert_same(&before, &dump_text(server, &source));
        let told = format!("{jobs} of 4 jobs");
        assert!(bench.ear.lines().iter().any(|line| line.contains(&told)), "{:?}", bench.ear.lines());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_is_emptied_and_filled_again_in_place() {
    let server = PostgresServer::shared(17);
    let source = server.create_database("in_place");
    nasty::load_light(server, &source);
    let bench = Bench::new().await;
    let backup = bench.backup(&source.url()).await;
    let before = dump_text(server, &source);
    source.psql(
        "CREATE TABLE public.newer AS SELECT 1 AS a; CREATE SCHEMA newer; CREATE TABLE newer.more (); \
         DROP TABLE nasty.ledger CASCADE; SELECT lo_from_bytea(0, 'x'); CREATE TYPE public.colour AS ENUM ('red')",
    );
    let report = bench.restore(&source.url(), &request(&backup, Target::InPlace)).await.unwrap();
    assert!(report.proof.differences.is_empty(), "{:?}", report.proof);
    assert_same(&before, &dump_text(server, &source));
    assert!(!schema_text(server, &source).contains("newer"));
    assert_eq!(bench.restorer(&source.url()).leftovers(None).await.unwrap().leftovers, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn big_tables_and_a_huge_value_come_back_over_several_lanes() {
    let server = PostgresServer::shared(17);
    let source = server.create_database("big");
    nasty::load(server, &source);
    saas::load(server, &source, 0.5);
    let bench = Bench::new().await;
    let backup = bench.backup(&source.url()).await;
    let target = Doomed::new(server, "big_target");
    let report = bench.restore(&source.url(), &beside(&backup, &target.name)).await.unwrap();
    assert!(report.proof.differences.is_empty() && report.warnings.is_empty(), "{report:?}");
    assert_eq!(contents(server, &source), contents(server, &target.name));
    assert_same(&schema_text(server, &source), &schema_text(server, &target.name));
    // Several lanes, and yet nearly in the old order.
    let order = "SELECT coalesce(min(abs(correlation)), 1) > 0.9 FROM pg_stats WHERE attname = 'id' AND correlation IS NOT NULL \
                 AND (schemaname, tablename) IN (SELECT schemaname, relname FROM pg_stat_user_tables WHERE n_live_tup > 100000)";
    assert_eq!(server.psql(&source, order).trim(), server.psql(&target.name, order).trim());
}

#[tokio::test(flavor = "multi_thread")]
async fn it_comes_back_on_servers_of_other_versions() {
    let bench = Bench::new().await;
    for (from, to) in [(15, 18), (18, 15), (17, 15)] {
        let (old, new) = (PostgresServer::shared(from), PostgresServer::shared(to));
        let source = old.create_database("moved");
        saas::load(old, &source, 0.02);
        source.psql("CREATE TABLE documents AS SELECT g AS id, lo_from_bytea(0, decode(repeat('ab', g), 'hex')) AS content FROM generate_series(1, 20) g");
        let backup = bench.backup(&source.url()).await;
        let target = Doomed::new(new, "moved_here");
        let url = new.url("postgres");
        let report = bench
            .restore(&url, &beside(&backup, &target.name))
            .await
            .unwrap_or_else(|error| panic!("{from} to {to}: {error:?}"));
        assert!(report.proof.differences.is_empty(), "{from} to {to}: {:?}", report.proof);
        assert_eq!(contents(old, &source), contents(new, &target.name), "{from} to {to}");
        assert_eq!(large_objects(old, &source), large_objects(new, &target.name), "{from} to {to}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_the_greatest_length_are_swapped_too() {
    let server = PostgresServer::shared(15);
    let name = format!("ü \"{}\"", "x".repeat(63 - 5));
    assert_eq!(name.len(), 63);
    let quoted = format!("\"{}\"", name.replace('"', "\"\""));
    server.psql("postgres", &format!("DROP DATABASE IF EXISTS {quoted}"));
    server.psql("postgres", &format!("CREATE DATABASE {quoted}"));
    let url = server.url(&name);
    server.psql(&name, "CREATE TABLE t AS SELECT 1 AS a");
    let bench = Bench::new().await;
    let backup = bench.backup(&url).await;
    server.psql(&name, "UPDATE t SET a = 2");
    let report = bench.restore(&url, &request(&backup, Target::Live)).await.unwrap();
    assert_eq!(server.psql(&name, "SELECT a FROM t").trim(), "1");
    let restorer = bench.restorer(&url);
    let kept = restorer.kept_databases().await.unwrap();
    assert_eq!(kept.len(), 1);
    assert_eq!(report.kept_as.as_ref(), Some(&kept[0].name));
    restorer.drop_kept(&kept[0].name).await.unwrap();
    server.psql("postgres", &format!("DROP DATABASE {quoted}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_whose_values_are_only_written_differently_is_not_damaged() {
    let server = PostgresServer::shared(17);
    let source = server.create_database("rendered");
    source.psql(
        "CREATE TYPE mood AS ENUM ('glad', 'sad', 'calm', 'cross', 'shy', 'bold');
         CREATE TABLE root (m mood, word bytea, n int) PARTITION BY HASH (m);
         CREATE TABLE leaf PARTITION OF root FOR VALUES WITH (MODULUS 2, REMAINDER 0);
         CREATE TABLE other PARTITION OF root FOR VALUES WITH (MODULUS 2, REMAINDER 1);
         INSERT INTO root SELECT m, sha256(n::text::bytea), n FROM unnest(enum_range(NULL::mood)) m, generate_series(1, 100) n",
    );
    // What somebody else's pg_dump was told about this, nobody knows.
    let made = format!("PGOPTIONS='-c bytea_output=escape' pg_dump -U postgres -Fc '{}'", source.name());
    let dumped = server.exec(&["sh", "-c", &made]);
    assert!(dumped.status.success());
    let bench = Bench::new().await;
    let backup = bench.foreign("escaped.dump", &dumped.stdout);
    let toc = backup.toc().await.unwrap();
    assert!(toc.data_entries().all(|entry| entry.copy.0.starts_with(b"COPY public.root ")));
    let target = Doomed::new(server, "rendered_target");
    let report = bench.restore(&source.url(), &beside(&backup, &target.name)).await.unwrap();
    assert!(report.proof.differences.is_empty(), "{:?}", report.proof);
    let line = "table public.root: rendering differs: columns word (bytea)";
    assert!(report.proof.renderings.iter().any(|rendering| rendering.to_string() == line), "{:?}", report.proof);
    assert_eq!(contents(server, &source), contents(server, &target.name));
}
