//! A run that is killed.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// However busy the machine is, a run has come so far by then.
const PATIENCE: Duration = Duration::from_secs(120);

/// Who is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whom {
    /// pgkeep, and nothing else: what it has started lives on.
    Alone,
    /// pgkeep and all that it has started, as by a power failure.
    All,
}

impl Whom {
    /// Both in turn.
    pub(crate) fn of(n: usize) -> Self {
        if n.is_multiple_of(2) { Self::Alone } else { Self::All }
    }
}

/// A run that is to be killed.
pub(crate) struct Victim {
    child: Child,
    /// Its stderr, line by line.
    lines: Receiver<String>,
    said: Vec<String>,
}

/// What became of it.
pub(crate) struct Fate {
    /// It was done before it could be killed, and well.
    pub(crate) done: bool,
    /// Its stderr.
    pub(crate) said: String,
}

impl Victim {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::null()).spawn().expect("the program can be run");
        let (sender, lines) = channel();
        let stderr = child.stderr.take().expect("stderr is piped");
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self { child, lines, said: Vec::new() }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits until it says this; false if it ends without.
    pub(crate) fn says(&mut self, words: &str) -> bool {
        let until = Instant::now() + PATIENCE;
        while Instant::now() < until {
            match self.lines.recv_timeout(Duration::from_secs(1)) {
                Ok(line) => {
                    let found = line.contains(words);
                    self.said.push(line);
                    if found {
                        return true;
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return false,
            }
        }
        panic!("it does not say {words:?}:\n{}", self.said.join("\n"));
    }

    /// Waits until this holds, asked as often as can be; false if it ends without.
    pub(crate) fn until(&mut self, mut holds: impl FnMut() -> bool) -> bool {
        let until = Instant::now() + PATIENCE;
        while !holds() {
            if self.child.try_wait().expect("it can be waited for").is_some() {
                return holds();
            }
            assert!(Instant::now() < until, "it does not come to that");
            std::thread::sleep(Duration::from_micros(200));
        }
        true
    }

    /// Kills it now. It may be done by then, but then it must have done well.
    pub(crate) fn kill(mut self, whom: Whom) -> Fate {
        if whom == Whom::All {
            // Stopped first, so that it starts nothing more while it is looked at.
            signal("-STOP", &[self.child.id()]);
            signal("-KILL", &descendants(self.child.id()));
        }
        let _ = self.child.kill();
        let status = self.child.wait().expect("it ends");
        while let Ok(line) = self.lines.try_recv() {
            self.said.push(line);
        }
        let said = self.said.join("\n");
        assert!(status.code().is_none_or(|code| code == 0), "it failed by itself, with {status}:\n{said}");
        Fate { done: status.success(), said }
    }
}

/// Everything that a process has started, and what that has.
pub(crate) fn descendants(of: u32) -> Vec<u32> {
    let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
    for entry in std::fs::read_dir("/proc").expect("/proc is there").flatten() {
        let Some(process) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let parent = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)?.parse().ok());
        if let Some(parent) = parent {
            children.entry(parent).or_default().push(process);
        }
    }
    let mut found = vec![of];
    let mut next = 0;
    while next < found.len() {
        found.extend(children.get(&found[next]).into_iter().flatten());
        next += 1;
    }
    found.split_off(1)
}

pub(crate) fn signal(signal: &str, processes: &[u32]) {
    if processes.is_empty() {
        return;
    }
    // Some are gone by now.
    let ids = processes.iter().map(u32::to_string);
    let _ = Command::new("kill").arg(signal).args(ids).stderr(Stdio::null()).status();
}

/// The middle of each of so many equal parts of a time.
pub(crate) fn moments(whole: Duration, parts: u32) -> impl Iterator<Item = Duration> {
    (0..parts).map(move |n| whole * (2 * n + 1) / (2 * parts))
}
