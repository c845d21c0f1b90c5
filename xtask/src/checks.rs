//! The rules of the house that no compiler knows: who may depend on whom, what libraries never do, and that what documents
//! call evidence is there. Licences, TLS providers and origins of other people's crates are `deny`'s.

pub(crate) mod deny;
mod documents;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::process::{Result, capture, cargo, workspace};

/// Which of our crates a crate may use in earnest (not in its tests). Leaves know neither each other nor
/// core; nothing but tests and benches knows the testkit, and only they and the binaries know everything.
const MAY_USE: [(&str, &[&str]); 13] = [
    ("pgkeep-archive", &[]),
    ("pgkeep-compress", &[]),
    ("pgkeep-storage", &[]),
    ("pgkeep-metrics", &[]),
    ("pgkeep-dump", &["pgkeep-archive"]),
    ("pgkeep-core", LEAVES),
    ("pgkeep-restore", CORE_AND_LEAVES),
    ("pgkeep", EVERYTHING_REAL),
    ("pgkeep-testkit", &["pgkeep-storage"]),
    ("pgkeep-tests", EVERYTHING),
    ("pgkeep-benches", EVERYTHING),
    ("pgkeep-fuzz", EVERYTHING),
    ("xtask", &[]),
];
const LEAVES: &[&str] = &["pgkeep-archive", "pgkeep-compress", "pgkeep-storage", "pgkeep-metrics", "pgkeep-dump"];
const CORE_AND_LEAVES: &[&str] =
    &["pgkeep-archive", "pgkeep-compress", "pgkeep-storage", "pgkeep-metrics", "pgkeep-dump", "pgkeep-core"];
const EVERYTHING_REAL: &[&str] = &[
    "pgkeep-archive",
    "pgkeep-compress",
    "pgkeep-storage",
    "pgkeep-metrics",
    "pgkeep-dump",
    "pgkeep-core",
    "pgkeep-restore",
];
const EVERYTHING: &[&str] = &[
    "pgkeep-archive",
    "pgkeep-compress",
    "pgkeep-storage",
    "pgkeep-metrics",
    "pgkeep-dump",
    "pgkeep-core",
    "pgkeep-restore",
    "pgkeep",
    "pgkeep-testkit",
];

/// Crates that name no vendor.
const VENDOR_FREE: [&str; 5] = ["pgkeep-archive", "pgkeep-compress", "pgkeep-dump", "pgkeep-core", "pgkeep-restore"];

/// What only the binaries do. Text that libraries' sources do not have outside their tests.
const NEVER_IN_LIBRARIES: [&str; 6] =
    ["env::var", "env::args", "process::exit", "signal::ctrl_c", "signal::unix", "set_global_default"];
const LIBRARIES: [&str; 7] = ["archive", "compress", "dump", "storage", "metrics", "backup-core", "restore"];

pub(crate) fn run() -> Result {
    // `--locked` fails if Cargo.lock is not what the manifests ask for.
    let metadata = capture(cargo().args(["metadata", "--format-version=1", "--locked"]))?;
    let metadata: Value = serde_json::from_str(&metadata).map_err(|error| format!("cargo metadata: {error}"))?;
    let packages = metadata["packages"].as_array().ok_or("cargo metadata names no packages")?;

    let mut broken = Vec::new();
    dependencies(packages, &mut broken);
    lints(packages, &mut broken)?;
    documents::check(&mut broken)?;
    for library in LIBRARIES {
        sources(&workspace().join("crates").join(library).join("src"), &mut broken)?;
    }
    if broken.is_empty() { Ok(()) } else { Err(broken.join("\n  ").into()) }
}

fn dependencies(packages: &[Value], broken: &mut Vec<String>) {
    let ours: BTreeSet<&str> =
        packages.iter().filter(|package| package["source"].is_null()).map(|package| text(&package["name"])).collect();
    for package in packages.iter().filter(|package| package["source"].is_null()) {
        let name = text(&package["name"]);
        let Some((_, allowed)) = MAY_USE.iter().find(|(known, _)| *known == name) else {
            broken.push(format!("{name} has no place in the house: say in xtask/src/checks.rs what it may use"));
            continue;
        };
        for dependency in package["dependencies"].as_array().into_iter().flatten() {
            let used = text(&dependency["name"]);
            // Cargo writes `null` for what is used in earnest.
            if !dependency["kind"].is_null() {
                continue;
            }
            if ours.contains(used) && !allowed.contains(&used) {
                broken.push(format!("{name} may not use {used}"));
            }
            if VENDOR_FREE.contains(&name) && (used.starts_with("aws-") || used == "object_store") {
                broken.push(format!("{name} names a vendor: {used}"));
            }
        }
    }
}

/// The workspace's lints forbid unsafe code, which nothing below can undo; so every package must have them.
fn lints(packages: &[Value], broken: &mut Vec<String>) -> Result {
    let read =
        |path: &Path| fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()));
    if !read(&workspace().join("Cargo.toml"))?.contains("\nunsafe_code = \"forbid\"\n") {
        broken.push("Cargo.toml does not forbid unsafe code".to_owned());
    }
    for package in packages.iter().filter(|package| package["source"].is_null()) {
        let manifest = text(&package["manifest_path"]);
        if !read(Path::new(manifest))?.contains("\n[lints]\nworkspace = true\n") {
            broken.push(format!("{manifest} does not take the workspace's lints"));
        }
    }
    Ok(())
}

fn sources(directory: &Path, broken: &mut Vec<String>) -> Result {
    let listed = fs::read_dir(directory).map_err(|error| format!("cannot list {}: {error}", directory.display()))?;
    let mut paths: Vec<PathBuf> = listed.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    for path in paths {
        if path.is_dir() {
            sources(&path, broken)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
            for (number, line) in text.lines().enumerate().take_while(|(_, line)| line.trim() != "#[cfg(test)]") {
                let code = line.trim_start();
                if code.starts_with("//") {
                    continue;
                }
                for never in NEVER_IN_LIBRARIES.iter().filter(|never| code.contains(**never)) {
                    broken.push(format!("{}:{}: {never} belongs into cli", path.display(), number + 1));
                }
            }
        }
    }
    Ok(())
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
