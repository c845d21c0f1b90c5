//! A throw-away PostgreSQL server from the installed binaries: one folder, one socket, no network. For the demo and for drills.

use std::fs::OpenOptions;
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use pgkeep_dump::{ConnectSettings, Connection, SessionSettings};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use crate::failure::{Failure, Result};
use crate::hint::Code;
use crate::reporter::Reporter;
use crate::surroundings::Surroundings;

/// Tells sockets apart; nothing listens on it.
const PORT: u16 = 54_329;
const USER: &str = "postgres";
const START_LIMIT: Duration = Duration::from_mins(1);
const STOP_LIMIT: Duration = Duration::from_secs(30);

/// What the server is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To be shown: it need not survive a power failure.
    Demo,
    /// To be measured: it writes as a real server does.
    Drill,
}

/// A running server.
#[derive(Debug)]
pub(super) struct Cluster {
    // Before its folder: fields are dropped in this order.
    server: Child,
    folder: Option<tempfile::TempDir>,
    path: PathBuf,
    bin_dir: PathBuf,
}

/// Who runs the server: PostgreSQL refuses root.
#[derive(Debug, Clone, Copy)]
struct User {
    uid: u32,
    gid: u32,
}

impl Cluster {
    /// Makes a cluster in a temporary folder and starts it.
    pub(super) async fn start(
        purpose: Purpose,
        bin_dir: Option<&Path>,
        surroundings: &Surroundings,
        reporter: &Reporter,
        cancel: &CancellationToken,
    ) -> Result<Self> {
        let bin_dir = match bin_dir {
            Some(folder) if has_server(folder) => folder.to_owned(),
            Some(folder) => return Err(missing(&format!("initdb and postgres are not in {}", folder.display()))),
            None => find(surroundings).ok_or_else(|| missing("PostgreSQL's server binaries were not found"))?,
        };
        let user = if surroundings.uid == 0 { Some(unprivileged()?) } else { None };
        let failed = |error: std::io::Error| Failure::io("make a folder for the server", &error);
        let parent = surroundings.variable("TMPDIR").unwrap_or("/tmp");
        let folder = tempfile::Builder::new().prefix(purpose.prefix()).tempdir_in(parent).map_err(failed)?;
        let path = folder.path().to_owned();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).map_err(failed)?;
        for name in ["data", "socket"] {
            let folder = path.join(name);
            std::fs::create_dir(&folder).map_err(failed)?;
            std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o700)).map_err(failed)?;
            if let Some(user) = user {
                chown(&folder, Some(user.uid), Some(user.gid)).map_err(failed)?;
            }
        }
        reporter.show(&format!("A throw-away server from {} in {}\n", bin_dir.display(), path.display()));
        // On a terminal, Ctrl-C reaches initdb too.
        let interrupted = |failure| {
            if cancel.is_cancelled() { Failure::new(Code::Interrupted, "interrupted") } else { failure }
        };
        initialise(&bin_dir, &path, user).await.map_err(interrupted)?;
        let server = serve(purpose, &bin_dir, &path, user)?;
        let mut cluster = Self { server, folder: Some(folder), path, bin_dir };
        if let Err(failure) = cluster.wait_until_ready(cancel).await {
            cluster.remove(reporter).await;
            return Err(failure);
        }
        Ok(cluster)
    }

    /// The folder of everything.
    pub(super) fn folder(&self) -> &Path {
        &self.path
    }

    /// Where its programs are.
    pub(super) fn bin_dir(&self) -> &Path {
        &self.bin_dir
    }

    /// The connection string of one of its databases.
    pub(super) fn url(&self, database: &str) -> String {
        format!("postgresql:///{database}?host={}&port={PORT}&user={USER}", self.path.join("socket").display())
    }

    async fn wait_until_ready(&mut self, cancel: &CancellationToken) -> Result<()> {
        let settings = ConnectSettings::parse(&self.url("postgres"), &std::collections::BTreeMap::new(), None)?;
        let ready = async {
            loop {
                if let Ok(Some(status)) = self.server.try_wait() {
                    return Err(self.did_not_start(&format!("it ended with {status}")));
                }
                if let Ok(connection) = Connection::connect(&settings, SessionSettings::Admin).await {
                    connection.close().await?;
                    return Ok(());
                }
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        };
        tokio::select! {
            ready = tokio::time::timeout(START_LIMIT, ready) => ready.unwrap_or_else(|_| Err(Failure::new(Code::DatabaseUnreachable, "the server did not start in a minute"))),
            () = cancel.cancelled() => Err(Failure::new(Code::Interrupted, "interrupted")),
        }
    }

    fn did_not_start(&self, why: &str) -> Failure {
        let log = std::fs::read_to_string(self.path.join("server.log")).unwrap_or_default();
        let last: Vec<_> = log.lines().rev().take(3).collect();
        Failure::new(Code::DatabaseUnreachable, format!("the server did not start: {why}: {}", last.join(" | ")))
    }

    /// Stops the server and removes its folder.
    pub(super) async fn remove(mut self, reporter: &Reporter) {
        // SIGINT: sessions are ended, no data is lost; what is removed next would not matter.
        if let Some(pid) = self.server.id().and_then(|pid| Pid::from_raw(pid.cast_signed())) {
            let _ = kill_process(pid, Signal::INT);
        }
        if tokio::time::timeout(STOP_LIMIT, self.server.wait()).await.is_err() {
            let _ = self.server.kill().await;
        }
        if let Some(Err(error)) = self.folder.take().map(tempfile::TempDir::close) {
            reporter.caution(format!("{} could not be removed: {error}", self.path.display()));
        }
    }

    /// Leaves everything as it is.
    pub(super) fn leave(mut self) {
        if let Some(folder) = self.folder.take() {
            let _ = folder.keep();
        }
        std::mem::forget(self.server);
    }
}

