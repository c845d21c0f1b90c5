//! Planted secrets come back in no text and no file.

use crate::World;

#[test]
fn appear_nowhere() {
    let world = World::new();
    let port = crate::closed_port();
    let url = format!("postgresql://ada:planted-pw@127.0.0.1:{port}/shop?options=-c%20app.key%3Dplanted-option");
    let endpoint = format!("http://127.0.0.1:{port}");
    let variables = [
        ("DATABASE_URL", url.as_str()),
        ("PGPASSWORD", "planted-pg"),
        ("AWS_S3_BACKUP_BUCKET", "b"),
        ("AWS_ENDPOINT_URL", endpoint.as_str()),
        ("AWS_ACCESS_KEY_ID", "planted-id"),
        ("AWS_SECRET_ACCESS_KEY", "planted-key"),
        ("AWS_SESSION_TOKEN", "planted-token"),
    ];
    for arguments in [
        "backup --verbose",
        "backup --verbose --output json",
        "restore --latest --yes --verbose",
        "list --verbose",
        "rollback --verbose",
    ] {
        let gave = world.pgkeep(arguments, &variables);
        assert!(gave.code != 0 || arguments.starts_with("list"), "{arguments}");
        let text = format!("{}{}", gave.stdout, gave.stderr);
        assert!(!text.contains("planted"), "{arguments}: {text}");
    }
    for file in ["backups.log", "restores.log"] {
        assert!(!world.read(file).contains("planted"), "{file}");
    }
}

#[test]
fn of_a_store_url_are_not_shown() {
    let world = World::new();
    for store in ["s3://planted:planted@", "http://planted", "az://container?sig=planted"] {
        let gave = world.pgkeep("list --verbose", &[("BACKUP_STORE", store), ("BACKUP_DIR", "none")]);
        assert_eq!(gave.code, 2, "{store}: {}", gave.stderr);
        assert!(!gave.stderr.contains("planted"), "{}", gave.stderr);
    }
}
