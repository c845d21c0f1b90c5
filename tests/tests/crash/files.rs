//! A run is killed while it writes the file for node_exporter.

use std::time::Duration;

use crate::found::report;
use crate::victim::Whom;
use crate::world::{World, age, files, name_of};

const MOMENTS: u32 = 12;

/// Every line but for its number.
fn names(text: &str) -> Vec<&str> {
    text.lines()
        .map(|line| if line.starts_with('#') { line } else { line.rsplit_once(' ').map_or(line, |(name, _)| name) })
        .collect()
}

#[test]
fn the_collectors_file_is_whole_whenever_its_writer_is_killed() {
    let mut world = World::new("collected");
    let folder = world.setup.folder().join("collector");
    std::fs::create_dir(&folder).unwrap();
    world.setup.set("PROMETHEUS_TEXTFILE_DIR", &folder);
    world.setup.set("BACKUP_RETENTION_LOCAL_DAILY_MAX", "2");
    world.setup.set("BACKUP_RETENTION_LOCAL_DAILY_MIN", "1");
    // The first one has nothing to compare with, and says less.
    for _ in 0..4 {
        world.setup.pgkeep(&["backup"]);
        world.setup.pgkeep(&["verify", "--latest"]);
    }
    let file = files(&folder).pop().expect("the file");
    let read = || std::fs::read_to_string(&file).unwrap();
    let whole = read();
    let mut written = 0;
    for n in 0..MOMENTS {
        world.after_the_lease();
        let before = read();
        world.kill_when(&["backup"], "Backup Complete", Duration::from_millis(u64::from(n)), Whom::of(n as usize));
        let after = read();
        written += u32::from(after != before);
        assert!(after.ends_with('\n'), "{after}");
        assert_eq!(names(&after), names(&whole), "it is one or the other, never half of it");
        // The backup was complete.
        world.setup.pgkeep(&["verify", "--latest"]);
    }
    for left in files(&folder).iter().filter(|left| **left != file) {
        assert!(name_of(left).starts_with('.'), "the collector would read {left:?}; {written} were written");
        age(left, Duration::from_hours(2));
    }
    world.after_the_lease();
    world.setup.pgkeep(&["backup"]);
    assert_eq!(files(&folder), [file]);
    report(
        "Prometheus textfile",
        [
            "0 to 11 ms after \"Backup Complete\"",
            "12",
            "the file is the old or the new one, whole; the backup is complete",
            "writes it; temporary files of killed runs are swept",
        ],
    );
}
