//! What happens around a command: the dead-man service hears that it begins; afterwards everybody hears how it went.
//!
//! Nothing here fails a command, and all of it together is bounded in time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use futures::FutureExt;
use futures::future::BoxFuture;
use pgkeep_core::{Catalog, Keeper, Meta};
use pgkeep_metrics::{Error, Measurement, Metric, Notice, Patience, RunId, Sample, Signal, Told};

use super::story::Story;
use super::{Channels, MailRoute, Record, channels, mail_route, mail_route_words, standing};
use crate::args::Command;
use crate::commands::{Context, Done};
use crate::failure::Result;
use crate::hint::Code;
use crate::wire::Access;

/// Longest time for reading, and for writing, what is remembered and what the catalog has.
const LONGEST_LOOK: Duration = Duration::from_secs(30);
/// Longest delay of a run's beginning by a dead-man service that does not answer.
const AT_THE_START: Patience =
    Patience { attempts: 2, pause: Duration::from_millis(500), limit: Duration::from_secs(5) };

/// What a run that succeeded measured.
#[derive(Debug, Clone)]
pub(crate) enum Measured {
    /// A backup: what was stored, and how long dump, compression and upload took.
    Backup(Arc<Meta>, Duration),
    /// A restore.
    Restore(Duration),
    /// The test of one: whether the data came back, also if the drill failed at something else.
    Drill { good: bool, elapsed: Duration },
}

/// What is done with, and told of, a command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Operation {
    Backup,
    Restore,
    Prune,
    Verify,
    Drill,
}

impl Operation {
    /// `None` for commands of which nobody is told.
    fn of(command: &Command) -> Option<Self> {
        match command {
            Command::Backup(args) if !args.dry_run => Some(Self::Backup),
            Command::Restore(args) if !args.dry_run => Some(Self::Restore),
            Command::Prune(args) if !args.dry_run => Some(Self::Prune),
            Command::Verify(_) => Some(Self::Verify),
            Command::Drill(_) => Some(Self::Drill),
            _ => None,
        }
    }

    /// What a command is called where its outcome is remembered and told: a monthly backup that failed is not well again by a
    /// daily one, nor any by one of a part.
    fn name(self, command: &Command) -> String {
        match command {
            Command::Backup(args) if args.no_upload || !args.selection.pg_dump_arguments().is_empty() => {
                format!("partial {}", self.word())
            }
            Command::Backup(args) => format!("{} {}", args.class.class(), self.word()),
            _ => self.word().to_owned(),
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Restore => "restore",
            Self::Prune => "prune",
            Self::Verify => "verify",
            Self::Drill => "drill",
        }
    }
}

/// What a dead-man service hears of a command: all of it, or a part where it is carried out for several databases.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pings {
    /// The same for all of them.
    pub(crate) run: RunId,
    /// It begins here.
    pub(crate) first: bool,
    /// It ends here.
    pub(crate) last: bool,
    /// It has failed for one of those before.
    pub(crate) failed: bool,
}

impl Pings {
    /// All of it.
    pub(crate) fn alone() -> Self {
        Self { run: RunId::random(), first: true, last: true, failed: false }
    }
}

/// A command under way.
#[derive(Debug)]
pub(crate) struct Aftermath {
    operation: Option<Operation>,
    name: String,
    pings: Pings,
    begun: DateTime<Utc>,
    clock: Instant,
}

impl Aftermath {
    /// Before a command.
    pub(crate) async fn begin(context: &Context, command: &Command, pings: Pings) -> Self {
        let operation = Operation::of(command);
        let name = operation.map(|operation| operation.name(command)).unwrap_or_default();
        let this = Self { operation, name, pings, begun: Utc::now(), clock: Instant::now() };
        // Whether a run that looks first (`--if-due`) begins is not known yet: it only tells how it ended.
        let begins = matches!(command, Command::Backup(args) if args.if_due.is_none());
        if begins && pings.first && operation.is_some() {
            let set = Channels::dead_man(&context.settings);
            for flaw in &set.flaws {
                context.reporter.warn(flaw);
            }
            if let Some(dead_man) = &set.dead_man {
                let said = AT_THE_START
                    .keep_trying(dead_man.channel(), || dead_man.signal(Signal::Start, this.pings.run, ""))
                    .await;
                this.unless_told(context, said);
            }
        }
        this
    }

