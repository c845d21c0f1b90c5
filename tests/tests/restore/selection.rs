//! Some tables only, and what stands in the way of a restore.

use pgkeep_restore::{Error, Method, RestoreRequest, Target};
use pgkeep_testkit::{PostgresServer, contents, schema_text};

use crate::bench::{Bench, Doomed, ENGINES, Engine, PIPE_BYTES, beside, request};

const SHOP: &str = "
    CREATE TYPE mood AS ENUM ('glad', 'sad');
    CREATE TABLE people (id serial PRIMARY KEY, name text);
    INSERT INTO people (name) SELECT repeat(md5(g::text), 400) FROM generate_series(1, 100) g;
    CREATE FUNCTION touch() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
    CREATE TABLE orders (id bigserial PRIMARY KEY, person int REFERENCES people, mood mood, total numeric CHECK (total >= 0));
    INSERT INTO orders (person, mood, total) SELECT 1 + g % 100, 'glad', g FROM generate_series(1, 5000) g;
    CREATE INDEX orders_total ON orders (total);
    CREATE TRIGGER touched BEFORE UPDATE ON orders FOR EACH ROW EXECUTE FUNCTION touch();
    GRANT SELECT ON orders TO PUBLIC;
    COMMENT ON COLUMN orders.total IS 'in cents';
    CREATE VIEW big AS SELECT * FROM orders WHERE total > 10;
    CREATE TABLE parts (id int, region text) PARTITION BY LIST (region);
    CREATE TABLE parts_a PARTITION OF parts FOR VALUES IN ('a');
    CREATE TABLE parts_b PARTITION OF parts FOR VALUES IN ('b');
    INSERT INTO parts SELECT g, CASE WHEN g % 2 = 0 THEN 'a' ELSE 'b' END FROM generate_series(1, 1000) g;";

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_table_comes_back_into_the_live_database() {
    for engine in ENGINES {
        a_lost_table_comes_back(engine).await;
    }
}

async fn a_lost_table_comes_back(engine: Engine) {
    let server = PostgresServer::shared(17);
    let live = server.create_database("shop");
    live.psql(SHOP);
    let bench = Bench::new().await;
    let backup = bench.backup_by(engine, &live.url(), &[]).await;
    assert!(backup.meta.as_ref().unwrap().plain.bytes > PIPE_BYTES);
    let (all, schema) = (contents(server, &live), schema_text(server, &live));
    let wanted = RestoreRequest { tables: vec!["orders".parse().unwrap()], ..request(&backup, Target::Live) };

    // While it is there nothing is done.
    let plan = bench.restorer(&live.url()).plan(&wanted).await.unwrap();
    assert_eq!(plan.method, Method::Tables);
    assert!(plan.blockers.iter().any(|blocker| blocker.contains("table public.orders exists")), "{plan}");

    live.psql("DROP TABLE orders CASCADE");
    let report = bench.restore(&live.url(), &wanted).await.unwrap();
    assert_eq!((report.tables, report.rows), (1, 5000));
    assert!(report.proof.differences.is_empty(), "{:?}", report.proof);
    live.psql("CREATE VIEW big AS SELECT * FROM orders WHERE total > 10");
    live.psql("ALTER TABLE orders ADD CONSTRAINT orders_person_fkey FOREIGN KEY (person) REFERENCES people");
    let sorted = |text: &str| {
        let mut lines: Vec<_> = text.lines().map(str::to_owned).collect();
        lines.sort();
        lines
    };
    assert_eq!(contents(server, &live), all);
    assert_eq!(sorted(&schema_text(server, &live)), sorted(&schema));
}

