//! The two passes of `pg_restore`, by list, from a file that holds the table of contents only.

use std::ffi::OsString;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pgkeep_archive::{Toc, patch_offsets};
use pgkeep_dump::{ClientTools, ConnectSettings, PrivateFolder, RestoreError, RestoreOutcome, run_pg_restore};
use tokio_util::sync::CancellationToken;

use crate::allowance::Allowance;
use crate::error::Doing;
use crate::lists::list_text;
use crate::{Error, Result};

/// The files both passes read: the table of contents holds secrets (user mappings, subscriptions), so nobody else may.
#[derive(Debug)]
pub(crate) struct Passes<'a> {
    pub(crate) tools: &'a ClientTools,
    pub(crate) toc: &'a Arc<Toc>,
    pub(crate) settings: &'a ConnectSettings,
    pub(crate) options: PassOptions,
    folder: PrivateFolder,
    archive: PathBuf,
    cancel: CancellationToken,
}

/// What both passes leave out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct PassOptions {
    pub(crate) no_owner: bool,
    pub(crate) no_acl: bool,
    pub(crate) no_tablespaces: bool,
    pub(crate) server_major: u32,
}

/// What a pass came to.
#[derive(Debug, Clone, Default)]
pub(crate) struct PassOutcome {
    /// Errors that cost nothing.
    pub(crate) allowed: Vec<String>,
    /// Constraints and indexes that the data itself breaks.
    pub(crate) violations: Vec<String>,
    /// Every other error.
    pub(crate) failed: Vec<String>,
    /// The statements of the violations and failures; `None` where `pg_restore` did not tell.
    pub(crate) statements: Vec<Option<String>>,
    /// Warnings.
    pub(crate) warnings: Vec<String>,
}

impl<'a> Passes<'a> {
    /// Writes the files into a private folder below `work`.
    pub(crate) fn prepare(
        tools: &'a ClientTools,
        toc: &'a Arc<Toc>,
        settings: &'a ConnectSettings,
        options: PassOptions,
        work: &Path,
        cancel: CancellationToken,
    ) -> Result<Self> {
        std::fs::create_dir_all(work).map_err(|error| Error::io("create the work folder", error))?;
        let folder = PrivateFolder::create(work).doing("keeping the table of contents")?;
        let archive = folder.path().join("toc.dump");
        write(&archive, &toc.raw)?;
        Ok(Self { tools, toc, settings, options, folder, archive, cancel })
    }

    /// Restores the listed entries, one after the other.
    pub(crate) async fn run(&self, name: &str, ids: &[i32]) -> Result<PassOutcome> {
        self.restore(&self.archive, name, ids, 1).await
    }

    /// Restores the listed entries with `jobs` sessions of this allowance. Of indexes and constraints that could be next
    /// pg_restore takes those on the table with the most data, and `sizes` (dump id, bytes of data) are its tables'.
    pub(crate) async fn build(
        &self,
        ids: &[i32],
        jobs: usize,
        allowance: Allowance,
        sizes: &[(i32, u64)],
    ) -> Result<PassOutcome> {
        let set = self.toc.with_settings(&allowance.statements())?;
        let set = set.map_or_else(|| Ok(Arc::clone(self.toc)), |raw| Toc::parse(raw).map(Arc::new))?;
        let archive = self.folder.path().join("after.dump");
        write(&archive, &patch_offsets(&set.raw, &positions(sizes, set.raw.len() as u64))?)?;
        self.restore(&archive, "after.list", ids, jobs).await
    }

    async fn restore(&self, archive: &Path, name: &str, ids: &[i32], jobs: usize) -> Result<PassOutcome> {
        if ids.is_empty() {
            return Ok(PassOutcome::default());
        }
        let list = self.folder.path().join(name);
        write(&list, list_text(&self.toc.entries, ids).as_bytes())?;
        let arguments = arguments(self.options, &list, archive, jobs);
        let outcome = run_pg_restore(self.tools, Some(self.settings), arguments, self.cancel.clone())
            .await
            .doing("running pg_restore")?;
        Ok(weigh(&outcome, self.options.server_major))
    }
}