    /// After it.
    pub(crate) async fn end(self, context: &Context, result: &Result<Done>) {
        let Some(operation) = self.operation else { return };
        let failure = match result {
            Ok(done) => done.failure.as_ref(),
            Err(failure) => Some(failure),
        };
        let measured = result.as_ref().ok().and_then(|done| done.measured.as_ref());
        let was_not_due = operation == Operation::Backup && failure.is_none() && measured.is_none();
        if was_not_due || failure.is_some_and(|failure| is_no_run(operation, failure.code)) {
            return;
        }
        let log = context.reporter.tail();
        let database = context.database_name();
        let story = Story {
            operation: &self.name,
            database: &database,
            host: &context.surroundings.host,
            begun: self.begun,
            ended: Utc::now(),
            log: &log,
            failure,
        };
        let dead_man =
            if operation == Operation::Backup { Channels::dead_man(&context.settings).dead_man } else { None };
        // Of several databases, success is that of all of them.
        let dead_man = dead_man.filter(|_| failure.is_some() || (self.pings.last && !self.pings.failed));
        let ping = async {
            let Some(dead_man) = &dead_man else { return };
            let (signal, message) =
                failure.map_or((Signal::Success, String::new()), |failure| (Signal::Fail, story.cause(failure)));
            let said = Patience::default()
                .keep_trying(dead_man.channel(), || dead_man.signal(signal, self.pings.run, &message))
                .await;
            self.unless_told(context, said);
        };
        futures::join!(ping, Box::pin(self.tell(context, operation, &story, measured)));
    }

    async fn tell(&self, context: &Context, operation: Operation, story: &Story<'_>, measured: Option<&Measured>) {
        let reporter = &context.reporter;
        let keeper = Box::pin(context.quiet_keeper()).await;
        let mut record = within(load(keeper.as_ref())).await.unwrap_or_else(Record::unknown);
        if !channels::any(&context.settings) && record.installed.is_none() {
            return;
        }
        let channels = Channels::of(context, &record).await;
        for flaw in &channels.flaws {
            reporter.warn(flaw);
        }
        if let Some(route @ MailRoute::Nobody) = mail_route(&context.settings, &record) {
            let words = mail_route_words(&context.settings, &route);
            if story.failure.is_some() { reporter.warn(words) } else { reporter.info(words) }
        }
        let told = record.watch.hears(&self.name, story.failure.map(|failure| failure.code.text()), story.ended);
        let seen_by_people = context.surroundings.stdin_is_terminal
            && story.failure.is_some_and(|failure| matches!(failure.code, Code::Interrupted | Code::NothingMatched));
        let notice = told.filter(|_| !seen_by_people).map(|told| (story.notice(&told), told));
        // Metrics wait for the catalog; people don't.
        let mut known = record.clone();
        let counted = self.count(context, operation, story, measured, keeper.as_ref(), &channels, &mut known);
        let (heard, counted) = futures::join!(self.spread(context, &channels, notice.as_ref()), counted);
        if let Some(counted) = counted {
            record.first_backup = counted.first_backup;
            record.last_restore_test = counted.last_restore_test;
        }
        if !heard && notice.is_some_and(|(_, told)| !matches!(told, Told::Recovered { .. })) {
            record.watch.was_not_told(&self.name);
        }
        if let Some(keeper) = &keeper {
            for failure in within(record.store(keeper, Utc::now())).await.unwrap_or_default() {
                reporter.detail(format!("what people were told is not remembered at {failure}"));
            }
        }
    }

    /// Tells everybody at once; whether anybody heard.
    async fn spread(&self, context: &Context, channels: &Channels, notice: Option<&(Notice, Told)>) -> bool {
        let Some((notice, _)) = notice else { return true };
        let deliveries = channels.notifiers.iter().map(|notifier| async move {
            let told = Patience::default().keep_trying(notifier.channel(), || notifier.notify(notice)).await;
            self.unless_told(context, told)
        });
        futures::future::join_all(deliveries).await.into_iter().any(|heard| heard)
    }

