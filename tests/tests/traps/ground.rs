//! Where tests stand that look at what a server has exported.

use std::sync::OnceLock;

use pgkeep_testkit::{PostgresOptions, PostgresServer};
use tokio::sync::{Mutex, MutexGuard};

/// A PostgreSQL 17 that nobody else dumps from as long as the guard is held: the snapshot that it has exported is ours.
pub(crate) async fn alone() -> (&'static PostgresServer, MutexGuard<'static, ()>) {
    static SERVER: OnceLock<PostgresServer> = OnceLock::new();
    static TURN: Mutex<()> = Mutex::const_new(());
    let turn = TURN.lock().await;
    (SERVER.get_or_init(|| PostgresServer::start(17, &PostgresOptions::default())), turn)
}
