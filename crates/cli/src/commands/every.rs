//! A command for every database of the config file, one after the other. One that fails does not stop the others.

use std::fmt::Write as _;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use super::{Done, one};
use crate::args::GlobalArgs;
use crate::failure::{Failure, Result};
use crate::hint::Code;
use crate::invocation::Invocation;
use crate::monitoring::Pings;
use crate::reporter::Reporter;
use crate::settings::Layers;
use crate::surroundings::Surroundings;

pub(super) async fn run(
    invocation: &Invocation,
    surroundings: &Surroundings,
    reporter: &Arc<Reporter>,
    cancel: &CancellationToken,
) -> Result<Done> {
    if invocation.globals.database.is_some() {
        return Err(Failure::new(Code::Usage, "--all and --database exclude each other"));
    }
    let names = Layers::database_names(&invocation.globals, surroundings)?;
    if names.is_empty() {
        return Err(Failure::settings("--all needs a config file with [[database]] tables"));
    }
    let pings = Pings::alone();
    let mut done = Done::default();
    let mut documents = Vec::new();
    let mut failures: Vec<(&str, Failure)> = Vec::new();
    for (index, name) in names.iter().enumerate() {
        if cancel.is_cancelled() {
            failures.push((name, super::interrupted()));
            break;
        }
        reporter.of(Some(name));
        reporter.info(format!("Database {name} ({} of {})", index + 1, names.len()));
        let pings = Pings { first: index == 0, last: index + 1 == names.len(), failed: !failures.is_empty(), ..pings };
        let known_warnings = reporter.warnings().len();
        let globals = GlobalArgs { database: Some(name.clone()), ..invocation.globals.clone() };
        let result =
            Box::pin(one(invocation.program, globals, &invocation.command, surroundings, reporter, cancel, pings))
                .await;
        let (own, failure) = match result {
            Ok(mut own) => {
                let failure = own.failure.take();
                (own, failure)
            }
            Err(failure) => (Done::default(), Some(failure)),
        };
        let outcome = match &failure {
            Some(_) => "failed",
            None if reporter.warnings().len() > known_warnings => "warnings",
            None => "ok",
        };
        documents.push(document(name, outcome, &own, failure.as_ref()));
        if !own.text.is_empty() {
            let gap = if done.text.is_empty() { "" } else { "\n" };
            let _ = write!(done.text, "{gap}== {name}\n{}", own.text);
        }
        if let Some(failure) = failure {
            reporter.failure(&failure);
            failures.push((name, failure));
        }
    }
    reporter.of(None);
    done.fields.insert("databases".to_owned(), Value::Array(documents));
    done.failure = summary(&failures, names.len());
    Ok(done)
}

fn document(name: &str, outcome: &str, done: &Done, failure: Option<&Failure>) -> Value {
    let mut fields = done.fields.clone();
    fields.insert("name".to_owned(), json!(name));
    fields.insert("outcome".to_owned(), json!(outcome));
    if let Some(failure) = failure {
        let error = json!({"code": failure.code.text(), "exit": failure.exit().code(), "message": failure.message, "hint": failure.hint});
        fields.insert("error".to_owned(), error);
    }
    Value::Object(fields)
}

/// The first failure gives the exit code, an interruption before all others.
fn summary(failures: &[(&str, Failure)], databases: usize) -> Option<Failure> {
    let interrupted = failures.iter().find(|(_, failure)| matches!(failure.code, Code::Interrupted | Code::Terminated));
    let (_, first) = interrupted.or(failures.first())?;
    let names: Vec<_> = failures.iter().map(|(name, _)| *name).collect();
    let message = format!("{} of {databases} databases failed: {}", failures.len(), names.join(", "));
    Some(Failure {
        code: first.code,
        message,
        hint: Some("each has its own error above; the others are done".to_owned()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_failure_gives_the_exit_code() {
        let failure = |code| Failure::new(code, "x");
        assert_eq!(summary(&[], 3), None);
        let failures = [("shop", failure(Code::StoreRefused)), ("crm", failure(Code::DatabaseRefused))];
        let told = summary(&failures, 3).unwrap();
        assert_eq!((told.exit().code(), told.message.as_str()), (6, "2 of 3 databases failed: shop, crm"));
        let failures = [("shop", failure(Code::StoreRefused)), ("crm", failure(Code::Interrupted))];
        assert_eq!(summary(&failures, 3).unwrap().exit().code(), 130);
    }
}
