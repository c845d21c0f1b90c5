//! The binaries as their users see them: text, exit codes, JSON, files. No server needed.
#![expect(clippy::unwrap_used, reason = "a test's way to fail")]

mod exits;
mod help;
mod json;
mod log;
mod secrets;
mod settings;

use std::path::Path;

use assert_cmd::Command;

/// A binary in an empty world: a folder of its own as working directory and home, and no variables but those of a test.
struct World {
    folder: tempfile::TempDir,
}

/// What a run gave.
struct Gave {
    code: i32,
    stdout: String,
    stderr: String,
}

impl World {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn write(&self, name: &str, text: &str) {
        std::fs::write(self.path().join(name), text).unwrap();
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.path().join(name)).unwrap()
    }

    /// `program` with backups and log in the folder; a later variable of a name wins.
    fn command(&self, program: &str, arguments: &str, variables: &[(&str, &str)]) -> Command {
        let mut command = match program {
            "pgkeep" => Command::new(env!("CARGO_BIN_EXE_pgkeep")),
            "setup-backup-monitoring" => Command::new(env!("CARGO_BIN_EXE_setup-backup-monitoring")),
            "backup-database" => Command::new(env!("CARGO_BIN_EXE_backup-database")),
            "test-backup-restore" => Command::new(env!("CARGO_BIN_EXE_test-backup-restore")),
            "setup-backup-cron" => Command::new(env!("CARGO_BIN_EXE_setup-backup-cron")),
            _ => Command::new(env!("CARGO_BIN_EXE_restore-database")),
        };
        command
            .args(shell_words::split(arguments).unwrap())
            .current_dir(self.path())
            .env_clear()
            .env("HOME", self.path())
            .env("USER", "somebody")
            .env("PATH", std::env::var_os("PATH").unwrap_or_default())
            .env("BACKUP_DIR", self.path().join("backups"))
            .env("LOG_FILE", self.path().join("backups.log"))
            .envs(variables.iter().copied());
        command
    }

    fn run(&self, program: &str, arguments: &str, variables: &[(&str, &str)]) -> Gave {
        let output = self.command(program, arguments, variables).output().unwrap();
        Gave {
            code: output.status.code().unwrap(),
            stdout: String::from_utf8(output.stdout).unwrap(),
            stderr: String::from_utf8(output.stderr).unwrap(),
        }
    }

    fn pgkeep(&self, arguments: &str, variables: &[(&str, &str)]) -> Gave {
        self.run("pgkeep", arguments, variables)
    }

    /// Text with times, durations and this world's folder made the same for every run.
    fn stable(&self, text: &str) -> String {
        let folder = self.path().to_str().unwrap().to_owned();
        let mut text = text.replace(&folder, "[FOLDER]");
        for (pattern, name) in
            [("0000-00-00T00:00:00Z", "[TIME]"), ("[0000-00-00 00:00:00]", "[TIME]"), ("00000000_000000", "[STAMP]")]
        {
            text = replace(&text, pattern, name);
        }
        let lines = text.lines().map(|line| match line.find("\"elapsed_seconds\":") {
            Some(at) => format!("{}\"elapsed_seconds\": [SECONDS],", &line[..at]),
            None => line.trim_end().to_owned(),
        });
        lines.collect::<Vec<_>>().join("\n")
    }
}

/// Replaces what looks like `pattern`, in which 0 stands for any digit.
fn replace(text: &str, pattern: &str, name: &str) -> String {
    let looks = |candidate: &str| {
        candidate.len() == pattern.len()
            && candidate
                .bytes()
                .zip(pattern.bytes())
                .all(|(found, wanted)| if wanted == b'0' { found.is_ascii_digit() } else { found == wanted })
    };
    let mut stable = String::new();
    let mut rest = text;
    while let Some(character) = rest.chars().next() {
        match rest.get(..pattern.len()) {
            Some(candidate) if looks(candidate) => {
                stable.push_str(name);
                rest = &rest[pattern.len()..];
            }
            _ => {
                stable.push(character);
                rest = &rest[character.len_utf8()..];
            }
        }
    }
    stable
}

/// A port of the loopback interface where nobody listens.
fn closed_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

/// A connection string to a server that is not there.
fn nobody() -> String {
    format!("postgresql://ada:s3cret@127.0.0.1:{}/shop", closed_port())
}
