//! What the tests found, as it stands in docs/RELIABILITY.md.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

const COLUMNS: [&str; 5] = ["killed", "when", "kills", "right after each of them", "the next run"];

/// What the rows are about, in the order of the document; each test reports one of them when it has held.
const ROWS: [&str; 14] = [
    "`backup` to a bucket",
    "`backup` to a folder, `parallel` engine",
    "`backup` to a folder, `pg_dump` engine",
    "`prune` of a bucket",
    "`prune` of a folder",
    "`restore`, with a pre-restore snapshot",
    "`restore`, at the exchange of names",
    "`restore --target-db`",
    "`restore --in-place`",
    "`restore --table`",
    "`rollback`",
    "`drill` in a scratch database",
    "`drill --scratch`",
    "`schedule install`, `remove`: crontab",
];
const MORE_ROWS: [&str; 3] =
    ["`schedule install`, `remove`: systemd's units", "Prometheus textfile", "taking over a dead run's lock"];

/// A row without its first cell. The last test to report holds the table against the document.
pub(crate) fn report(what: &'static str, cells: [&str; 4]) {
    static FOUND: Mutex<BTreeMap<usize, Vec<String>>> = Mutex::new(BTreeMap::new());
    let order: Vec<&str> = ROWS.iter().chain(&MORE_ROWS).copied().collect();
    let place = order.iter().position(|row| *row == what).unwrap_or_else(|| panic!("no row is about {what}"));
    let row = std::iter::once(what).chain(cells).map(str::to_owned).collect();
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    found.insert(place, row);
    if found.len() == order.len() {
        let rows: Vec<_> = found.values().cloned().collect();
        pgkeep_testkit::hold_against_document("crashes", &COLUMNS, &rows);
    }
}
