//! PostgreSQL servers in containers.

use std::io::Write as _;
use std::process::{Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use testcontainers::core::{ContainerPort, WaitFor};
use testcontainers::{Image, ImageExt};

use crate::container::{Container, said};
use crate::{ScratchDatabase, percent_encoded};

/// The majors under test.
pub const MAJORS: [u16; 3] = [15, 17, 18];

/// The superuser's password: it needs percent-encoding in a URL, and is easy to find in a log it should not be in.
const PASSWORD: &str = "s3cr3t/p@ss w%rd";

const PORT: u16 = 5432;

/// How a server is started.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// Settings beside those every test server has: `("max_locks_per_transaction", "64")`.
    pub settings: Vec<(String, String)>,
    /// Its cluster's locale; `C.UTF-8` by default, `en_US.UTF-8` and `de_DE.ISO-8859-1` are there too.
    pub locale: String,
    /// Arguments for `initdb`, separated by spaces.
    pub initdb_arguments: String,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self { settings: Vec::new(), locale: "C.UTF-8".into(), initdb_arguments: String::new() }
    }
}

/// What every test server is set to: no waiting for a disk whose power will not fail, and everything
/// that a logical backup can meet.
const SETTINGS: [(&str, &str); 8] = [
    ("fsync", "off"),
    ("full_page_writes", "off"),
    ("wal_level", "logical"),
    ("max_connections", "200"),
    ("max_prepared_transactions", "10"),
    ("max_wal_size", "4GB"),
    ("shared_buffers", "256MB"),
    ("log_statement", "ddl"),
];

/// A PostgreSQL server in a container; gone when dropped, and in any case when the process ends.
#[derive(Debug)]
pub struct PostgresServer {
    major: u16,
    container: Container,
}