fn arguments(options: PassOptions, list: &Path, archive: &Path, jobs: usize) -> Vec<OsString> {
    let mut arguments: Vec<OsString> = Vec::new();
    let mut use_list = OsString::from("--use-list=");
    use_list.push(list);
    arguments.push(use_list);
    if jobs > 1 {
        arguments.push(format!("--jobs={jobs}").into());
    }
    for (wanted, option) in [
        (options.no_owner, "--no-owner"),
        (options.no_acl, "--no-privileges"),
        (options.no_tablespaces, "--no-tablespaces"),
    ] {
        if wanted {
            arguments.push(option.into());
        }
    }
    arguments.push(archive.into());
    arguments
}

/// Where the data would lie if all of it had to lie before `end`. pg_restore takes distances for sizes
/// (`_PrepParallelRestore` in pg_backup_custom.c), and only compares them: no data is read from this file.
fn positions(sizes: &[(i32, u64)], end: u64) -> Vec<(i32, u64)> {
    let total: u128 = sizes.iter().map(|(_, bytes)| u128::from(*bytes)).sum::<u128>().max(1);
    let mut before = 0u128;
    let place = |&(dump_id, bytes): &(i32, u64)| {
        let at = before * u128::from(end) / total;
        before += u128::from(bytes);
        (dump_id, u64::try_from(at).unwrap_or(end))
    };
    sizes.iter().map(place).collect()
}

fn write(path: &Path, bytes: &[u8]) -> Result<()> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let create = || {
        let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        file.write_all(bytes)
    };
    create().map_err(|error| Error::io(format!("write {}", path.display()), error))
}

fn weigh(outcome: &RestoreOutcome, server_major: u32) -> PassOutcome {
    let judgement = outcome.judge(server_major);
    let mut weighed = PassOutcome { warnings: outcome.warnings.clone(), ..PassOutcome::default() };
    weighed.allowed = judgement.allowed.iter().map(|(error, why)| format!("{error}: {why}")).collect();
    for error in &judgement.failed {
        weighed.statements.push(error.statement.clone());
        if breaks_a_rule(error) {
            weighed.violations.push(error.to_string());
        } else {
            weighed.failed.push(error.to_string());
        }
    }
    weighed
}

/// Whether the data itself stands against a constraint or unique index.
fn breaks_a_rule(error: &RestoreError) -> bool {
    [
        "violates foreign key constraint",
        "could not create unique index",
        "could not create exclusion constraint",
        "is violated by some row",
        "contains null values",
    ]
    .iter()
    .any(|text| error.message.contains(text))
}

/// Whether an error says only that something is there already.
pub(crate) fn exists_already(message: &str) -> bool {
    message.contains(" already exists")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_become_arguments_and_no_secret_is_among_them() {
        let options = PassOptions { no_owner: true, no_acl: true, no_tablespaces: false, server_major: 15 };
        let arguments = arguments(options, Path::new("/w/after"), Path::new("/w/toc.dump"), 4);
        let text: Vec<_> = arguments.iter().map(|argument| argument.to_str().unwrap()).collect();
        assert_eq!(text, ["--use-list=/w/after", "--jobs=4", "--no-owner", "--no-privileges", "/w/toc.dump"]);
    }

    #[test]
    fn distances_between_positions_are_as_the_sizes() {
        assert_eq!(positions(&[(7, 100), (8, 300), (9, 0), (10, 600)], 50), [(7, 0), (8, 5), (9, 20), (10, 20)]);
        assert_eq!(positions(&[(7, 0)], 50), [(7, 0)]);
    }

    #[test]
    fn private_files_are_private() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("toc.dump");
        write(&path, b"x").unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(write(&path, b"y").is_err());
    }
}
