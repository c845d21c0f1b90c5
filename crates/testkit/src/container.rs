//! A container that is gone when its owner is, however the owner went.

use std::any::Any;
use std::fmt;
use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;

use testcontainers::core::IntoContainerPort;
use testcontainers::runners::AsyncRunner;
use testcontainers::{ContainerRequest, Image, ImageExt};
use tokio::runtime::Runtime;

use crate::unique;

/// A running container, one of its ports reachable at a fixed port of 127.0.0.1.
pub(crate) struct Container {
    name: String,
    host_port: u16,
    /// testcontainers' handle, which removes the container when dropped; taken on the way out.
    handle: Option<Box<dyn Any + Send + Sync>>,
    janitor: Child,
}

impl Container {
    /// Starts `image` and waits until it says that it is ready.
    pub(crate) fn start<I>(
        label: &str,
        image: &I,
        port: u16,
        configure: impl Fn(ContainerRequest<I>) -> ContainerRequest<I>,
    ) -> Self
    where
        I: Image + Clone + Send + Sync + 'static,
    {
        let mut failures = Vec::new();
        // Somebody else may take the free port first; then another one is tried.
        for _ in 0..3 {
            let name = unique(&format!("pgkeep_{label}"));
            let host_port = free_port();
            let mut janitor = janitor_of(&name);
            let request =
                configure(image.clone().into()).with_container_name(&name).with_mapped_port(host_port, port.tcp());
            match on_runtime(async move { request.start().await }) {
                Ok(handle) => return Self { name, host_port, handle: Some(Box::new(handle)), janitor },
                Err(error) => failures.push(error.to_string()),
            }
            dismiss(&mut janitor);
        }
        panic!(
            "cannot start a container of {}:{} ({}); is Docker there, and has `cargo xtask images` been run?",
            image.name(),
            image.tag(),
            failures.join("; ")
        );
    }

    /// The port on 127.0.0.1; it stays the same when the container is restarted.
    pub(crate) fn host_port(&self) -> u16 {
        self.host_port
    }

    /// `docker exec` of a command in the container, with its input open if asked for.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new("docker");
        command.args(["exec", "--interactive", &self.name]).args(arguments);
        command
    }

    /// Starts a command in the container and does not wait for it.
    pub(crate) fn start_beside(&self, arguments: &[&str]) {
        let mut all = vec!["exec", "--detach", &self.name];
        all.extend_from_slice(arguments);
        let output = Command::new("docker").args(&all).stdin(Stdio::null()).output().expect("docker can be run");
        assert!(output.status.success(), "docker {all:?}: {}", said(&output));
    }

    /// Copies a file of this machine into the container.
    pub(crate) fn copy_in(&self, file: &Path, target: &str) {
        let target = format!("{}:{target}", self.name);
        let output = Command::new("docker").arg("cp").arg(file).arg(&target).output().expect("docker can be run");
        assert!(output.status.success(), "docker cp {} {target}: {}", file.display(), said(&output));
    }

    /// `docker <verb> <container>`.
    pub(crate) fn docker(&self, arguments: &[&str]) {
        let output = Command::new("docker")
            .args(arguments)
            .arg(&self.name)
            .stdin(Stdio::null())
            .output()
            .expect("docker can be run");
        assert!(output.status.success(), "docker {arguments:?} {}: {}", self.name, said(&output));
    }

    /// What the container has written to its outputs so far.
    pub(crate) fn logs(&self) -> String {
        let output = Command::new("docker").args(["logs", &self.name]).output().expect("docker can be run");
        said(&output)
    }
}

impl fmt::Debug for Container {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Container")
            .field("name", &self.name)
            .field("host_port", &self.host_port)
            .finish_non_exhaustive()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Some(handle) = self.handle.take() {
            on_runtime(async move { drop(handle) });
        }
        dismiss(&mut self.janitor);
    }
}

/// What a command said, for messages.
pub(crate) fn said(output: &Output) -> String {
    let stdout = String::from_utf8_lossy(&output.stdout);
    let stderr = String::from_utf8_lossy(&output.stderr);
    format!("{}{}", stdout.trim_end(), stderr.trim_end())
}

/// Removes the container when this process is gone, even if it was killed: statics are never dropped, and an
/// interrupted test drops nothing. The janitor waits for the end of a pipe that only this process holds.
fn janitor_of(container: &str) -> Child {
    Command::new("sh")
        .args(["-c", "trap '' INT TERM HUP; cat >/dev/null; exec docker rm --force --volumes \"$1\"", "sh", container])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("sh can be run")
}

fn dismiss(janitor: &mut Child) {
    drop(janitor.stdin.take());
    // It removes what is gone already; how that ends says nothing.
    let _: io::Result<_> = janitor.wait();
}

fn free_port() -> u16 {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a free port");
    listener.local_addr().expect("a bound socket has an address").port()
}

/// Runs on a runtime of our own and waits, so that it can be called from inside anyone's runtime and what is
/// started outlives it.
pub(crate) fn on_runtime<F>(future: F) -> F::Output
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    let runtime = RUNTIME.get_or_init(|| Runtime::new().expect("a tokio runtime"));
    std::thread::spawn(move || runtime.block_on(future)).join().expect("the runtime's thread does not panic")
}