    /// Sends what was measured; gives back what the catalog knows beside what is remembered.
    #[expect(clippy::too_many_arguments, reason = "all of a run in one place")]
    async fn count(
        &self,
        context: &Context,
        operation: Operation,
        story: &Story<'_>,
        measured: Option<&Measured>,
        keeper: Option<&Keeper>,
        channels: &Channels,
        record: &mut Record,
    ) -> Option<Record> {
        if channels.sinks.is_empty() {
            return None;
        }
        let catalog = match keeper {
            Some(keeper) => within(Catalog::load(keeper)).await.and_then(std::result::Result::ok),
            None => None,
        };
        if let Some(catalog) = &catalog {
            standing::remember(record, catalog);
        }
        let whole = catalog.as_ref().filter(|catalog| catalog.incomplete.is_empty());
        let sample = Sample {
            database: story.database.to_owned(),
            at: story.ended,
            measurements: measurements(operation, story, measured, catalog.as_ref(), record),
            // Half a listing would take back what is known of the last success.
            standing: whole.map(|catalog| standing::standing(catalog, record)),
        };
        let sample = &sample;
        let deliveries = channels.sinks.iter().map(|(sink, was_asked_for)| async move {
            let sent = Patience::default().keep_trying(sink.channel(), || sink.send(sample)).await;
            match sent {
                Err(error) if error.denied && !was_asked_for => {
                    context.reporter.info(format!(
                        "no metrics are sent: {error}; CLOUDWATCH_NAMESPACE=none says that none are wanted"
                    ));
                }
                sent => {
                    self.unless_told(context, sent);
                }
            }
        });
        futures::future::join_all(deliveries).await;
        Some(record.clone())
    }

    /// A channel that is down is a warning.
    fn unless_told(&self, context: &Context, said: Result<(), Error>) -> bool {
        let Err(error) = said else { return true };
        let seconds = self.clock.elapsed().as_secs();
        context.reporter.warn(format!("{} could not be told: {}", error.channel, error.reason));
        context.reporter.detail(format!("given up {seconds} s after the run began"));
        false
    }
}

/// Failures that are no run at all: nobody but who typed it needs to hear of them. A backup always was to be one.
fn is_no_run(operation: Operation, code: Code) -> bool {
    operation != Operation::Backup
        && matches!(code, Code::Declined | Code::NoTerminal | Code::Usage | Code::BrokenPipe | Code::Ambiguous)
}

fn measurements(
    operation: Operation,
    story: &Story<'_>,
    measured: Option<&Measured>,
    catalog: Option<&Catalog>,
    record: &Record,
) -> Vec<Measurement> {
    let of = |metric, value| Some(Measurement { metric, value });
    let success = f64::from(u8::from(story.failure.is_none()));
    let measured = measured.filter(|measured| story.failure.is_none() || matches!(measured, Measured::Drill { .. }));
    let mut all = match operation {
        Operation::Backup => {
            vec![of(Metric::BackupSuccess, success), standing::restore_test_age(record, story.ended)]
        }
        Operation::Restore => vec![of(Metric::RestoreSuccess, success)],
        Operation::Prune | Operation::Verify | Operation::Drill => Vec::new(),
    };
    match measured {
        Some(Measured::Backup(meta, elapsed)) => all.extend([
            of(Metric::BackupSize, meta.stored.bytes as f64),
            of(Metric::BackupDuration, elapsed.as_secs_f64()),
            catalog.and_then(|catalog| standing::change(catalog, meta)),
        ]),
        Some(Measured::Restore(elapsed)) => all.push(of(Metric::RestoreDuration, elapsed.as_secs_f64())),
        Some(Measured::Drill { good, elapsed }) => all.extend([
            of(Metric::RestoreSuccess, f64::from(u8::from(*good))),
            of(Metric::RestoreDuration, elapsed.as_secs_f64()).filter(|_| *good),
        ]),
        None => {}
    }
    all.into_iter().flatten().collect()
}

fn load(keeper: Option<&Keeper>) -> BoxFuture<'_, Record> {
    async move {
        match keeper {
            Some(keeper) => Record::load(keeper).await,
            None => Record::default(),
        }
    }
    .boxed()
}

/// The result, unless it takes too long.
async fn within<T>(work: impl Future<Output = T>) -> Option<T> {
    tokio::time::timeout(LONGEST_LOOK, work).await.ok()
}

impl Context {
    /// The repository, without a word where it can't be had; not cancelled by what ended the run.
    pub(crate) async fn quiet_keeper(&self) -> Option<Keeper> {
        let keeper = within(Box::pin(self.keeper(Access::Read))).await?.ok()?;
        Some(Keeper {
            observer: Arc::new(pgkeep_metrics::Discard),
            cancel: tokio_util::sync::CancellationToken::new(),
            ..keeper
        })
    }

    /// What the database is called in metrics and notices: the source's name, else the database's.
    pub(crate) fn database_name(&self) -> String {
        let named = self.settings.source_name.clone();
        named
            .or_else(|| self.parsed_connection().ok().map(|connection| connection.database().to_owned()))
            .unwrap_or_else(|| "unknown".to_owned())
    }
}
