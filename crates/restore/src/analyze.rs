//! Planner statistics: a database without them is an outage by bad plans (POSTGRES A14).

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};

use pgkeep_dump::{ConnectSettings, Connection, SessionSettings};
use tokio::task::JoinSet;

use crate::error::Doing;
use crate::{Error, Result};

/// Tables and materialized views, the largest first. A partitioned table's ANALYZE does its partitions too.
const TABLES: &str = "SELECT pg_catalog.format('%I.%I', n.nspname, c.relname) \
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace \
    WHERE c.relkind IN ('r', 'm', 'p') AND NOT c.relispartition AND c.relpersistence <> 't' \
    AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_' \
    ORDER BY c.relkind = 'p' DESC, pg_catalog.pg_relation_size(c.oid) DESC, 1";

/// Analyses every table of the database, or `only` these (qualified names), with `jobs` sessions.
pub(crate) async fn analyze(settings: &ConnectSettings, jobs: usize, only: Option<Vec<Vec<u8>>>) -> Result<()> {
    let doing = "collecting statistics (ANALYZE)";
    let mut connection = Connection::connect(settings, SessionSettings::Load).await.doing(doing)?;
    let tables: VecDeque<Vec<u8>> = if let Some(tables) = only {
        tables.into()
    } else {
        let rows = connection.query(TABLES).await.doing(doing)?;
        rows.iter().filter_map(|row| row.bytes(0).map(|name| name.to_vec())).collect()
    };
    let more = jobs.min(tables.len()).saturating_sub(1);
    let queue = Arc::new(Mutex::new(tables));
    let mut tasks = JoinSet::new();
    tasks.spawn(run(connection, Arc::clone(&queue)));
    for _ in 0..more {
        let connection = Connection::connect(settings, SessionSettings::Load).await.doing(doing)?;
        tasks.spawn(run(connection, Arc::clone(&queue)));
    }
    while let Some(ended) = tasks.join_next().await {
        ended.map_err(|error| Error::Task(error.to_string()))?.doing(doing)?;
    }
    Ok(())
}

async fn run(mut connection: Connection, queue: Arc<Mutex<VecDeque<Vec<u8>>>>) -> Result<(), pgkeep_dump::Error> {
    loop {
        let next = queue.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
        let Some(table) = next else { break };
        let mut sql = b"ANALYZE ".to_vec();
        sql.extend(table);
        connection.execute(&sql).await?;
    }
    connection.close().await
}
