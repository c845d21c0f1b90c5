//! Where settings come from. What `list` says of an empty repository tells which place was taken.

use std::os::unix::fs::PermissionsExt;

use crate::World;

fn place(world: &World, arguments: &str, variables: &[(&str, &str)]) -> String {
    let gave = world.pgkeep(&format!("list {arguments}"), variables);
    assert_eq!(gave.code, 0, "{}", gave.stderr);
    world.stable(&gave.stderr)
}

#[test]
fn precedence() {
    let world = World::new();
    world.write("pgkeep.toml", "backup_dir = 'from-toml'\n");
    let unset = [("BACKUP_DIR", "")];
    assert_eq!(place(&world, "", &unset), "[TIME] [INFO] no backups at file://[FOLDER]/from-toml");
    world.write(".env", "BACKUP_DIR=from-dot-env\n");
    assert_eq!(place(&world, "", &unset), "[TIME] [INFO] no backups at file://[FOLDER]/from-dot-env");
    world.write("other.env", "BACKUP_DIR=from-env-file\n");
    assert_eq!(
        place(&world, "--env-file other.env", &unset),
        "[TIME] [INFO] no backups at file://[FOLDER]/from-env-file"
    );
    assert_eq!(
        place(&world, "", &[("BACKUP_DIR", "from-environment")]),
        "[TIME] [INFO] no backups at file://[FOLDER]/from-environment"
    );
}

#[test]
fn a_dot_env_that_others_can_write_is_left_out_and_named() {
    let world = World::new();
    world.write(".env", "BACKUP_DIR=evil\n");
    let path = world.path().join(".env");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    insta::assert_snapshot!(place(&world, "", &[]), @r"
    [TIME] [WARN] [FOLDER]/.env is not read: others can write it (mode 666); chmod go-w makes it acceptable
    [TIME] [INFO] no backups at file://[FOLDER]/backups
    ");
    let gave = world.pgkeep("list --env-file .env --output json", &[]);
    assert_eq!(gave.code, 2);
    assert!(gave.stdout.contains("env_file_refused"), "{}", gave.stdout);
}

#[test]
fn a_dot_env_names_no_programs() {
    let world = World::new();
    world.write(".env", "PG_BINDIRS=/tmp/evil\n");
    insta::assert_snapshot!(place(&world, "", &[]), @r"
    [TIME] [WARN] PG_BINDIRS in [FOLDER]/.env is left out: an env-file names no programs
    [TIME] [INFO] no backups at file://[FOLDER]/backups
    ");
}

#[test]
fn an_unknown_key_is_an_error_with_a_suggestion() {
    let world = World::new();
    world.write("pgkeep.toml", "buckett = 'b'\n");
    let gave = world.pgkeep("list", &[]);
    assert_eq!(gave.code, 2);
    insta::assert_snapshot!(world.stable(&gave.stderr), @r"
    [TIME] [ERROR] [FOLDER]/pgkeep.toml: unknown key buckett
    [TIME] [ERROR] hint: did you mean bucket?
    ");
}

#[test]
fn a_database_of_the_config_file_is_chosen_by_name() {
    let world = World::new();
    world.write("pgkeep.toml", "backup_dir = 'b'\n[[database]]\nname = 'shop'\n[[database]]\nname = 'crm'\n");
    let unset = [("BACKUP_DIR", "")];
    assert_eq!(place(&world, "--database crm", &unset), "[TIME] [INFO] no backups at file://[FOLDER]/b/crm");
    let gave = world.pgkeep("list", &unset);
    assert_eq!(gave.code, 2);
    assert!(gave.stderr.contains("has several databases: shop, crm"), "{}", gave.stderr);
}

#[test]
fn a_config_file_that_others_can_write_is_refused() {
    let world = World::new();
    world.write("pgkeep.toml", "[hooks]\nbefore_backup = '/tmp/evil'\n");
    let path = world.path().join("pgkeep.toml");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o666)).unwrap();
    let gave = world.pgkeep("list", &[]);
    assert_eq!(gave.code, 2, "{}", gave.stderr);
    assert!(gave.stderr.contains("others can write it (mode 666)"), "{}", gave.stderr);
}

#[test]
fn a_dot_env_names_no_hooks() {
    let world = World::new();
    world.write(".env", "BACKUP_HOOK_BEFORE_BACKUP=/tmp/evil\nBACKUP_HOOK_AFTER_RESTORE=/tmp/evil\n");
    let told = place(&world, "", &[]);
    assert_eq!(told.matches("is left out: an env-file names no programs").count(), 2, "{told}");
    let told = place(&world, "--env-file .env", &[]);
    assert_eq!(told.matches("is left out: an env-file names no programs").count(), 2, "{told}");
}

#[test]
fn an_env_file_is_read_instead_of_dot_env_and_only_if_it_is_ours() {
    let world = World::new();
    world.write(".env", "BACKUP_DIR=wrong\n");
    world.write("other.env", "BACKUP_DIR=right\n");
    assert!(place(&world, "--env-file other.env", &[("BACKUP_DIR", "")]).ends_with("[FOLDER]/right"));
    let path = world.path().join("other.env");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o620)).unwrap();
    let gave = world.pgkeep("list --env-file other.env", &[]);
    assert_eq!(gave.code, 2);
    assert!(gave.stderr.contains("hint: make it yours alone"), "{}", gave.stderr);
}

