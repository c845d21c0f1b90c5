//! The vocabulary and the work of pgkeep: pipeline, catalog, backup, verification, retention, locks.
//!
//! A [`Keeper`] holds what a run needs — one source, its destinations, a clock, an observer — and every operation
//! is a method or a free function over it. Nothing here reads the environment, installs a signal handler or exits.

mod adopt;
mod backup;
mod buffers;
mod catalog;
mod class;
mod clock;
mod destination;
mod draft;
mod error;
mod export;
mod feed;
mod fingerprint;
#[cfg(test)]
mod fixture;
mod frames;
mod identities;
mod inventory;
mod keeper;
mod lanes;
mod lock;
mod make;
mod mark;
mod meta;
mod objects;
mod pipeline;
mod plain;
mod private;
mod progress;
mod proof;
mod prune;
mod publish;
mod read;
mod recipients;
mod recount;
mod replicate;
mod retention;
mod run;
pub mod schedule;
mod sealed;
mod sealing;
mod sequencer;
mod source;
mod status;
mod stop;
mod sweep;
mod tap;
mod thaw;
mod unframed;
mod verify;

pub use adopt::AdoptOptions;
pub use backup::{BackupOptions, BackupPlan, BackupReport, DestinationReport};
pub use catalog::{Adoptable, Catalog, CatalogEntry, Copy, Pick, Unreadable};
pub use class::{BackupClass, BackupId};
pub use clock::{Clock, SystemClock};
pub use destination::{Destination, Layout};
pub use error::{Error, ErrorKind, Result};
pub use export::{ExportOptions, ExportReport};
pub use fingerprint::{FingerprintKey, LargeObjectHasher, RowHasher, Tally};
pub use identities::{BadLine, Identities, KeyPair};
pub use inventory::schema_sha256;
pub use keeper::Keeper;
pub use lock::{Lock, LockInfo, LockOptions};
pub use meta::{
    DataBlock, DatabaseMeta, EntryMeta, FORMAT_VERSION, FrameIndex, GlobalsMeta, LargeObjectsMeta, Meta, PlainDigest,
    SequenceMeta, StoredDigest,
};
pub use plain::PlainArchive;
pub use private::EncryptionMeta;
pub use proof::{Proof, ProofKind, ProofOutcome};
pub use prune::{PruneOptions, PruneReport};
pub use read::BackupSource;
pub use recipients::{PASSPHRASE, Recipients};
pub use replicate::ReplicateReport;
pub use retention::{ClassPolicy, Decision, Keep, Policy, Reason, RetentionPlan};
pub use source::SourceRecord;
pub use status::{BackupState, ClassState, Objectives, PlaceState, Problem, ProblemKind, ProofState, Severity, Status};
pub use sweep::{Leftover, SweepPlan};
pub use thaw::ThawOptions;
pub use verify::{Verified, VerifyDepth, VerifyFinding, VerifyReport};
