//! Running a command and taking note of what it took.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::databases::Database;
use crate::figures::{Group, Runs};
use crate::plan::Plan;
use crate::site::Site;

/// How often memory is looked at.
const GLANCE: Duration = Duration::from_millis(20);

/// One way to do the job.
#[derive(Debug, Clone)]
pub(crate) struct Contender {
    /// For tables.
    pub(crate) name: String,
    /// What bash runs.
    pub(crate) command: String,
    /// What it needs to find, and is made before the time begins.
    pub(crate) needs: Needs,
    /// Where what it stored is, afterwards.
    pub(crate) stored: Stored,
    /// The document of `pgkeep restore`, which tells the stages' times.
    pub(crate) document: Option<PathBuf>,
}

/// What a contender needs to find.
#[derive(Debug, Clone)]
pub(crate) enum Needs {
    /// Nothing.
    Nothing,
    /// An empty folder.
    Folder(PathBuf),
    /// An empty bucket, and an empty folder for what is to be uploaded.
    Bucket(PathBuf),
    /// An empty database.
    Target,
}

/// Where what a contender stored is.
#[derive(Debug, Clone)]
pub(crate) enum Stored {
    /// It stores nothing.
    Nothing,
    /// In a folder.
    Folder(PathBuf),
    /// In the bucket.
    Bucket,
}

/// What one run took.
#[derive(Debug, Clone, Copy)]
struct Run {
    wall_seconds: f64,
    client_cpu_seconds: f64,
    peak_kib: u64,
    stored_bytes: Option<u64>,
    to_post_data_seconds: Option<f64>,
}

/// A contender and its runs, one per round.
#[derive(Debug)]
pub(crate) struct Raced {
    name: String,
    runs: Vec<Run>,
}

impl Raced {
    /// As a record of this database.
    pub(crate) fn of(self, database: Database, group: Group) -> Runs {
        let Self { name, runs } = self;
        let to_post_data: Vec<f64> = runs.iter().filter_map(|run| run.to_post_data_seconds).collect();
        Runs {
            database: database.name().to_owned(),
            group,
            contender: name,
            wall_seconds: runs.iter().map(|run| rounded(run.wall_seconds)).collect(),
            client_cpu_seconds: runs.iter().map(|run| rounded(run.client_cpu_seconds)).collect(),
            peak_kib: runs.iter().map(|run| run.peak_kib).collect(),
            stored_bytes: runs.last().and_then(|run| run.stored_bytes),
            to_post_data_seconds: to_post_data.into_iter().map(rounded).collect(),
        }
    }
}

/// To milliseconds: there is no more in it.
fn rounded(seconds: f64) -> f64 {
    (seconds * 1000.0).round() / 1000.0
}

/// Every contender once per round. Each round begins with another one, so that nobody always comes after the same one.
pub(crate) fn rounds(plan: &Plan, site: &Site, contenders: &[Contender]) -> Outcome<Vec<Raced>> {
    let mut raced: Vec<Raced> =
        contenders.iter().map(|contender| Raced { name: contender.name.clone(), runs: Vec::new() }).collect();
    for round in 0..plan.rounds {
        for turn in 0..contenders.len() {
            let index = (round + turn) % contenders.len();
            let run = measure(site, &contenders[index])?;
            eprintln!("round {}: {:<48} {:7.1} s", round + 1, contenders[index].name, run.wall_seconds);
            raced[index].runs.push(run);
        }
    }
    Ok(raced)
}

/// Runs it for what it leaves behind; how many seconds it took.
pub(crate) fn once(site: &Site, contender: &Contender) -> Outcome<f64> {
    Ok(rounded(measure(site, contender)?.wall_seconds))
}

