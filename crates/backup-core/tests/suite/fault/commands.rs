//! The commands of the library, each as a run on a ground, and what each said.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use pgkeep_core::{
    AdoptOptions, BackupOptions, BackupPlan, BackupReport, BackupSource, Catalog, CatalogEntry, Error, Keeper, Lock,
    LockInfo, LockOptions, Meta, Objectives, PlainArchive, PruneOptions, PruneReport, ReplicateReport, Result, Status,
    Verified, VerifyDepth,
};
use pgkeep_storage::Key;
use tokio_util::sync::CancellationToken;

use crate::fake::{FakeDump, Flaw};
use crate::fault::ground::{BUCKET, FOREIGN, FOREIGN_BARE, Ground, LOCAL, full_options, policy};
use crate::world::{options, plain};

/// What is run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Command {
    /// To bucket and local folder, old ones removed, missing copies made good, leftovers swept.
    Backup,
    /// The same to the bucket alone.
    BackupToOne,
    /// A backup whose dump fails.
    BackupThatFails,
    /// A backup of another source than is recorded, told to go on.
    BackupTakingOver,
    BackupDryRun,
    VerifyQuick,
    VerifyStored,
    VerifyDeep,
    Prune,
    PruneDryRun,
    List,
    Status,
    Adopt,
    /// Where other scripts left metadata.
    AdoptWithMetadata,
    Copy,
    /// Taken, renewed once, given back.
    Lock,
    /// Taken from a holder that died.
    LockOfTheDead,
    Unlock,
    /// What a restore reads: table of contents, one table, everything, globals.
    Read,
}

/// What it said.
#[derive(Debug)]
pub(crate) enum Said {
    Backup(Result<BackupReport>),
    BackupPlan(Result<BackupPlan>),
    Verified(Result<Verified>),
    Pruned(Result<PruneReport>),
    Planned(Result<()>),
    Listed(Result<Catalog>),
    Status(Result<Status>),
    Adopted(&'static str, Result<Arc<Meta>>),
    Copied(Result<ReplicateReport>),
    Locked(Result<()>),
    Unlocked(Result<Vec<LockInfo>>),
    Read(Result<()>),
    /// It was dropped.
    Nothing,
}

/// What was found out before anything could fail.
pub(crate) struct Before {
    keeper: Keeper,
    newest: CatalogEntry,
    catalog: Catalog,
}

impl Command {
    pub(crate) const ALL: [Self; 19] = [
        Self::Backup,
        Self::BackupToOne,
        Self::BackupThatFails,
        Self::BackupTakingOver,
        Self::BackupDryRun,
        Self::VerifyQuick,
        Self::VerifyStored,
        Self::VerifyDeep,
        Self::Prune,
        Self::PruneDryRun,
        Self::List,
        Self::Status,
        Self::Adopt,
        Self::AdoptWithMetadata,
        Self::Copy,
        Self::Lock,
        Self::LockOfTheDead,
        Self::Unlock,
        Self::Read,
    ];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Backup => "backup, two destinations",
            Self::BackupToOne => "backup, one destination",
            Self::BackupThatFails => "backup whose dump fails",
            Self::BackupTakingOver => "backup with `--take-over`",
            Self::BackupDryRun => "backup, dry run",
            Self::VerifyQuick => "verify, quick",
            Self::VerifyStored => "verify, stored",
            Self::VerifyDeep => "verify, deep",
            Self::Prune => "prune",
            Self::PruneDryRun => "prune, dry run",
            Self::List => "list",
            Self::Status => "status",
            Self::Adopt => "adopt",
            Self::AdoptWithMetadata => "adopt over metadata of scripts",
            Self::Copy => "copy of what is missing",
            Self::Lock => "lock, renewal, release",
            Self::LockOfTheDead => "lock of a dead holder",
            Self::Unlock => "unlock",
            Self::Read => "what a restore reads",
        }
    }

    /// Whether it may change nothing at all.
    pub(crate) fn only_looks(self) -> bool {
        matches!(self, Self::BackupDryRun | Self::PruneDryRun | Self::List | Self::Status | Self::Read)
    }

    /// Whether it may remove what expired.
    pub(crate) fn removes(self) -> bool {
        matches!(self, Self::Backup | Self::BackupToOne | Self::Prune)
    }

    /// Whether it ends by itself when it is cancelled. The others make few calls, and are dropped.
    pub(crate) fn hears_cancellation(self) -> bool {
        !self.only_looks() && !matches!(self, Self::Copy | Self::Unlock) || self == Self::BackupDryRun
    }

    /// What happened before, while the stores were well.
    pub(crate) async fn prepare(self, ground: &Ground) -> Before {
        if matches!(self, Self::LockOfTheDead | Self::Unlock) {
            let other = Keeper { host: "other".to_owned(), ..ground.only(BUCKET) };
            drop(Lock::acquire(&other, &LockOptions::new("backup")).await.unwrap());
        }
        if self == Self::LockOfTheDead {
            ground.time.pass(TimeDelta::minutes(6));
        }
        let catalog = ground.catalog().await;
        let newest = catalog.entries[0].clone();
        let keeper = if self == Self::BackupToOne { ground.only(BUCKET) } else { ground.keeper.clone() };
        Before { keeper: Keeper { cancel: CancellationToken::new(), ..keeper }, newest, catalog }
    }

    /// Runs it.
    pub(crate) async fn run(self, ground: &Ground, before: &Before) -> Said {
        let Before { keeper, newest, catalog } = before;
        let backup =
            async |engine: &FakeDump, options: &BackupOptions| Said::Backup(keeper.backup(engine, options).await);
        let verify = async |depth| Said::Verified(keeper.verify_copies(newest, depth).await);
        match self {
            Self::Backup | Self::BackupToOne => backup(&ground.engine(), &full_options()).await,
            Self::BackupThatFails => {
                let failing = FakeDump { flaw: Flaw::Fails(1), ..ground.engine() };
                backup(&failing, &full_options()).await
            }
            Self::BackupTakingOver => {
                let other =
                    BackupOptions { source_name: Some("other".to_owned()), take_over: true, ..options("zstd:1") };
                backup(&ground.engine(), &other).await
            }
            Self::BackupDryRun => Said::BackupPlan(keeper.plan_backup(&ground.engine(), &full_options()).await),
            Self::VerifyQuick => verify(VerifyDepth::Quick).await,
            Self::VerifyStored => verify(VerifyDepth::Stored).await,
            Self::VerifyDeep => verify(VerifyDepth::Deep).await,
            Self::Prune => {
                let lock = Some(LockOptions::new("prune"));
                Said::Pruned(keeper.prune(&PruneOptions { policy: policy(), lock }).await)
            }
            Self::PruneDryRun => Said::Planned(plan_prune(keeper).await),
            Self::List => Said::Listed(Catalog::load(keeper).await),
            Self::Status => Said::Status(keeper.status(&Objectives::default(), &policy()).await),
            Self::Adopt => adopt(keeper, FOREIGN_BARE).await,
            Self::AdoptWithMetadata => adopt(keeper, FOREIGN).await,
            Self::Copy => Said::Copied(keeper.replicate_missing(catalog, Some(&policy()), false).await),
            Self::Lock | Self::LockOfTheDead => Said::Locked(hold_lock(keeper).await),
            Self::Unlock => Said::Unlocked(Lock::break_it(keeper).await),
            Self::Read => Said::Read(read_back(keeper, newest, &ground.engine()).await),
        }
    }
}

