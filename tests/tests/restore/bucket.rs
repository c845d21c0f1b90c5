//! One small table of a big backup in a bucket: hardly more is fetched than what it is stored in.

use pgkeep_core::Meta;
use pgkeep_testkit::{Ceph, CountingRelay, PostgresServer, contents};

use crate::programs::Setup;

/// Some 115 MB that do not compress, a small table among them.
const TABLES: &str = "
    CREATE TABLE huge AS SELECT n, (SELECT string_agg(sha512((n * 8 + k)::text::bytea), ''::bytea) FROM generate_series(0, 7) k) AS noise
        FROM generate_series(1, 110000) n;
    CREATE TABLE middle AS SELECT n, sha512((-n)::text::bytea) AS noise FROM generate_series(1, 3000) n;
    CREATE TABLE other AS SELECT n + 1 AS n, noise FROM huge;
    ALTER TABLE middle ADD PRIMARY KEY (n)";

/// Room for headers, signatures and listings of a run.
const PROTOCOL_BYTES: u64 = 1 << 20;

/// Stored bytes of the frames with any of these plain bytes.
fn stored_bytes(meta: &Meta, from: u64, to: u64) -> u64 {
    let offsets = meta.frames.plain_offsets();
    let frames = offsets.windows(2).zip(&meta.frames.stored);
    frames.filter(|(bounds, _)| bounds[0] < to && bounds[1] > from).map(|(_, stored)| stored).sum()
}

#[test]
fn for_one_table_no_more_is_fetched_from_a_bucket_than_its_frames() {
    let server = PostgresServer::shared(17);
    let source = server.create_database("fetched");
    source.psql(TABLES);
    let ceph = Ceph::shared();
    let bucket = ceph.create_bucket("fetched");
    let endpoint = ceph.endpoint();
    let relay = CountingRelay::to(endpoint.strip_prefix("http://").unwrap());
    let mut setup = Setup::new(&source.url())
        .with("BACKUP_ENGINE", "parallel")
        .with("BACKUP_DIR", "none")
        .with("AWS_S3_BACKUP_BUCKET", &bucket);
    for (name, value) in ceph.environment() {
        setup.set(name, value);
    }
    setup.set("AWS_ENDPOINT_URL", format!("http://{}", relay.address()));
    setup.pgkeep(&["backup"]);

    let keys = ceph.keys(&bucket);
    let key = keys.iter().find(|key| key.ends_with(".meta")).unwrap();
    let meta: Meta = serde_json::from_str(&ceph.s3("GET", &format!("/{bucket}/{key}"), "")).unwrap();
    assert_eq!(meta.engine, "parallel");
    assert!(meta.stored.bytes > 100 << 20, "{} bytes are stored", meta.stored.bytes);
    let entry = meta.entries.iter().find(|entry| entry.name == "middle").unwrap();
    let begins = meta.frames.plain_offsets()[usize::try_from(entry.frame).unwrap()] + entry.offset;
    let table_bytes = stored_bytes(&meta, begins, begins + entry.plain_bytes);
    let toc_bytes = stored_bytes(&meta, 0, meta.toc_bytes);
    // Everything that is stored but the archive: meta, globals, what a catalogue is made of.
    let catalog_bytes: u64 = keys
        .iter()
        .filter(|key| !key.ends_with(&meta.backup_file))
        .map(|key| ceph.s3("GET", &format!("/{bucket}/{key}"), "").len() as u64)
        .sum();
    let allowed_bytes = table_bytes + toc_bytes + catalog_bytes + PROTOCOL_BYTES;
    assert!(allowed_bytes < meta.stored.bytes / 10, "{allowed_bytes} of {}", meta.stored.bytes);
    let terms = format!(
        "table {table_bytes}, table of contents {toc_bytes}, catalogue {catalog_bytes}, protocol {PROTOCOL_BYTES}"
    );

    relay.take();
    let file = setup.folder().join("middle.dump");
    setup.pgkeep(&["export", "--latest", "--table", "public.middle", "--to", file.to_str().unwrap()]);
    let (_, fetched_bytes) = relay.take();
    assert!(fetched_bytes <= allowed_bytes, "exported: {fetched_bytes} bytes; allowed: {terms}");
    assert!(fetched_bytes >= table_bytes, "{fetched_bytes} bytes cannot be all: {terms}");

    let target = format!("{}_target", source.name());
    setup.pgkeep(&["restore", "--latest", "--table", "public.middle", "--target-db", &target, "--yes"]);
    let (_, fetched_bytes) = relay.take();
    assert!(fetched_bytes <= allowed_bytes, "restored: {fetched_bytes} bytes; allowed: {terms}");
    assert_eq!(contents(server, &target)["public.middle"], contents(server, &source)["public.middle"]);
}
