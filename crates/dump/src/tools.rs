//! The installed client tools.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use tokio::process::Command;

use crate::{ConnectSettings, Error, PrivateFolder, Result, SessionSettings};

/// What every child may look for programs in; the tools find each other by their own folder.
const CHILD_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// How long `pg_dump --version` may take.
const VERSION_LIMIT: Duration = Duration::from_secs(10);

/// A client program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tool {
    /// `pg_dump`
    PgDump,
    /// `pg_restore`
    PgRestore,
    /// `pg_dumpall`
    PgDumpall,
}

impl Tool {
    /// The program's file name.
    pub fn name(self) -> &'static str {
        match self {
            Self::PgDump => "pg_dump",
            Self::PgRestore => "pg_restore",
            Self::PgDumpall => "pg_dumpall",
        }
    }
}

/// One major version's client tools.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientTools {
    /// Their major version.
    pub major: u32,
    /// What `pg_dump --version` prints: `pg_dump (PostgreSQL) 17.11`.
    pub version: String,
    /// The folder they are in.
    pub folder: PathBuf,
}

impl ClientTools {
    /// Every set of tools in the folders of `search` (a setting's first, then those of `PATH`) and in the usual places
    /// of distributions, each once, smallest major first. Of one major, the first found comes first.
    pub async fn discover(search: &[PathBuf]) -> Result<Vec<Self>> {
        let mut folders = search.to_vec();
        folders.extend(usual_places());
        Ok(Self::in_folders(&folders).await)
    }

    /// Every set of tools in exactly these folders, each once, smallest major first.
    pub async fn in_folders(folders: &[PathBuf]) -> Vec<Self> {
        let mut programs: Vec<PathBuf> = Vec::new();
        for folder in folders {
            if let Some(program) = real_program(folder).filter(|program| !programs.contains(program)) {
                programs.push(program);
            }
        }
        let mut found: Vec<Self> =
            futures::future::join_all(programs.into_iter().map(Self::examine)).await.into_iter().flatten().collect();
        found.sort_by_key(|tools| tools.major);
        found
    }

    /// Asks one `pg_dump` for its version; `None`, with a line in the log, if it does not run or tell.
    async fn examine(program: PathBuf) -> Option<Self> {
        let asking = async {
            let mut command = bare_command(&program);
            command.arg("--version").stdout(Stdio::piped()).stderr(Stdio::null());
            loop {
                match command.output().await {
                    // It is being installed this very moment.
                    Err(error) if error.kind() == std::io::ErrorKind::ExecutableFileBusy => {
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                    output => break output,
                }
            }
        };
        let output = match tokio::time::timeout(VERSION_LIMIT, asking).await {
            Ok(Ok(output)) => output,
            Ok(Err(error)) => {
                tracing::warn!(program = %program.display(), %error, "client tool does not run");
                return None;
            }
            Err(_) => {
                tracing::warn!(program = %program.display(), "client tool does not answer");
                return None;
            }
        };
        let version = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        let Some(major) = major_of(&version).filter(|_| output.status.success()) else {
            tracing::warn!(program = %program.display(), "client tool does not tell its version");
            return None;
        };
        Some(Self { major, version, folder: program.parent()?.to_owned() })
    }

    /// The smallest major that is not older than the server's; the error names what was found, its hint the package.
    pub fn choose(installed: &[Self], server_major: u32) -> Result<&Self> {
        installed.iter().filter(|tools| tools.major >= server_major).min_by_key(|tools| tools.major).ok_or_else(|| {
            Error::NoClientTools { server_major, found: installed.iter().map(ToString::to_string).collect() }
        })
    }

    /// The path of one tool.
    pub fn path(&self, tool: Tool) -> PathBuf {
        self.folder.join(tool.name())
    }

    /// A command with the canonical session settings and the secrets in a private file below `work`, never in argv;
    /// the file lives as long as the returned guard.
    ///
    /// The child inherits no environment, speaks English whatever the locale, lives in UTC, reads nothing from the
    /// terminal, and leads a process group of its own, so that a Ctrl-C reaches us alone and we end it politely.
    pub fn command(
        &self,
        tool: Tool,
        settings: Option<&ConnectSettings>,
        work: &Path,
    ) -> Result<(Command, PrivateFolder)> {
        let private = PrivateFolder::create(work)?;
        let mut command = bare_command(&self.path(tool));
        if let Some(settings) = settings {
            let session = match tool {
                Tool::PgDump | Tool::PgDumpall => SessionSettings::Dump,
                Tool::PgRestore => SessionSettings::Load,
            };
            command.envs(settings.libpq_environment(session, private.path())?);
        }
        Ok((command, private))
    }
}

/// `17.11 in /usr/lib/postgresql/17/bin`.
impl std::fmt::Display for ClientTools {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let number = number_of(&self.version).unwrap_or(&self.version);
        write!(f, "{number} in {}", self.folder.display())
    }
}

