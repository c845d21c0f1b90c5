//! The vocabulary and the work of pgkeep: pipeline, catalog, backup, verification, retention, locks.
//!
//! A [`Keeper`] holds what a run needs — one source, its destinations, a clock, an observer — and every operation
//! is a method or a free function over it. Nothing here reads the environment, installs a signal handler or exits.

mod backup;
mod catalog;
mod class;
mod clock;
mod destination;
mod error;
mod fingerprint;
mod keeper;
mod lock;
mod meta;
mod proof;
mod prune;
mod read;
mod replicate;
mod retention;
mod source;
mod verify;

pub use backup::{BackupOptions, BackupPlan, BackupReport, DestinationReport};
pub use catalog::{Catalog, CatalogEntry, Copy, Pick};
pub use class::{BackupClass, BackupId};
pub use clock::{Clock, SystemClock};
pub use destination::{Destination, Layout};
pub use error::{Error, ErrorKind, Result};
pub use fingerprint::{FingerprintKey, LargeObjectHasher, RowHasher, Tally};
pub use keeper::Keeper;
pub use lock::{Lock, LockInfo, LockOptions};
pub use meta::{
    DatabaseMeta, EntryMeta, FrameIndex, GlobalsMeta, LargeObjectsMeta, Meta, PlainDigest, SequenceMeta, StoredDigest,
};
pub use proof::{Proof, ProofKind, ProofOutcome};
pub use prune::{PruneOptions, PruneReport};
pub use read::{BackupSource, PlainArchive};
pub use replicate::ReplicateReport;
pub use retention::{Decision, Keep, Policy, ClassPolicy, Reason, RetentionPlan};
pub use source::SourceRecord;
pub use verify::{VerifyDepth, VerifyReport, VerifyFinding};
