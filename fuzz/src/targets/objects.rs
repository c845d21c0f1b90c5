//! Objects of a repository beside archives.

use std::path::{Component, Path};
use std::sync::OnceLock;

use pgkeep_core::{BackupId, Identities, Meta, Proof, Recipients, SourceRecord};
use pgkeep_storage::{Key, Location};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::sql::is_one;

/// The key of the corpus's encrypted seeds.
const IDENTITY: &str = include_str!("../../identity.txt");

/// A meta that is accepted is consistent, and is written as it was read.
pub(super) fn meta(input: &[u8]) {
    let _ = Meta::is_foreign(input);
    let Ok(meta) = Meta::from_json("meta", input) else { return };
    let again = Meta::from_json("meta", &meta.to_json().expect("it can be written")).expect("it can be read again");
    assert!(again == meta, "it is written as it was read");
    pgkeep_core::fuzzing::places(&meta);
    let (stored, plain) = (meta.frames.stored_offsets(), meta.frames.plain_offsets());
    assert!(stored.is_sorted() && plain.is_sorted(), "frames follow one another");
    let _ = (meta.is_whole(), meta.is_sealed(), meta.file(), meta.selects(&meta.selection));
    if meta.is_sealed() {
        let _ = meta.unseal(identities());
    }
}

/// The same of everything smaller.
pub(super) fn small(input: &[u8]) {
    round_trip::<Proof>(input);
    round_trip::<SourceRecord>(input);
    pgkeep_core::fuzzing::mark(input);
    pgkeep_core::fuzzing::epoch(input);
    pgkeep_restore::fuzzing::note(input);
    pgkeep::fuzzing::record(input);
}

fn round_trip<T: Serialize + DeserializeOwned + PartialEq>(json: &[u8]) {
    let Ok(object) = serde_json::from_slice::<T>(json) else { return };
    let Ok(written) = serde_json::to_vec(&object) else { return };
    let again = serde_json::from_slice::<T>(&written).expect("it can be read again");
    assert!(again == object, "it is written as it was read");
}

/// No key leads out of its folder, no location holds what may be a secret, no name of a backup is more than a name.
pub(super) fn names(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    if let Ok(key) = Key::new(text.as_ref()) {
        assert!(
            Path::new(key.as_str()).components().all(|part| matches!(part, Component::Normal(_))),
            "it stays below"
        );
        assert!(Path::new(key.as_str()).components().count() == key.segments().count(), "a segment is a name");
        assert!(Key::new(key.to_string()).is_ok_and(|again| again == key), "it is shown as it is");
        assert!(key.parent().is_none_or(|parent| parent.is_root() || key.below(&parent) == Some(key.name())));
    }
    if let Some(id) = BackupId::parse(&text) {
        assert!(Key::new(id.as_str()).is_ok_and(|key| key.segments().count() == 1) || id.as_str().len() > 255);
    }
    let location = Location::new(text.as_ref());
    if let Some((scheme, rest)) = location.as_str().split_once("://")
        && scheme != "file"
    {
        assert!(!rest.contains(['?', '#']), "tokens hide there");
    }
}

fn identities() -> &'static Identities {
    static IDENTITIES: OnceLock<Identities> = OnceLock::new();
    IDENTITIES.get_or_init(|| Identities::parse(IDENTITY).expect("a key"))
}

/// Files of age's format: opened or refused, by a key or a passphrase; and files of keys, without a word of them in the error.
pub(super) fn age(input: &[u8]) {
    if let Some(plain) = pgkeep_core::fuzzing::open(identities(), input) {
        assert!(plain.len() <= input.len(), "encryption makes nothing smaller");
    }
    // What a passphrase costs is what its header says, so only that it is asked for is tried.
    let text = String::from_utf8_lossy(input);
    let _ = Identities::parse(&text);
    if let Err(error) = Recipients::parse(text.lines()) {
        let said = error.to_string();
        assert!(!text.lines().any(|line| line.trim().len() > 20 && said.contains(line.trim())), "a key is not quoted");
    }
}

/// Of a globals object only single statements about roles, and about the one new database, are executed.
pub(super) fn globals(input: &[u8]) {
    let kinds: [&[&str]; 8] = [
        &["create", "role"],
        &["alter", "role"],
        &["comment", "on", "role"],
        &["grant"],
        &["alter", "database"],
        &["alter", "role"],
        &["security", "label"],
        &["revoke", "all", "on", "database"],
    ];
    for statement in pgkeep_restore::fuzzing::globals(input) {
        assert!(kinds.iter().any(|kind| is_one(statement.as_bytes(), kind)), "{statement}");
    }
    pgkeep_dump::globals_warnings(input);
}
