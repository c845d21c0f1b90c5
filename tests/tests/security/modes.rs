//! Who may read and write what commands make.

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;

use pgkeep_testkit::PostgresServer;

use crate::world::World;

/// What commands make, and how it must be; by the end of its name.
fn wanted(path: &str, is_folder: bool, umask: u32) -> u32 {
    let by_umask = |mode: u32| mode & !umask;
    match path {
        // For others to read: a collector, a web server.
        _ if path.ends_with(".prom") || path == "status.html" => 0o644,
        _ if path == "backups.log" || path == "logs/deep/backups.log" => by_umask(0o640),
        "logs" | "logs/deep" => by_umask(0o750),
        _ if path.starts_with("results/") => by_umask(0o640),
        "textfiles" => by_umask(0o755),
        "results" | "config" => by_umask(0o777),
        _ if is_folder => 0o700,
        _ => 0o600,
    }
}

#[test]
fn every_file_and_folder_is_made_for_its_owner_whatever_the_umask() {
    let source = PostgresServer::shared(17).create_database("modes");
    source.psql("CREATE TABLE t AS SELECT generate_series(1, 10) n");
    for (command, umask) in [("umask 000", 0o022), ("umask 077", 0o077), ("umask 002", 0o002)] {
        let mut world = World::of(&source.url());
        world.set("PROMETHEUS_TEXTFILE_DIR", world.path("textfiles"));
        std::fs::create_dir(world.path("textfiles")).unwrap();
        std::fs::set_permissions(world.path("textfiles"), std::fs::Permissions::from_mode(0o755 & !umask)).unwrap();
        for arguments in [
            &["keygen", "--to", "backup.key"][..],
            &["init", "--to", "config/pgkeep.toml", "--database-url", &source.url(), "--store", "none"],
            &["backup"],
            &["verify", "--latest", "--deep"],
            &["export", "--latest", "--to", "exported.dump"],
            &["status", "--html", "status.html"],
            &["drill", "--restore-only", "--results", "results"],
        ] {
            let gave = world.run_after(command, arguments);
            assert_eq!(gave.code, Some(0), "{command}: {arguments:?}\n{gave:?}");
        }
        world.set("LOG_FILE", world.path("logs/deep/backups.log"));
        assert_eq!(world.run_after(command, &["backup"]).code, Some(0));

        let mut seen = BTreeMap::new();
        for (path, metadata) in world.everything() {
            let mode = metadata.permissions().mode() & 0o7777;
            assert_eq!(
                format!("{mode:o}"),
                format!("{:o}", wanted(&path, metadata.is_dir(), umask)),
                "{command}: {path}"
            );
            *seen.entry(path.rsplit('.').next().unwrap_or_default().to_owned()).or_insert(0) += 1;
        }
        for kind in ["meta", "zst", "json", "key", "toml", "dump", "log", "prom", "html", "xml"] {
            assert!(seen.contains_key(kind), "no .{kind} among {seen:?}");
        }
    }
}
