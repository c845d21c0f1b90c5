//! Bringing a backup back: plan, load beside the live database, prove, swap.
//!
//! A [`RestoreRequest`] says what is wanted. [`Restorer::plan`] looks at backup and server and makes a [`RestorePlan`], a
//! value to show or to refuse; [`Restorer::execute`] carries it out and returns a [`RestoreReport`]. The live database is
//! not touched until the new one is complete and proven (law 7); then both change names in one transaction, and the old
//! one stays until somebody drops it: [`Restorer::plan_rollback`] and [`Restorer::rollback`] change them back.
//! [`Restorer::recover`] says what an interrupted run left behind, and finishes or undoes it. For drills there is
//! [`Restorer::scratch`], a database to try a backup out in, and [`Restorer::compare`] and [`Restorer::inspect`], which look
//! whether a database is sound.
//!
//! The way of the data: schema by list from the table of contents (`pg_restore`), then rows and large objects through our
//! own lanes of `COPY … FROM STDIN` in one pass over the archive, then everything else by list, `ANALYZE`, proof,
//! settings and grants, swap.

mod allowance;
mod analyze;
mod columns;
mod compare;
mod database;
mod draft;
mod error;
mod execute;
mod fill;
mod in_place;
mod inspect;
mod journal;
mod kept;
mod lane;
mod lanes;
mod large_objects;
mod lists;
mod load;
mod names;
mod needs;
mod passes;
mod pieces;
mod plan;
mod planning;
mod proof;
mod proof_catalog;
mod reader;
mod recovery;
mod report;
mod request;
mod reread;
mod restorer;
mod roles;
mod rollback;
mod schema_proof;
mod scratch;
mod sessions;
mod settings;
mod standstill;
mod survey;
mod swap;
mod table_load;
mod tables;

pub use compare::{CompareOptions, Comparison};
pub use error::{Error, ErrorKind, Result};
pub use inspect::{AmcheckReport, ExtensionState, Inspection};
pub use kept::{KeptDatabase, Leftover, Recovery, RecoveryAction, RollbackPlan, RollbackReport};
pub use plan::{BackupFacts, Disk, ExtensionFact, Method, RestorePlan, SessionFact};
pub use report::{Difference, ProofReport, RestoreReport, StageTimes};
pub use request::{RestoreRequest, Snapshot, TableName, Target};
pub use restorer::Restorer;
pub use scratch::Scratch;
