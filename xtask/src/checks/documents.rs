//! Documents name tests as evidence: every test that they name is one.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::process::{Result, workspace};

/// The documents whose names of tests are checked.
const DOCUMENTS: [&str; 2] = ["docs/SECURITY.md", "docs/RELIABILITY.md"];

/// Where tests are.
const TREES: [&str; 5] = ["crates", "tests", "fuzz", "benches", "xtask"];

/// What may stand before a test's function.
const MARKS: [&str; 3] = ["#[test]", "#[tokio::test", "#[rstest]"];

pub(super) fn check(broken: &mut Vec<String>) -> Result {
    let mut tests = Tests::default();
    for tree in TREES {
        tests.gather(&workspace().join(tree))?;
    }
    for document in DOCUMENTS {
        let text = fs::read_to_string(workspace().join(document))
            .map_err(|error| format!("cannot read {document}: {error}"))?;
        for (line, name) in named(&text) {
            if !tests.has(name) {
                broken.push(format!("{document}:{line}: there is no test {name}"));
            }
        }
    }
    Ok(())
}

/// The names of tests in a document, `suite::module::test` in backticks, each with its line.
fn named(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines()).flat_map(|(number, line)| {
        line.split('`').skip(1).step_by(2).filter(|name| is_name(name)).map(move |name| (number, name))
    })
}

/// Whether a text in backticks is the name of a test rather than of something else in Rust.
fn is_name(text: &str) -> bool {
    let word = |part: &str| {
        part.starts_with(|first: char| first.is_ascii_lowercase())
            && part.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, '_' | '-'))
    };
    // How names are written, and not one.
    text != "suite::module::test" && text.contains("::") && text.split("::").all(word)
}

/// Every test: its name, and the words of the paths of the files that have one of that name.
#[derive(Debug, Default)]
struct Tests(BTreeMap<String, Vec<Vec<String>>>);

impl Tests {
    /// Whether there is a test of this name: its function, in a file on whose path the words before it follow one another.
    fn has(&self, name: &str) -> bool {
        let mut words: Vec<&str> = name.split("::").collect();
        let Some(function) = words.pop() else { return false };
        // A crate's own name, and the module that unit tests are in, are on no path.
        words.retain(|word| !["tests", "test"].contains(word));
        let found = |path: &Vec<String>| {
            let mut rest = path.iter();
            words.iter().all(|word| rest.any(|step| step == word || step.strip_prefix("pgkeep-") == Some(*word)))
        };
        self.0.get(function).is_some_and(|paths| paths.iter().any(found))
    }

    fn gather(&mut self, folder: &Path) -> Result {
        let listed = fs::read_dir(folder).map_err(|error| format!("cannot list {}: {error}", folder.display()))?;
        for path in listed.flatten().map(|entry| entry.path()) {
            if path.is_dir() {
                if path.file_name().is_none_or(|name| name != "target") {
                    self.gather(&path)?;
                }
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text =
                    fs::read_to_string(&path).map_err(|error| format!("cannot read {}: {error}", path.display()))?;
                self.add(&path, &text);
            }
        }
        Ok(())
    }

    fn add(&mut self, path: &Path, text: &str) {
        let steps = steps(path);
        let mut marked = false;
        let mut property = false;
        for line in text.lines().map(str::trim) {
            // Within it each function has its mark, or is a test by the macro.
            property |= line.starts_with("proptest!");
            marked |= MARKS.iter().any(|mark| line.starts_with(mark));
            let function = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
            if let Some((name, _)) = function.and_then(|rest| rest.split_once(['(', '<']))
                && (marked || property)
            {
                self.0.entry(name.to_owned()).or_default().push(steps.clone());
                marked = false;
            }
        }
    }
}

/// The words of a path: folders and the file, and the package's other name.
fn steps(path: &Path) -> Vec<String> {
    let path = path.strip_prefix(workspace()).map_or_else(|_| path.to_owned(), PathBuf::from).with_extension("");
    let mut steps: Vec<String> = path.iter().map(|step| step.to_string_lossy().into_owned()).collect();
    if let [tree, folder, ..] = steps.as_slice()
        && tree == "crates"
    {
        let package = match folder.as_str() {
            "cli" => "pgkeep".to_owned(),
            "backup-core" => "pgkeep-core".to_owned(),
            other => format!("pgkeep-{other}"),
        };
        steps.insert(2, package);
    }
    steps
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::{Tests, is_name, named};

    #[test]
    fn names_of_tests_are_told_from_other_code() {
        assert!(is_name("restore::swap::a_swap_is_one_transaction"));
        for other in ["Keeper::backup", "backup.rs", "a b::c", "--flag", "std::env::var()", "1::2"] {
            assert!(!is_name(other), "{other}");
        }
        let text = "see `a::b::c`, `d` and\n`e::f`";
        assert_eq!(named(text).collect::<Vec<_>>(), [(1, "a::b::c"), (2, "e::f")]);
    }

    #[test]
    fn a_test_is_found_by_suite_module_and_name() {
        let mut tests = Tests::default();
        let text = "fn helper() {}\n    #[test]\n    fn it_holds() {\n    #[tokio::test(flavor = \"multi_thread\")]\n    async fn it_waits() {";
        tests.add(Path::new("crates/backup-core/src/lock.rs"), text);
        tests.add(Path::new("tests/tests/damage/cuts.rs"), "#[test]\nfn cut() {");
        for there in
            ["core::lock::it_holds", "pgkeep-core::lock::it_waits", "damage::cuts::cut", "core::lock::tests::it_holds"]
        {
            assert!(tests.has(there), "{there}");
        }
        for missing in ["core::lock::helper", "core::swap::it_holds", "damage::cuts::flip", "lock::core::it_holds"] {
            assert!(!tests.has(missing), "{missing}");
        }
    }
}
