//! What a process leaves when it dies.

use std::os::unix::process::ExitStatusExt as _;
use std::process::Command;
use std::time::{Duration, Instant};

use pgkeep_testkit::PostgresServer;

use crate::world::World;

#[test]
fn a_crash_leaves_no_core_with_what_was_in_memory() {
    let source = PostgresServer::shared(17).create_database("core");
    let mut world = World::of(&source.url());
    // The hook is a child of the run, which waits for it.
    world.set("BACKUP_HOOK_BEFORE_BACKUP", "sh -c 'cat /proc/self/limits > limits; sleep 60'");
    let mut child = world.start_after("ulimit -c unlimited", &["backup"]);
    let begun = Instant::now();
    let limits = loop {
        let limits = std::fs::read_to_string(world.path("limits")).unwrap_or_default();
        if limits.contains("Max realtime timeout") {
            break limits;
        }
        assert!(begun.elapsed() < Duration::from_mins(2), "the hook does not run");
        assert_eq!(child.try_wait().unwrap(), None);
        std::thread::sleep(Duration::from_millis(10));
    };
    let soft = |limits: &str| {
        let line = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap();
        line.split_whitespace().next().unwrap().to_owned()
    };
    assert_eq!(soft(&limits), "0", "of a child");
    assert_eq!(soft(&std::fs::read_to_string(format!("/proc/{}/limits", child.id())).unwrap()), "0", "of the run");
    // Its memory holds the password; nobody but the user and root reads it, or its environment.
    for file in ["mem", "environ"] {
        let mode =
            std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(format!("/proc/{}/{file}", child.id())).unwrap());
        assert_eq!(mode & 0o077, 0, "{file}");
    }
    assert!(Command::new("kill").args(["-ABRT", &child.id().to_string()]).status().unwrap().success());
    let status = child.wait().unwrap();
    assert_eq!((status.signal(), status.core_dumped()), (Some(6), false));
    assert!(world.everything().iter().all(|(path, _)| !path.contains("core")), "{:?}", world.everything());
}