#[tokio::test(flavor = "multi_thread")]
async fn partitions_that_are_there_are_never_dropped() {
    let server = PostgresServer::shared(17);
    let live = server.create_database("detached");
    live.psql(SHOP);
    let bench = Bench::new().await;
    let backup = bench.backup(&live.url()).await;
    live.psql("ALTER TABLE parts DETACH PARTITION parts_a; DROP TABLE parts; INSERT INTO parts_a VALUES (0, 'since')");
    let wanted = RestoreRequest { tables: vec!["parts".parse().unwrap()], ..request(&backup, Target::Live) };
    let restorer = bench.restorer(&live.url());
    let plan = restorer.plan(&wanted).await.unwrap();
    assert!(plan.blockers.iter().any(|blocker| blocker.contains("table public.parts_a exists")), "{plan}");

    // It comes back after the plan was made, while the question is open.
    live.psql("ALTER TABLE parts_a RENAME TO aside");
    let plan = restorer.plan(&wanted).await.unwrap();
    assert!(plan.blockers.is_empty(), "{plan}");
    live.psql("ALTER TABLE aside RENAME TO parts_a");
    let error = restorer.execute(&plan, None).await.unwrap_err();
    assert!(matches!(&error, Error::Changed(what) if what.contains("public.parts_a")), "{error}");
    assert_eq!(live.psql("SELECT count(*) FROM parts_a").trim(), "501");
    assert_eq!(live.psql("SELECT count(*) FROM pg_class WHERE relname IN ('parts', 'parts_b')").trim(), "0");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_somebody_makes_meanwhile_is_not_taken_back() {
    let server = PostgresServer::shared(17);
    let live = server.create_database("meanwhile");
    live.psql(SHOP);
    let bench = Bench::new().await;
    let backup = bench.backup(&live.url()).await;
    // As soon as the root is there again, somebody makes the partition, and it is attached to the root.
    live.psql(
        "DROP TABLE parts; CREATE SCHEMA app; \
         CREATE FUNCTION app.make() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN \
           IF to_regclass('public.parts') IS NOT NULL AND to_regclass('public.parts_a') IS NULL THEN \
             CREATE TABLE public.parts_a (id int, region text); INSERT INTO public.parts_a VALUES (7, 'a'); \
           END IF; END $$; \
         CREATE EVENT TRIGGER make ON ddl_command_end WHEN TAG IN ('CREATE TABLE') EXECUTE FUNCTION app.make()",
    );
    for force in [false, true] {
        live.psql("DROP TABLE IF EXISTS parts_a");
        let tables = vec!["parts".parse().unwrap()];
        let wanted = RestoreRequest { tables, force, ..request(&backup, Target::Live) };
        let error = bench.restore(&live.url(), &wanted).await.unwrap_err();
        assert!(matches!(&error, Error::Changed(what) if what.contains("public.parts_a")), "{error}");
        assert_eq!(
            live.psql("SELECT id, relispartition FROM parts_a, pg_class WHERE relname = 'parts_a'").trim(),
            "7|f"
        );
        assert_eq!(live.psql("SELECT count(*) FROM pg_class WHERE relname IN ('parts', 'parts_b')").trim(), "0");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn tables_come_into_a_new_database_with_what_they_need() {
    for engine in ENGINES {
        tables_come_with_what_they_need(engine).await;
    }
}

async fn tables_come_with_what_they_need(engine: Engine) {
    let server = PostgresServer::shared(15);
    let live = server.create_database("shop");
    live.psql(SHOP);
    let bench = Bench::new().await;
    let backup = bench.backup_by(engine, &live.url(), &[]).await;
    assert!(backup.meta.as_ref().unwrap().plain.bytes > PIPE_BYTES);
    let target = Doomed::new(server, "part");
    let tables = ["orders", "parts", "people"].map(|table| table.parse().unwrap()).to_vec();
    let wanted = RestoreRequest { tables, ..beside(&backup, &target.name) };
    let report = bench.restore(&live.url(), &wanted).await.unwrap();
    assert_eq!((report.method, report.rows), (Method::Create, 6100));
    assert_eq!(contents(server, &live), contents(server, &target.name));
    assert!(schema_text(server, &target.name).contains("orders_person_fkey"));
    assert!(!schema_text(server, &target.name).contains("VIEW"));

    let wanted = RestoreRequest { tables: vec!["nothing".parse().unwrap()], ..beside(&backup, "x") };
    assert!(matches!(bench.restore(&live.url(), &wanted).await, Err(Error::NotFound { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_needs_another_one_is_loaded_again_after_it() {
    let server = PostgresServer::shared(17);
    let live = server.create_database("checks");
    live.psql(
        "CREATE TABLE z_limits (name text PRIMARY KEY, most int); INSERT INTO z_limits VALUES ('a', 10);
         CREATE FUNCTION most(text) RETURNS int LANGUAGE plpgsql STABLE AS $$ DECLARE m int; BEGIN
            SELECT most INTO m FROM public.z_limits WHERE z_limits.name = $1; RETURN coalesce(m, 0); END $$;
         CREATE TABLE a_things (n int CHECK (n <= most('a'))); INSERT INTO a_things SELECT generate_series(1, 10)",
    );
    let bench = Bench::new().await;
    let backup = bench.backup(&live.url()).await;
    let target = Doomed::new(server, "checks_target");
    // One lane, so that the limits surely come later.
    let wanted = RestoreRequest { jobs: 1, ..beside(&backup, &target.name) };
    let report = bench.restore(&live.url(), &wanted).await.unwrap();
    assert_eq!(contents(server, &live), contents(server, &target.name));
    assert_eq!(report.rows, 11);
    assert!(bench.ear.lines().iter().any(|line| line.contains("loading again")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_broke_its_own_rules_is_told_from_damage() {
    let server = PostgresServer::shared(17);
    let live = server.create_database("broken");
    live.psql(
        "CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE c (p int REFERENCES p); INSERT INTO p VALUES (1); INSERT INTO c VALUES (1);
         SET session_replication_role = replica; INSERT INTO c VALUES (99)",
    );
    let bench = Bench::new().await;
    let backup = bench.backup(&live.url()).await;
    let target = Doomed::new(server, "broken_target");
    let error = bench.restore(&live.url(), &beside(&backup, &target.name)).await.unwrap_err();
    assert!(matches!(&error, Error::SourceViolation { constraints } if constraints[0].contains("c_p_fkey")), "{error}");
    assert_eq!(live.relatives(), [live.name()]);
    let forced = RestoreRequest { force: true, ..beside(&backup, &target.name) };
    let report = bench.restore(&live.url(), &forced).await.unwrap();
    assert!(
        report.warnings.iter().any(|warning| warning.contains("the source already broke it")),
        "{:?}",
        report.warnings
    );
    assert_eq!(server.psql(&target.name, "SELECT count(*) FROM c").trim(), "2");
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_roles_block_and_are_created_when_asked_for() {
    let server = PostgresServer::shared(17);
    let live = server.create_database("roles");
    let (owner, reader) = (pgkeep_testkit::unique("gone_owner"), pgkeep_testkit::unique("gone_reader"));
    live.psql(&format!(
        "CREATE ROLE {owner}; CREATE ROLE {reader}; GRANT {reader} TO {owner}; CREATE TABLE t (a int); ALTER TABLE t OWNER TO {owner}; GRANT SELECT ON t TO {reader}"
    ));
    let bench = Bench::new().await;
    let backup = bench.backup(&live.url()).await;
    live.psql(&format!("DROP OWNED BY {owner}; DROP OWNED BY {reader}; DROP ROLE {owner}; DROP ROLE {reader}"));
    let target = Doomed::new(server, "roles_target");
    let plan = bench.restorer(&live.url()).plan(&beside(&backup, &target.name)).await.unwrap();
    assert_eq!(plan.missing_roles, [owner.clone(), reader.clone()]);
    assert_eq!(plan.blockers.len(), 2, "{plan}");
    let without = RestoreRequest { no_owner: true, no_acl: true, ..beside(&backup, &target.name) };
    let report = bench.restore(&live.url(), &without).await.unwrap();
    assert!(report.proof.differences.is_empty(), "{:?}", report.proof);
    drop(target);
    let target = Doomed::new(server, "roles_target");
    let with = RestoreRequest { roles: true, ..beside(&backup, &target.name) };
    let report = bench.restore(&live.url(), &with).await.unwrap();
    assert!(report.proof.differences.is_empty() && report.warnings.is_empty(), "{report:?}");
    assert_eq!(server.psql(&target.name, &format!("SELECT pg_has_role('{owner}', '{reader}', 'MEMBER')")).trim(), "t");
}

/// A tree whose leaves' rows are loaded through its root, how another table takes a leaf's place, and what `pg_dump` is told: by `pg_dump`'s own choice, for the hash of an enum's value is
/// another one in a new database, and by the user's wish.
const ROUTED: [(&str, &str, &[&str]); 2] = [
    (
        "CREATE TYPE mood AS ENUM ('glad', 'sad', 'calm', 'cross', 'shy', 'bold');
         CREATE TABLE root (m mood, n int) PARTITION BY HASH (m);
         CREATE TABLE leaf PARTITION OF root FOR VALUES WITH (MODULUS 2, REMAINDER 0);
         CREATE TABLE other PARTITION OF root FOR VALUES WITH (MODULUS 2, REMAINDER 1);
         INSERT INTO root SELECT m, n FROM unnest(enum_range(NULL::mood)) m, generate_series(1, 30000) n;",
        "ALTER TABLE root ATTACH PARTITION theirs FOR VALUES WITH (MODULUS 2, REMAINDER 0)",
        &[],
    ),
    (
        "CREATE TABLE root (m text, n int) PARTITION BY LIST (m);
         CREATE TABLE leaf PARTITION OF root FOR VALUES IN ('glad');
         CREATE TABLE other PARTITION OF root FOR VALUES IN ('sad');
         INSERT INTO root SELECT m, n FROM unnest(ARRAY['glad', 'sad']) m, generate_series(1, 100) n;",
        "ALTER TABLE root ATTACH PARTITION theirs FOR VALUES IN ('glad')",
        &["--load-via-partition-root"],
    ),
];

/// What is in it, in whatever order.
const LEAF: &str = "SELECT count(*), md5(string_agg(leaf::text, ',' ORDER BY leaf)) FROM leaf";

#[tokio::test(flavor = "multi_thread")]
async fn a_partition_whose_rows_go_through_the_root_comes_back_without_it() {
    let server = PostgresServer::shared(17);
    for ((schema, attach, arguments), engine) in ROUTED.into_iter().zip(ENGINES) {
        let live = server.create_database("routed");
        live.psql(schema);
        let bench = Bench::new().await;
        let backup = bench.backup_by(engine, &live.url(), arguments).await;
        let toc = backup.toc().await.unwrap();
        let through_root = toc.data_entries().filter(|entry| entry.copy.0.starts_with(b"COPY public.root "));
        assert_eq!(through_root.count(), 2, "the rows go through the root");
        let rows = server.psql(&live, LEAF);
        let leaf = || vec!["leaf".parse().unwrap()];

        // Where there is nothing.
        let target = Doomed::new(server, "routed_target");
        let wanted = RestoreRequest { tables: leaf(), ..beside(&backup, &target.name) };
        let report = bench.restore(&live.url(), &wanted).await.unwrap();
        assert!(report.proof.differences.is_empty() && report.proof.tables == 1, "{:?}", report.proof);
        assert_eq!(server.psql(&target.name, LEAF), rows);
        assert_eq!(contents(server, &target.name).len(), 1, "nothing else came");

        // Where the root is, and routes to others' tables.
        live.psql("ALTER TABLE root DETACH PARTITION leaf; ALTER TABLE leaf RENAME TO theirs");
        live.psql(attach);
        let before = contents(server, &live);
        let wanted = RestoreRequest { tables: leaf(), ..request(&backup, Target::Live) };
        let report = bench.restore(&live.url(), &wanted).await.unwrap();
        assert!(report.proof.differences.is_empty(), "{:?}", report.proof);
        let mut after = contents(server, &live);
        assert!(after.remove("public.leaf").is_some());
        assert_eq!(server.psql(&live, LEAF), rows);
        assert_eq!(after, before, "nothing else was touched");
    }
}
