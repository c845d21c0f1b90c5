//! Exit codes and error codes, as a table.

use crate::{World, nobody};

/// Program, arguments, variables; exit code, `error.code`.
type Case<'c> = (&'c str, Vec<(&'c str, &'c str)>, i32, &'c str);

#[test]
fn the_table() {
    let url = nobody();
    let url = ("DATABASE_URL", url.as_str());
    let keys = [("AWS_ACCESS_KEY_ID", "id"), ("AWS_SECRET_ACCESS_KEY", "s3cret")];
    let cases: Vec<Case<'_>> = vec![
        ("bakcup", vec![], 2, "usage"),
        ("backup --daily --weekly", vec![], 2, "usage"),
        ("restore", vec![], 2, "usage"),
        ("restore x --before yesterday", vec![], 2, "usage"),
        ("backup", vec![], 2, "database_url_missing"),
        ("backup", vec![("DATABASE_URL", "mysql://u:s3cret@h/d")], 2, "database_url_invalid"),
        ("backup", vec![("DATABASE_URL", "postgresql://u:s3cret@h/d?sslmood=require")], 2, "database_url_invalid"),
        ("backup", vec![("DATABASE_URL", "postgresql://u:s3@cret@h/d")], 2, "database_url_invalid"),
        ("backup --jobs many", vec![url], 2, "settings_invalid"),
        ("backup --compression rar", vec![url], 2, "settings_invalid"),
        ("backup --engine quick", vec![url], 2, "settings_invalid"),
        ("backup --wait soon", vec![url], 2, "settings_invalid"),
        ("backup", vec![url, ("PGDUMP_OPTIONS", "--inserts")], 2, "settings_invalid"),
        ("backup", vec![url, ("BACKUP_ENCRYPT_TO", "age1")], 2, "recipient_invalid"),
        ("backup --encrypt-to AGE-SECRET-KEY-1s3cret", vec![url], 2, "recipient_invalid"),
        ("backup --encrypt-to passphrase", vec![url], 2, "key_missing"),
        ("backup --encrypt-to passphrase --encrypt-to age1", vec![url], 2, "recipient_invalid"),
        ("backup --encrypt-to ./missing.keys", vec![url], 2, "recipient_invalid"),
        ("verify ./saved.dump.age", vec![], 2, "key_missing"),
        ("verify ./saved.dump.age --identity missing.key", vec![], 2, "identity_invalid"),
        ("verify ./saved.dump.age --identity garbage.dump", vec![], 2, "identity_invalid"),
        ("keygen", vec![], 2, "usage"),
        ("keygen --to garbage.dump", vec![], 2, "usage"),
        ("backup", vec![url, ("AWS_S3_BACKUP_BUCKET", "b"), ("BACKUP_STORE", "s3://b")], 2, "settings_invalid"),
        ("backup", vec![url, ("AWS_S3_BACKUP_BUCKET", "b"), ("AWS_ACCESS_KEY_ID", "id")], 2, "settings_invalid"),
        ("list --config missing.toml", vec![], 2, "settings_invalid"),
        ("list --all", vec![], 2, "settings_invalid"),
        ("list --all --database x", vec![], 2, "usage"),
        ("list --database x", vec![], 2, "settings_invalid"),
        ("init", vec![], 2, "no_terminal"),
        ("init --database-url mysql://u:s3cret@h/d", vec![], 2, "database_url_invalid"),
        ("init --database-url postgresql://u:s3cret@h/d --dir none", vec![], 2, "destination_missing"),
        ("init --database-url postgresql://u@h/d --store ftp://b", vec![], 2, "settings_invalid"),
        ("check", vec![], 2, "database_url_missing"),
        ("check", vec![url], 5, "database_unreachable"),
        ("check --iam-policy", vec![], 2, "destination_missing"),
        ("check --iam-policy owner", vec![], 2, "usage"),
        ("list --env-file missing.env", vec![], 2, "settings_invalid"),
        ("list", vec![("BACKUP_DIR", "none")], 2, "destination_missing"),
        (
            "backup --no-upload",
            vec![url, keys[0], keys[1], ("BACKUP_DIR", "none"), ("AWS_S3_BACKUP_BUCKET", "b")],
            2,
            "destination_missing",
        ),
        ("show --latest", vec![], 3, "nothing_matched"),
        ("show daily_20251017", vec![], 3, "nothing_matched"),
        ("verify --all", vec![], 3, "nothing_matched"),
        ("restore --latest", vec![url], 3, "nothing_matched"),
        ("restore /nowhere/daily.dump.gz", vec![url], 3, "nothing_matched"),
        ("export --latest --to x", vec![], 3, "nothing_matched"),
        ("export --latest", vec![], 2, "usage"),
        ("adopt /nowhere/x.dump", vec![], 3, "nothing_matched"),
        ("verify ./garbage.dump", vec![], 4, "not_an_archive"),
        ("backup", vec![url], 5, "database_unreachable"),
        ("drill --restore-only", vec![url], 3, "nothing_matched"),
        ("drill --monthly --backup x", vec![url], 3, "nothing_matched"),
        ("drill --full --performance", vec![url], 2, "usage"),
        ("drill", vec![url, ("BACKUP_RTO", "soon")], 2, "settings_invalid"),
        ("drill", vec![], 2, "database_url_missing"),
        ("drill", vec![url], 5, "database_unreachable"),
        ("status", vec![], 10, "overdue"),
        ("status", vec![url], 10, "overdue"),
        ("status", vec![("BACKUP_RPO", "soon")], 2, "settings_invalid"),
        ("rollback", vec![url], 5, "database_unreachable"),
        ("backup", vec![url, ("BACKUP_DIR", "/proc/nowhere")], 6, "permission_denied"),
    ];
    let world = World::new();
    world.write("garbage.dump", "this is no archive, it is a text");
    world.write("saved.dump.age", "age-encryption.org/v1\n");
    for (arguments, variables, exit, code) in cases {
        let gave = world.pgkeep(&format!("{arguments} --output json"), &variables);
        let document: serde_json::Value = serde_json::from_str(&gave.stdout)
            .unwrap_or_else(|error| panic!("{arguments}: {error}: {}{}", gave.stdout, gave.stderr));
        assert_eq!((gave.code, document["error"]["code"].as_str()), (exit, Some(code)), "{arguments}: {}", gave.stdout);
        assert_eq!(document["outcome"], "failed", "{arguments}");
        assert_eq!(document["error"]["exit"], exit, "{arguments}");
        assert!(!format!("{}{}", gave.stdout, gave.stderr).contains("s3cret"), "{arguments}");
        assert!(!format!("{}{}", gave.stdout, gave.stderr).contains("s3@cret"), "{arguments}");
    }
}

