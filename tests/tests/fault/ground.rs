//! A database behind a relay, a set-up for it, and somebody who looks at what a run has left behind.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use pgkeep_dump::{ConnectSettings, Connection, SessionSettings};
use pgkeep_testkit::{PostgresServer, ScratchDatabase, client_tools, unique};
use serde_json::Value;
use tokio::runtime::Runtime;

use crate::relay::{Act, StatementRelay, Whose};
use crate::setup::{Run, Setup};

/// Nothing takes so long on a busy machine.
const PATIENCE: Duration = Duration::from_mins(2);

/// More rows than a pipe holds, so that sessions of our own copy them; a large object, a sequence, an index, a foreign key.
const TABLES: &str = "
    CREATE TABLE big (id int PRIMARY KEY, filler text);
    INSERT INTO big SELECT g, repeat(md5(g::text), 4) FROM generate_series(1, 3000) g;
    CREATE TABLE child (id serial PRIMARY KEY, big int REFERENCES big, note text);
    INSERT INTO child (big, note) SELECT g, 'note ' || g FROM generate_series(1, 200) g;
    CREATE INDEX ON child (note);
    CREATE VIEW both_of_them AS SELECT * FROM big JOIN child USING (id);
    CREATE TABLE word (word text);
    INSERT INTO word VALUES ('backed up');
    SELECT lo_from_bytea(4711, decode(repeat('0123456789abcdef', 1000), 'hex'))";

/// What has become of the database since its backup.
const SINCE: &str = "UPDATE word SET word = 'present'; CREATE TABLE IF NOT EXISTS since AS SELECT 1 AS id";

/// Everything by which the live database could be seen to have been touched.
const LOOK: &str = "
    SELECT pg_catalog.concat_ws(' ', d.oid, d.datallowconn, d.datconnlimit, d.datacl, d.datistemplate,
        (SELECT pg_catalog.string_agg(relname || relkind::text, ',' ORDER BY relname) FROM pg_catalog.pg_class WHERE relnamespace = 'public'::regnamespace),
        CASE WHEN pg_catalog.to_regclass('public.word') IS NOT NULL
            THEN pg_catalog.query_to_xml('SELECT word FROM public.word', true, false, '')::text END,
        (SELECT pg_catalog.count(*) FROM pg_catalog.pg_largeobject_metadata),
        (SELECT pg_catalog.string_agg(conname, ',' ORDER BY conname) FROM pg_catalog.pg_constraint WHERE connamespace = 'public'::regnamespace))
    FROM pg_catalog.pg_database d WHERE d.datname = pg_catalog.current_database()";

/// How much is tried out.
pub(crate) fn everything() -> bool {
    std::env::var_os("PGKEEP_FAULTS").is_some_and(|value| value == "all")
}

pub(crate) struct Ground {
    pub(crate) relay: StatementRelay,
    pub(crate) setup: Setup,
    pub(crate) source: ScratchDatabase<'static>,
    onlooker: Onlooker,
    /// The name of every session of a run.
    application: String,
    temporary: PathBuf,
}

/// What a run came to.
pub(crate) struct Came {
    pub(crate) run: Run,
    pub(crate) signal: Option<i32>,
    /// Its document.
    pub(crate) document: Value,
}

impl std::fmt::Display for Came {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}", self.run)
    }
}

impl Came {
    pub(crate) fn error(&self, field: &str) -> &str {
        self.document["error"][field].as_str().unwrap_or_default()
    }

    pub(crate) fn warnings(&self) -> Vec<String> {
        let warnings = self.document["warnings"].as_array().cloned().unwrap_or_default();
        warnings.iter().map(|warning| warning.as_str().unwrap_or_default().to_owned()).collect()
    }
}

