//! Tables of what was measured, in the document's section of each database.

use std::fmt::Write as _;
use std::path::Path;

use crate::Outcome;
use crate::databases::Database;
use crate::figures::{Facts, Figures, Group, OneTable, Runs, median};
use crate::floor::{COMPRESSING, READING};

/// The plot's file, beside the document.
pub(crate) const PLOT: &str = "benchmarks.svg";

/// Writes the section of every database that was measured between its marks, and shows the plot of them all.
pub(crate) fn write(document: &Path, figures: &Figures) -> Outcome {
    let mut text = std::fs::read_to_string(document)?;
    if Database::ALL.into_iter().any(|database| figures.facts(database).is_some()) {
        let plot = format!("![Wall times of all contenders, as bars]({PLOT})\n");
        text = replaced(&text, "plot", &plot)?;
    }
    for database in Database::ALL {
        if figures.facts(database).is_some() {
            text = replaced(&text, database.name(), &section(figures, database)?)?;
        }
    }
    Ok(std::fs::write(document, text)?)
}

fn replaced(text: &str, name: &str, section: &str) -> Outcome<String> {
    let (begin, end) = (format!("<!-- {name}: begin -->\n"), format!("<!-- {name}: end -->"));
    let missing = || format!("the document does not mark where {name} begins and ends");
    let (before, rest) = text.split_once(&begin).ok_or_else(missing)?;
    let (_, after) = rest.split_once(&end).ok_or_else(missing)?;
    Ok(format!("{before}{begin}{section}{end}{after}"))
}

/// All there is to tell of a database.
pub(crate) fn section(figures: &Figures, database: Database) -> Outcome<String> {
    let mut text = String::new();
    if let Some(facts) = figures.facts(database) {
        writeln!(text, "{} {}\n", database.about(), about(facts))?;
    }
    for group in Group::ALL {
        let rows = rows(figures, database, group);
        if let Some(ours) = rows.first() {
            table(&mut text, group, &rows, &ours.wall_seconds)?;
        }
    }
    if let Some(table) = figures.one_table(database) {
        one_table(&mut text, table)?;
    }
    Ok(text)
}

fn about(facts: &Facts) -> String {
    format!(
        "PostgreSQL {}, {} cores, {} jobs; the database has {} MB, its plain archive {} MB.",
        facts.major,
        facts.cores,
        facts.jobs,
        facts.size_bytes / 1_000_000,
        facts.plain_bytes / 1_000_000
    )
}

/// The contenders of a group, ours first, with what follows from them.
pub(crate) fn rows(figures: &Figures, database: Database, group: Group) -> Vec<Runs> {
    let contenders = figures.runs(database, group);
    let mut rows = Vec::new();
    for runs in &contenders {
        rows.push((*runs).clone());
        if !runs.to_post_data_seconds.is_empty() {
            rows.push(Runs {
                contender: "pgkeep restore, to the end of post-data (as pg_restore)".to_owned(),
                wall_seconds: runs.to_post_data_seconds.clone(),
                client_cpu_seconds: Vec::new(),
                peak_kib: Vec::new(),
                to_post_data_seconds: Vec::new(),
                ..(*runs).clone()
            });
        }
    }
    let named = |part: &str| contenders.iter().find(|runs| runs.contender.starts_with(part));
    if let (Some(reading), Some(compressing)) = (named(READING), named(COMPRESSING)) {
        let sum = |of: fn(&Runs) -> &Vec<f64>| of(reading).iter().zip(of(compressing)).map(|(a, b)| a + b).collect();
        rows.push(Runs {
            contender: "floor: both, on the same cores".to_owned(),
            wall_seconds: sum(|runs| &runs.wall_seconds),
            client_cpu_seconds: sum(|runs| &runs.client_cpu_seconds),
            peak_kib: Vec::new(),
            ..(**reading).clone()
        });
    }
    rows
}

fn table(text: &mut String, group: Group, rows: &[Runs], ours: &[f64]) -> Outcome {
    writeln!(
        text,
        "### {}\n\n| {} | wall s (min–max) | ours / theirs, pair by pair | client CPU s | peak MiB | stored MB |\n| --- | --- | --- | --- | --- | --- |",
        group.title(),
        rounds(ours.len())
    )?;
    for row in rows {
        let pairs: Vec<f64> = ours.iter().zip(&row.wall_seconds).map(|(ours, theirs)| ours / theirs).collect();
        let least = row.wall_seconds.iter().copied().fold(f64::INFINITY, f64::min);
        let most = row.wall_seconds.iter().copied().fold(0.0, f64::max);
        let cpu = (!row.client_cpu_seconds.is_empty()).then(|| format!("{:.1}", median(&row.client_cpu_seconds)));
        let peak = row.peak_kib.iter().max().map(|kib| (kib / 1024).to_string());
        let stored = row.stored_bytes.map(|bytes| (bytes / 1_000_000).to_string());
        writeln!(
            text,
            "| {} | {:.1} ({least:.1}–{most:.1}) | {:.2} | {} | {} | {} |",
            // A pipe would end the cell.
            row.contender.replace('|', "\\|"),
            median(&row.wall_seconds),
            median(&pairs),
            or_dash(cpu),
            or_dash(peak),
            or_dash(stored),
        )?;
    }
    writeln!(text)?;
    if let Some((fastest, share)) = fastest_stock(rows, ours) {
        writeln!(text, "Of the stock ways `{fastest}` is the fastest: ours takes {share:.2} of its time.\n")?;
    }
    Ok(())
}

/// Who is the fastest but for us and the floor, and ours / theirs, pair by pair.
fn fastest_stock<'r>(rows: &'r [Runs], ours: &[f64]) -> Option<(&'r str, f64)> {
    let stock = rows.iter().filter(|row| !row.contender.starts_with("pgkeep") && !row.contender.starts_with("floor"));
    let fastest = stock.min_by(|a, b| median(&a.wall_seconds).total_cmp(&median(&b.wall_seconds)))?;
    let pairs: Vec<f64> = ours.iter().zip(&fastest.wall_seconds).map(|(ours, theirs)| ours / theirs).collect();
    Some((&fastest.contender, median(&pairs)))
}

fn rounds(count: usize) -> String {
    if count == 1 { "1 round".to_owned() } else { format!("{count} rounds, medians") }
}

fn or_dash(cell: Option<String>) -> String {
    cell.unwrap_or_else(|| "–".to_owned())
}

fn one_table(text: &mut String, table: &OneTable) -> Outcome {
    writeln!(
        text,
        "### One small table out of the bucket\n\n`{}` has {} rows, {} plain. Of the archive's {}, the frames that hold it are \
         {}, those that hold the table of contents {} ({} plain), and the meta beside it is {}.\n\n| | fetched over the wire | wall s |\n| --- | --- | --- |",
        table.table,
        table.rows,
        size(table.table_plain_bytes),
        size(table.archive_bytes),
        size(table.table_stored_bytes),
        size(table.contents_stored_bytes),
        size(table.contents_plain_bytes),
        size(table.meta_bytes),
    )?;
    for fetch in &table.fetches {
        writeln!(text, "| {} | {} | {:.1} |", fetch.way, size(fetch.fetched_bytes), fetch.wall_seconds)?;
    }
    Ok(writeln!(text)?)
}

fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} bytes"),
        10_000..10_000_000 => format!("{:.0} kB", bytes as f64 / 1e3),
        _ => format!("{:.0} MB", bytes as f64 / 1e6),
    }
}