impl Purpose {
    /// How the server's folder is called.
    fn prefix(self) -> &'static str {
        match self {
            Self::Demo => "pgkeep-demo-",
            Self::Drill => "pgkeep-drill-",
        }
    }
}

fn command(program: PathBuf, folder: &Path, user: Option<User>) -> Command {
    let mut command = Command::new(program);
    command
        .current_dir(folder)
        .stdin(Stdio::null())
        .env_remove("PGDATA")
        .env_remove("PGOPTIONS")
        .env("LC_ALL", "C.UTF-8");
    if let Some(User { uid, gid }) = user {
        command.uid(uid).gid(gid);
    }
    command
}

async fn initialise(bin_dir: &Path, folder: &Path, user: Option<User>) -> Result<()> {
    let output = command(bin_dir.join("initdb"), folder, user)
        .args(["--no-sync", "--encoding=UTF8", "--locale=C.UTF-8", "--auth=trust", "--username", USER, "--pgdata"])
        .arg(folder.join("data"))
        .output()
        .await
        .map_err(|error| Failure::io("run initdb", &error))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let said: Vec<_> = said.lines().rev().take(3).collect();
    Err(Failure::new(Code::Unexpected, format!("initdb failed: {}", said.join(" | "))))
}

fn serve(purpose: Purpose, bin_dir: &Path, folder: &Path, user: Option<User>) -> Result<Child> {
    let failed = |error: std::io::Error| Failure::io("start the server", &error);
    // It may hold rows.
    let log = OpenOptions::new().write(true).create_new(true).mode(0o600).open(folder.join("server.log"));
    let log = log.map_err(failed)?;
    let mut command = command(bin_dir.join("postgres"), folder, user);
    command.arg("-D").arg(folder.join("data")).arg("-k").arg(folder.join("socket"));
    let port = format!("port={PORT}");
    let careless: &[&str] = if purpose == Purpose::Demo { &["fsync=off", "full_page_writes=off"] } else { &[] };
    for setting in ["listen_addresses=", &port, "shared_buffers=128MB", "max_wal_size=4GB"].iter().chain(careless) {
        command.arg("-c").arg(setting);
    }
    // A group of its own: Ctrl-C is for us, we end the server.
    command
        .stdout(Stdio::from(log.try_clone().map_err(failed)?))
        .stderr(Stdio::from(log))
        .process_group(0)
        .kill_on_drop(true);
    command.spawn().map_err(failed)
}

/// The user `postgres`, as PostgreSQL's packages make it.
fn unprivileged() -> Result<User> {
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let found = passwd.lines().find_map(|line| {
        let mut fields = line.split(':');
        (fields.next() == Some(USER)).then_some(())?;
        Some(User { uid: fields.nth(1)?.parse().ok()?, gid: fields.next()?.parse().ok()? })
    });
    found.ok_or_else(|| missing("PostgreSQL refuses to run as root, and there is no user postgres"))
}

fn missing(what: &str) -> Failure {
    Failure::new(Code::ClientToolsMissing, what)
        .hint("Debian, Ubuntu: apt-get install postgresql; Fedora: dnf install postgresql-server; or --bin-dir DIR")
}

fn has_server(folder: &Path) -> bool {
    ["initdb", "postgres", "pg_dump", "pg_restore"].iter().all(|name| folder.join(name).is_file())
}

/// The newest version in the distributions' places, else on the PATH.
fn find(surroundings: &Surroundings) -> Option<PathBuf> {
    let mut versions: Vec<(u32, PathBuf)> = ["/usr/lib/postgresql", "/usr", "/opt/homebrew/opt", "/usr/local/opt"]
        .iter()
        .filter_map(|parent| std::fs::read_dir(parent).ok())
        .flatten()
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let name = path.file_name()?.to_str()?;
            let number = name.strip_prefix("pgsql-").or_else(|| name.strip_prefix("postgresql@")).unwrap_or(name);
            Some((number.parse().ok()?, path.join("bin")))
        })
        .filter(|(_, folder)| has_server(folder))
        .collect();
    versions.sort();
    let newest = versions.pop().map(|(_, folder)| folder);
    newest.or_else(|| {
        let path = surroundings.variable("PATH")?;
        std::env::split_paths(path).chain([PathBuf::from("/usr/local/pgsql/bin")]).find(|folder| has_server(folder))
    })
}
