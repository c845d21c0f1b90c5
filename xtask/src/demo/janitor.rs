//! Cleaning up, however the demo ends.

use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::process::Result;

/// A shell that waits for the end of a pipe that only this process holds, and then stops the server and removes
/// its directory: after success, failure, Ctrl-C and even a kill.
pub(crate) struct Janitor(Child);

impl Janitor {
    /// Ready to remove `directory`, and to stop the server in `directory/data` with `pg_ctl` before, as `user` if given.
    pub(crate) fn engage(directory: &Path, pg_ctl: &Path, user: Option<&str>) -> Result<Self> {
        let script = r#"
            trap '' INT TERM HUP
            cat >/dev/null
            cd /
            if [ -f "$1/data/postmaster.pid" ]; then
                ${3:+runuser -u "$3" --} "$2" stop --silent --pgdata "$1/data" --mode immediate >/dev/null 2>&1
            fi
            rm -rf "$1" && echo "==> cleaned up: the server is stopped, $1 is gone" >&2
        "#;
        let child = Command::new("sh")
            .args(["-c", script, "sh"])
            .arg(directory)
            .arg(pg_ctl)
            .arg(user.unwrap_or_default())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| format!("cannot run sh: {error}"))?;
        Ok(Self(child))
    }
}

impl Drop for Janitor {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
