//! Backups whose n-th statement goes wrong.

use std::collections::BTreeMap;
use std::path::PathBuf;

use bytes::Bytes;
use serde_json::Value;
use sha2::{Digest, Sha256};

use crate::ground::{Came, Ground, everything};
use crate::relay::{Act, Whose};
use crate::table::suffices;

/// What statements are refused with: cancelled, no memory, a lock that is not to be had, a bug, a permission.
pub(crate) const ACTS: [Act; 10] = [
    Act::Cut,
    Act::Refuse("57014"),
    Act::Torn,
    Act::Refuse("53200"),
    Act::Stall,
    Act::Refuse("55P03"),
    Act::End,
    Act::Refuse("XX000"),
    Act::Down,
    Act::Refuse("42501"),
];

/// Those to try out on a statement: all of them, or the next in turn.
pub(crate) fn acts(turn: usize) -> Vec<Act> {
    if everything() { ACTS.to_vec() } else { vec![ACTS[turn % ACTS.len()]] }
}

/// A run that failed ends with the exit code of its cause, says why, and what to do next.
pub(crate) fn why_is_told(came: &Came, struck: Option<&str>, act: Act, what: &str) {
    let expected = match (struck, act) {
        (None, _) => vec![0],
        // A server that does not answer while names are exchanged.
        (Some(_), Act::Stall) if came.error("code") == "restore_uncertain" => vec![5],
        (Some(_), Act::Stall) => vec![0, 143],
        // In place, what cannot be dropped is named, and nothing is.
        (Some(_), Act::Refuse(_)) if came.error("code") == "blocked" && came.error("message").contains(" stays: ") => {
            vec![2]
        }
        // What a drill finds out is damage.
        _ => vec![0, 5, 4],
    };
    assert!(came.run.code.is_some_and(|code| expected.contains(&code)), "{what}: {:?}\n{came}", came.signal);
    if came.run.code == Some(0) {
        return;
    }
    let message = came.error("message");
    assert!(message.split_whitespace().count() > 2 || act == Act::Stall, "{what}: {message}\n{came}");
    let explains_itself = act == Act::Stall || came.error("code") == "blocked";
    assert!(explains_itself || came.run.stderr.contains("hint: "), "{what}: no hint\n{came}");
    assert!(!message.contains("in the middle of an operation"), "{what}: not why, but what followed: {message}");
}

/// Rows and bytes of everything in a backup.
fn contents(meta: &Value) -> Vec<Value> {
    let entries = meta["entries"].as_array().unwrap();
    entries
        .iter()
        .map(|entry| serde_json::json!([entry["schema"], entry["name"], entry["rows"], entry["bytes"]]))
        .collect()
}

fn meta(path: &std::path::Path) -> Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// A backup that says it is good is good; one that failed is not there, and says why.
fn judge(ground: &Ground, before: &BTreeMap<PathBuf, Vec<u8>>, whole: &Value, came: &Came, what: &str) {
    let after = ground.repository();
    if came.run.code == Some(0) {
        let new: Vec<_> = after.keys().filter(|path| !before.contains_key(*path)).collect();
        let [new_meta] =
            &new.iter().filter(|path| path.extension().is_some_and(|end| end == "meta")).collect::<Vec<_>>()[..]
        else {
            panic!("{what}: {new:?}\n{came}")
        };
        let found = meta(new_meta);
        assert_eq!(contents(&found), contents(whole), "{what}: rows are missing without a word\n{came}");
        let archive = Bytes::copy_from_slice(&Sha256::digest(&after[&new_meta.with_extension("")]));
        assert_eq!(found["stored"]["sha256"], format!("{archive:x}"), "{what}");
        if found["globals"]["plain_bytes"] != whole["globals"]["plain_bytes"] {
            assert!(!came.warnings().is_empty(), "{what}: roles are missing without a word\n{came}");
        }
        for path in new {
            std::fs::remove_file(path).unwrap();
        }
    } else {
        assert_eq!(&after, before, "{what}: a failed backup leaves something\n{came}");
    }
}

fn sweep(engine: &str, whose: Whose, stride: usize) -> usize {
    let mut ground = Ground::new(&format!("fault_{engine}"));
    ground.setup.set("BACKUP_ENGINE", engine);
    ground.setup.pgkeep(&["backup"]);
    let before = ground.repository();
    let whole = meta(before.keys().find(|path| path.extension().is_some_and(|end| end == "meta")).unwrap());
    let mut points = 0;
    for nth in (1..).step_by(if everything() { 1 } else { stride }) {
        let mut reached = false;
        for act in acts(nth / stride) {
            let came = ground.run_with(&["backup", "--weekly", "--no-prune"], whose, nth, act);
            let struck = ground.relay.struck();
            reached |= struck.is_some();
            points += usize::from(struck.is_some());
            let what = format!("{engine}, {whose:?} {nth}, {act:?}: {}", struck.as_deref().unwrap_or("nothing"));
            judge(&ground, &before, &whole, &came, &what);
            why_is_told(&came, struck.as_deref(), act, &what);
            ground.nothing_lingers(&what);
        }
        if !reached {
            break;
        }
    }
    points
}

#[test]
fn any_statement_of_our_own_by_several_sessions() {
    suffices("backup::any_statement_of_our_own_by_several_sessions", sweep("parallel", Whose::Ours, 2));
}

#[test]
fn any_statement_of_pg_dump_beside_our_sessions() {
    suffices("backup::any_statement_of_pg_dump_beside_our_sessions", sweep("parallel", Whose::Tools, 15));
}

#[test]
fn any_statement_of_pg_dump_alone() {
    suffices("backup::any_statement_of_pg_dump_alone", sweep("pg_dump", Whose::Tools, 13));
}

#[test]
fn any_statement_of_our_own_beside_pg_dump() {
    suffices("backup::any_statement_of_our_own_beside_pg_dump", sweep("pg_dump", Whose::Ours, 3));
}
