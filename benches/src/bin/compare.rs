//! pgkeep against PostgreSQL's own tools, in paired runs on one server; `cargo xtask bench` runs it.
//!
//! Every round runs every contender once, in turn, so that a machine that gets slower or faster does so for all of
//! them. What is told is the median; wall time counts from start to exit, processor time is the client side's.

#![expect(clippy::print_stdout, clippy::print_stderr, reason = "it talks to the person who started it")]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use pgkeep_testkit::{PostgresOptions, PostgresServer, client_tools, program, saas};

/// What is compared, and how often.
struct Plan {
    scale: f64,
    rounds: usize,
    major: u16,
    restore: bool,
}

/// One way to do the job: a shell command, and the folder that holds what it stored.
struct Contender {
    name: &'static str,
    command: String,
    stored: PathBuf,
}

/// What one run took.
#[derive(Clone, Copy)]
struct Run {
    wall: Duration,
    client_cpu: Duration,
    peak_kib: u64,
    stored_bytes: u64,
}

type Outcome<T = ()> = Result<T, Box<dyn std::error::Error>>;

fn main() -> ExitCode {
    match parse().and_then(|plan| compare(&plan)) {
        Ok(report) => {
            println!("{report}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("compare: {error}");
            ExitCode::FAILURE
        }
    }
}

fn parse() -> Outcome<Plan> {
    let mut plan = Plan { scale: 9.5, rounds: 3, major: 17, restore: true };
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| format!("{argument} needs a value"));
        match argument.as_str() {
            "--scale" => plan.scale = value()?.parse()?,
            "--rounds" => plan.rounds = value()?.parse()?,
            "--major" => plan.major = value()?.parse()?,
            "--no-restore" => plan.restore = false,
            _ => {
                return Err(
                    format!("{argument} is not known; there are --scale, --rounds, --major, --no-restore").into()
                );
            }
        }
    }
    Ok(plan)
}

fn compare(plan: &Plan) -> Outcome<String> {
    let server = PostgresServer::start(plan.major, &PostgresOptions::default());
    // The container's own address: the published port goes through a proxy that takes processor time of its own.
    let address = String::from_utf8(server.exec(&["hostname", "-i"]).stdout)?;
    let published = format!("127.0.0.1:{}", server.port());
    let url = |database: &str| server.url(database).replace(&published, &format!("{}:5432", address.trim()));

    eprintln!("filling the database…");
    server.psql("postgres", "CREATE DATABASE app");
    saas::load(&server, "app", plan.scale);
    server.psql("app", "VACUUM ANALYZE");
    server.psql("app", "CHECKPOINT");
    let size: u64 = server.psql("app", "SELECT pg_database_size('app')").trim().parse()?;

    let work = tempfile::tempdir()?;
    let source = url("app");
    let mut report = String::new();
    let cores = std::thread::available_parallelism()?;
    writeln!(
        report,
        "PostgreSQL {}, {cores} cores, database of {} MB, {} rounds, medians.\n",
        plan.major,
        size / 1_000_000,
        plan.rounds
    )?;

    let backups = backup_contenders(plan, &source, work.path());
    table(&mut report, "Backup to disk", &backups, &rounds(plan, &backups, || Ok(()))?)?;
    if plan.restore {
        let restores = restore_contenders(plan, &url, work.path());
        let fresh = || -> Outcome {
            server.psql("postgres", "DROP DATABASE IF EXISTS target");
            server.psql("postgres", "CREATE DATABASE target TEMPLATE template0");
            server.psql("postgres", "CHECKPOINT");
            Ok(())
        };
        table(&mut report, "Restore from disk", &restores, &rounds(plan, &restores, fresh)?)?;
    }
    Ok(report)
}

fn backup_contenders(plan: &Plan, source: &str, work: &Path) -> Vec<Contender> {
    let tools = client_tools(plan.major);
    let pg_dump = tools.join("pg_dump").display().to_string();
    let stock = |name, folder: &str, make: &dyn Fn(&str) -> String| {
        let stored = work.join(folder);
        let file = stored.join("app.dump").display().to_string();
        let command = format!("rm -rf {0} && mkdir {0} && {1}", stored.display(), make(&file));
        Contender { name, command, stored }
    };
    let keep = work.join("keep");
    let ours = format!(
        "exec env BACKUP_DIR={} LOG_FILE={} DATABASE_URL='{source}' PG_BINDIRS={} {} backup --daily --no-progress --quiet",
        keep.display(),
        work.join("backups.log").display(),
        tools.display(),
        program("pgkeep").display(),
    );
    vec![
        Contender {
            name: "pgkeep backup (default)",
            command: format!("rm -rf {} && {ours}", keep.display()),
            stored: keep,
        },
        stock("pg_dump -Fc -Z zstd:3", "zstd3", &|file| format!("{pg_dump} -Fc -Z zstd:3 -f {file} -d '{source}'")),
        stock("pg_dump -Fc -Z zstd:1", "zstd1", &|file| format!("{pg_dump} -Fc -Z zstd:1 -f {file} -d '{source}'")),
        stock("pg_dump -Fd -j2 -Z zstd:1", "dir", &|file| {
            format!("{pg_dump} -Fd -j2 -Z zstd:1 -f {file} -d '{source}'")
        }),
        stock("pg_dump -Fc | gzip -9", "gzip9", &|file| format!("{pg_dump} -Fc -d '{source}' | gzip -9 > {file}.gz")),
    ]
}

