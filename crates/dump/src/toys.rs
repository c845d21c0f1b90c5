//! Toy programs for tests: shell scripts that play `pg_dump`.

use std::path::Path;
use std::process::{Command, Stdio};

/// Makes an executable shell script. A child writes the file, so that no other test's fork can hold it open for writing
/// at the moment it is run (ETXTBSY).
pub(crate) fn program(path: &Path, body: &str) {
    use std::io::Write;
    let mut install = Command::new("/bin/sh")
        .args(["-c", "cat > \"$0\" && chmod 755 \"$0\""])
        .arg(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    install.stdin.take().unwrap().write_all(format!("#!/bin/sh\n{body}\n").as_bytes()).unwrap();
    assert!(install.wait().unwrap().success());
}
