//! Every operation of a store × every command × every way to fail × the n-th call, for every n until none is reached.

use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chrono::TimeDelta;
use pgkeep_core::{ErrorKind, Keeper, LockOptions, PruneOptions};
use pgkeep_testkit::{FaultyStorage, Operation, StoreFault, Trouble, hold_against_document};
use tokio_util::sync::CancellationToken;

use crate::fault::commands::{Command, Said};
use crate::fault::ground::{BUCKET, Ground, History, Kind, LOCAL, PLACES, full_options, policy};
use crate::fault::laws::{Case, leftovers};

/// More calls of one operation than any command makes.
const MOST_CALLS: u64 = 200;

/// What came of letting a command's calls to one store fail.
#[derive(Debug, Default)]
struct Row {
    points: [u64; Operation::ALL.len()],
    runs: u64,
    ends: BTreeSet<&'static str>,
    /// Runs after which a law did not hold.
    broken: u64,
}

/// The ways in which a call of this operation can fail: for once in a way that passes, and for good in one that does not.
fn ways(operation: Operation) -> Vec<StoreFault> {
    let once: &[Trouble] = match operation {
        Operation::Write | Operation::Finish | Operation::Abort | Operation::Create | Operation::Delete => {
            &[Trouble::Fails, Trouble::AnswerLost]
        }
        Operation::WriteChunk => &[Trouble::Fails, Trouble::Half],
        Operation::Read => &[Trouble::Fails],
        Operation::ReadChunk => &[Trouble::Half, Trouble::Short, Trouble::Garbled],
        Operation::Head => &[Trouble::Fails, Trouble::Garbled],
        Operation::List => &[Trouble::Fails, Trouble::AnswerLost, Trouble::Short],
    };
    let for_good: &[Trouble] =
        if once.contains(&Trouble::AnswerLost) { &[Trouble::Fails, Trouble::AnswerLost] } else { &[Trouble::Fails] };
    let late = [Trouble::Late(Duration::from_mins(10))];
    let fault = |trouble: &Trouble| StoreFault::once(operation, 1, *trouble);
    let lasting = |trouble: &Trouble| StoreFault { lasting: true, permanent: true, ..fault(trouble) };
    once.iter().chain(&late).map(fault).chain(for_good.iter().chain(&[Trouble::Hangs]).map(lasting)).collect()
}

/// One fault on a ground of its own. `None` if the command makes no such call.
async fn try_one(
    history: &History,
    kind: Kind,
    command: Command,
    place: usize,
    fault: StoreFault,
) -> Option<&'static str> {
    let ground = Ground::after(history, kind).await;
    let prepared = command.prepare(&ground).await;
    let before = ground.contents().await;
    let faulty = &ground.places[place].faulty;
    faulty.inject(fault);
    let run = command.run(&ground, &prepared);
    let said = match fault.trouble {
        Trouble::Late(_) => while_time_passes(faulty, run).await.expect("it ends"),
        // Ended politely, or dropped where it stands.
        Trouble::Hangs => {
            let mut run = std::pin::pin!(run);
            let ended = tokio::select! {
                said = &mut run => Some(said),
                () = faulty.met() => None,
            };
            match ended {
                Some(said) => said,
                None if fault.nth % 2 == 1 && command.hears_cancellation() => {
                    prepared.cancel();
                    while_time_passes(faulty, run).await.expect("it ends when it is cancelled")
                }
                None => Said::Nothing,
            }
        }
        _ => run.await,
    };
    let (reached, met_at) = (faulty.has_failed(), faulty.met_at());
    ground.heal();
    if !reached {
        assert!(command == Command::BackupThatFails || said.error().is_none(), "nothing failed, and it says {said:?}");
        return None;
    }
    // What was given up is given up by now.
    tokio::time::sleep(Duration::from_secs(30)).await;
    let after = ground.contents().await;
    let met_at = met_at.expect("it was met");
    let case = Case { ground: &ground, command, fault, met_at, before, after, said: &said };
    case.hold();
    if !command.only_looks() {
        let waited = recovers(&ground).await;
        // A store that lies, comes too late, or does not come back, can leave the lock to its lease.
        let may = fault.lasting || !matches!(fault.trouble, Trouble::Fails | Trouble::AnswerLost | Trouble::Half);
        assert!(may || !waited, "the lock was not given back");
    }
    Some(end(&said, &ground))
}

