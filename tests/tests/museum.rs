//! Repositories that earlier versions wrote (tests/museum), read by the present one: each is listed, shown, proven and restored to
//! what was in it; what is not known in them is passed over, and what is too new is refused.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

use pgkeep_testkit::{
    PostgresServer, client_tools_path, dump_text_sorted, hold_against_document, large_objects, program, unique,
};
use serde_json::{Value, json};
use tempfile::TempDir;

const MUSEUM: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/museum");

/// What `make.sh` makes of each format, and with how many backups.
const REPOSITORIES: [(&str, usize); 7] =
    [("zstd", 1), ("gzip", 1), ("lz4", 1), ("none", 1), ("pg_dump", 1), ("encrypted", 1), ("scripts", 1)];

/// A copy of a repository, which may be written to.
struct Repository {
    folder: TempDir,
    key: PathBuf,
}

struct Run {
    arguments: String,
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl std::fmt::Display for Run {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { arguments, code, stdout, stderr } = self;
        write!(f, "pgkeep {arguments}: status {code:?}\n--- stdout\n{stdout}\n--- stderr\n{stderr}")
    }
}

impl Repository {
    fn new(format: &str, name: &str) -> Self {
        let folder = tempfile::Builder::new().prefix("pgkeep-museum-").tempdir().unwrap();
        copy(&Path::new(MUSEUM).join(format).join(name), &folder.path().join("store"));
        Self { folder, key: Path::new(MUSEUM).join(format).join("encrypted.key") }
    }

    fn store(&self) -> PathBuf {
        self.folder.path().join("store")
    }

    fn pgkeep(&self, arguments: &[&str]) -> Run {
        // A key file that others can read is refused, and git keeps no modes.
        let key = self.folder.path().join("backup.key");
        if !key.exists() {
            std::fs::copy(&self.key, &key).unwrap();
            let mode = <std::fs::Permissions as std::os::unix::fs::PermissionsExt>::from_mode(0o600);
            std::fs::set_permissions(&key, mode).unwrap();
        }
        let variables: BTreeMap<&str, OsString> = BTreeMap::from([
            ("PATH", std::env::var_os("PATH").unwrap_or_default()),
            ("DATABASE_URL", PostgresServer::shared(17).url("postgres").into()),
            ("BACKUP_STORE", format!("file://{}", self.store().display()).into()),
            ("BACKUP_DIR", "none".into()),
            ("LOG_FILE", "none".into()),
            ("PG_BINDIRS", client_tools_path()),
            ("BACKUP_IDENTITY_FILE", key.into()),
        ]);
        let mut command = Command::new(program("pgkeep"));
        command.args(arguments).env_clear().envs(variables).current_dir(self.folder.path());
        let output = command.stdin(Stdio::null()).output().unwrap();
        Run {
            arguments: arguments.join(" "),
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }

    fn well(&self, arguments: &[&str]) -> Run {
        let run = self.pgkeep(arguments);
        assert_eq!(run.code, Some(0), "{run}");
        run
    }

    /// The backups that `list` tells of, by their names.
    fn listed(&self) -> Vec<String> {
        let list = self.well(&["list", "--output", "json"]);
        let list: Value = serde_json::from_str(&list.stdout).unwrap();
        let backups = list["backups"].as_array().unwrap();
        backups.iter().map(|backup| backup["id"].as_str().unwrap().to_owned()).collect()
    }

    /// Files that end like this.
    fn files(&self, end: &str) -> Vec<PathBuf> {
        let (mut found, mut folders) = (Vec::new(), vec![self.store()]);
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap().flatten() {
                if entry.path().is_dir() {
                    folders.push(entry.path());
                } else if entry.file_name().to_str().unwrap().ends_with(end) {
                    found.push(entry.path());
                }
            }
        }
        assert!(!found.is_empty(), "{end}");
        found.sort();
        found
    }

