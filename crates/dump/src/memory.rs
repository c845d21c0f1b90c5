//! How much memory there is for what can't be read in pieces.

use std::path::Path;
use std::sync::OnceLock;

use rustix::process::{Resource, getrlimit};

/// The most memory that a table of contents may take, in bytes: half of what this process may use. A database of millions of
/// objects has a large one, and only as much as that can be restored here; an archive that somebody prepared must not end the
/// process, or others of the machine.
pub fn toc_limit() -> u64 {
    static LIMIT: OnceLock<u64> = OnceLock::new();
    *LIMIT.get_or_init(|| usable() / 2)
}

/// The machine's memory, or what its control groups or its own limits leave of it.
fn usable() -> u64 {
    let system = rustix::system::sysinfo();
    let machine = (system.totalram as u64).saturating_mul(u64::from(system.mem_unit));
    let own = [Resource::As, Resource::Data].into_iter().filter_map(|resource| getrlimit(resource).current);
    let groups = std::fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    own.chain(of_groups(&groups, Path::new("/sys/fs/cgroup"))).fold(machine, u64::min)
}

/// The limits of the groups that `/proc/self/cgroup` names, and of those above them (cgroup v2 and v1).
fn of_groups(groups: &str, root: &Path) -> Vec<u64> {
    let mut limits = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (_, controllers, Some(path)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let (root, file) = match controllers {
            Some("") => (root.to_owned(), "memory.max"),
            Some("memory") => (root.join("memory"), "memory.limit_in_bytes"),
            _ => continue,
        };
        let group = root.join(path.trim_start_matches('/'));
        let above = group.ancestors().take_while(|folder| folder.starts_with(&root));
        // `max` is no number.
        limits.extend(
            above.filter_map(|folder| std::fs::read_to_string(folder.join(file)).ok()?.trim().parse::<u64>().ok()),
        );
    }
    limits
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_some_and_not_more_than_the_machine_has() {
        let system = rustix::system::sysinfo();
        let machine = system.totalram as u64 * u64::from(system.mem_unit);
        assert!((1 << 20..=machine / 2).contains(&toc_limit()), "{}", toc_limit());
    }

    #[test]
    fn the_tightest_group_counts() {
        let root = tempfile::tempdir().unwrap();
        let write = |file: &str, text: &str| {
            let path = root.path().join(file);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        write("system.slice/backup.service/memory.max", "max\n");
        write("system.slice/memory.max", "536870912\n");
        write("memory/old/memory.limit_in_bytes", "1048576\n");
        let limits = of_groups("0::/system.slice/backup.service\n", root.path());
        assert_eq!(limits, [536_870_912]);
        assert_eq!(of_groups("4:memory:/old\n3:cpu:/old\n", root.path()), [1_048_576]);
        assert_eq!(of_groups("odd\n0::/../..\n", root.path()), Vec::<u64>::new());
    }
}
