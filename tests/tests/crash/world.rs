//! A database, its backups, and what must hold of both after every kill.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use pgkeep_storage::Storage;
use pgkeep_testkit::{PostgresServer, ScratchDatabase, client_tools, contents, dump_text_sorted};
use serde_json::Value;

use crate::eyes::{self, litter, whole_backups};
use crate::setup::{Run, Setup};
use crate::victim::{Fate, Victim, Whom};

/// Some of everything that a restore makes; small, for it is restored often.
const DATABASE: &str = r#"
    CREATE TABLE customers (id serial PRIMARY KEY, name text NOT NULL UNIQUE, notes text);
    CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer int NOT NULL REFERENCES customers,
        total numeric(9, 2) NOT NULL CHECK (total >= 0), placed timestamptz NOT NULL, goods jsonb NOT NULL);
    CREATE INDEX ON orders (customer, placed);
    CREATE VIEW turnover AS SELECT customer, sum(total) FROM orders GROUP BY customer;
    CREATE FUNCTION double(n int) RETURNS int LANGUAGE sql IMMUTABLE AS 'SELECT 2 * n';
    COMMENT ON TABLE orders IS 'what they ordered';
    INSERT INTO customers (name, notes) SELECT 'customer ' || n, repeat(md5(n::text), 10) FROM generate_series(1, 600) n;
    INSERT INTO orders (customer, total, placed, goods)
        SELECT 1 + n % 600, n, timestamptz '2025-01-01 00:00Z' + n * interval '1 hour', jsonb_build_object('n', n, 'what', md5(n::text))
        FROM generate_series(1, 3000) n;
    SELECT lo_from_bytea(0, decode(repeat(md5('large'), 500), 'hex')) \g /dev/null
"#;
/// What is in the live database and in no backup, so that the two are told apart.
const PRESENT: &str = "CREATE TABLE only_now AS SELECT 'written since the backup' AS words";
/// How long what is dead may go on living: a client tool until it finds out, a server's session until its client is gone.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) database: ScratchDatabase<'static>,
    pub(crate) setup: Setup,
    /// By which its sessions are known.
    application: String,
    /// Where backups go, if not to the folder.
    pub(crate) bucket: Option<Arc<dyn Storage>>,
}

impl World {
    /// A database and a folder for its backups; none is made yet.
    pub(crate) fn new(label: &str) -> Self {
        let database = PostgresServer::shared(17).create_database(label);
        database.psql(DATABASE);
        let application = format!("pgkeep-{}", database.name());
        let setup = Setup::new(&format!("{}?application_name={application}", database.url()));
        let work = setup.folder().join("work");
        std::fs::create_dir(&work).unwrap();
        // The throw-away server of a drill runs as somebody else.
        for folder in [setup.folder(), &work] {
            std::fs::set_permissions(folder, Permissions::from_mode(0o755)).unwrap();
        }
        let setup = setup.with("TMPDIR", &work).with("BACKUP_JOBS", "2");
        Self { database, setup, application, bucket: None }
    }

    /// The same with one backup, and something written after it.
    pub(crate) fn with_backup(label: &str) -> Self {
        let world = Self::new(label);
        world.setup.pgkeep(&["backup"]);
        world.write();
        world
    }

    /// Writes what no backup has.
    pub(crate) fn write(&self) {
        self.ask(self.database.name(), PRESENT);
    }

    /// Where private files go.
    pub(crate) fn work(&self) -> PathBuf {
        self.setup.folder().join("work")
    }

    /// The live database as it is.
    pub(crate) fn live(&self) -> State {
        self.state(self.database.name())
    }

    /// A database as it is.
    pub(crate) fn state(&self, database: &str) -> State {
        let dumped = self.tool("pg_dump", database, &["--restrict-key=crash"]);
        // The order of rows is no property of a table.
        let mut lines: Vec<String> = dumped.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        State { lines }
    }

    /// The same by the server's own `pg_dump` in order, and by the sums of the rows' hashes.
    pub(crate) fn oracles(&self, database: &str) -> (String, String) {
        let server = self.database.server();
        (dump_text_sorted(server, database), format!("{:?}", contents(server, database)))
    }

    /// psql's answer.
    pub(crate) fn ask(&self, database: &str, sql: &str) -> String {
        self.tool("psql", database, &["-XAtq", "-v", "ON_ERROR_STOP=1", "-c", sql]).trim_end().to_owned()
    }

    /// A client tool, without a detour by the container.
    fn tool(&self, name: &str, database: &str, arguments: &[&str]) -> String {
        let url = self.database.server().url(database);
        let output = self.setup.stock(client_tools(17).join(name)).arg("-d").arg(url).args(arguments).output();
        let run = Run::of(&output.unwrap());
        assert_eq!(run.code, Some(0), "{name} {arguments:?}\n{run}");
        run.stdout
    }

    /// Drops databases that a restore kept or made.
    pub(crate) fn drop_databases(&self, like: &str) {
        for name in self.database.relatives().into_iter().filter(|name| name.contains(like)) {
            self.ask("postgres", &format!("DROP DATABASE \"{name}\" WITH (FORCE)"));
        }
    }