impl Ground {
    /// A database with some rows, and a set-up whose sessions all go through the relay.
    pub(crate) fn new(label: &str) -> Self {
        let server = PostgresServer::shared(17);
        let source = server.create_database(label);
        source.psql(TABLES);
        let relay = StatementRelay::to(server.port());
        let application = unique("fault");
        let url = source.url().replace(&format!(":{}/", server.port()), &format!(":{}/", relay.port()));
        let mut setup = Setup::new(&format!("{url}?sslmode=disable&application_name={application}"));
        let temporary = setup.folder().join("tmp");
        std::fs::create_dir(&temporary).unwrap();
        for (name, value) in [
            ("TMPDIR", temporary.as_os_str()),
            ("PG_BINDIRS", client_tools(17).as_os_str()),
            ("BACKUP_JOBS", "2".as_ref()),
            ("BACKUP_COMPRESSION", "lz4".as_ref()),
        ] {
            setup.set(name, value);
        }
        Self { relay, setup, source, onlooker: Onlooker::new(server), application, temporary }
    }

    /// The same with a backup, after which the database has changed.
    pub(crate) fn with_a_backup(label: &str) -> Self {
        let ground = Self::new(label);
        ground.setup.pgkeep(&["backup"]);
        ground.change();
        ground
    }

    /// What is in the backup is not what is there any more.
    pub(crate) fn change(&self) {
        self.source.psql(SINCE);
    }

    /// Every object in the repository but the lock.
    pub(crate) fn repository(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.setup.backups()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
                let path = entry.path();
                if path.is_dir() {
                    folders.push(path);
                } else if !path.to_string_lossy().contains("/.pgkeep/lock-") {
                    let bytes = std::fs::read(&path).unwrap_or_default();
                    found.insert(path, bytes);
                }
            }
        }
        found
    }

    /// The newest epoch of the lock was given back.
    pub(crate) fn lock_is_free(&self) -> bool {
        let folder = self.setup.backups().join(".pgkeep");
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let epochs = entries.map(|entry| entry.path()).filter(|path| path.to_string_lossy().contains("/lock-"));
        let Some(newest) = epochs.max() else { return true };
        let epoch = std::fs::read_to_string(newest).unwrap();
        epoch.split_whitespace().collect::<String>().contains("\"released\":true")
    }

    /// The live database, as far as it can be seen to have been touched.
    pub(crate) fn look(&self) -> String {
        self.onlooker.ask(self.source.name(), LOOK).concat()
    }

    /// Its own name and those of all databases that were made beside it.
    pub(crate) fn databases(&self) -> Vec<String> {
        let sql = format!(
            "SELECT datname FROM pg_catalog.pg_database WHERE pg_catalog.starts_with(datname, '{}') ORDER BY 1",
            self.source.name()
        );
        self.onlooker.ask("postgres", &sql)
    }

    pub(crate) fn ask(&self, database: &str, sql: &str) -> Vec<String> {
        self.onlooker.ask(database, sql)
    }

    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        let mut all = vec!["--output", "json"];
        all.extend_from_slice(arguments);
        self.setup.start("pgkeep", &all)
    }

    /// Runs while the n-th statement goes wrong; what is never answered is given up by SIGTERM.
    pub(crate) fn run_with(&self, arguments: &[&str], whose: Whose, nth: usize, act: Act) -> Came {
        self.relay.arm(whose, nth, act);
        let mut child = self.start(arguments);
        if act == Act::Stall {
            let until = Instant::now() + PATIENCE;
            loop {
                if self.relay.wait_until_struck(Duration::from_millis(20)) {
                    signal(child.id(), "-TERM");
                    break;
                }
                if child.try_wait().unwrap().is_some() {
                    break;
                }
                assert!(Instant::now() < until, "neither is statement {nth} said nor does the run end");
            }
        }
        let came = self.wait(child);
        self.relay.mend();
        came
    }

    /// Waits until it ends, which must not take for ever.
    pub(crate) fn wait(&self, mut child: Child) -> Came {
        let id = child.id();
        let (stdout, stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
        let read = |mut stream: Box<dyn std::io::Read + Send>| {
            std::thread::spawn(move || {
                let mut bytes = Vec::new();
                stream.read_to_end(&mut bytes).unwrap();
                String::from_utf8_lossy(&bytes).into_owned()
            })
        };
        let (stdout, stderr) = (read(Box::new(stdout)), read(Box::new(stderr)));
        let until = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = child.try_wait().unwrap() {
                break status;
            }
            if Instant::now() > until {
                let stacks = std::fs::read_to_string(format!("/proc/{id}/status")).unwrap_or_default();
                let _ = child.kill();
                panic!("{:?} stopped it from ending\n{stacks}\n{}", self.relay.struck(), stderr.join().unwrap());
            }
            std::thread::sleep(Duration::from_millis(5));
        };
        let run = Run { code: status.code(), stdout: stdout.join().unwrap(), stderr: stderr.join().unwrap() };
        let document = serde_json::from_str(&run.stdout).unwrap_or(Value::Null);
        Came { run, signal: status.signal(), document }
    }

    /// No process, no session, no file of a run is left, and its lock is given back.
    pub(crate) fn nothing_lingers(&self, what: &str) {
        // What a tool has started itself ends a moment after it.
        eventually(&format!("{what}: processes end"), || processes_of(self.relay.port()).is_empty());
        let left: Vec<_> = std::fs::read_dir(&self.temporary).unwrap().flatten().map(|entry| entry.path()).collect();
        assert!(left.is_empty(), "{what}: a temporary file is left: {left:?}");
        let half_made =
            |path: &Path| path.to_string_lossy().contains("partial") || path.to_string_lossy().contains(".tmp");
        let left: Vec<_> = self.repository().into_keys().filter(|path| half_made(path)).collect();
        assert!(left.is_empty(), "{what}: half an object is left: {left:?}");
        assert!(self.lock_is_free(), "{what}: the lock is held");
        let sessions = format!(
            "SELECT pid || ' ' || state || ' ' || query FROM pg_catalog.pg_stat_activity WHERE application_name = '{}'",
            self.application
        );
        eventually(&format!("{what}: sessions end"), || self.onlooker.ask("postgres", &sessions).is_empty());
    }
}

