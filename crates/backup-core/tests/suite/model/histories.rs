//! Histories, one after the other, each with a world of its own.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

use pgkeep_testkit::hold_against_document;

use crate::model::steps::History;

/// Steps of the usual run, and of one history.
const STEPS: u64 = 10_000;
const STEPS_OF_ONE: u64 = 100;

/// Histories in which something went wrong once, and what that was.
const ONCE_WRONG: &[(u64, &str)] = &[];

/// The first seed of the usual run.
const FIRST: u64 = 1;

fn run(seed: u64, told: bool) -> Result<BTreeMap<&'static str, u64>, String> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    // The clock is paused once the runtime runs.
    let mut history = runtime.block_on(async { History::new(seed) });
    let ended = std::panic::catch_unwind(AssertUnwindSafe(|| {
        runtime.block_on(async {
            for _ in 0..STEPS_OF_ONE {
                history.step().await;
                if told {
                    eprintln!("{}", history.told.last().map_or("", String::as_str));
                }
            }
        });
    }));
    match ended {
        Ok(()) => Ok(history.counts),
        Err(_) => Err(format!(
            "PGKEEP_MODEL_SEED={seed}, after {} events: {:#?}",
            history.told.len(),
            history.told.iter().rev().take(14).collect::<Vec<_>>()
        )),
    }
}

fn from_environment(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is no number: {text}")))
}

#[test]
fn two_hosts_and_a_bucket_do_in_any_order_what_they_should() {
    if let Some(seed) = from_environment("PGKEEP_MODEL_SEED") {
        run(seed, true).unwrap_or_else(|failure| panic!("{failure}"));
        return;
    }
    let steps = from_environment("PGKEEP_MODEL_STEPS").unwrap_or(STEPS);
    let seeds: Vec<u64> =
        ONCE_WRONG.iter().map(|(seed, _)| *seed).chain((0..steps.div_ceil(STEPS_OF_ONE)).map(|n| FIRST + n)).collect();
    let (next, counts, failures) = (AtomicU64::new(0), Mutex::new(BTreeMap::new()), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, std::num::NonZero::get) {
            scope.spawn(|| {
                while let Some(seed) = seeds.get(next.fetch_add(1, Ordering::SeqCst) as usize) {
                    match run(*seed, false) {
                        Ok(found) => {
                            let mut counts = counts.lock().unwrap();
                            found.into_iter().for_each(|(what, times)| *counts.entry(what).or_insert(0) += times);
                        }
                        Err(failure) => failures.lock().unwrap().push(failure),
                    }
                }
            });
        }
    });
    let failures = failures.into_inner().unwrap();
    let counts = counts.into_inner().unwrap();
    eprintln!("{} histories of {STEPS_OF_ONE} steps: {counts:#?}", seeds.len());
    assert!(
        failures.is_empty(),
        "{} failed; the first:\n{}",
        failures.len(),
        failures.iter().take(5).cloned().collect::<Vec<_>>().join("\n")
    );
    if steps == STEPS {
        let rows: Vec<Vec<String>> =
            counts.iter().map(|(what, times)| vec![(*what).to_owned(), rounded(*times)]).collect();
        hold_against_document("histories", &["what happened", "how often"], &rows);
    }
}

/// What is certain of a number that differs a little from run to run.
fn rounded(times: u64) -> String {
    let unit = 10_u64.pow(times.max(1).ilog10().saturating_sub(1));
    format!("at least {}", times.saturating_sub(unit) / unit * unit)
}