    /// How long a run takes that is not disturbed.
    pub(crate) fn measure(&self, arguments: &[&str]) -> Duration {
        let begun = Instant::now();
        self.setup.pgkeep(arguments);
        begun.elapsed()
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Victim {
        Victim::start(self.setup.command("pgkeep", arguments))
    }

    /// Starts a run and kills it after this time.
    pub(crate) fn kill_after(&self, arguments: &[&str], time: Duration, whom: Whom) -> Fate {
        let victim = self.start(arguments);
        std::thread::sleep(time);
        let fate = victim.kill(whom);
        self.settle();
        fate
    }

    /// Starts a run and kills it this long after it says so.
    pub(crate) fn kill_when(&self, arguments: &[&str], words: &str, time: Duration, whom: Whom) -> Fate {
        let mut victim = self.start(arguments);
        assert!(victim.says(words), "it ends without saying {words:?}");
        std::thread::sleep(time);
        let fate = victim.kill(whom);
        self.settle();
        fate
    }

    /// Waits until nothing that was started runs any more, and no session of it is left: both end by themselves.
    pub(crate) fn settle(&self) {
        let until = Instant::now() + PATIENCE;
        loop {
            let strays = self.strays();
            if strays.is_empty() {
                break;
            }
            assert!(Instant::now() < until, "these live on: {strays:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
        let name = self.database.name();
        let sessions = format!(
            "SELECT count(*) FROM pg_stat_activity WHERE pid <> pg_backend_pid() \
             AND (application_name = '{}' OR datname = '{name}' OR datname LIKE '{name}\\_%')",
            self.application
        );
        while self.ask("postgres", &sessions) != "0" {
            assert!(Instant::now() < until, "a session of what was killed is left");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Processes that were started in this set-up and still run.
    fn strays(&self) -> Vec<String> {
        let folder = self.setup.folder().display().to_string();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let read = |file: &str| {
                let bytes = std::fs::read(entry.path().join(file)).unwrap_or_default();
                String::from_utf8_lossy(&bytes).replace('\0', " ")
            };
            let is_process = entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok());
            if is_process && (read("environ").contains(&folder) || read("cmdline").contains(&folder)) {
                found.push(read("cmdline"));
            }
        }
        found
    }

    /// Every backup there is is whole: each is read to its end and recounted. Gives their names.
    pub(crate) fn backups_are_whole(&self) -> Vec<String> {
        let folder = || eyes::folder(&self.setup.backups());
        whole_backups(self.bucket.as_ref().map_or_else(folder, Arc::clone))
    }

    /// The same, which `list` shows and `verify` finds good, and no other.
    pub(crate) fn list_is_whole(&self) {
        let listed = document(&self.setup.pgkeep(&["list", "--output", "json"]));
        let mut names: Vec<String> = listed["backups"].as_array().unwrap().iter().map(|one| text(&one["id"])).collect();
        names.sort();
        assert_eq!(names, self.backups_are_whole(), "{listed}");
        let verified = document(&self.setup.pgkeep(&["verify", "--all", "--deep", "--output", "json"]));
        let mut good: Vec<String> =
            verified["verified"].as_array().unwrap().iter().map(|one| text(&one["id"])).collect();
        good.sort();
        assert_eq!(good, names, "{verified}");
    }

    /// Six minutes later: the lease of whoever held the lock has run out.
    pub(crate) fn after_the_lease(&self) {
        let folder = self.setup.backups().join(".pgkeep");
        for file in files(&folder).into_iter().filter(|file| name_of(file).starts_with("lock-")) {
            age(&file, Duration::from_mins(6));
        }
    }

    /// Two days later: what was left is old enough to be swept.
    pub(crate) fn two_days_later(&self) {
        for file in files(&self.setup.backups()) {
            age(&file, Duration::from_hours(48));
        }
        for entry in std::fs::read_dir(self.work()).unwrap().flatten() {
            age(&entry.path(), Duration::from_hours(48));
        }
    }

    /// What lies in the folder of backups and belongs to none of them, but for the source's name and the lock's newest epochs.
    pub(crate) fn litter(&self) -> Vec<String> {
        let root = self.setup.backups();
        let names =
            files(&root).iter().map(|file| file.strip_prefix(&root).unwrap().display().to_string()).collect::<Vec<_>>();
        litter(&names)
    }
}

/// A database as pg_dump writes it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct State {
    lines: Vec<String>,
}

impl State {
    #[track_caller]
    pub(crate) fn assert_is(&self, expected: &Self, when: &str) {
        let (lacks, has) = (expected.without(self), self.without(expected));
        assert!(self == expected, "{when}: lacks {lacks:#?}\nand has {has:#?}");
    }

    /// Some lines that the other one has not.
    fn without(&self, other: &Self) -> Vec<&String> {
        self.lines.iter().filter(|line| other.lines.binary_search(line).is_err()).take(20).collect()
    }
}

/// Everything below a folder.
pub(crate) fn files(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if entry.path().is_dir() { folders.push(entry.path()) } else { found.push(entry.path()) }
        }
    }
    found
}

pub(crate) fn name_of(file: &Path) -> String {
    file.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

pub(crate) fn age(path: &Path, by: Duration) {
    File::open(path).unwrap().set_modified(SystemTime::now() - by).unwrap();
}

pub(crate) fn document(run: &Run) -> Value {
    serde_json::from_str(&run.stdout).unwrap_or_else(|error| panic!("{error}\n{run}"))
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}
