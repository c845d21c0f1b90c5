//! A PostgreSQL server in a temporary directory.

use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::janitor::Janitor;
use crate::apt;
use crate::process::{Result, capture, feed, is_root};

const PASSWORD: &str = "demo";

pub(crate) struct Server {
    directory: PathBuf,
    bin: PathBuf,
    port: u16,
    janitor: Janitor,
}

impl Server {
    /// Installs PostgreSQL if there is none, and starts one that listens on 127.0.0.1 alone.
    pub(crate) fn start() -> Result<Self> {
        let bin = if let Some(bin) = installed() {
            bin
        } else {
            apt::install(&["postgresql"])?;
            installed().ok_or("PostgreSQL is installed and yet there is no initdb")?
        };
        // PostgreSQL refuses to run as root; the packages bring a user for it.
        let user = is_root().then_some("postgres");
        let directory = PathBuf::from(capture(Command::new("mktemp").args(["-d", "/tmp/pgkeep-demo.XXXXXX"]))?);
        let janitor = Janitor::engage(&directory, &bin.join("pg_ctl"), user)?;
        let port = TcpListener::bind(("127.0.0.1", 0))
            .and_then(|listener| listener.local_addr())
            .map_err(|error| format!("no free port: {error}"))?
            .port();
        let server = Self { directory, bin, port, janitor };
        server.make(user)?;
        println!("    {} on port {port}, in {}", server.version()?, server.directory.display());
        Ok(server)
    }

    fn make(&self, user: Option<&str>) -> Result {
        let (data, socket) = (self.directory.join("data"), self.directory.join("socket"));
        let mut install = Command::new("install");
        install.args(["-d", "-m", "0700"]);
        if let Some(user) = user {
            capture(Command::new("chmod").arg("0711").arg(&self.directory))?;
            install.args(["-o", user]);
        }
        capture(install.arg(&data).arg(&socket))?;

        let run = |program: &str, arguments: &[&str]| {
            let program = self.bin.join(program);
            let mut command = if let Some(user) = user {
                let mut runuser = Command::new("runuser");
                runuser.args(["-u", user, "--"]).arg(program);
                runuser
            } else {
                Command::new(program)
            };
            command.current_dir("/").args(arguments);
            command
        };
        let (data, socket) = (data.to_string_lossy(), socket.to_string_lossy());
        let initdb = [
            "--pgdata",
            &*data,
            "--username=postgres",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
            "--no-sync",
            "--auth-local=trust",
        ];
        capture(run("initdb", &initdb).arg("--auth-host=scram-sha-256"))?;
        let settings = format!("-p {} -c listen_addresses=127.0.0.1 -c unix_socket_directories={socket}", self.port);
        let log = format!("{data}/server.log");
        capture(&mut run(
            "pg_ctl",
            &["start", "--silent", "--wait", "--pgdata", &*data, "--log", &log, "--options", &settings],
        ))?;
        self.psql("postgres", &format!("ALTER ROLE postgres PASSWORD '{PASSWORD}'"))?;
        Ok(())
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.directory
    }

    pub(crate) fn url(&self, database: &str) -> String {
        format!("postgresql://postgres:{PASSWORD}@127.0.0.1:{}/{database}", self.port)
    }

    pub(crate) fn version(&self) -> Result<String> {
        self.psql("postgres", "SHOW server_version")
    }

    pub(crate) fn psql(&self, database: &str, sql: &str) -> Result<String> {
        self.psql_with(database, sql, &[])
    }

    pub(crate) fn psql_with(&self, database: &str, sql: &str, arguments: &[&str]) -> Result<String> {
        let mut psql = self.client("psql", database);
        feed(psql.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1"]).args(arguments), sql)
    }

    /// One of PostgreSQL's own clients, connected as superuser.
    pub(crate) fn client(&self, program: &str, database: &str) -> Command {
        let mut command = Command::new(self.bin.join(program));
        command.current_dir("/").args(["--username=postgres", "--dbname", database]);
        command.arg(format!("--port={}", self.port)).arg("--host").arg(self.directory.join("socket"));
        command
    }

    /// Stops it and removes all that it left; dropping does the same.
    pub(crate) fn clean_up(self) {
        drop(self.janitor);
    }
}

/// Where the newest installed server's programs are.
fn installed() -> Option<PathBuf> {
    let packaged =
        std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten().map(|entry| entry.path().join("bin"));
    let asked = capture(Command::new("pg_config").arg("--bindir")).ok().map(PathBuf::from);
    let newest = |bin: &PathBuf| bin.parent()?.file_name()?.to_str()?.parse::<u32>().ok();
    packaged.chain(asked).filter(|bin| bin.join("initdb").is_file() && bin.join("psql").is_file()).max_by_key(newest)
}
