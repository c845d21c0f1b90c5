//! One file per command. Each returns a [`Done`], a value; `run` prints it.

mod adopt;
mod backup;
mod check;
mod cluster;
mod completions;
mod demo;
mod drill;
mod every;
mod export;
mod init;
mod keygen;
mod list;
mod man;
mod monitor;
mod pick;
mod prune;
mod restore;
mod rollback;
mod schedule;
mod show;
mod status;
mod thaw;
mod unlock;
mod verify;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde_json::{Map, Value};
use tokio_util::sync::CancellationToken;

use crate::args::{Command, GlobalArgs, IdentityArgs, ScheduleAction, ScheduleArgs};
use crate::failure::{Failure, Result};
use crate::hint::Code;
use crate::invocation::{Invocation, Program};
use crate::monitoring::{Aftermath, Measured, Pings};
use crate::reporter::Reporter;
use crate::settings::{DEFAULT_LOG_FILE, FlagValue, Notice, Settings, variable};
use crate::surroundings::Surroundings;

/// What a command has to say in the end.
#[derive(Debug, Default)]
pub(crate) struct Done {
    /// For people, on stdout.
    pub(crate) text: String,
    /// For programs: the document's own fields.
    pub(crate) fields: Map<String, Value>,
    /// It did its work, and what it found is a failure (damage).
    pub(crate) failure: Option<Failure>,
    /// What the run measured, for whoever counts.
    pub(crate) measured: Option<Measured>,
    /// stdout holds what was asked for itself: no document is added.
    pub(crate) raw: bool,
}

impl Done {
    /// A text for people, and one field for programs.
    pub(crate) fn new(text: impl Into<String>, key: &str, value: Value) -> Self {
        Self { text: text.into(), ..Self::default() }.with(key, value)
    }

    /// Text only.
    pub(crate) fn raw(text: impl Into<String>) -> Self {
        Self { text: text.into(), raw: true, ..Self::default() }
    }

    /// One more field.
    pub(crate) fn with(mut self, key: &str, value: Value) -> Self {
        self.fields.insert(key.to_owned(), value);
        self
    }
}

/// What every command works with.
#[derive(Debug)]
pub(crate) struct Context {
    /// The program it was typed for.
    pub(crate) program: Program,
    /// Options of every command.
    pub(crate) globals: GlobalArgs,
    /// What the process was started with.
    pub(crate) surroundings: Surroundings,
    /// What was meant.
    pub(crate) settings: Settings,
    /// Hears what happens.
    pub(crate) reporter: Arc<Reporter>,
    /// Ends it politely.
    pub(crate) cancel: CancellationToken,
}

/// Which log file a command writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Log {
    /// None.
    None,
    /// That of backups.
    Backups,
    /// That of restores.
    Restores,
}

/// Runs one command.
pub(crate) async fn run(
    invocation: Invocation,
    surroundings: Surroundings,
    reporter: Arc<Reporter>,
    cancel: CancellationToken,
) -> Result<Done> {
    let globals = &invocation.globals;
    match &invocation.command {
        Command::Completions(args) => Ok(completions::run(args)),
        Command::Man(args) => man::run(args),
        Command::Demo(args) => demo::run(args, globals, &surroundings, &reporter, &cancel).await,
        Command::Init(args) => init::run(args, &surroundings, &reporter, &cancel).await,
        Command::Keygen(args) => keygen::run(args, globals, &surroundings, &reporter),
        command if command.all_databases() => every::run(&invocation, &surroundings, &reporter, &cancel).await,
        command => {
            let pings = Pings::alone();
            Box::pin(one(invocation.program, globals.clone(), command, &surroundings, &reporter, &cancel, pings)).await
        }
    }
}

