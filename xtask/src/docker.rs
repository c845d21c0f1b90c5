//! The Docker engine: found, or installed and started.

use std::fs::File;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

use crate::apt;
use crate::process::{Result, is_root, on_path, run, succeeds, workspace};

/// `docker` with these arguments.
pub(crate) fn docker<const N: usize>(arguments: [&str; N]) -> Command {
    let mut command = Command::new("docker");
    command.args(arguments);
    command
}

/// Makes sure an engine answers: installs the distribution's and starts it where there is none.
pub(crate) fn ensure() -> Result {
    if answers() {
        return Ok(());
    }
    if !on_path("docker") || !(on_path("dockerd") || std::env::var_os("DOCKER_HOST").is_some()) {
        apt::install(&["docker.io"])?;
    }
    if !on_path("docker") {
        // Newer releases keep the client in a package of its own.
        apt::install(&["docker-cli"])?;
    }
    if answers() {
        return Ok(());
    }
    if !is_root() {
        return Err("the Docker engine does not answer; start it and let this user use it:\n  \
             sudo systemctl start docker && sudo usermod -aG docker $USER"
            .into());
    }
    start()
}

fn answers() -> bool {
    succeeds(&mut docker(["info"]))
}

fn start() -> Result {
    println!("==> starting the Docker engine");
    let by_init = run(Command::new("service").args(["docker", "start"]).stderr(Stdio::null()));
    if by_init.is_ok() && answers_within(Duration::from_secs(20)) {
        return Ok(());
    }
    // Machines without an init system, such as containers and many CI runners.
    let path = workspace().join("target/dockerd.log");
    let log = File::create(&path).map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    let same_log = log.try_clone().map_err(|error| format!("cannot write {}: {error}", path.display()))?;
    Command::new("setsid")
        .arg("dockerd")
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(same_log)
        .spawn()
        .map_err(|error| format!("cannot start dockerd: {error}"))?;
    if answers_within(Duration::from_mins(1)) {
        Ok(())
    } else {
        Err(format!("dockerd does not answer; its log is {}", path.display()).into())
    }
}

fn answers_within(limit: Duration) -> bool {
    let step = Duration::from_millis(500);
    let mut waited = Duration::ZERO;
    while waited < limit {
        if answers() {
            return true;
        }
        sleep(step);
        waited += step;
    }
    false
}