#[test]
fn each_value_is_shown_with_where_it_came_from_and_no_secret() {
    let world = World::new();
    world.write(
        "pgkeep.toml",
        "compression = 'lz4'\nstore = 's3://key:s3cret@bucket/x'\n[hooks]\nbefore_backup = '/bin/true'\n",
    );
    world.write(".env", "BACKUP_JOBS=3\nAWS_SECRET_ACCESS_KEY=s3cret\n");
    let variables = [("DATABASE_URL", "postgresql://ada:s3cret@h/d"), ("AWS_SESSION_TOKEN", "s3cret")];
    let gave = world.pgkeep("check --show-settings", &variables);
    assert_eq!(gave.code, 0, "{}", gave.stderr);
    assert!(!format!("{}{}", gave.stdout, gave.stderr).contains("s3cret"), "{}", gave.stdout);
    let shown = world.stable(&gave.stdout);
    let line = |name: &str| {
        let line = shown.lines().find(|line| line.starts_with(&format!("{name} "))).unwrap();
        line.split_whitespace().skip(1).collect::<Vec<_>>().join(" ")
    };
    assert_eq!(line("BACKUP_JOBS"), "3 BACKUP_JOBS in [FOLDER]/.env");
    assert_eq!(line("BACKUP_COMPRESSION"), "lz4 compression in [FOLDER]/pgkeep.toml");
    assert_eq!(line("BACKUP_PRUNE"), "true default");
    assert_eq!(line("BACKUP_RETENTION_LOCAL_DAILY_DAYS"), "7 default");
    assert_eq!(line("BACKUP_STORE"), "s3://bucket/x store in [FOLDER]/pgkeep.toml");
    assert_eq!(line("DATABASE_URL"), "***REDACTED*** (ada@h:5432/d, password known) DATABASE_URL");
    assert_eq!(line("AWS_SESSION_TOKEN"), "***REDACTED*** AWS_SESSION_TOKEN");
}

#[test]
fn policies_are_for_this_bucket_and_prefix() {
    let world = World::new();
    let variables = [
        ("AWS_S3_BACKUP_BUCKET", "my-backups"),
        ("AWS_REGION", "eu-west-1"),
        ("BACKUP_SSE", "aws:kms"),
        ("BACKUP_KMS_KEY_ID", "1234"),
    ];
    for (role, wanted) in [
        ("", "s3:ListBucketMultipartUploads"),
        ("writer", "cloudwatch:namespace"),
        ("restorer", "s3:RestoreObject"),
        ("pruner", "s3:DeleteObject"),
        ("installer", "cloudwatch:PutMetricAlarm"),
    ] {
        let gave = world.pgkeep(&format!("check --iam-policy {role}"), &variables);
        assert_eq!(gave.code, 0, "{}", gave.stderr);
        let policy: serde_json::Value = serde_json::from_str(&gave.stdout).unwrap();
        assert_eq!(policy["Version"], "2012-10-17");
        for part in [wanted, "arn:aws:s3:::my-backups/database-backups/", "arn:aws:kms:eu-west-1:*:key/1234"] {
            assert!(gave.stdout.contains(part), "{role}: no {part} in {}", gave.stdout);
        }
    }
}