    /// Restores to a database of its own, which must then be what the museum says.
    fn comes_back(&self, backup: &str) {
        let (server, target) = (PostgresServer::shared(17), unique("museum"));
        self.well(&["restore", backup, "--target-db", &target, "--roles", "--yes"]);
        let found = without_versions(&dump_text_sorted(server, &target));
        let objects = large_objects(server, &target);
        server.psql("postgres", &format!("DROP DATABASE {target}"));
        let (expected, expected_objects) = expected();
        assert_eq!(&found, expected, "{backup}");
        assert_eq!(format!("{objects:?}"), *expected_objects, "{backup}");
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), &target).unwrap();
        }
    }
}

/// Two lines name the versions of server and pg_dump, which are others tomorrow.
fn without_versions(text: &str) -> String {
    let lines = text.lines().filter(|line| !line.starts_with("-- Dumped ")).map(str::trim_end);
    let mut text = lines.collect::<Vec<_>>().join("\n");
    text.push('\n');
    text
}

/// What a restored database must be: the text kept beside the repositories, which is what `content.sql` makes; and its large objects.
fn expected() -> &'static (String, String) {
    static EXPECTED: OnceLock<(String, String)> = OnceLock::new();
    EXPECTED.get_or_init(|| {
        let server = PostgresServer::shared(17);
        let source = server.create_database("museum_source");
        source.psql(&std::fs::read_to_string(Path::new(MUSEUM).join("content.sql")).unwrap());
        let made = without_versions(&dump_text_sorted(server, &source));
        let file = Path::new(MUSEUM).join("expected.sql");
        if std::env::var_os("PGKEEP_UPDATE_DOCS").is_some_and(|value| value == "1") {
            std::fs::write(&file, &made).unwrap();
        }
        assert_eq!(std::fs::read_to_string(&file).unwrap(), made, "content.sql makes something else than is kept");
        (made, format!("{:?}", large_objects(server, &source)))
    })
}

/// The formats there are: every folder of the museum.
fn formats() -> Vec<String> {
    let folders = std::fs::read_dir(MUSEUM).unwrap().flatten().filter(|entry| entry.path().is_dir());
    let mut formats: Vec<String> = folders.map(|entry| entry.file_name().to_str().unwrap().to_owned()).collect();
    formats.sort();
    formats
}

/// The repositories of a format.
fn repositories(format: &str) -> Vec<&'static str> {
    let there = |name: &&str| Path::new(MUSEUM).join(format).join(name).is_dir();
    REPOSITORIES.iter().map(|(name, _)| *name).filter(there).collect()
}

#[test]
fn every_repository_is_listed_shown_proven_and_comes_back() {
    let mut rows = Vec::new();
    for format in formats() {
        let names = repositories(&format);
        let folders = std::fs::read_dir(Path::new(MUSEUM).join(&format)).unwrap().flatten();
        assert_eq!(
            names.len(),
            folders.filter(|entry| entry.path().is_dir()).count(),
            "{format}: each has its line above"
        );
        std::thread::scope(|scope| {
            for half in names.chunks(names.len().div_ceil(2)) {
                let format = &format;
                scope.spawn(move || half.iter().for_each(|name| is_readable(format, name)));
            }
        });
        let all: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
        rows.push(vec![format!("`{format}`"), all.join(", ")]);
    }
    hold_against_document("museum", &["written by", "repositories"], &rows);
}

fn is_readable(format: &str, name: &str) {
    let repository = Repository::new(format, name);
    let backups = repository.listed();
    let (_, count) = REPOSITORIES.iter().find(|(known, _)| *known == name).unwrap();
    assert_eq!(backups.len(), *count, "{format}, {name}: {backups:?}");
    for backup in &backups {
        let show = repository.well(&["show", backup, "--tables"]);
        assert!(show.stdout.contains("Shop.customers") && show.stdout.contains("museum"), "{show}");
        let verified = repository.well(&["verify", backup, "--deep"]);
        assert!(verified.stdout.contains("good"), "{verified}");
        repository.comes_back(backup);
    }
    let status = repository.pgkeep(&["status"]);
    assert!(!status.stdout.contains("can't be read") && matches!(status.code, Some(0 | 10)), "{status}");
}