#[test]
fn an_unreachable_store() {
    let world = World::new();
    let endpoint = format!("http://127.0.0.1:{}", crate::closed_port());
    let variables = [
        ("AWS_S3_BACKUP_BUCKET", "b"),
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_ACCESS_KEY_ID", "id"),
        ("AWS_SECRET_ACCESS_KEY", "s3cret"),
        ("BACKUP_DIR", "none"),
    ];
    let gave = world.pgkeep("list", &variables);
    assert_eq!(gave.code, 6, "{}", gave.stderr);
    assert!(gave.stderr.contains("s3://b/database-backups could not be reached"), "{}", gave.stderr);
    assert!(gave.stderr.contains("hint: check the network"), "{}", gave.stderr);
}

#[test]
fn nothing_is_asked_without_a_terminal() {
    let world = World::new();
    let gave = world.pgkeep("unlock", &[]);
    assert_eq!((gave.code, gave.stdout.as_str()), (0, "nothing is locked\n"));
}

#[test]
fn warnings_are_an_exit_code_under_strict() {
    let world = World::new();
    world.write("log", "");
    let variables = [("LOG_FILE", "log/backups.log")];
    assert_eq!(world.pgkeep("prune", &variables).code, 0);
    assert_eq!(world.pgkeep("prune --strict", &variables).code, 8);
    let gave = world.pgkeep("prune --output json", &variables);
    assert!(gave.stdout.contains("\"outcome\": \"warnings\""), "{}", gave.stdout);
}

#[test]
fn a_reader_that_goes_away_is_no_failure() {
    let world = World::new();
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_pgkeep"));
    let output = command
        .args(["completions", "bash"])
        .current_dir(world.path())
        .stdout(writer)
        .stderr(std::process::Stdio::piped())
        .output()
        .unwrap();
    assert_eq!((output.status.code(), output.stderr.as_slice()), (Some(0), b"".as_slice()));
}