impl PostgresServer {
    /// The server of this major that all tests of this process share. Never stop it or change its settings.
    pub fn shared(major: u16) -> &'static Self {
        static SHARED: [OnceLock<PostgresServer>; MAJORS.len()] = [const { OnceLock::new() }; MAJORS.len()];
        let place = MAJORS
            .iter()
            .position(|known| *known == major)
            .unwrap_or_else(|| panic!("there is no image of PostgreSQL {major}"));
        SHARED[place].get_or_init(|| Self::start(major, &PostgresOptions::default()))
    }

    /// A server of one's own, which answers queries when this returns.
    pub fn start(major: u16, options: &PostgresOptions) -> Self {
        let settings = SETTINGS
            .iter()
            .map(|(name, value)| (*name, *value))
            .chain(options.settings.iter().map(|(name, value)| (name.as_str(), value.as_str())));
        let arguments: Vec<String> =
            settings.flat_map(|(name, value)| ["-c".to_owned(), format!("{name}={value}")]).collect();
        let image = PostgresImage { tag: major.to_string() };
        let container = Container::start(&format!("postgres{major}"), &image, PORT, |request| {
            request
                .with_cmd(arguments.clone())
                .with_env_var("POSTGRES_PASSWORD", PASSWORD)
                .with_env_var("POSTGRES_LOCALE", &options.locale)
                .with_env_var("POSTGRES_INITDB_ARGS", &options.initdb_arguments)
                .with_shm_size(512 << 20)
        });
        let server = Self { major, container };
        server.wait_until_it_answers();
        server
    }

    /// Its major version.
    pub fn major(&self) -> u16 {
        self.major
    }

    /// The port it listens on at 127.0.0.1; the same after a restart.
    pub fn port(&self) -> u16 {
        self.container.host_port()
    }

    /// The superuser's password; the superuser is `postgres`.
    pub fn password(&self) -> &'static str {
        PASSWORD
    }

    /// A connection URL of a database, as superuser and with the password in it.
    pub fn url(&self, database: &str) -> String {
        self.url_as("postgres", PASSWORD, database)
    }

    /// A connection URL of a database for another role.
    pub fn url_as(&self, role: &str, password: &str, database: &str) -> String {
        format!(
            "postgresql://{}:{}@127.0.0.1:{}/{}",
            percent_encoded(role),
            percent_encoded(password),
            self.port(),
            percent_encoded(database)
        )
    }

    /// An empty database of one's own, which is dropped with what pgkeep made beside it.
    pub fn create_database(&self, label: &str) -> ScratchDatabase<'_> {
        ScratchDatabase::create(self, label, "")
    }

    /// The same with options of `CREATE DATABASE`: `ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0`.
    pub fn create_database_with(&self, label: &str, options: &str) -> ScratchDatabase<'_> {
        ScratchDatabase::create(self, label, options)
    }

    /// What `psql -X -A -t` prints for these statements, without the last line end.
    pub fn psql(&self, database: &str, sql: &str) -> String {
        self.try_psql(database, sql).unwrap_or_else(|error| panic!("psql {database}: {error}\nin: {}", beginning(sql)))
    }

    /// The same; the error is what psql said. The first error ends it.
    pub fn try_psql(&self, database: &str, sql: &str) -> Result<String, String> {
        self.psql_with(database, sql, &[])
    }

    /// The same with psql variables and other arguments: `["-v", "bytes=1024"]`.
    pub fn psql_with(&self, database: &str, sql: &str, arguments: &[&str]) -> Result<String, String> {
        let mut psql = vec!["psql", "-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-U", "postgres", "-d", database];
        psql.extend_from_slice(arguments);
        let output = self.exec_with_input(&psql, sql.as_bytes());
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).trim_end_matches('\n').to_owned())
        } else {
            Err(String::from_utf8_lossy(&output.stderr).trim_end().to_owned())
        }
    }

    /// Runs a command in the container as user postgres; PostgreSQL's programs are on its path.
    pub fn exec(&self, arguments: &[&str]) -> Output {
        self.exec_with_input(arguments, b"")
    }

    /// The same with something to read on stdin.
    pub fn exec_with_input(&self, arguments: &[&str], input: &[u8]) -> Output {
        let mut child = self
            .container
            .command(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker can be run");
        let mut stdin = child.stdin.take().expect("stdin is piped");
        std::thread::scope(|scope| {
            scope.spawn(move || {
                // A command that does not read to the end says why by its status.
                let _ = stdin.write_all(input);
            });
            child.wait_with_output().expect("docker can be waited for")
        })
    }

    /// What the server has logged so far.
    pub fn log(&self) -> String {
        self.container.logs()
    }

    /// Stops it in good order, ending all sessions. Its data stay; [`start_again`](Self::start_again) brings it back.
    pub fn stop(&self) {
        // Ended by its own tool, because Docker's signal would have it wait for every session.
        let _ = self.exec(&["pg_ctl", "stop", "-D", "/var/lib/postgresql/data", "-m", "fast", "--no-wait"]);
        self.container.docker(&["wait"]);
    }

    /// Kills it as a power failure would, only that the disk keeps what it was told.
    pub fn kill(&self) {
        self.container.docker(&["kill"]);
    }

    /// Starts it again after [`stop`](Self::stop) or [`kill`](Self::kill), at the same port.
    pub fn start_again(&self) {
        self.container.docker(&["start"]);
        self.wait_until_it_answers();
    }

    /// Stops and starts it.
    pub fn restart(&self) {
        self.stop();
        self.start_again();
    }

    /// Freezes all its processes: connections stay open and nothing answers.
    pub fn pause(&self) {
        self.container.docker(&["pause"]);
    }

    /// Lets it go on after [`pause`](Self::pause).
    pub fn unpause(&self) {
        self.container.docker(&["unpause"]);
    }

    fn wait_until_it_answers(&self) {
        let limit = Duration::from_mins(1);
        let started = Instant::now();
        loop {
            // Over TCP: the server that runs while a cluster is made has only a socket.
            let output = self.exec(&["pg_isready", "-q", "-h", "127.0.0.1"]);
            let answer =
                if output.status.success() { self.try_psql("postgres", "SELECT 1") } else { Err(said(&output)) };
            match answer {
                Ok(one) if one == "1" => return,
                _ if started.elapsed() < limit => std::thread::sleep(Duration::from_millis(50)),
                other => panic!("PostgreSQL {} does not answer: {other:?}\n{}", self.major, self.log()),
            }
        }
    }
}

/// The image that `cargo xtask images` builds.
#[derive(Debug, Clone)]
struct PostgresImage {
    tag: String,
}

impl Image for PostgresImage {
    fn name(&self) -> &'static str {
        "pgkeep/postgres"
    }

    fn tag(&self) -> &str {
        &self.tag
    }

    fn ready_conditions(&self) -> Vec<WaitFor> {
        vec![WaitFor::message_on_stderr("database system is ready to accept connections")]
    }

    fn expose_ports(&self) -> &[ContainerPort] {
        &[ContainerPort::Tcp(PORT)]
    }
}

fn beginning(sql: &str) -> &str {
    sql.char_indices().nth(400).map_or(sql, |(end, _)| &sql[..end])
}
