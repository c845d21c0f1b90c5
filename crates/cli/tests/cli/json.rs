//! The document on stdout.

use crate::{World, nobody};

#[test]
fn of_a_failure() {
    let world = World::new();
    insta::assert_snapshot!(world.stable(&world.pgkeep("backup --output json", &[]).stdout), @r#"
    {
      "version": 1,
      "command": "backup",
      "outcome": "failed",
      "tool_version": "0.1.0",
      "started_at": "[TIME]",
      "elapsed_seconds": [SECONDS],
      "warnings": [],
      "error": {
        "code": "database_url_missing",
        "exit": 2,
        "message": "DATABASE_URL is not set",
        "hint": "set DATABASE_URL=postgresql://user:password@host:5432/dbname in the environment, in ./.env or in pgkeep.toml"
      }
    }
    "#);
}

#[test]
fn of_arguments_that_are_not_understood() {
    let world = World::new();
    let gave = world.pgkeep("list --output=json --sort", &[]);
    assert_eq!(gave.code, 2);
    let document: serde_json::Value = serde_json::from_str(&gave.stdout).unwrap();
    assert_eq!(document["command"], "list");
    assert_eq!(document["error"]["message"], "unexpected argument '--sort' found");
}

#[test]
fn of_an_empty_repository() {
    let world = World::new();
    let document: serde_json::Value = serde_json::from_str(&world.pgkeep("list --output json", &[]).stdout).unwrap();
    assert_eq!(document["backups"], serde_json::json!([]));
    assert_eq!(document["outcome"], "ok");
}

#[test]
fn is_the_only_thing_on_stdout() {
    let world = World::new();
    let url = nobody();
    let gave = world.pgkeep("backup --output json --verbose", &[("DATABASE_URL", &url)]);
    let document: serde_json::Value = serde_json::from_str(&gave.stdout).unwrap();
    assert_eq!(document["error"]["code"], "database_unreachable");
    assert!(gave.stderr.contains("[INFO] Database Backup Started"), "{}", gave.stderr);
}
