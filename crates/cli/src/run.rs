//! One run, from arguments to exit code.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::args::{GlobalArgs, OutputFormat};
use crate::commands::{self, Done};
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::hint::Code;
use crate::invocation::{self, Invocation, Program};
use crate::render::json::{Document, Outcome};
use crate::reporter::Reporter;
use crate::signals::Signals;
use crate::surroundings::Surroundings;

/// How long work that was told to stop may take to do so.
const PATIENCE: Duration = Duration::from_secs(2);

/// Runs `program` with `arguments` (without the program's name).
pub fn run(program: Program, arguments: impl IntoIterator<Item = OsString>, surroundings: Surroundings) -> ExitCode {
    let begun = Utc::now();
    let arguments: Vec<_> = arguments.into_iter().collect();
    let exit = match Invocation::parse(program, &arguments) {
        Ok(invocation) => command(invocation, surroundings, begun),
        Err(error) => not_understood(program, &arguments, &error, begun),
    };
    ExitCode::from(exit.code())
}

/// Help and version go to stdout and are fine; the rest is wrong usage.
fn not_understood(program: Program, arguments: &[OsString], error: &clap::Error, begun: DateTime<Utc>) -> Exit {
    let _ = error.print();
    if !error.use_stderr() {
        return Exit::Ok;
    }
    if invocation::output_format(program, arguments) == OutputFormat::Json {
        let text = error.to_string();
        let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        let failure = Failure::new(Code::Usage, message);
        let name = invocation::command_name(program, arguments);
        let _ =
            print(&Document::new(&name, Outcome::Failed, begun, &[], serde_json::Map::new(), Some(&failure)).text());
    }
    Exit::Usage
}

fn command(invocation: Invocation, surroundings: Surroundings, begun: DateTime<Utc>) -> Exit {
    let reporter = Arc::new(Reporter::new(&invocation.globals, &surroundings));
    let globals = invocation.globals.clone();
    let name = invocation.command.name();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            return finish(&reporter, &globals, name, begun, Err(Failure::io("start", &error)));
        }
    };
    let result = runtime.block_on(async {
        let signals = Signals::listen(Arc::clone(&reporter))?;
        let run = commands::run(invocation, surroundings, Arc::clone(&reporter), signals.cancel.clone());
        tokio::select! {
            result = run => result.map_err(|failure| signals.rename(failure)),
            () = signals.forced() => Err(signals.failure()),
        }
    });
    let exit = finish(&reporter, &globals, name, begun, result);
    runtime.shutdown_timeout(PATIENCE);
    exit
}

/// Tells how it went, on stdout and in the log, and gives the exit code.
fn finish(reporter: &Reporter, globals: &GlobalArgs, name: &str, begun: DateTime<Utc>, result: Result<Done>) -> Exit {
    reporter.clear();
    let (done, failure) = match result {
        Ok(mut done) => {
            let failure = done.failure.take();
            (done, failure)
        }
        Err(failure) => (Done::default(), Some(failure)),
    };
    if let Some(failure) = failure.as_ref().filter(|failure| failure.code != Code::BrokenPipe) {
        reporter.failure(failure);
    }
    let warnings = reporter.warnings();
    let outcome = match (&failure, warnings.is_empty()) {
        (Some(_), _) => Outcome::Failed,
        (None, false) => Outcome::Warnings,
        (None, true) => Outcome::Ok,
    };
    let text = match globals.output {
        OutputFormat::Human => done.text,
        // What a command writes to stdout itself has no room for a document.
        OutputFormat::Json if done.raw => done.text,
        OutputFormat::Json => Document::new(name, outcome, begun, &warnings, done.fields, failure.as_ref()).text(),
    };
    if let Err(error) = print(&text)
        && error.kind() != std::io::ErrorKind::BrokenPipe
    {
        let failure = Failure::new(Code::Unexpected, format!("failed to write to stdout: {error}"));
        reporter.failure(&failure);
        return failure.exit();
    }
    match (failure, outcome) {
        (Some(failure), _) => failure.exit(),
        (None, Outcome::Warnings) if globals.strict => Exit::Warnings,
        _ => Exit::Ok,
    }
}

fn print(text: &str) -> std::io::Result<()> {
    let mut stdout = std::io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}
