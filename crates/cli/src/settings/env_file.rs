//! `.env` and `--env-file`: read only if nobody else could have written it, and never for naming programs.

use std::collections::BTreeMap;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::variable::{Care, by_name};
use crate::failure::{Failure, Result};
use crate::hint::Code;

/// Variables from a file.
#[derive(Debug, Clone, Default)]
pub(crate) struct EnvFile {
    /// The file.
    pub(crate) path: PathBuf,
    /// Its variables.
    pub(crate) variables: BTreeMap<String, String>,
    /// Lines for the log: what was left out.
    pub(crate) notices: Vec<String>,
}

impl EnvFile {
    /// Reads the file that was asked for; refuses one that others could have written.
    pub(crate) fn open(path: &Path, uid: u32) -> Result<Self> {
        let metadata = std::fs::metadata(path).map_err(|error| unreadable(path, &error))?;
        if let Some(reason) = distrust(&metadata, uid) {
            return Err(Failure::new(Code::EnvFileRefused, format!("{} is not read: {reason}", path.display())));
        }
        Self::read(path)
    }

    /// Reads `.env` in `directory` if there is one; one that others could have written is left out, with the reason.
    pub(crate) fn find(directory: &Path, uid: u32) -> Result<Result<Option<Self>, String>> {
        let path = directory.join(".env");
        let metadata = match std::fs::metadata(&path) {
            Ok(metadata) if metadata.is_file() => metadata,
            _ => return Ok(Ok(None)),
        };
        if let Some(reason) = distrust(&metadata, uid) {
            return Ok(Err(format!("{} is not read: {reason}", path.display())));
        }
        match Self::read(&path) {
            Ok(file) => Ok(Ok(Some(file))),
            Err(failure) if failure.code == Code::PermissionDenied => Ok(Err(failure.message)),
            Err(failure) => Err(failure),
        }
    }

    fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(path, &error))?;
        let mut file = Self { path: path.to_owned(), ..Self::default() };
        for item in dotenvy::from_read_iter(text.as_bytes()) {
            // The parser's error quotes the line, which may hold a secret.
            let (name, value) = item.map_err(|error| {
                let place = match error {
                    dotenvy::Error::LineParse(line, _) => line_number(&text, &line),
                    _ => String::new(),
                };
                Failure::settings(format!("{} can't be read as NAME=value lines{place}", path.display()))
                    .hint("quote a value that holds spaces, #, $ or quotes with single quotes: NAME='value'")
            })?;
            if by_name(&name).is_some_and(|variable| variable.care == Care::Programs) {
                file.notices.push(format!("{name} in {} is left out: an env-file names no programs", path.display()));
            } else {
                file.variables.insert(name, value);
            }
        }
        Ok(file)
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> Failure {
    let failure = Failure::io(format_args!("read {}", path.display()), error);
    if failure.code == Code::Unexpected { Failure { code: Code::SettingsInvalid, ..failure } } else { failure }
}

/// Why a file with this metadata is not to be trusted by `uid`.
pub(super) fn distrust(metadata: &Metadata, uid: u32) -> Option<String> {
    if metadata.uid() != uid && metadata.uid() != 0 {
        return Some(format!("it belongs to user {}, neither to you nor to root", metadata.uid()));
    }
    (metadata.mode() & 0o022 != 0)
        .then(|| format!("others can write it (mode {:03o}); chmod go-w makes it acceptable", metadata.mode() & 0o777))
}

fn line_number(text: &str, line: &str) -> String {
    text.lines()
        .position(|candidate| candidate.contains(line.trim()))
        .map(|index| format!(" (line {})", index + 1))
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn env(text: &str, mode: u32) -> (tempfile::TempDir, u32) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join(".env");
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let uid = std::fs::metadata(&path).unwrap().uid();
        (directory, uid)
    }

    #[test]
    fn is_read() {
        let (directory, uid) =
            env("# ours\nDATABASE_URL='postgresql://u:p$w@h/d'\nexport AWS_REGION=eu-west-1\n", 0o640);
        let file = EnvFile::find(directory.path(), uid).unwrap().unwrap().unwrap();
        assert_eq!(file.variables["DATABASE_URL"], "postgresql://u:p$w@h/d");
        assert_eq!(file.variables["AWS_REGION"], "eu-west-1");
    }

    #[test]
    fn that_others_can_write_is_left_out() {
        let (directory, uid) = env("A=b\n", 0o664);
        let reason = EnvFile::find(directory.path(), uid).unwrap().unwrap_err();
        assert!(reason.contains("others can write it (mode 664)"), "{reason}");
        let failure = EnvFile::open(&directory.path().join(".env"), uid).unwrap_err();
        assert_eq!(failure.code, Code::EnvFileRefused);
    }

    #[test]
    fn of_somebody_else_is_left_out() {
        let (directory, uid) = env("A=b\n", 0o600);
        if uid == 0 {
            // root's files are everybody's; pretend that it is somebody's.
            std::os::unix::fs::chown(directory.path().join(".env"), Some(65_534), None).unwrap();
        }
        let reason = EnvFile::find(directory.path(), uid + 1).unwrap().unwrap_err();
        assert!(reason.contains("neither to you nor to root"), "{reason}");
    }

    #[test]
    fn names_no_programs() {
        let (directory, uid) = env("PG_BINDIRS=/tmp/evil\nAWS_CONFIG_FILE=/tmp/evil\n", 0o600);
        let file = EnvFile::find(directory.path(), uid).unwrap().unwrap().unwrap();
        assert!(file.variables.is_empty());
        assert_eq!(file.notices.len(), 2);
    }

    #[test]
    fn a_bad_line_is_named_without_its_text() {
        let (directory, uid) = env("A=b\nDATABASE_URL=postgresql://u:s3cret word@h/d\n", 0o600);
        let failure = EnvFile::find(directory.path(), uid).unwrap_err();
        assert!(failure.message.contains("(line 2)"), "{}", failure.message);
        assert!(!failure.message.contains("s3cret"), "{}", failure.message);
    }
}