fn bare_command(program: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .env_clear()
        .env("PATH", CHILD_PATH)
        .env("LC_ALL", "C")
        .env("TZ", "UTC")
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .process_group(0);
    command
}

/// The real `pg_dump` of a folder: symbolic links followed, Debian's version-picking wrapper left out (the versions it
/// picks from are among the usual places).
fn real_program(folder: &Path) -> Option<PathBuf> {
    let real = folder.join(Tool::PgDump.name()).canonicalize().ok()?;
    match real.file_name()?.to_str()? {
        "pg_wrapper" => None,
        "pg_dump" => Some(real),
        // A link under a name of its own (a version manager's shim): its siblings are beside the link.
        _ => Some(folder.canonicalize().ok()?.join(Tool::PgDump.name())),
    }
}

/// `17.11` of `pg_dump (PostgreSQL) 17.11 (Debian 17.11-1)`.
fn number_of(version: &str) -> Option<&str> {
    version.split_once(") ")?.1.split_whitespace().next()
}

/// 17 of `pg_dump (PostgreSQL) 17.11 (Debian 17.11-1)`; 18 of `… 18beta2`.
fn major_of(version: &str) -> Option<u32> {
    let number = number_of(version)?;
    let digits = number.find(|c: char| !c.is_ascii_digit()).unwrap_or(number.len());
    number[..digits].parse().ok()
}

/// Where distributions put the tools: parent, prefix of a folder in it, what follows.
const USUAL_PLACES: &[(&str, &str, &str)] = &[
    // Debian, Ubuntu
    ("/usr/lib/postgresql", "", "bin"),
    // RHEL, Fedora, SUSE by PGDG; then their own
    ("/usr", "pgsql-", "bin"),
    ("/usr/lib", "postgresql", "bin"),
    // Alpine, Void
    ("/usr/libexec", "postgresql", ""),
    ("/usr/lib", "psql", "bin"),
    // built from source
    ("/usr/local", "pgsql", "bin"),
    ("/opt", "postgresql", "bin"),
    // Homebrew and Postgres.app
    ("/opt/homebrew/opt", "postgresql", "bin"),
    ("/opt/homebrew/opt", "libpq", "bin"),
    ("/usr/local/opt", "postgresql", "bin"),
    ("/usr/local/opt", "libpq", "bin"),
    ("/home/linuxbrew/.linuxbrew/opt", "postgresql", "bin"),
    ("/home/linuxbrew/.linuxbrew/opt", "libpq", "bin"),
    ("/Applications/Postgres.app/Contents/Versions", "", "bin"),
];

