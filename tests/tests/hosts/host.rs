//! Hosts that share a database and a bucket; each has a name and a folder for backups of its own.

use std::process::{Child, Command};
use std::sync::Arc;
use std::time::{Duration, Instant};

use pgkeep_storage::Storage;
use pgkeep_testkit::{Ceph, PostgresServer, ScratchDatabase, program};
use serde_json::Value;

use crate::eyes;
use crate::setup::{Run, Setup};

/// What two hosts share.
pub(crate) struct Shared {
    pub(crate) database: ScratchDatabase<'static>,
    pub(crate) bucket: String,
}

impl Shared {
    /// A database with some rows, and an empty bucket.
    pub(crate) fn new(label: &str) -> Self {
        let database = PostgresServer::shared(17).create_database(label);
        database.psql(
            "CREATE TABLE orders (id int PRIMARY KEY, goods text NOT NULL); \
             INSERT INTO orders SELECT n, repeat(md5(n::text), 8) FROM generate_series(1, 3000) n",
        );
        Self { database, bucket: Ceph::shared().create_bucket(label) }
    }

    /// The part of the bucket that is the database's; something was stored there before.
    pub(crate) fn store(&self) -> Arc<dyn Storage> {
        let keys = self.keys();
        let prefix = keys.iter().find_map(|key| key.strip_suffix("/source.json"));
        eyes::bucket(&self.bucket, prefix.unwrap_or_else(|| panic!("no source.json in {keys:?}")))
    }

    pub(crate) fn keys(&self) -> Vec<String> {
        Ceph::shared().keys(&self.bucket)
    }

    /// The database by an address that means the same on every host, as 127.0.0.1 does not.
    pub(crate) fn url(&self) -> String {
        let server = self.database.server();
        let address = server.exec(&["hostname", "-i"]).stdout;
        let address = String::from_utf8_lossy(&address).trim().to_owned();
        self.database.url().replace(&format!("127.0.0.1:{}", server.port()), &format!("{address}:5432"))
    }

    /// A host with this name.
    pub(crate) fn host(&self, name: &'static str) -> Host {
        let mut setup = Setup::new(&self.url());
        for (variable, value) in Ceph::shared().environment() {
            setup.set(variable, value);
        }
        setup.set("AWS_S3_BACKUP_BUCKET", &self.bucket);
        setup.set("BACKUP_JOBS", "2");
        Host { name, setup }
    }
}

pub(crate) struct Host {
    name: &'static str,
    pub(crate) setup: Setup,
}

impl Host {
    /// `pgkeep` as it runs on this host.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.setup.stock("unshare");
        // Of the machine that the tests run on only the name is another one.
        command.args(["--uts", "sh", "-c", "hostname \"$0\" && exec \"$@\"", self.name]);
        command.arg(program("pgkeep")).args(arguments);
        command
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).spawn().expect("the program can be run")
    }

    /// Runs to the end, whatever comes of it.
    pub(crate) fn run(&self, arguments: &[&str]) -> Run {
        Run::of(&self.command(arguments).output().expect("the program can be run"))
    }

    /// Runs to the end, which must be a good one.
    pub(crate) fn pgkeep(&self, arguments: &[&str]) -> Run {
        let run = self.run(arguments);
        assert_eq!(run.code, Some(0), "{} pgkeep {arguments:?}\n{run}", self.name);
        run
    }

    /// Makes a backup and gives its name.
    pub(crate) fn backup(&self, arguments: &[&str]) -> String {
        name_of_backup(&self.pgkeep(&[&["backup", "--output", "json"], arguments].concat()))
    }
}

pub(crate) fn name_of_backup(run: &Run) -> String {
    let name = document(run)["backup"]["id"].as_str().map(str::to_owned);
    name.unwrap_or_else(|| panic!("no backup was made\n{run}"))
}

pub(crate) fn document(run: &Run) -> Value {
    serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}\n{run}"))
}

pub(crate) fn ended(child: Child) -> Run {
    Run::of(&child.wait_with_output().expect("it ends"))
}

pub(crate) fn signal(child: &Child, signal: &str) {
    let sent = Command::new("kill").args([signal, &child.id().to_string()]).status().expect("kill can be run");
    assert!(sent.success());
}

pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < until, "{what}: not within a minute");
        std::thread::sleep(Duration::from_millis(5));
    }
}
