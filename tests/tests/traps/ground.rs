//! Where tests stand that look at what a server has exported.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use pgkeep_testkit::{PostgresOptions, PostgresServer};

/// A PostgreSQL 17 that nobody else dumps from as long as the guard is held: the snapshot that it has exported is ours.
pub(crate) fn alone() -> (&'static PostgresServer, MutexGuard<'static, ()>) {
    static SERVER: OnceLock<PostgresServer> = OnceLock::new();
    static TURN: Mutex<()> = Mutex::new(());
    let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    (SERVER.get_or_init(|| PostgresServer::start(17, &PostgresOptions::default())), turn)
}
