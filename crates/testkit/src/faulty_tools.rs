//! Client tools that do what real ones do only on bad days.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use tempfile::TempDir;

use crate::client_tools;

/// What goes wrong with a client tool.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It writes this many bytes of its output, then ends with status 1 and a word on stderr.
    DiesAfter {
        /// Bytes written before the end.
        bytes: u64,
    },
    /// It is killed by SIGKILL after this many bytes.
    KilledAfter {
        /// Bytes written before the end.
        bytes: u64,
    },
    /// It writes this many bytes, then nothing more, and stays.
    HangsAfter {
        /// Bytes written before it falls silent.
        bytes: u64,
    },
    /// Its output ends early and its status is 0 all the same.
    TruncatesAfter {
        /// Bytes written before the end.
        bytes: u64,
    },
    /// Its output comes in slices of 64 KiB with a pause before each.
    Slow {
        /// The pause in milliseconds.
        milliseconds: u32,
    },
    /// It does all that it should and says this on stderr.
    Warns(String),
    /// It does all that it should and ends with this status.
    EndsWith(u8),
}

/// A directory of client tools like [`client_tools`], one of which has a fault.
#[derive(Debug)]
pub struct FaultyTools {
    directory: TempDir,
}

impl FaultyTools {
    /// Tools of this major, with the fault in `tool` (`pg_dump`). Asked for version or help, it is well.
    pub fn new(major: u16, tool: &str, fault: &Fault) -> Self {
        let directory = tempfile::Builder::new().prefix("pgkeep-tools-").tempdir().expect("a temporary directory");
        let real = client_tools(major);
        for entry in fs::read_dir(&real).expect("the tools can be listed").flatten() {
            if entry.file_name() != tool {
                wrap(&directory.path().join(entry.file_name()), &format!("exec '{}' \"$@\"", entry.path().display()));
            }
        }
        wrap(&directory.path().join(tool), &script(&real.join(tool), fault));
        Self { directory }
    }

    /// For `PG_BINDIRS`.
    pub fn path(&self) -> &Path {
        self.directory.path()
    }

    /// Every call the faulty tool got so far, one line of arguments each.
    pub fn calls(&self) -> Vec<String> {
        fs::read_to_string(self.directory.path().join("calls"))
            .map(|text| text.lines().map(str::to_owned).collect())
            .unwrap_or_default()
    }

    /// The process ids of those calls, to see whether one was left behind.
    pub fn processes(&self) -> Vec<u32> {
        fs::read_to_string(self.directory.path().join("processes"))
            .map(|text| text.lines().filter_map(|line| line.parse().ok()).collect())
            .unwrap_or_default()
    }
}

/// A link will not do: the tools look for each other beside the file they are.
fn wrap(path: &Path, body: &str) {
    fs::write(path, format!("#!/bin/sh\n{body}\n")).expect("a script can be written");
    fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("a script can be made to run");
}

fn script(real: &Path, fault: &Fault) -> String {
    let real = real.display();
    let act = match fault {
        Fault::DiesAfter { bytes } => {
            format!("real \"$@\" | head -c {bytes}; echo 'pg_dump: error: out of luck' >&2; exit 1")
        }
        Fault::KilledAfter { bytes } => format!("real \"$@\" | head -c {bytes}; kill -KILL $$"),
        Fault::HangsAfter { bytes } => format!("real \"$@\" | head -c {bytes}; exec sleep 600"),
        Fault::TruncatesAfter { bytes } => format!("real \"$@\" | head -c {bytes}; exit 0"),
        Fault::Slow { milliseconds } => format!(
            "pause=$(printf '%d.%03d' $(({milliseconds} / 1000)) $(({milliseconds} % 1000)))\n\
             real \"$@\" | while dd bs=65536 count=1 iflag=fullblock 2>\"$here/dd.$$\" && ! grep -q '^0+0 records in' \"$here/dd.$$\"; do sleep $pause; done"
        ),
        Fault::Warns(words) => format!("printf '%s\\n' '{}' >&2\nreal \"$@\"", words.replace('\'', "'\\''")),
        Fault::EndsWith(status) => format!("real \"$@\"; exit {status}"),
    };
    format!(
        "here=${{0%/*}}\n\
         case \" $* \" in *' --version '*|*' -V '*|*' --help '*) exec '{real}' \"$@\" ;; esac\n\
         echo \"$*\" >>\"$here/calls\"\n\
         echo $$ >>\"$here/processes\"\n\
         real() {{ '{real}' \"$@\"; }}\n\
         {act}"
    )
}
