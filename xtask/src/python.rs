//! Stand-ins for services, from PyPI: a virtual environment of its own, with the versions that tests were written for.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::apt;
use crate::process::{Result, capture, succeeds, workspace};

/// What is installed; beside the scripts that use it.
const REQUIREMENTS: &str = "crates/testkit/python/requirements.txt";

/// Makes the environment unless it is there with these requirements.
pub(crate) fn ensure() -> Result {
    let root = workspace().join("target/pgkeep-python");
    let requirements = workspace().join(REQUIREMENTS);
    let wanted = fs::read_to_string(&requirements).map_err(|error| format!("cannot read {REQUIREMENTS}: {error}"))?;
    let stamp = root.join("requirements.txt");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) && root.join("bin/python").is_file() {
        return Ok(());
    }
    println!("==> installing the stand-ins of crates/testkit/python");
    if !succeeds(Command::new("python3").args(["-c", "import venv, ensurepip"]).stdin(Stdio::null())) {
        apt::install(&["python3", "python3-venv"])?;
    }
    install(&root, &requirements)?;
    fs::write(&stamp, wanted).map_err(|error| format!("cannot write {}: {error}", stamp.display()).into())
}

fn install(root: &Path, requirements: &Path) -> Result {
    capture(Command::new("python3").args(["-m", "venv", "--clear"]).arg(root))?;
    capture(Command::new(root.join("bin/python")).args(["-m", "pip", "install", "--quiet", "-r"]).arg(requirements))?;
    Ok(())
}
