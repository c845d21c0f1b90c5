//! `pgkeep demo` on a machine that may have neither PostgreSQL nor pgkeep yet.

use std::os::unix::process::CommandExt as _;

use crate::apt;
use crate::process::{Result, cargo, on_path};

/// Installs PostgreSQL if there is none, then becomes pgkeep, built if need be, which tells its story.
pub(crate) fn run(arguments: &[&str]) -> Result {
    if !has_server() {
        apt::install(&["postgresql"])?;
        if !has_server() {
            return Err("PostgreSQL is installed and yet there is no initdb".into());
        }
    }
    println!("==> building pgkeep");
    let pgkeep = ["run", "--quiet", "--locked", "--package", "pgkeep", "--bin", "pgkeep", "--", "demo"];
    let error = cargo().args(pgkeep).args(arguments).exec();
    Err(format!("cannot run cargo: {error}").into())
}

/// Whether there is a server's `initdb` where distributions put it, or on the path.
pub(crate) fn has_server() -> bool {
    let packaged = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    packaged.map(|entry| entry.path().join("bin/initdb")).any(|initdb| initdb.is_file()) || on_path("initdb")
}
