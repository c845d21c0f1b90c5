//! How much is fetched to get one small table out of a backup in the bucket.

use pgkeep_core::Meta;
use pgkeep_testkit::CountingRelay;

use crate::Outcome;
use crate::databases::Database;
use crate::figures::{Fetch, OneTable};
use crate::measure::{Contender, Needs, Stored, once};
use crate::plan::Plan;
use crate::site::{BUCKET, Site};

/// Of the newest backup in the bucket, which is ours; by way of a relay that counts.
pub(crate) fn fetch(plan: &Plan, site: &Site, database: Database) -> Outcome<OneTable> {
    let table = database.small_table();
    let relay = CountingRelay::to(&site.gateway());
    let pgkeep = site.pgkeep(&site.in_bucket_through(relay.address()));
    let jobs = plan.jobs;
    let ways = [
        (
            "export",
            Needs::Nothing,
            format!("{pgkeep} export --latest --table {table} --to {}", site.path("one.dump").display()),
        ),
        (
            "restore",
            Needs::Target,
            format!(
                "{pgkeep} restore --latest --table {table} --target-db target --replace-target --yes --skip-snapshot \
                 --jobs {jobs} --no-progress"
            ),
        ),
    ];
    let mut fetches = Vec::new();
    for (way, needs, command) in ways {
        let contender = Contender {
            name: format!("pgkeep {way} --table {table}"),
            command,
            needs,
            stored: Stored::Nothing,
            document: None,
        };
        relay.take();
        let wall_seconds = once(site, &contender)?;
        let (_, fetched_bytes) = relay.take();
        eprintln!("{}: {fetched_bytes} bytes fetched", contender.name);
        fetches.push(Fetch { way: contender.name, fetched_bytes, wall_seconds });
    }
    let (meta, meta_bytes) = meta(site)?;
    let (schema, name) = table.split_once('.').ok_or("a small table has a schema")?;
    let entry = meta.entries.iter().find(|entry| entry.schema == schema && entry.name == name);
    let entry = entry.ok_or_else(|| format!("the backup does not hold {table}"))?;
    let frames = meta.entry_frames(entry.dump_id).ok_or("the backup has no frame index")?;
    // The frames that hold the first bytes, which are the table of contents.
    let contents = meta.frames.plain_offsets().partition_point(|begin| *begin < meta.toc_bytes);
    Ok(OneTable {
        database: database.name().to_owned(),
        table: table.to_owned(),
        rows: entry.rows,
        table_plain_bytes: entry.plain_bytes,
        table_stored_bytes: meta.frames.stored[frames].iter().sum(),
        contents_plain_bytes: meta.toc_bytes,
        contents_stored_bytes: meta.frames.stored[..contents].iter().sum(),
        meta_bytes,
        archive_bytes: meta.stored.bytes,
        fetches,
    })
}

fn meta(site: &Site) -> Outcome<(Meta, u64)> {
    let ceph = site.ceph()?;
    let keys = ceph.keys(BUCKET);
    let key = keys.iter().find(|key| key.ends_with(".meta")).ok_or("there is no backup in the bucket")?;
    let json = ceph.s3("GET", &format!("/{BUCKET}/{key}"), "");
    Ok((Meta::from_json(key, json.as_bytes())?, json.len() as u64))
}