/// Does `work`, and from the moment when it meets its trouble lets time pass: a quarter of an hour, in which everybody who
/// waits for it gets a turn. By itself it does not while a thread is blocked. `None` if the work is not done then.
async fn while_time_passes<T>(faulty: &FaultyStorage, work: impl Future<Output = T>) -> Option<T> {
    let time = async {
        faulty.met().await;
        for _ in 0..90 {
            tokio::time::advance(Duration::from_secs(10)).await;
            for _ in 0..64 {
                tokio::task::yield_now().await;
            }
        }
        // What is done by threads takes its own time.
        for _ in 0..1000 {
            std::thread::sleep(Duration::from_millis(10));
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        done = work => Some(done),
        () = time => None,
    }
}

/// The next run succeeds, if need be when a lock has expired; a day later nothing is left. Says whether it had to wait.
async fn recovers(ground: &Ground) -> bool {
    let keeper = || Keeper { cancel: CancellationToken::new(), ..ground.keeper.clone() };
    let mut options = full_options();
    // The source may have been taken over.
    options.take_over = true;
    let mut waited = false;
    let mut outcome = keeper().backup(&ground.engine(), &options).await;
    if outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::Locked) {
        waited = true;
        ground.time.pass(TimeDelta::minutes(5));
        outcome = keeper().backup(&ground.engine(), &options).await;
    }
    let report = outcome.unwrap_or_else(|error| panic!("the next run fails: {error}: {error:?}"));
    assert!(report.destinations.iter().all(|destination| destination.stored), "{report:?}");
    ground.time.pass(TimeDelta::hours(25));
    ground.note().await;
    for place in &ground.places {
        place.age_partial_files(ground.time.now() - TimeDelta::hours(26));
    }
    let prune = PruneOptions { policy: policy(), lock: Some(LockOptions::new("prune")) };
    keeper().prune(&prune).await.unwrap();
    for (place, name) in ground.places.iter().zip(PLACES) {
        assert_eq!(leftovers(&place.contents().await), Vec::<String>::new(), "left at {name}");
        assert_eq!(place.age_partial_files(ground.time.now()), 0, "files that were begun are left at {name}");
    }
    waited
}

/// How it ended, for people.
fn end(said: &Said, ground: &Ground) -> &'static str {
    if said.finds_damage() {
        return "exit 4";
    }
    match said.error().map(pgkeep_core::Error::kind) {
        None if matches!(said, Said::Nothing) => "dropped",
        None if said.has_warnings() || ground.heard.warned() => "0 with a warning",
        None => "0",
        Some(ErrorKind::Store) => "exit 6",
        Some(ErrorKind::Locked) => "exit 7",
        Some(ErrorKind::Damaged) => "exit 4",
        Some(ErrorKind::Database) => "exit 5",
        Some(ErrorKind::NotFound) => "exit 3",
        Some(ErrorKind::Interrupted) => "130 when interrupted",
        Some(_) => "another",
    }
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap()
}

/// Every fault of one command at one place.
fn try_all(history: &History, kind: Kind, command: Command, place: usize, thin: bool) -> Row {
    let mut row = Row::default();
    for (operation, points) in Operation::ALL.into_iter().zip(&mut row.points) {
        for nth in 1.. {
            assert!(nth < MOST_CALLS, "{command:?} never stops calling {operation:?}");
            let mut reached = false;
            for fault in ways(operation).into_iter().map(|way| StoreFault { nth, ..way }) {
                if thin && !is_of_the_essence(&fault) {
                    continue;
                }
                let told = format!("{kind:?}, {command:?}, {fault:?} at {}", PLACES[place]);
                let one = || runtime().block_on(try_one(history, kind, command, place, fault));
                let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(one));
                match outcome {
                    Ok(None) => {}
                    Ok(Some(end)) => {
                        reached = true;
                        row.runs += 1;
                        row.ends.insert(end);
                    }
                    Err(_) => {
                        eprintln!("^^^ {told}");
                        reached = true;
                        row.broken += 1;
                    }
                }
            }
            if !reached {
                break;
            }
            *points += 1;
        }
    }
    row
}

