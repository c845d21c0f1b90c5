//! A sound repository, made once, and copies of it to damage.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pgkeep_testkit::{Ceph, PostgresServer, ScratchDatabase, client_tools_path, program};
use tempfile::TempDir;

use crate::alteration::Object;

/// How the backups of a repository are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kind {
    pub(crate) compression: &'static str,
    pub(crate) encrypted: bool,
}

/// A database, and a repository with two backups of it, both proven.
pub(crate) struct Ground {
    pub(crate) source: ScratchDatabase<'static>,
    folder: TempDir,
    kind: Kind,
    /// Names of the backups, the newer one first.
    pub(crate) newest: String,
    pub(crate) before: String,
}

impl Ground {
    pub(crate) fn new(label: &str, kind: Kind) -> Self {
        Self::with(label, kind, "")
    }

    /// The same with this SQL run in the database beforehand.
    pub(crate) fn with(label: &str, kind: Kind, sql: &str) -> Self {
        let server = PostgresServer::shared(17);
        let source = server.create_database(label);
        source.psql(CONTENT);
        source.psql(sql);
        let folder = tempfile::Builder::new().prefix("pgkeep-damage-").tempdir().unwrap();
        let mut ground = Self { source, folder, kind, newest: String::new(), before: String::new() };
        let store = ground.folder.path().join("sound");
        std::fs::create_dir(&store).unwrap();
        let sound = Repository { ground: &ground, store, elsewhere: Vec::new(), _folder: None };
        if kind.encrypted {
            let made = sound.pgkeep(&["keygen", "--to", ground.key().to_str().unwrap()]);
            assert_eq!(made.code, Some(0), "{made}");
        }
        let mut names = Vec::new();
        for round in 1..=2 {
            // The globals of both differ as well.
            let name = ground.source.name();
            ground.source.psql(&format!(
                "INSERT INTO orders (note) SELECT 'round {round}, ' || md5(n::text) FROM generate_series(1, {round} * 50) n;
                 ALTER DATABASE {name} SET search_path = {}",
                vec!["public"; round].join(", ")
            ));
            sound.well(&["backup", "--no-prune"]);
            let listed = sound.well(&["list", "--output", "json"]);
            let listed: serde_json::Value = serde_json::from_str(&listed.stdout).unwrap();
            names.push(listed["backups"][0]["id"].as_str().unwrap().to_owned());
            sound.well(&["verify", "--latest", "--deep"]);
        }
        (ground.before, ground.newest) = (names[0].clone(), names[1].clone());
        assert_ne!(ground.before, ground.newest);
        ground
    }

    fn key(&self) -> PathBuf {
        self.folder.path().join("backup.key")
    }

    /// A name for a database to restore to; none of that name is there.
    pub(crate) fn target(&self) -> String {
        pgkeep_testkit::unique(&format!("{}_restored", self.source.name()))
    }

    /// A copy of the sound repository.
    pub(crate) fn copy(&self) -> Repository<'_> {
        let folder = tempfile::Builder::new().prefix("pgkeep-damage-").tempdir().unwrap();
        let store = folder.path().join("store");
        copy(&self.folder.path().join("sound"), &store);
        Repository { ground: self, store, elsewhere: Vec::new(), _folder: Some(folder) }
    }

    /// The same repository in a bucket, below this prefix; its folder is a copy of what is put there.
    pub(crate) fn in_bucket(&self, bucket: &str, prefix: &str) -> Repository<'_> {
        let mut elsewhere: Vec<(&'static str, OsString)> =
            Ceph::shared().environment().into_iter().map(|(name, value)| (name, value.into())).collect();
        elsewhere.push(("BACKUP_STORE", format!("s3://{bucket}/{prefix}").into()));
        Repository { elsewhere, ..self.copy() }
    }
}

/// Small, with all that a restore treats apart: rows, a large object, a sequence, an index, a constraint, a view.
const CONTENT: &str = "
    CREATE TABLE customers (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, name text NOT NULL UNIQUE);
    CREATE TABLE orders (id bigserial PRIMARY KEY, customer int REFERENCES customers, note text);
    CREATE INDEX ON orders (note);
    CREATE VIEW noted AS SELECT id, note FROM orders WHERE note IS NOT NULL;
    INSERT INTO customers (name) SELECT 'customer ' || n FROM generate_series(1, 30) n;
    SELECT lo_from_bytea(4711, convert_to(repeat('large object ', 300), 'UTF8'))";

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}

/// One repository in a folder.
pub(crate) struct Repository<'g> {
    ground: &'g Ground,
    pub(crate) store: PathBuf,
    /// Where it lies, if not in that folder.
    elsewhere: Vec<(&'static str, OsString)>,
    _folder: Option<TempDir>,
}