/// Runs one command for one database.
async fn one(
    program: Program,
    globals: GlobalArgs,
    command: &Command,
    surroundings: &Surroundings,
    reporter: &Arc<Reporter>,
    cancel: &CancellationToken,
    pings: Pings,
) -> Result<Done> {
    let (surroundings, reporter, cancel) = (surroundings.clone(), Arc::clone(reporter), cancel.clone());
    let log = log_of(program, command);
    let settings = match Settings::read(flags(command), &globals, &surroundings) {
        Ok(settings) => settings,
        Err(failure) => {
            // The settings name the log, so a failure to read them goes to wherever it would be without them.
            if log != Log::None {
                let path = surroundings.variable(variable::LOG_FILE.name).unwrap_or(DEFAULT_LOG_FILE).to_owned();
                let _ = reporter.open_log(&log_path(&path, log), surroundings.stderr_file);
            }
            let result = Err(failure);
            // Whoever is to hear of failed runs hears of this one too, as far as can be told who that is.
            if let Ok(settings) = Settings::for_messages(&globals, &surroundings) {
                let context = Context { program, globals, surroundings, settings, reporter, cancel };
                let aftermath = Aftermath::begin(&context, command, pings).await;
                Box::pin(aftermath.end(&context, &result)).await;
            }
            return result;
        }
    };
    open_log(log, &settings, &surroundings, &reporter);
    for notice in &settings.layers.notices {
        match notice {
            Notice::Info(message) => reporter.note(message),
            Notice::Warning(message) => reporter.warn(message),
        }
    }
    let context = Context { program, globals, surroundings, settings, reporter, cancel };
    let aftermath = Aftermath::begin(&context, command, pings).await;
    let result = Box::pin(dispatch(&context, command)).await;
    Box::pin(aftermath.end(&context, &result)).await;
    result
}

async fn dispatch(context: &Context, command: &Command) -> Result<Done> {
    match command {
        Command::Backup(args) => backup::run(context, args).await,
        Command::Restore(args) => Box::pin(restore::run(context, args)).await,
        Command::Rollback(args) => rollback::run(context, args).await,
        Command::List(args) => list::run(context, args).await,
        Command::Show(args) => show::run(context, args).await,
        Command::Verify(args) => verify::run(context, args).await,
        Command::Prune(args) => prune::run(context, args).await,
        Command::Drill(args) => Box::pin(drill::run(context, args)).await,
        Command::Status(args) => Box::pin(status::run(context, args)).await,
        Command::Adopt(args) => adopt::run(context, args).await,
        Command::Export(args) => export::run(context, args).await,
        Command::Schedule(args) => schedule::run(context, args).await,
        Command::Unlock(args) => unlock::run(context, args).await,
        Command::Monitor(args) => monitor::run(context, args).await,
        Command::Check(args) => Box::pin(check::run(context, args)).await,
        Command::Init(_) | Command::Keygen(_) | Command::Demo(_) | Command::Completions(_) | Command::Man(_) => {
            Ok(Done::default())
        }
    }
}

/// The failure of a run that was told to end.
fn interrupted() -> Failure {
    Failure::new(Code::Interrupted, "interrupted")
}