/// Processes that connect to this port, zombies left out.
fn processes_of(port: u16) -> Vec<String> {
    let mark = format!("PGPORT={port}");
    let running = |folder: &Path| {
        let stat = std::fs::read_to_string(folder.join("stat")).unwrap_or_default();
        !stat.is_empty() && !stat.contains(") Z ")
    };
    let folders = std::fs::read_dir("/proc").unwrap().flatten().map(|entry| entry.path());
    folders
        .filter(|folder| {
            let environment = std::fs::read(folder.join("environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes()) && running(folder)
        })
        .map(|folder| {
            String::from_utf8_lossy(&std::fs::read(folder.join("cmdline")).unwrap_or_default()).replace('\0', " ")
        })
        .collect()
}

/// The command lines of this machine's processes.
pub(crate) fn command_lines() -> Vec<String> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
    lines.map(|line| String::from_utf8_lossy(&line).replace('\0', " ")).collect()
}

pub(crate) fn signal(process: u32, signal: &str) {
    let sent = Command::new("kill").args([signal, &process.to_string()]).status().expect("kill can be run");
    assert!(sent.success());
}

pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let until = Instant::now() + PATIENCE;
    while !holds() {
        assert!(Instant::now() < until, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Has sessions of its own, past the relay.
struct Onlooker {
    runtime: Runtime,
    settings: ConnectSettings,
    /// On database postgres.
    session: RefCell<Option<Connection>>,
}

impl Onlooker {
    fn new(server: &PostgresServer) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let settings = ConnectSettings::parse(&server.url("postgres"), &BTreeMap::new(), None).unwrap();
        let settings = settings.with_application_name("onlooker");
        let session = runtime.block_on(Connection::connect(&settings, SessionSettings::Admin)).unwrap();
        Self { runtime, settings, session: RefCell::new(Some(session)) }
    }

    /// The first column of what a query gives.
    fn ask(&self, database: &str, sql: &str) -> Vec<String> {
        let asking = async {
            let kept = if database == "postgres" { self.session.take() } else { None };
            let mut session = match kept {
                Some(session) => session,
                None => Connection::connect(&self.settings.with_database(database), SessionSettings::Admin).await?,
            };
            let rows = session.query(sql).await;
            if database == "postgres" {
                self.session.replace(Some(session));
            } else {
                session.close().await?;
            }
            rows
        };
        let rows = self.runtime.block_on(asking).unwrap_or_else(|error| panic!("{database}: {error:?}\n{sql}"));
        rows.iter().map(|row| row.text(0).unwrap_or_default()).collect()
    }
}