impl Before {
    /// Ends what is under way, politely.
    pub(crate) fn cancel(&self) {
        self.keeper.cancel.cancel();
    }
}

impl Said {
    pub(crate) fn error(&self) -> Option<&Error> {
        match self {
            Self::Backup(said) => said.as_ref().err(),
            Self::BackupPlan(said) => said.as_ref().err(),
            Self::Verified(said) => {
                said.as_ref().err().or_else(|| said.as_ref().ok()?.unknown.first().map(|(_, error)| error))
            }
            Self::Pruned(said) => said.as_ref().err(),
            Self::Planned(said) | Self::Locked(said) | Self::Read(said) => said.as_ref().err(),
            Self::Listed(said) => said.as_ref().err(),
            Self::Status(said) => said.as_ref().err(),
            Self::Adopted(_, said) => said.as_ref().err(),
            Self::Copied(said) => said.as_ref().err(),
            Self::Unlocked(said) => said.as_ref().err(),
            Self::Nothing => None,
        }
    }

    /// Whether it says that something is damaged.
    pub(crate) fn finds_damage(&self) -> bool {
        let Self::Verified(Ok(verified)) = self else { return false };
        verified.reports.iter().any(|report| !report.findings.is_empty())
    }

    /// Whether a report speaks of something that could not be done or seen; the observer may have heard more.
    pub(crate) fn has_warnings(&self) -> bool {
        match self {
            Self::Backup(Ok(report)) => !report.warnings.is_empty(),
            Self::Pruned(Ok(report)) => !report.warnings.is_empty(),
            Self::Copied(Ok(report)) => !report.warnings.is_empty(),
            Self::Listed(Ok(catalog)) => !catalog.incomplete.is_empty() || !catalog.unreadable.is_empty(),
            Self::Status(Ok(status)) => status.places.iter().any(|place| place.unreachable.is_some()),
            _ => false,
        }
    }
}

async fn adopt(keeper: &Keeper, name: &'static str) -> Said {
    let key = Key::new(name).unwrap();
    Said::Adopted(name, keeper.adopt(LOCAL, &key, &AdoptOptions::default()).await)
}

async fn plan_prune(keeper: &Keeper) -> Result<()> {
    let catalog = Catalog::load(keeper).await?;
    keeper.plan_prune(&catalog, &policy());
    keeper.plan_sweep(&catalog).await;
    Ok(())
}

/// Holds the lock until it was renewed once.
async fn hold_lock(keeper: &Keeper) -> Result<()> {
    let options = LockOptions::new("restore");
    let lock = Lock::acquire(keeper, &options).await?;
    tokio::time::sleep(options.lease / 3 + Duration::from_secs(1)).await;
    lock.check()?;
    lock.release().await
}

/// Reads the copy in the bucket the ways a restore does; what it got must be what was backed up.
async fn read_back(keeper: &Keeper, entry: &CatalogEntry, engine: &FakeDump) -> Result<()> {
    let copy = entry.copies.iter().find(|copy| copy.destination == BUCKET).unwrap();
    let source = BackupSource::copy(keeper, entry, copy).opened()?;
    let toc = source.toc().await?;
    assert_eq!(toc.raw, engine.blocks().0.raw, "another table of contents was read");
    let expected = plain(engine);
    assert!(read_all(source.open(2).await?).await? == expected, "another archive was read");
    let table = entry.meta.entries.last().unwrap();
    let part = read_all(source.open_entries(&[table.dump_id], 2).await?).await?;
    let rows = &expected[expected.len() - table.plain_bytes as usize..];
    assert!(part.ends_with(rows) || table.plain_bytes == 0, "other rows were read");
    assert_eq!(source.globals().await?, engine.globals, "other globals were read");
    Ok(())
}

async fn read_all(mut archive: PlainArchive) -> Result<Vec<u8>> {
    let mut all = Vec::new();
    while let Some(piece) = archive.next().await? {
        all.extend_from_slice(&piece);
    }
    Ok(all)
}
