//! Every field of a meta without its digest: what else holds it to the archive, and what nothing does.

use std::collections::BTreeMap;

use pgkeep_core::VerifyDepth;
use pgkeep_testkit::hold_against_document;
use serde_json::{Value, json};

use super::repository::{Repository, all};

/// What notices an altered field, in the order in which things happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Noticed {
    Reading,
    Quick,
    Stored,
    Deep,
    Never,
}

/// A field's name in a meta, list items without their number, and a pointer to it.
type Field = (String, String);

fn fields(value: &Value, name: &str, pointer: &str, found: &mut Vec<Field>) {
    match value {
        Value::Object(object) => {
            for (key, value) in object {
                let name = if name.is_empty() { key.clone() } else { format!("{name}.{key}") };
                fields(value, &name, &format!("{pointer}/{key}"), found);
            }
        }
        Value::Array(list) => {
            for (number, value) in list.iter().enumerate() {
                fields(value, &format!("{name}[]"), &format!("{pointer}/{number}"), found);
            }
        }
        _ => found.push((name.to_owned(), pointer.to_owned())),
    }
}

/// Another value of the same kind.
fn another(value: &Value) -> Value {
    match value {
        Value::Null => json!("x"),
        Value::Bool(flag) => json!(!flag),
        Value::Number(number) => json!(number.as_i64().expect("an integer of this size") + 1),
        // A digit or letter that may stand there as well, as late in it as there is one: of a time, its second.
        Value::String(text) => {
            let Some(at) = text.rfind(|c: char| c.is_ascii_alphanumeric() && c != 'Z') else { return json!("x") };
            let with = if &text[at..=at] == "1" { "2" } else { "1" };
            json!(format!("{}{with}{}", &text[..at], &text[at + 1..]))
        }
        _ => unreachable!("only leaves are altered"),
    }
}

async fn noticed(repository: &Repository, meta: &Value) -> Noticed {
    let objects = repository.with(&repository.meta_key(), meta.to_string());
    let opened = repository.opened(&objects).await;
    if opened.entry().is_none() {
        return Noticed::Reading;
    }
    for (depth, noticed) in [
        (VerifyDepth::Quick, Noticed::Quick),
        (VerifyDepth::Stored, Noticed::Stored),
        (VerifyDepth::Deep, Noticed::Deep),
    ] {
        if !opened.verify(depth).await.is_empty() {
            return noticed;
        }
    }
    let source = opened.source().unwrap();
    assert_eq!(all(source.open(1).await).await.unwrap(), repository.plain, "what is restored is what was dumped");
    Noticed::Never
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_a_meta_without_its_digest_what_describes_the_archive_is_still_held_to_it() {
    let repository = Repository::new("zstd:1", false).await;
    let mut sound: Value = serde_json::from_slice(&repository.objects[&repository.meta_key()]).unwrap();
    let digest = sound.as_object_mut().unwrap().remove("self_sha256");
    assert!(digest.is_some(), "with it, nothing can be altered (records.rs)");
    assert_eq!(noticed(&repository, &sound).await, Noticed::Never, "the meta of an older version");
    let mut all = Vec::new();
    fields(&sound, "", "", &mut all);
    let mut by_name: BTreeMap<String, Vec<Noticed>> = BTreeMap::new();
    for (name, pointer) in all {
        let mut altered = sound.clone();
        let value = altered.pointer_mut(&pointer).unwrap();
        *value = another(value);
        by_name.entry(name).or_default().push(noticed(&repository, &altered).await);
    }
    // Items left out of lists, or there twice.
    for list in ["entries", "sequences", "large_objects.blocks"] {
        let pointer = format!("/{}", list.replace('.', "/"));
        for twice in [false, true] {
            let mut altered = sound.clone();
            let items = altered.pointer_mut(&pointer).and_then(Value::as_array_mut).unwrap();
            let last = items.pop().expect("an item");
            items.extend(if twice { vec![last.clone(), last] } else { Vec::new() });
            by_name
                .entry(format!("{list}, an item more or less"))
                .or_default()
                .push(noticed(&repository, &altered).await);
        }
    }

    let mut rows: BTreeMap<Noticed, Vec<String>> = BTreeMap::new();
    for (name, outcomes) in by_name {
        let latest = outcomes.into_iter().max().expect("an outcome");
        rows.entry(latest).or_default().push(format!("`{name}`"));
    }
    let rows: Vec<Vec<String>> = rows
        .into_iter()
        .map(|(noticed, names)| {
            let by = match noticed {
                Noticed::Reading => "reading the meta",
                Noticed::Quick => "`verify --quick`",
                Noticed::Stored => "`verify --stored`",
                Noticed::Deep => "`verify --deep`",
                Noticed::Never => "its own digest alone",
            };
            vec![by.to_owned(), names.join(", ")]
        })
        .collect();
    hold_against_document("damage-fields", &["noticed by", "fields"], &rows);
}
