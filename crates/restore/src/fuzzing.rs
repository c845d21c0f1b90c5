//! Parsers of what comes from outside, for the fuzz targets in fuzz/. No part of the interface.

use std::collections::BTreeSet;

use pgkeep_archive::Toc;
use pgkeep_dump::PrivateFacts;

use crate::database::Properties;
use crate::journal::{Construction, Note};
use crate::lists::{Lists, Routes, list_text};
use crate::needs::Needs;
use crate::roles::Globals;
use crate::settings::Outside;

/// Every statement that is made of a table of contents, to be executed by us. Of its data entries those with an even number are wanted if
/// `part`, else all.
pub fn statements(toc: &Toc, part: bool) -> Vec<Vec<u8>> {
    let lists = Lists::everything(&toc.entries);
    Needs::of(toc, &lists);
    for id in lists.before.iter().chain(&lists.after) {
        assert!(list_text(&toc.entries, &[*id]).lines().count() == 1, "a list has a line for an entry");
    }
    let routes = Routes::new(&toc.entries, |id| !part || id % 2 == 0);
    let mut statements: Vec<Vec<u8>> = toc
        .data_entries()
        .filter(|entry| entry.holds_copy_text())
        .flat_map(|entry| [routes.statement(entry), crate::proof::copy_out(entry, None)])
        .collect();
    for entry in toc.entries.iter().filter(|entry| entry.desc == "DATABASE") {
        let properties = Properties::from_definition(&entry.definition.lossy());
        statements.push(properties.create_statement("new", 180_000).into_bytes());
    }
    statements
}

/// Every statement that is made of a globals object, to be executed by us.
pub fn globals(text: &[u8]) -> Vec<String> {
    let mut statements = Globals::read(&String::from_utf8_lossy(text)).all();
    if let Ok(Some(facts)) = PrivateFacts::from_globals(text) {
        let roles: BTreeSet<String> = facts.grants.iter().flatten().map(|(role, _, _)| role.clone()).collect();
        let outside = Outside { facts: &facts, connection_limit: 1, owner: Some("owner"), roles: &roles, grants: true };
        statements.extend(outside.statements("new").0.into_iter().map(|statement| statement.sql));
    }
    statements
}

/// Whether a note in a repository, or in a comment on a database, can be read; written again, it is the same.
pub fn note(json: &[u8]) -> bool {
    let text = String::from_utf8_lossy(json);
    if let Some(construction) = Construction::read(&text) {
        assert_eq!(Construction::read(&construction.comment()), Some(construction), "it is written as it was read");
    }
    let Ok(note) = serde_json::from_slice::<Note>(json) else { return false };
    let again = serde_json::to_vec(&note).ok().and_then(|json| serde_json::from_slice::<Note>(&json).ok());
    assert_eq!(again.as_ref(), Some(&note), "it is written as it was read");
    true
}

/// The names in a list of columns.
pub fn column_names(list: &str) -> Vec<String> {
    crate::columns::column_names(list)
}
