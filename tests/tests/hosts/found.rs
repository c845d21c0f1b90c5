//! What the tests found, as it stands in docs/RELIABILITY.md.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

const COLUMNS: [&str; 3] = ["at the same time", "how often", "what holds"];

/// What the rows are about, in the order of the document; each test reports one of them when it has held.
const ROWS: [&str; 8] = [
    "`backup`, `prune`, `verify --all`, `list`, `restore --target-db` of two hosts, and a reader",
    "two hosts' backups, one of them stopped (SIGSTOP) in the middle",
    "a backup before its meta, and another host's `unlock` and `prune`",
    "a host that died holding the lock, and another one",
    "a host that holds the lock and lives, and another one",
    "two cron jobs of one host in the same second",
    "two cron jobs of one host in the same second that do not wait",
    "two hosts on a store that does not look at conditions",
];

/// A row without its first cell. The last test to report holds the table against the document.
pub(crate) fn report(what: &'static str, cells: [&str; 2]) {
    static FOUND: Mutex<BTreeMap<usize, Vec<String>>> = Mutex::new(BTreeMap::new());
    let place = ROWS.iter().position(|row| *row == what).unwrap_or_else(|| panic!("no row is about {what}"));
    let row = std::iter::once(what).chain(cells).map(str::to_owned).collect();
    let mut found = FOUND.lock().unwrap_or_else(PoisonError::into_inner);
    found.insert(place, row);
    if found.len() == ROWS.len() {
        let rows: Vec<_> = found.values().cloned().collect();
        pgkeep_testkit::hold_against_document("hosts", &COLUMNS, &rows);
    }
}
