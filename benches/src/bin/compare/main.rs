//! pgkeep against PostgreSQL's own tools, in paired runs on one server; `cargo xtask bench` runs it.
//!
//! Every round runs every contender once, in turn, so that a machine that gets slower or faster does so for all of
//! them. What is told is the median; wall time counts from start to exit, processor time is the client side's.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it talks to the person who started it")]

mod backups;
mod databases;
mod figures;
mod floor;
mod measure;
mod one_table;
mod plan;
mod plot;
mod report;
mod restores;
mod site;

use std::process::ExitCode;

use databases::Database;
use figures::{Facts, Figures, Group, Record};
use measure::Contender;
use plan::{Plan, Store};
use site::Site;

/// What went wrong, in words for the person who started it.
type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    match Plan::parse(std::env::args().skip(1)).and_then(|plan| run(&plan)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Measures one database after the other, and tells of each as soon as it is done: half a night's work must not be lost.
fn run(plan: &Plan) -> Outcome {
    let mut figures = plan.document.as_deref().map_or_else(|| Ok(Figures::default()), Figures::beside)?;
    if !plan.redraws {
        let site = Site::start(plan)?;
        for database in &plan.databases {
            figures.replace(measured(plan, &site, *database)?);
            println!("{}", report::section(&figures, *database)?);
            publish(plan, &figures)?;
        }
    }
    publish(plan, &figures)
}

fn publish(plan: &Plan, figures: &Figures) -> Outcome {
    let Some(document) = &plan.document else { return Ok(()) };
    report::write(document, figures)?;
    plot::write(&document.with_file_name(report::PLOT), figures)?;
    figures.write_beside(document)
}

/// Everything there is to know of one database.
fn measured(plan: &Plan, site: &Site, database: Database) -> Outcome<Vec<Record>> {
    eprintln!("{}: filling the database…", database.name());
    let size_bytes = database.fill(site, plan.scale)?;
    let plain = floor::plain_archive(site)?;
    let mut records = vec![Record::Facts(Facts {
        database: database.name().to_owned(),
        major: plan.major,
        cores: std::thread::available_parallelism()?.get(),
        jobs: plan.jobs,
        scale: plan.scale,
        size_bytes,
        plain_bytes: plain.metadata()?.len(),
    })];
    let mut race = |group: Group, contenders: &[Contender]| -> Outcome {
        let runs = measure::rounds(plan, site, contenders)?;
        records.extend(runs.into_iter().map(|runs| Record::Runs(runs.of(database, group))));
        Ok(())
    };
    if plan.stores.contains(&Store::Disk) {
        let mut contenders = backups::to_disk(plan, site);
        contenders.extend(floor::contenders(plan, site, &plain)?);
        race(Group::BackupDisk, &contenders)?;
    }
    std::fs::remove_file(&plain)?;
    if plan.stores.contains(&Store::Disk) && plan.restores {
        race(Group::RestoreDisk, &restores::from_disk(plan, site))?;
    }
    site.clear_folders()?;
    if plan.stores.contains(&Store::Bucket) {
        race(Group::BackupBucket, &backups::to_bucket(plan, site))?;
        // The last one to write into the bucket was somebody else.
        measure::once(site, &backups::ours_to_bucket(plan, site))?;
        if plan.restores {
            race(Group::RestoreBucket, &restores::from_bucket(plan, site))?;
        }
        records.push(Record::OneTable(one_table::fetch(plan, site, database)?));
    }
    site.forget()?;
    Ok(records)
}