fn usual_places() -> Vec<PathBuf> {
    let mut places = Vec::new();
    for (parent, prefix, rest) in USUAL_PLACES {
        let Ok(entries) = std::fs::read_dir(parent) else { continue };
        let mut folders: Vec<PathBuf> = entries
            .flatten()
            .filter(|entry| entry.file_name().to_str().is_some_and(|name| name.starts_with(prefix)))
            .map(|entry| entry.path().join(rest))
            .collect();
        folders.sort();
        places.append(&mut folders);
    }
    places.push(PathBuf::from("/usr/bin"));
    places.push(PathBuf::from("/usr/local/bin"));
    places
}

/// Which package brings the tools, for a hint.
pub(crate) fn package_hint(server_major: u32) -> String {
    format!(
        "install the client tools of PostgreSQL {server_major} or newer: postgresql-client-{server_major} on Debian and \
         Ubuntu (from apt.postgresql.org if the distribution has none so new), postgresql{server_major} on RHEL and Fedora \
         (from yum.postgresql.org), postgresql{server_major}-client on Alpine, `brew install postgresql@{server_major}` on macOS"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tools(major: u32) -> ClientTools {
        ClientTools {
            major,
            version: format!("pg_dump (PostgreSQL) {major}.3 (Debian {major}.3-1)"),
            folder: format!("/usr/lib/postgresql/{major}/bin").into(),
        }
    }

    #[test]
    fn versions_of_all_vendors_are_understood() {
        for (text, major) in [
            ("pg_dump (PostgreSQL) 17.11 (Debian 17.11-1.pgdg12+1)", Some(17)),
            ("pg_dump (PostgreSQL) 15.18", Some(15)),
            ("pg_dump (PostgreSQL) 18beta2", Some(18)),
            ("pg_dump (PostgreSQL) 19devel", Some(19)),
            ("pg_dump (EnterpriseDB) 16.4.0", Some(16)),
            ("pg_dump (PostgreSQL) 9.6.24", Some(9)),
            ("Error: no cluster", None),
            ("", None),
        ] {
            assert_eq!(major_of(text), major, "{text}");
        }
    }

    #[test]
    fn the_smallest_major_that_is_not_older_is_chosen() {
        let installed = [tools(13), tools(15), tools(17), tools(18)];
        for (server, chosen) in [(12, 13), (13, 13), (14, 15), (15, 15), (16, 17), (18, 18)] {
            assert_eq!(ClientTools::choose(&installed, server).unwrap().major, chosen);
        }
        let error = ClientTools::choose(&installed[..2], 17).unwrap_err();
        assert!(error.to_string().contains("15.3 in /usr/lib/postgresql/15/bin"), "{error}");
        assert!(error.hint().unwrap().contains("postgresql-client-17"));
        assert!(ClientTools::choose(&[], 17).unwrap_err().to_string().contains('1'));
    }

    #[tokio::test]
    async fn wrappers_and_duplicates_are_seen_through() {
        use std::os::unix::fs::symlink;

        use crate::toys::program;
        let root = tempfile::tempdir().unwrap();
        let folder = |name: &str| {
            let folder = root.path().join(name);
            std::fs::create_dir(&folder).unwrap();
            folder
        };
        let (real, linked, wrapped, broken, empty) =
            (folder("real"), folder("linked"), folder("wrapped"), folder("broken"), folder("empty"));
        program(&real.join("pg_dump"), "echo 'pg_dump (PostgreSQL) 17.2'");
        symlink(real.join("pg_dump"), linked.join("pg_dump")).unwrap();
        program(&wrapped.join("pg_wrapper"), "echo 'pg_dump (PostgreSQL) 16.1'");
        symlink(wrapped.join("pg_wrapper"), wrapped.join("pg_dump")).unwrap();
        program(&broken.join("pg_dump"), "exit 127");
        let found = ClientTools::in_folders(&[empty, linked, wrapped, broken, real.clone(), "/nowhere".into()]).await;
        assert_eq!(found.len(), 1, "{found:?}");
        assert_eq!(found[0].major, 17);
        assert_eq!(found[0].folder, real.canonicalize().unwrap());
    }
}