/// The flags that stand for settings.
fn flags(command: &Command) -> Vec<FlagValue> {
    let flag = |variable, flag, value: &Option<String>| value.clone().map(|value| FlagValue(variable, flag, value));
    let set = |variable, flag, set: bool, value: &str| set.then(|| FlagValue(variable, flag, value.to_owned()));
    let wait = |value| flag(&variable::WAIT, "--wait", value);
    // Several keys are several files, as in PATH.
    let keys = |keys: &IdentityArgs| {
        let paths: Vec<_> = keys.identity.iter().map(|path| path.to_string_lossy()).collect();
        set(&variable::IDENTITY_FILE, "--identity", !paths.is_empty(), &paths.join(":"))
    };
    let flags = match command {
        Command::Backup(args) => vec![
            flag(&variable::JOBS, "--jobs", &args.jobs),
            flag(&variable::COMPRESSION, "--compression", &args.compression),
            flag(&variable::ENGINE, "--engine", &args.engine),
            flag(&variable::ON_BLOCKED_DDL, "--on-blocked-ddl", &args.on_blocked_ddl),
            flag(&variable::TIMEOUT, "--timeout", &args.timeout),
            set(&variable::PRUNE, "--no-prune", args.no_prune, "false"),
            set(&variable::ROLE_PASSWORDS, "--role-passwords", args.role_passwords, "true"),
            set(&variable::ENCRYPT_TO, "--encrypt-to", !args.encrypt_to.is_empty(), &args.encrypt_to.join(",")),
            wait(&args.wait),
        ],
        Command::Restore(args) => {
            vec![flag(&variable::JOBS, "--jobs", &args.jobs), wait(&args.wait), keys(&args.keys)]
        }
        Command::Verify(args) => vec![keys(&args.keys)],
        Command::Export(args) => vec![keys(&args.keys)],
        Command::Show(args) => vec![keys(&args.keys)],
        Command::Prune(args) => vec![wait(&args.wait)],
        Command::Drill(args) => vec![
            flag(&variable::JOBS, "--jobs", &args.jobs),
            flag(&variable::DRILL_SERVER, "--server", &args.server),
            flag(&variable::DRILL_RESULTS, "--results", &args.results),
            wait(&args.wait),
            keys(&args.keys),
        ],
        Command::Schedule(ScheduleArgs { action: ScheduleAction::Install(args) }) => vec![
            flag(&variable::SCHEDULE_DAILY, "--daily", &args.daily),
            flag(&variable::SCHEDULE_WEEKLY, "--weekly", &args.weekly),
            flag(&variable::SCHEDULE_MONTHLY, "--monthly", &args.monthly),
            flag(&variable::SCHEDULE_VERIFY, "--verify", &args.verify),
            flag(&variable::SCHEDULE_DRILL, "--drill", &args.drill),
            flag(&variable::SCHEDULE_JITTER, "--jitter", &args.jitter),
        ],
        _ => Vec::new(),
    };
    flags.into_iter().flatten().collect()
}

fn log_of(program: Program, command: &Command) -> Log {
    match command {
        Command::Backup(args) if args.dry_run => Log::None,
        Command::Restore(args) if args.dry_run => Log::None,
        Command::Rollback(args) if args.dry_run => Log::None,
        Command::Prune(args) if args.dry_run => Log::None,
        Command::Restore(_) | Command::Rollback(_) => Log::Restores,
        Command::Verify(_) if program == Program::RestoreDatabase => Log::Restores,
        Command::Backup(_)
        | Command::Verify(_)
        | Command::Prune(_)
        | Command::Drill(_)
        | Command::Adopt(_)
        | Command::Unlock(_) => Log::Backups,
        _ => Log::None,
    }
}

/// The file of a log.
pub(crate) fn log_path(log_file: &str, log: Log) -> PathBuf {
    match log {
        Log::Restores => Path::new(log_file).with_file_name("restores.log"),
        _ => PathBuf::from(log_file),
    }
}

/// Opens the log file. That it can't be written fails nothing; beside a bucket, an unwritable default is worth one line (containers).
fn open_log(log: Log, settings: &Settings, surroundings: &Surroundings, reporter: &Reporter) {
    if log == Log::None {
        return;
    }
    let found = settings.layers.get(&variable::LOG_FILE);
    let is_default = found.is_none();
    let path = found.map_or_else(|| DEFAULT_LOG_FILE.to_owned(), |found| found.text);
    if path == "none" {
        return;
    }
    let path = surroundings.directory.join(log_path(&path, log));
    if let Err(error) = reporter.open_log(&path, surroundings.stderr_file) {
        let message = format!("no log file: {} can't be written ({error}); set LOG_FILE", path.display());
        if is_default && settings.remote.is_some() { reporter.info(message) } else { reporter.warn(message) }
    }
}