fn measure(site: &Site, contender: &Contender) -> Outcome<Run> {
    prepare(site, &contender.needs)?;
    // bash's `time` counts what all processes of the command used.
    let timed = format!("TIMEFORMAT='timed %U %S'; set -o pipefail; time {{ ( {} ); }}", contender.command);
    let begun = Instant::now();
    let child = Command::new("bash")
        .args(["-c", &timed])
        .current_dir(site.folder())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()?;
    let shell = child.id();
    let (done, finished) = channel::<()>();
    let watcher = std::thread::spawn(move || {
        let mut peak = 0;
        while finished.recv_timeout(GLANCE) == Err(RecvTimeoutError::Timeout) {
            peak = peak.max(descendants_kib(shell));
        }
        peak
    });
    let output = child.wait_with_output()?;
    let wall_seconds = begun.elapsed().as_secs_f64();
    drop(done);
    let peak_kib = watcher.join().map_err(|_| "the memory watcher failed")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{} failed: {}\n{said}", contender.name, output.status).into());
    }
    let times = said.lines().rev().find_map(|line| line.strip_prefix("timed ")).ok_or("bash did not tell the time")?;
    let client_cpu_seconds = times.split_whitespace().map(str::parse::<f64>).sum::<Result<f64, _>>()?;
    let stored_bytes = match &contender.stored {
        Stored::Nothing => None,
        Stored::Folder(folder) => Some(folder_bytes(folder)?),
        Stored::Bucket => Some(site.bucket_bytes()?),
    };
    let document = contender.document.as_deref();
    let to_post_data_seconds = document.map(|document| to_post_data_seconds(document, wall_seconds)).transpose()?;
    Ok(Run { wall_seconds, client_cpu_seconds, peak_kib, stored_bytes, to_post_data_seconds })
}

fn prepare(site: &Site, needs: &Needs) -> Outcome {
    match needs {
        Needs::Nothing => {}
        Needs::Folder(folder) => renew(folder)?,
        Needs::Bucket(folder) => {
            site.empty_bucket()?;
            renew(folder)?;
        }
        Needs::Target => site.renew_target(),
    }
    // What the one before left to be written must not be written on this one's time.
    Command::new("sync").status()?;
    Ok(())
}

fn renew(folder: &Path) -> Outcome {
    if folder.exists() {
        std::fs::remove_dir_all(folder)?;
    }
    Ok(std::fs::create_dir(folder)?)
}

/// Resident memory of all processes below `root` together, at this moment.
fn descendants_kib(root: u32) -> u64 {
    // Each thread has its own children.
    let threads = std::fs::read_dir(format!("/proc/{root}/task")).into_iter().flatten().flatten();
    let children = threads.filter_map(|thread| std::fs::read_to_string(thread.path().join("children")).ok());
    let pids: Vec<u32> =
        children.flat_map(|pids| pids.split_whitespace().flat_map(str::parse).collect::<Vec<_>>()).collect();
    pids.into_iter().map(|pid| resident_kib(pid) + descendants_kib(pid)).sum()
}

fn resident_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let resident = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    resident.and_then(|value| value.trim().trim_end_matches(" kB").parse().ok()).unwrap_or_default()
}

fn folder_bytes(folder: &Path) -> Outcome<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        bytes += if kind.is_dir() { folder_bytes(&entry.path())? } else { entry.metadata()?.len() };
    }
    Ok(bytes)
}

/// How much of a restore's wall time had gone when indexes and constraints were there, which is where pg_restore ends.
///
/// Stages that came one after the other are taken off the end. Where they overlapped, what was done up to
/// there is added up instead; the larger of both, which is never too good for us.
fn to_post_data_seconds(document: &Path, wall_seconds: f64) -> Outcome<f64> {
    let document: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(document)?)?;
    let times = &document["restore"]["times"];
    let seconds = |stage: &str| -> Outcome<f64> {
        let time = &times[stage];
        let whole = time.as_f64().or_else(|| time["secs"].as_f64());
        let whole = whole.ok_or_else(|| format!("pgkeep restore does not tell how long {stage} took"))?;
        Ok(whole + time["nanos"].as_f64().unwrap_or_default() / 1e9)
    };
    let afterwards = seconds("analyze")? + seconds("proof")? + seconds("swap")?;
    let until = seconds("verify")? + seconds("pre_data")? + seconds("data")? + seconds("post_data")?;
    let around = wall_seconds - seconds("total")?;
    Ok((wall_seconds - afterwards).max(around + until).min(wall_seconds))
}