/// Faults that are tried on files too: what differs there is what is left, not what is decided.
fn is_of_the_essence(fault: &StoreFault) -> bool {
    matches!(fault.trouble, Trouble::Fails | Trouble::AnswerLost | Trouble::Half) && !fault.lasting
}

/// What is promised of a command.
fn promise(command: Command, place: usize) -> &'static str {
    match command {
        Command::Backup | Command::BackupToOne if place == BUCKET => {
            "success only if the bucket has it; nothing old goes after a failure"
        }
        Command::Backup | Command::BackupTakingOver => "the optional copy is told to be missing; the other one is made",
        Command::BackupToOne | Command::BackupThatFails => "no half backup; the database's failure is the one told",
        Command::VerifyQuick | Command::VerifyStored | Command::VerifyDeep => {
            "not reached is not damaged; wrong bytes are never good"
        }
        Command::Prune => "nothing goes without a complete list; what is half gone is no backup, and swept",
        Command::BackupDryRun | Command::PruneDryRun | Command::List | Command::Status => {
            "nothing is changed; what was not seen is told"
        }
        Command::Adopt | Command::AdoptWithMetadata => "adopted, or as it was",
        Command::Copy => "copied whole, or not; told as it is",
        Command::Lock | Command::LockOfTheDead | Command::Unlock => "given back, or it expires",
        Command::Read => "the bytes that were backed up, or an error",
    }
}

#[test]
fn every_call_may_fail_and_every_law_holds() {
    let history = runtime().block_on(History::make());
    let mut work: Vec<(Kind, Command, usize)> = Vec::new();
    for command in Command::ALL {
        let kinds = if command.only_looks() { &[Kind::Memory][..] } else { &[Kind::Memory, Kind::Disk] };
        work.extend(kinds.iter().flat_map(|kind| [BUCKET, LOCAL].map(|place| (*kind, command, place))));
    }
    let (next, rows) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(2, std::num::NonZero::get) {
            scope.spawn(|| {
                while let Some(&(kind, command, place)) = work.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let row = try_all(&history, kind, command, place, kind == Kind::Disk);
                    rows.lock().unwrap().push((kind, command, place, row));
                }
            });
        }
    });
    let rows = rows.into_inner().unwrap();
    let runs: u64 = rows.iter().map(|(_, _, _, row)| row.runs).sum();
    eprintln!("{runs} runs");
    let broken: u64 = rows.iter().map(|(_, _, _, row)| row.broken).sum();
    assert_eq!(broken, 0, "laws were broken; each is told above");
    let row = |kind, command, place| {
        rows.iter().find(|row| (row.0, row.1, row.2) == (kind, command, place)).map(|row| &row.3)
    };
    let mut table = Vec::new();
    for command in Command::ALL {
        for place in [BUCKET, LOCAL] {
            let memory = row(Kind::Memory, command, place).expect("every command was run");
            let disk = row(Kind::Disk, command, place);
            assert!(
                disk.is_none_or(|disk| disk.points == memory.points),
                "{command:?} makes other calls to files: {memory:?}, {disk:?}"
            );
            if memory.runs == 0 {
                continue;
            }
            let mut cells = vec![command.name().to_owned(), PLACES[place].to_owned()];
            cells.extend(memory.points.map(|points| points.to_string()));
            cells.push((memory.runs + disk.map_or(0, |disk| disk.runs)).to_string());
            cells.push(memory.ends.iter().copied().collect::<Vec<_>>().join(", "));
            cells.push(promise(command, place).to_owned());
            table.push(cells);
        }
    }
    let mut columns =
        vec!["command", "fails", "write", "writer.write", "finish", "abort", "create", "read", "its stream"];
    columns.extend(["head", "list", "delete", "runs", "ends as", "promise"]);
    hold_against_document("store-faults", &columns, &table);
}
