//! Programs on this machine: PostgreSQL's client tools of every major, stand-ins in Python, and pgkeep's own.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::MAJORS;

/// The directory with `pg_dump`, `pg_dumpall`, `pg_restore` and `psql` of this major, as `cargo xtask images`
/// unpacked them.
pub fn client_tools(major: u16) -> PathBuf {
    let directory = workspace().join("target/pgkeep-tools").join(major.to_string()).join("bin");
    assert!(
        directory.join("pg_dump").is_file(),
        "there are no client tools of PostgreSQL {major} in {}; run `cargo xtask images`",
        directory.display()
    );
    directory
}

/// The directories of all majors as a search path, for `PG_BINDIRS`.
pub fn client_tools_path() -> OsString {
    std::env::join_paths(MAJORS.map(client_tools)).expect("the directories' names hold no colon")
}

/// A program that `cargo xtask images` installed from `python/requirements.txt`: `python_program("aws")`.
pub fn python_program(name: &str) -> PathBuf {
    let program = workspace().join("target/pgkeep-python/bin").join(name);
    assert!(program.is_file(), "there is no {}; run `cargo xtask images`", program.display());
    program
}

/// One of pgkeep's programs, built from the present sources: `program("pgkeep")`, `program("backup-database")`.
pub fn program(name: &str) -> PathBuf {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| {
        // `cargo xtask test` has built them already and says where.
        if let Some(directory) = std::env::var_os("PGKEEP_TEST_PROGRAMS") {
            return directory.into();
        }
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo)
            .args(["build", "--quiet", "--package", "pgkeep", "--bins"])
            .current_dir(workspace())
            .status()
            .expect("cargo can be run");
        assert!(built.success(), "pgkeep's programs cannot be built");
        // Tests run from `target/<profile>/deps`.
        let test = std::env::current_exe().expect("a test knows where it is");
        test.parent().and_then(Path::parent).expect("a test lies in the target directory").to_owned()
    });
    let program = directory.join(name);
    assert!(program.is_file(), "there is no {}", program.display());
    program
}

fn workspace() -> &'static Path {
    let testkit = Path::new(env!("CARGO_MANIFEST_DIR"));
    testkit.ancestors().nth(2).expect("the testkit lies in the workspace's crates")
}
