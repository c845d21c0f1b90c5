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
