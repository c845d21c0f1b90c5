//! `pgkeep status`: before any backup, after one, unproven, overdue, with the server or a store away; and its page.

use pgkeep_testkit::{PostgresServer, ScratchDatabase, saas};
use roxmltree::{Document, ParsingOptions};
use serde_json::Value;

use crate::setup::{Run, Setup};

fn source(label: &str) -> (ScratchDatabase<'static>, Setup) {
    let source = PostgresServer::shared(17).create_database(label);
    saas::load(source.server(), &source, 0.03);
    let setup = Setup::new(&source.url());
    (source, setup)
}

fn json(run: &Run) -> Value {
    serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}: {run}"))
}

#[test]
fn from_nothing_to_proven_to_overdue() {
    let (source, mut setup) = source("status");
    let none = setup.run("pgkeep", &["status"]);
    none.failed_with(10, &["there is no backup yet"]);
    assert!(none.stdout.contains("Would I get my data back?   NO"), "{none}");

    setup.pgkeep(&["backup"]);
    let unproven = setup.run("pgkeep", &["status", "--output", "json"]);
    assert_eq!(unproven.code, Some(10), "{unproven}");
    assert_eq!(json(&unproven)["error"]["code"], "unproven");

    setup.pgkeep(&["verify", "--latest", "--deep"]);
    let verified = setup.pgkeep(&["status"]);
    assert!(verified.stdout.contains("PROBABLY") && verified.stdout.contains("never measured"), "{verified}");

    setup.pgkeep(&["drill", "--restore-only"]);
    let proven = setup.pgkeep(&["status"]);
    assert!(proven.stdout.contains("YES") && proven.stdout.contains("Nothing is wrong."), "{proven}");
    let document = json(&setup.pgkeep(&["status", "--output", "json"]));
    assert!(document["status"]["restore_seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{document}");
    assert_eq!(document["status"]["problems"].as_array().map(Vec::len), Some(0));

    // What a restore keeps is told until it is dropped.
    setup.pgkeep(&["restore", "--latest", "--yes", "--skip-snapshot"]);
    let kept = setup.pgkeep(&["status"]);
    assert!(
        kept.stdout.contains(&format!("{}_before_", source.name())) && kept.stdout.contains("DROP DATABASE"),
        "{kept}"
    );

    setup.set("BACKUP_RPO", "0s");
    setup.set("BACKUP_GRACE", "0s");
    std::thread::sleep(std::time::Duration::from_secs(1));
    let overdue = setup.run("pgkeep", &["status", "--output", "json"]);
    assert_eq!(overdue.code, Some(10), "{overdue}");
    assert_eq!(json(&overdue)["error"]["code"], "overdue");
}

#[test]
fn works_while_the_server_is_down_and_says_when_a_store_is() {
    let (_source, mut setup) = source("away");
    setup.pgkeep(&["backup"]);
    setup.pgkeep(&["drill", "--restore-only"]);
    setup.set("DATABASE_URL", "postgresql://postgres:s3cret@127.0.0.1:1/app");
    let down = setup.pgkeep(&["status"]);
    assert!(down.stdout.contains("YES") && down.stdout.contains("could not be asked"), "{down}");
    assert!(!down.to_string().contains("s3cret"));

    for (name, value) in [
        ("AWS_S3_BACKUP_BUCKET", "b"),
        ("AWS_ENDPOINT_URL", "http://127.0.0.1:1"),
        ("AWS_ACCESS_KEY_ID", "id"),
        ("AWS_SECRET_ACCESS_KEY", "s3cret"),
    ] {
        setup.set(name, value);
    }
    let half = setup.run("pgkeep", &["status"]);
    half.failed_with(6, &["could not be listed"]);
    assert!(half.stdout.contains("YES"), "the local copies are told of all the same: {half}");
    setup.set("BACKUP_DIR", "none");
    setup.run("pgkeep", &["status"]).failed_with(6, &["s3://b"]);
}

#[test]
fn the_page_is_well_formed_and_needs_nothing_else() {
    let (_source, setup) = source("page");
    let setup = setup.with("BACKUP_SOURCE_NAME", "<script>alert(1)</script> & \"co\"");
    setup.pgkeep(&["backup"]);
    setup.pgkeep(&["backup", "--weekly"]);
    setup.pgkeep(&["drill", "--restore-only"]);
    setup.pgkeep(&["status", "--html", "status.html"]);
    let page = std::fs::read_to_string(setup.folder().join("status.html")).expect("written");
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    let document = Document::parse_with_options(&page, options).unwrap_or_else(|error| panic!("{error}\n{page}"));
    for node in document.descendants().filter(roxmltree::Node::is_element) {
        let name = node.tag_name().name();
        assert!(!["script", "link", "img", "iframe", "object", "embed", "base"].contains(&name), "<{name}>");
        for attribute in node.attributes() {
            let (name, value) = (attribute.name(), attribute.value());
            assert!(!["src", "href", "srcset", "action"].contains(&name) && !name.starts_with("on"), "{name}={value}");
        }
    }
    assert!(!page.contains("url(") && !page.contains("@import"), "the style fetches nothing");
    let heading = document.descendants().find(|node| node.has_tag_name("h1")).and_then(|node| node.text());
    assert!(heading.is_some_and(|text| text.contains("<script>alert(1)</script> & \"co\"")), "{heading:?}");
    // Daily and weekly, their sizes and durations, and the restore.
    assert_eq!(document.descendants().filter(|node| node.has_tag_name("polyline")).count(), 5);
    assert!(document.descendants().any(|node| node.attribute("class") == Some("proof-restore")));
    // An empty repository has a page too.
    let empty = Setup::new("postgresql://127.0.0.1:1/app");
    assert_eq!(empty.run("pgkeep", &["status", "--html", "empty.html"]).code, Some(10));
    let page = std::fs::read_to_string(empty.folder().join("empty.html")).expect("written");
    let options = ParsingOptions { allow_dtd: true, ..ParsingOptions::default() };
    assert!(Document::parse_with_options(&page, options).is_ok(), "{page}");
}
