//! A file for node_exporter's textfile collector: one per database, written whole, renamed.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use async_trait::async_trait;

use crate::{Error, MetricsSink, Sample, prometheus};

const CHANNEL: &str = "textfile";
/// The collector runs as somebody else.
const MODE: u32 = 0o644;

/// Writes `pgkeep_<database>.prom` into a directory.
#[derive(Debug, Clone)]
pub struct Textfile {
    directory: PathBuf,
}

impl Textfile {
    /// In this directory, which must be there.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self { directory: directory.into() }
    }

    /// The file of a database. What a file name can't hold is `_` there, and a digest keeps such names apart.
    pub fn path(&self, database: &str) -> PathBuf {
        self.directory.join(format!("pgkeep_{}.prom", crate::plan::plain_name(database)))
    }
}

#[async_trait]
impl MetricsSink for Textfile {
    fn channel(&self) -> &str {
        CHANNEL
    }

    /// A sample without a standing leaves the file as it is: what it says of the last success still holds.
    async fn send(&self, sample: &Sample) -> Result<(), Error> {
        let Some(standing) = &sample.standing else { return Ok(()) };
        let path = self.path(&sample.database);
        write(&path, prometheus::text(sample, standing).as_bytes())
            .map_err(|error| Error::permanent(CHANNEL, format!("failed to write {}: {error}", path.display())))
    }
}

/// Never half-written where the collector looks.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let partial = path.with_file_name(format!(".{name}.{}", std::process::id()));
    let written = (|| {
        let mut file: File = OpenOptions::new().write(true).create(true).truncate(true).mode(MODE).open(&partial)?;
        // Whatever the umask says.
        file.set_permissions(Permissions::from_mode(MODE))?;
        file.write_all(bytes)?;
        file.sync_all()?;
        std::fs::rename(&partial, path)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&partial);
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn one_file_per_database_whole_and_readable_by_all() {
        let folder = tempfile::tempdir().unwrap();
        let sink = Textfile::new(folder.path());
        let mut sample = prometheus::tests::sample();
        for database in ["app", "a/b"] {
            database.clone_into(&mut sample.database);
            for _ in 0..2 {
                sink.send(&sample).await.unwrap();
            }
            let mode = std::fs::metadata(sink.path(database)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o644);
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 2);
        assert_eq!(sink.path("app"), folder.path().join("pgkeep_app.prom"));
        let before = std::fs::read(sink.path("app")).unwrap();
        sink.send(&Sample { standing: None, database: "app".to_owned(), ..sample }).await.unwrap();
        assert_eq!(std::fs::read(sink.path("app")).unwrap(), before);
    }

    #[tokio::test]
    async fn a_missing_directory_is_an_error_that_names_it() {
        let error = Textfile::new("/nowhere/at/all").send(&prometheus::tests::sample()).await.unwrap_err();
        assert!(error.reason.contains("/nowhere/at/all"), "{error}");
    }
}
