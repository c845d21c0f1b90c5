//! Installing what is missing with the distribution's own packages.

use std::fs;
use std::process::Command;

use crate::process::{Result, is_root, on_path, run};

/// Installs `packages` if root, else fails with the one command to run.
pub(crate) fn install(packages: &[&str]) -> Result {
    let list = packages.join(" ");
    if !on_path("apt-get") {
        return Err(format!("please install what Debian calls: {list}").into());
    }
    if !is_root() {
        return Err(format!("{list} missing; run:\n  sudo apt-get install -y {list}").into());
    }
    println!("==> installing {list}");
    run(Command::new("apt-get").args(["-q", "update"]).env("DEBIAN_FRONTEND", "noninteractive"))?;
    run(Command::new("apt-get").args(["-q", "install", "-y"]).args(packages).env("DEBIAN_FRONTEND", "noninteractive"))
}

/// Whether this machine runs Debian itself, not a relative of it.
pub(crate) fn is_debian() -> bool {
    fs::read_to_string("/etc/os-release").is_ok_and(|text| text.lines().any(|line| line == "ID=debian"))
}

/// The Debian mirror this machine's apt uses for its main archive; none on other systems.
pub(crate) fn debian_mirror() -> Option<String> {
    if !is_debian() {
        return None;
    }
    let mut files = vec!["/etc/apt/sources.list".into()];
    if let Ok(directory) = fs::read_dir("/etc/apt/sources.list.d") {
        files.extend(directory.flatten().map(|entry| entry.path()));
    }
    files.sort();
    files.iter().filter_map(|file| fs::read_to_string(file).ok()).find_map(|text| text.lines().find_map(mirror_of_line))
}

/// Both formats: `deb [options] URI suite main` and `URIs: URI`.
fn mirror_of_line(line: &str) -> Option<String> {
    let line = line.trim();
    let mut words = line.split_whitespace();
    match words.next()? {
        "deb" | "URIs:" => {}
        _ => return None,
    }
    words
        .find(|word| {
            (word.starts_with("http://") || word.starts_with("https://"))
                && word.trim_end_matches('/').ends_with("/debian")
        })
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::mirror_of_line;

    #[test]
    fn the_mirror_is_found_in_both_formats() {
        let mirror = Some("http://mirror.test/debian".to_owned());
        assert_eq!(mirror_of_line("deb [arch=amd64] http://mirror.test/debian trixie main"), mirror);
        assert_eq!(mirror_of_line("URIs: http://mirror.test/debian"), mirror);
        assert_eq!(mirror_of_line("# deb http://mirror.test/debian trixie main"), None);
        assert_eq!(mirror_of_line("URIs: http://mirror.test/debian-security"), None);
        assert_eq!(mirror_of_line("deb https://other.test/apt stable main"), None);
    }
}
