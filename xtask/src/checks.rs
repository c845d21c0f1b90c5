//! The rules of the house that no compiler knows: who may depend on whom, one TLS provider, licences,
//! and what libraries never do.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::process::{Result, capture, cargo, workspace};

/// Which of our crates a crate may use in earnest (not in its tests). Leaves know neither each other nor
/// core; nothing but tests and benches knows the testkit, and only they and the binaries know everything.
const MAY_USE: [(&str, &[&str]); 12] = [
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

/// aws-lc-rs is the one TLS and crypto provider; these are the others.
const OTHER_TLS: [&str; 6] = ["ring", "openssl", "openssl-sys", "native-tls", "boring", "mbedtls"];

const LICENCES: [&str; 13] = [
    "0BSD",
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "BlueOak-1.0.0",
    "ISC",
    "Zlib",
    "CC0-1.0",
    "Unicode-3.0",
    "CDLA-Permissive-2.0",
];

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
    for package in packages {
        licence(package, &mut broken);
    }
    tls(&mut broken)?;
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

/// Looks at what is built, not at Cargo.lock, which also names what no feature of ours turns on.
fn tls(broken: &mut Vec<String>) -> Result {
    let built = capture(cargo().args(["tree", "--locked", "--workspace", "--prefix=none", "--format={p}"]))?;
    let built: BTreeSet<&str> = built.lines().filter_map(|line| line.split_whitespace().next()).collect();
    for name in OTHER_TLS.iter().filter(|name| built.contains(**name)) {
        broken.push(format!("{name} is built in: aws-lc-rs is the one TLS provider (cargo tree --invert {name})"));
    }
    Ok(())
}

fn licence(package: &Value, broken: &mut Vec<String>) {
    let name = text(&package["name"]);
    match package["license"].as_str() {
        Some(expression) if allows(expression) => {}
        Some(expression) => broken.push(format!("{name} has a licence that is not on the list: {expression}")),
        None => broken.push(format!("{name} names no licence")),
    }
}

/// Whether an SPDX expression can be met with the listed licences alone.
fn allows(expression: &str) -> bool {
    // `MIT/Apache-2.0` is how it was written once.
    let spaced = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = spaced.split_whitespace().collect();
    let mut rest = words.as_slice();
    let met = either(&mut rest);
    met && rest.is_empty()
}

fn either(rest: &mut &[&str]) -> bool {
    let mut met = both(rest);
    while rest.first() == Some(&"OR") {
        *rest = &rest[1..];
        met |= both(rest);
    }
    met
}

fn both(rest: &mut &[&str]) -> bool {
    let mut met = one(rest);
    while rest.first() == Some(&"AND") {
        *rest = &rest[1..];
        met &= one(rest);
    }
    met
}

fn one(rest: &mut &[&str]) -> bool {
    match *rest {
        ["(", inner @ ..] => {
            *rest = inner;
            let met = either(rest);
            *rest = rest.strip_prefix(&[")"]).unwrap_or(rest);
            met
        }
        [licence, "WITH", exception, after @ ..] => {
            *rest = after;
            LICENCES.contains(&format!("{licence} WITH {exception}").as_str())
        }
        [licence, after @ ..] => {
            *rest = after;
            LICENCES.contains(licence)
        }
        [] => false,
    }
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

#[cfg(test)]
mod tests {
    use super::allows;

    #[test]
    fn licence_expressions_are_understood() {
        for good in [
            "MIT",
            "MIT/Apache-2.0",
            "GPL-3.0 OR MIT",
            "(MIT OR GPL-2.0) AND Unicode-3.0",
            "Apache-2.0 WITH LLVM-exception OR GPL-2.0",
            "ISC AND (Apache-2.0 OR ISC) AND BSD-3-Clause",
        ] {
            assert!(allows(good), "{good}");
        }
        for bad in ["GPL-3.0", "MIT AND GPL-2.0", "Apache-2.0 WITH Other-exception", "", "MIT GPL-2.0"] {
            assert!(!allows(bad), "{bad}");
        }
    }
}
