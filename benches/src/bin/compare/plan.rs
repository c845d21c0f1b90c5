//! What is compared, and how often.

use std::path::PathBuf;

use crate::Outcome;
use crate::databases::Database;

const USAGE: &str = "there are --scale, --rounds, --major, --jobs, --databases a,b, --store disk,bucket, --engine, \
                     --no-restore, --document FILE and --redraw";

/// Where backups go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Store {
    /// A folder.
    Disk,
    /// A bucket of radosgw.
    Bucket,
}

/// What is compared, and how often.
#[derive(Debug, Clone)]
pub(crate) struct Plan {
    /// Of the databases: 1 is some 200 MB each.
    pub(crate) scale: f64,
    /// How often everything is run.
    pub(crate) rounds: usize,
    /// PostgreSQL's.
    pub(crate) major: u16,
    /// For everyone who takes `-j`.
    pub(crate) jobs: usize,
    /// One after the other.
    pub(crate) databases: Vec<Database>,
    /// Where backups go.
    pub(crate) stores: Vec<Store>,
    /// Of our first contender.
    pub(crate) engine: String,
    /// Whether restores are run too.
    pub(crate) restores: bool,
    /// Where tables, figures and the plot are put.
    pub(crate) document: Option<PathBuf>,
    /// Nothing is measured: the document is written anew from the figures beside it.
    pub(crate) redraws: bool,
}

impl Plan {
    /// From the command line.
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Outcome<Self> {
        let mut plan = Self {
            scale: 9.5,
            rounds: 3,
            major: 17,
            jobs: std::thread::available_parallelism()?.get(),
            databases: Database::ALL.to_vec(),
            stores: vec![Store::Disk, Store::Bucket],
            engine: "parallel".to_owned(),
            restores: true,
            document: None,
            redraws: false,
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
            match argument.as_str() {
                "--scale" => plan.scale = value()?.parse()?,
                "--rounds" => plan.rounds = value()?.parse()?,
                "--major" => plan.major = value()?.parse()?,
                "--jobs" => plan.jobs = value()?.parse()?,
                "--databases" => plan.databases = list(&value()?, Database::of_name)?,
                "--store" => plan.stores = list(&value()?, store)?,
                "--engine" => plan.engine = value()?,
                "--no-restore" => plan.restores = false,
                "--document" => plan.document = Some(value()?.into()),
                "--redraw" => plan.redraws = true,
                _ => return Err(format!("{argument} is not known; {USAGE}").into()),
            }
        }
        if plan.rounds == 0 || plan.jobs == 0 || plan.scale.is_nan() || plan.scale <= 0.0 {
            return Err("scale, rounds and jobs are above 0".into());
        }
        Ok(plan)
    }
}

fn list<T>(text: &str, of_name: impl Fn(&str) -> Option<T>) -> Outcome<Vec<T>> {
    text.split(',').map(|name| of_name(name).ok_or_else(|| format!("{name} is not known").into())).collect()
}

fn store(name: &str) -> Option<Store> {
    match name {
        "disk" => Some(Store::Disk),
        "bucket" => Some(Store::Bucket),
        _ => None,
    }
}