fn restore_contenders(plan: &Plan, url: &dyn Fn(&str) -> String, work: &Path) -> Vec<Contender> {
    let tools = client_tools(plan.major);
    let pg_restore = tools.join("pg_restore").display().to_string();
    let target = url("target");
    let keep = work.join("keep");
    let ours = format!(
        "exec env BACKUP_DIR={} LOG_FILE={} DATABASE_URL='{}' PG_BINDIRS={} {} restore --latest --target-db target --replace-target --yes --skip-snapshot --no-progress --quiet",
        keep.display(),
        work.join("backups.log").display(),
        url("app"),
        tools.display(),
        program("pgkeep").display(),
    );
    let gzip = work.join("gzip9/app.dump.gz");
    let zstd = work.join("zstd3/app.dump");
    vec![
        Contender { name: "pgkeep restore (analysed and proven)", command: ours, stored: keep },
        Contender {
            name: "gunzip | pg_restore",
            command: format!("gunzip -c {} | {pg_restore} -d '{target}'", gzip.display()),
            stored: work.join("gzip9"),
        },
        Contender {
            name: "pg_restore -j2",
            command: format!("{pg_restore} -j2 -d '{target}' {}", zstd.display()),
            stored: work.join("zstd3"),
        },
    ]
}

fn rounds(plan: &Plan, contenders: &[Contender], mut before: impl FnMut() -> Outcome) -> Outcome<Vec<Vec<Run>>> {
    let mut runs = vec![Vec::new(); contenders.len()];
    for round in 1..=plan.rounds {
        for (contender, runs) in contenders.iter().zip(&mut runs) {
            before()?;
            let run = measure(contender)?;
            eprintln!("round {round}: {:<38} {:6.1} s", contender.name, run.wall.as_secs_f64());
            runs.push(run);
        }
    }
    Ok(runs)
}

fn measure(contender: &Contender) -> Outcome<Run> {
    // bash's `time` counts what all processes of the command used.
    let timed = format!("TIMEFORMAT='timed %U %S'; set -o pipefail; time {{ ( {} ); }}", contender.command);
    let begun = Instant::now();
    let child = Command::new("bash").args(["-c", &timed]).stdout(Stdio::null()).stderr(Stdio::piped()).spawn()?;
    let shell = child.id();
    let (done, finished) = std::sync::mpsc::channel::<()>();
    let watcher = std::thread::spawn(move || {
        let mut peak = 0;
        while finished.recv_timeout(Duration::from_millis(20)) == Err(std::sync::mpsc::RecvTimeoutError::Timeout) {
            peak = peak.max(descendants_peak_kib(shell));
        }
        peak
    });
    let output = child.wait_with_output()?;
    let wall = begun.elapsed();
    drop(done);
    let peak_kib = watcher.join().map_err(|_| "the memory watcher failed")?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        return Err(format!("{} failed: {}\n{said}", contender.name, output.status).into());
    }
    let times = said.lines().rev().find_map(|line| line.strip_prefix("timed ")).ok_or("bash did not tell the time")?;
    let client_cpu = times.split_whitespace().map(str::parse::<f64>).sum::<Result<f64, _>>()?;
    Ok(Run {
        wall,
        client_cpu: Duration::from_secs_f64(client_cpu),
        peak_kib,
        stored_bytes: folder_bytes(&contender.stored)?,
    })
}

/// The largest peak of resident memory among the processes below `root`.
fn descendants_peak_kib(root: u32) -> u64 {
    let children = std::fs::read_to_string(format!("/proc/{root}/task/{root}/children")).unwrap_or_default();
    children
        .split_whitespace()
        .filter_map(|pid| pid.parse().ok())
        .map(|pid| own_peak_kib(pid).max(descendants_peak_kib(pid)))
        .max()
        .unwrap_or_default()
}

fn own_peak_kib(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    peak.and_then(|value| value.trim().trim_end_matches(" kB").parse().ok()).unwrap_or_default()
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

fn table(report: &mut String, title: &str, contenders: &[Contender], runs: &[Vec<Run>]) -> Outcome {
    writeln!(
        report,
        "### {title}\n\n| | wall s (min–max) | ours / theirs, pair by pair | client CPU s | peak MiB | stored MB |\n| --- | --- | --- | --- | --- | --- |"
    )?;
    for (contender, own) in contenders.iter().zip(runs) {
        let walls = sorted(own.iter().map(|run| run.wall.as_secs_f64()));
        let pairs =
            sorted(runs[0].iter().zip(own).map(|(ours, theirs)| ours.wall.as_secs_f64() / theirs.wall.as_secs_f64()));
        let cpu = sorted(own.iter().map(|run| run.client_cpu.as_secs_f64()));
        let peak = own.iter().map(|run| run.peak_kib).max().unwrap_or_default() / 1024;
        let stored = own.last().map_or(0, |run| run.stored_bytes) / 1_000_000;
        writeln!(
            report,
            "| {} | {:.1} ({:.1}–{:.1}) | {:.2} | {:.1} | {peak} | {stored} |",
            contender.name,
            median(&walls),
            walls.first().copied().unwrap_or_default(),
            walls.last().copied().unwrap_or_default(),
            median(&pairs),
            median(&cpu),
        )?;
    }
    writeln!(report)?;
    Ok(())
}

fn sorted(values: impl Iterator<Item = f64>) -> Vec<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values
}

fn median(sorted: &[f64]) -> f64 {
    match sorted.len() {
        0 => 0.0,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}
