//! The client tools of every major, on the host: taken out of the images together with their libraries,
//! so that rules about versions can be tested on a machine that has only one of them, or none.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::docker::docker;
use crate::process::{Result, capture, workspace};

const TOOLS: [&str; 4] = ["pg_dump", "pg_dumpall", "pg_restore", "psql"];

/// Starts a tool with its own loader and libraries. `--argv0` keeps the tools findable for each other:
/// pg_dumpall looks for pg_dump beside its own name.
const WRAPPER: &str = r#"#!/bin/sh
root=${0%/*}/..
tool=${0##*/}
for loader in "$root"/lib/ld-linux*.so.*; do
    exec "$loader" --argv0 "$0" --library-path "$root/lib" "$root/libexec/$tool" "$@"
done
"#;

/// Unpacks the tools of `major` unless those of the present image are there already.
pub(crate) fn ensure(major: u16) -> Result {
    let image = format!("pgkeep/postgres:{major}");
    let id = capture(&mut docker(["image", "inspect", "--format", "{{.Id}}", &image]))?;
    let root = workspace().join("target/pgkeep-tools").join(major.to_string());
    let stamp = root.join("image");
    let made_from = format!("{id}\n{WRAPPER}");
    if fs::read_to_string(&stamp).is_ok_and(|found| found == made_from) {
        return Ok(());
    }
    println!("==> unpacking the client tools of PostgreSQL {major}");
    unpack(&image, major, &root)?;
    fs::write(&stamp, made_from).map_err(|error| failed("write", &stamp, &error))?;
    Ok(())
}

fn unpack(image: &str, major: u16, root: &Path) -> Result {
    if root.exists() {
        fs::remove_dir_all(root).map_err(|error| failed("remove", root, &error))?;
    }
    fs::create_dir_all(root.join("bin")).map_err(|error| failed("create", root, &error))?;

    let script = include_str!("../images/client-tools.sh");
    let mut packed = docker(["run", "--rm", "--entrypoint", "sh", image, "-c", script, "sh"])
        .arg(major.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|error| format!("cannot run docker: {error}"))?;
    let pipe = packed.stdout.take().ok_or("docker has no output")?;
    let unpacked = Command::new("tar")
        .arg("--directory")
        .arg(root)
        .args(["--no-same-owner", "--extract", "--file=-"])
        .stdin(pipe)
        .status()
        .map_err(|error| format!("cannot run tar: {error}"))?;
    let packed = packed.wait().map_err(|error| format!("cannot wait for docker: {error}"))?;
    if !packed.success() || !unpacked.success() {
        return Err(format!("could not unpack {image}'s tools: docker {packed}, tar {unpacked}").into());
    }
    // The tar carries the mode of the container's private directory.
    readable(root)?;

    for tool in TOOLS {
        let wrapper: PathBuf = root.join("bin").join(tool);
        fs::write(&wrapper, WRAPPER).map_err(|error| failed("write", &wrapper, &error))?;
        readable(&wrapper)?;
        capture(Command::new(&wrapper).arg("--version"))?;
    }
    Ok(())
}

fn readable(path: &Path) -> Result {
    fs::set_permissions(path, fs::Permissions::from_mode(0o755))
        .map_err(|error| failed("change the mode of", path, &error))
}

fn failed(verb: &str, path: &Path, error: &std::io::Error) -> crate::process::Failure {
    format!("cannot {verb} {}: {error}", path.display()).into()
}
