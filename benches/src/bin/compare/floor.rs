//! What no logical backup can be faster than: reading every row over N connections, and compressing the text on N cores.

use std::cmp::Reverse;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use crate::Outcome;
use crate::measure::{Contender, Needs, Stored};
use crate::plan::Plan;
use crate::site::Site;

/// The part of the names by which reports find them.
pub(crate) const READING: &str = "floor: COPY to nowhere";
/// The same.
pub(crate) const COMPRESSING: &str = "floor: zstd -1 to nowhere";

/// In so many pieces per connection the bytes are dealt out, so that all connections end at about the same time.
const PIECES_PER_CONNECTION: usize = 16;

/// Pages per table of the dump's own kind: what extensions own is not dumped, and neither are materialised views.
const TABLES: &str = "
    SELECT format('%I.%I', n.nspname, c.relname), pg_table_size(c.oid), pg_relation_size(c.oid) / 8192,
           (SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute
            WHERE attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = '')
    FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
    WHERE c.relkind = 'r' AND n.nspname !~ '^pg_' AND n.nspname <> 'information_schema'
    AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')";

/// The archive as `pg_dump` writes it without compression: the text that everybody has to compress.
pub(crate) fn plain_archive(site: &Site) -> Outcome<PathBuf> {
    let path = site.path("plain.dump");
    let dump = Command::new(site.tool("pg_dump"))
        .args(["-Fc", "-Z", "none", "-d", &site.url("app"), "-f"])
        .arg(&path)
        .output()?;
    if dump.status.success() {
        Ok(path)
    } else {
        Err(format!("pg_dump: {}", String::from_utf8_lossy(&dump.stderr)).into())
    }
}

/// Reading alone and compressing alone.
pub(crate) fn contenders(plan: &Plan, site: &Site, plain: &std::path::Path) -> Outcome<Vec<Contender>> {
    let jobs = plan.jobs;
    let contender = |name: String, command| Contender {
        name,
        command,
        needs: Needs::Nothing,
        stored: Stored::Nothing,
        document: None,
    };
    Ok(vec![
        contender(format!("{READING}, {jobs} connections"), reading(plan, site)?),
        contender(
            format!("{COMPRESSING}, {jobs} threads"),
            format!("zstd -q -1 -T{jobs} -c {} > /dev/null", plain.display()),
        ),
    ])
}

/// A script for each connection, all run at once.
fn reading(plan: &Plan, site: &Site) -> Outcome<String> {
    let mut command = "export PGOPTIONS='-c extra_float_digits=3 -c synchronize_seqscans=off'".to_owned();
    let mut waits = String::new();
    for (number, script) in dealt(pieces(plan, site)?, plan.jobs).iter().enumerate() {
        let file = site.path(&format!("copy-{number}.sql"));
        std::fs::write(&file, script)?;
        write!(
            command,
            "\n{} -X -q -v ON_ERROR_STOP=1 -d '{}' -f {} > /dev/null & reader_{number}=$!",
            site.tool("psql"),
            site.url("app"),
            file.display()
        )?;
        write!(waits, " && wait $reader_{number}")?;
    }
    Ok(format!("{command}\ntrue{waits}"))
}

/// Something to be read, and about how many bytes it has.
type Piece = (u64, String);

fn pieces(plan: &Plan, site: &Site) -> Outcome<Vec<Piece>> {
    let count = plan.jobs * PIECES_PER_CONNECTION;
    let mut tables = Vec::new();
    for line in site.server.psql("app", TABLES).lines() {
        let mut fields = line.splitn(4, '|');
        let mut field = || fields.next().ok_or("a table is not told in full");
        let (name, bytes, pages): (_, u64, u64) = (field()?, field()?.parse()?, field()?.parse()?);
        tables.push((name.to_owned(), bytes, pages, field()?.to_owned()));
    }
    let piece_bytes = (tables.iter().map(|(_, bytes, ..)| bytes).sum::<u64>() / count as u64).max(1);
    let mut pieces = Vec::new();
    for (name, bytes, pages, columns) in tables {
        let parts = (bytes / piece_bytes).clamp(1, pages.max(1));
        if parts == 1 {
            pieces.push((bytes, format!("COPY {name} ({columns}) TO STDOUT;\n")));
            continue;
        }
        for part in 0..parts {
            let (first, last) = (pages * part / parts, pages * (part + 1) / parts);
            // Somebody may have written since: the last part has no end.
            let end = if part + 1 == parts { String::new() } else { format!(" AND ctid < '({last},0)'") };
            let rows = format!("SELECT {columns} FROM ONLY {name} WHERE ctid >= '({first},0)'{end}");
            pieces.push((bytes / parts, format!("COPY ({rows}) TO STDOUT;\n")));
        }
    }
    pieces.extend(large_objects(site, count)?);
    Ok(pieces)
}

/// Large objects as the pages they are in, because psql has no way to read them to nowhere.
fn large_objects(site: &Site, count: usize) -> Outcome<Vec<Piece>> {
    let ranges = format!(
        "SELECT min(oid), max(oid), count(*) FROM (SELECT oid, ntile({count}) OVER (ORDER BY oid) FROM pg_largeobject_metadata) t
         GROUP BY ntile ORDER BY ntile"
    );
    let bytes: u64 = site.server.psql("app", "SELECT pg_relation_size('pg_largeobject')").parse()?;
    let ranges = site.server.psql("app", &ranges);
    let parts = ranges.lines().count().max(1) as u64;
    let piece = |line: &str| -> Outcome<Piece> {
        let mut fields = line.split('|');
        let mut field = || fields.next().ok_or("a range of large objects is not told in full");
        let (first, last) = (field()?, field()?);
        let rows = format!("SELECT data FROM pg_largeobject WHERE loid BETWEEN {first} AND {last}");
        Ok((bytes / parts, format!("COPY ({rows}) TO STDOUT (FORMAT binary);\n")))
    };
    ranges.lines().map(piece).collect()
}

/// The largest first, each to the connection that has the least to do.
fn dealt(mut pieces: Vec<Piece>, connections: usize) -> Vec<String> {
    pieces.sort_by_key(|(bytes, _)| Reverse(*bytes));
    let mut hands = vec![(0, String::new()); connections];
    for (bytes, sql) in pieces {
        let least = hands.iter_mut().min_by_key(|(load, _)| *load).expect("there is at least one connection");
        // Even an empty table takes a round trip.
        least.0 += bytes + 8192;
        least.1.push_str(&sql);
    }
    hands.into_iter().map(|(_, script)| script).collect()
}