impl Repository<'_> {
    /// The file of this kind of the newest backup, and of the one before.
    pub(crate) fn files(&self, object: Object) -> (PathBuf, PathBuf) {
        let Ground { newest, before, .. } = self.ground;
        let of = |id: &str, wanted: &dyn Fn(&str) -> bool| {
            let all = self.all();
            let found = all.keys().find(|file| file.starts_with(&format!("{id}.")) && wanted(file));
            self.store.join(found.unwrap_or_else(|| panic!("{object} of {id} in {:?}", all.keys())))
        };
        let both = |wanted: &dyn Fn(&str) -> bool| (of(newest, wanted), of(before, wanted));
        match object {
            Object::Archive => {
                both(&|file| file.contains(".dump") && !file.ends_with(".meta") && !file.contains(".proofs/"))
            }
            Object::Meta => both(&|file| file.ends_with(".meta")),
            Object::Globals => both(&|file| file.contains(".globals.")),
            Object::Proof => both(&|file| file.ends_with("_deep.json")),
            Object::Lock => {
                let all = self.all();
                let mut locks = all.keys().filter(|file| file.starts_with(".pgkeep/lock-")).rev();
                let mut next = || self.store.join(locks.next().expect("a lock"));
                (next(), next())
            }
            // There is one only: another database's stands for the one before.
            Object::Source => {
                let (record, other) = (self.store.join("source.json"), self.store.with_extension("other"));
                std::fs::write(&other, ANOTHER_SOURCE).unwrap();
                (record, other)
            }
        }
    }

    /// Every object by its key.
    pub(crate) fn all(&self) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut folders = vec![self.store.clone()];
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().flatten() {
                if entry.path().is_dir() {
                    folders.push(entry.path());
                } else {
                    let key = entry.path().strip_prefix(&self.store).unwrap().to_str().unwrap().to_owned();
                    found.insert(key, std::fs::read(entry.path()).unwrap());
                }
            }
        }
        found
    }

    /// All that lies in the repository was written so long ago: with an hour, no lease is left.
    pub(crate) fn written_ago(&self, seconds: u64) {
        let time = std::time::SystemTime::now() - std::time::Duration::from_secs(seconds);
        for key in self.all().into_keys() {
            std::fs::File::options().write(true).open(self.store.join(key)).unwrap().set_modified(time).unwrap();
        }
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut variables: BTreeMap<&str, OsString> = BTreeMap::from([
            ("PATH", std::env::var_os("PATH").unwrap_or_default()),
            ("DATABASE_URL", self.ground.source.url().into()),
            ("BACKUP_STORE", format!("file://{}", self.store.display()).into()),
            ("BACKUP_DIR", "none".into()),
            ("LOG_FILE", "none".into()),
            ("PG_BINDIRS", client_tools_path()),
            // Nobody waits for a lock here.
            ("BACKUP_WAIT", "0".into()),
            ("BACKUP_COMPRESSION", self.ground.kind.compression.into()),
            // Of sound backups, prune leaves the newest.
            ("BACKUP_RETENTION_DAILY_MIN", "1".into()),
            ("BACKUP_RETENTION_DAILY_MAX", "1".into()),
        ]);
        if self.ground.kind.encrypted && self.ground.key().exists() {
            let public = std::fs::read_to_string(self.ground.key()).unwrap();
            let public = public.lines().find_map(|line| line.strip_prefix("# public key: ")).expect("a public key");
            variables.insert("BACKUP_ENCRYPT_TO", public.trim().into());
            variables.insert("BACKUP_IDENTITY_FILE", self.ground.key().into());
        }
        variables.extend(self.elsewhere.iter().cloned());
        let mut command = Command::new(program("pgkeep"));
        command
            .args(arguments)
            .env_clear()
            .envs(variables)
            .current_dir(self.ground.folder.path())
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    /// Runs to the end. Whatever comes of it, it does not panic.
    pub(crate) fn pgkeep(&self, arguments: &[&str]) -> Run {
        let output = self.command(arguments).output().unwrap();
        let run = Run {
            arguments: arguments.join(" "),
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        };
        assert!(run.code.is_some_and(|code| code != 1) && !run.stderr.contains("panicked"), "{run}");
        run
    }

    pub(crate) fn well(&self, arguments: &[&str]) -> Run {
        let run = self.pgkeep(arguments);
        assert_eq!(run.code, Some(0), "{run}");
        run
    }
}

const ANOTHER_SOURCE: &str =
    r#"{"name": "another", "identity": {"system_identifier": "1", "database": "another", "server": "elsewhere:5432"}}"#;

/// What a command gave.
pub(crate) struct Run {
    arguments: String,
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Run {
    pub(crate) fn says(&self, words: &str) -> bool {
        self.stdout.contains(words) || self.stderr.contains(words)
    }
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "pgkeep {}: status {:?}\n--- stdout\n{}\n--- stderr\n{}",
            self.arguments, self.code, self.stdout, self.stderr
        )
    }
}
