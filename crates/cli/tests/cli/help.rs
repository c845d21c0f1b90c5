//! What `--help` says is part of the contract: a change shows in a snapshot.

use crate::World;

#[test]
fn help_of_every_command() {
    let world = World::new();
    let commands = [
        "",
        "backup",
        "restore",
        "rollback",
        "list",
        "show",
        "verify",
        "status",
        "drill",
        "prune",
        "adopt",
        "export",
        "schedule",
        "schedule install",
        "unlock",
        "init",
        "check",
        "keygen",
        "monitor",
        "monitor install",
        "demo",
        "completions",
        "man",
    ];
    for command in commands {
        let gave = world.pgkeep(&format!("{command} -h"), &[]);
        assert_eq!((gave.code, gave.stderr.as_str()), (0, ""), "{command}");
        let name = if command.is_empty() { "help".to_owned() } else { format!("help_{}", command.replace(' ', "_")) };
        insta::assert_snapshot!(name, gave.stdout);
    }
}

#[test]
fn help_of_the_drop_ins() {
    let world = World::new();
    for program in
        ["backup-database", "restore-database", "setup-backup-cron", "setup-backup-monitoring", "test-backup-restore"]
    {
        let gave = world.run(program, "--help", &[]);
        assert_eq!((gave.code, gave.stderr.as_str()), (0, ""), "{program}");
        insta::assert_snapshot!(format!("help_{program}"), gave.stdout);
    }
}

#[test]
fn completions_and_man_pages_come_from_the_same_text() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish"] {
        let gave = world.pgkeep(&format!("completions {shell}"), &[]);
        assert_eq!(gave.code, 0);
        assert!(gave.stdout.contains("replace-target"), "{shell}");
    }
    assert!(world.pgkeep("man", &[]).stdout.contains(".TH pgkeep"));
    assert_eq!(world.pgkeep("man pages", &[]).code, 0);
    for page in ["pgkeep.1", "pgkeep-restore.1", "backup-database.1", "restore-database.1"] {
        assert!(world.read(&format!("pages/{page}")).contains(".TH"), "{page}");
    }
}