#[test]
fn an_archive_of_the_old_scripts_comes_back_and_can_be_adopted() {
    for format in formats() {
        let repository = Repository::new(&format, "scripts");
        let bare = repository.store().join("daily_20251002_030001.dump.gz");
        let list = repository.well(&["list"]);
        assert!(list.stdout.contains("daily_20251002_030001.dump.gz"), "it is adoptable: {list}");
        // It has no globals: the role that holds grants comes with what is expected.
        expected();
        repository.comes_back(bare.to_str().unwrap());
        repository.well(&["adopt", bare.to_str().unwrap()]);
        assert_eq!(repository.listed(), ["daily_20251002_030001", "daily_20251001_030001"]);
        repository.well(&["verify", "daily_20251002", "--deep"]);
    }
}

#[test]
fn keys_that_are_not_known_are_passed_over() {
    for (format, name) in
        formats().iter().flat_map(|format| ["zstd", "encrypted", "scripts"].map(|name| (format, name)))
    {
        let repository = Repository::new(format, name);
        let mut altered = repository.files(".meta");
        if name != "scripts" {
            altered.extend(repository.files(".json"));
        }
        for file in altered {
            let mut object: Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
            add_keys(&mut object);
            // Of what a newer version writes, the digest would be right.
            object.as_object_mut().unwrap().remove("self_sha256");
            std::fs::write(&file, object.to_string()).unwrap();
        }
        let backups = repository.listed();
        assert_eq!(backups.len(), 1, "{format}, {name}");
        repository.well(&["show", &backups[0]]);
        repository.well(&["verify", &backups[0], "--deep"]);
        let status = repository.pgkeep(&["status"]);
        assert!(!status.stdout.contains("can't be read"), "{status}");
    }
}

/// Adds a key to every object in it.
fn add_keys(value: &mut Value) {
    match value {
        Value::Object(object) => {
            object.values_mut().for_each(add_keys);
            object.insert("of_a_newer_version".to_owned(), json!({"list": [1, null, {"x": 1.5}]}));
        }
        Value::Array(list) => list.iter_mut().for_each(add_keys),
        _ => {}
    }
}

#[test]
fn a_format_that_is_too_new_is_refused_in_plain_words() {
    for name in ["zstd", "encrypted"] {
        let format = formats().pop().unwrap();
        let repository = Repository::new(&format, name);
        let backup = repository.listed().remove(0);
        let meta = repository.files(".meta").remove(0);
        let mut object: Value = serde_json::from_slice(&std::fs::read(&meta).unwrap()).unwrap();
        object["format_version"] = json!(2);
        std::fs::write(&meta, object.to_string()).unwrap();
        assert!(repository.listed().is_empty());
        let list = repository.well(&["list"]);
        assert!(list.stderr.contains("format version 2; this version of pgkeep reads up to 1"), "{list}");
        for arguments in [
            vec!["show", &backup],
            vec!["verify", &backup, "--stored"],
            vec!["restore", &backup, "--target-db", "museum_never", "--yes"],
            vec!["export", &backup, "--to", "x.dump"],
        ] {
            let run = repository.pgkeep(&arguments);
            assert_eq!(run.code, Some(2), "{run}");
            assert!(run.stderr.contains("reads up to 1") && run.stderr.contains("hint:"), "{run}");
        }
        let before = repository.files("").len();
        let pruned = repository.well(&["prune"]);
        assert!(pruned.stderr.contains("nothing is removed there"), "{pruned}");
        assert!(repository.files("").len() >= before, "{pruned}");
    }
}
