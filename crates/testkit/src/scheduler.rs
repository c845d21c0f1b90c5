//! A host in a container, with a PostgreSQL of its own, real cron daemons and pgkeep's programs.

use std::io::Write as _;
use std::process::{Output, Stdio};
use std::time::{Duration, Instant};

use testcontainers::core::{ContainerPort, WaitFor};
use testcontainers::{Image, ImageExt};

use crate::container::{Container, said};
use crate::program;

const PORT: u16 = 5432;
const PASSWORD: &str = "s3cr3t";

/// Which cron daemon.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CronDaemon {
    /// Debian's: Vixie's.
    Debian,
    /// Red Hat's.
    Cronie,
}

/// A host in a container; gone when dropped. Commands run as root unless they become somebody else.
#[derive(Debug)]
pub struct SchedulerHost {
    container: Container,
}

impl SchedulerHost {
    /// A host whose clock shows the time of `zone` (`Europe/Berlin`), with pgkeep's programs in /usr/local/bin. Its
    /// PostgreSQL answers when this returns; no cron daemon runs yet.
    pub fn start(zone: &str) -> Self {
        let container = Container::start("scheduler", &SchedulerImage, PORT, |request| {
            request
                .with_env_var("POSTGRES_PASSWORD", PASSWORD)
                .with_env_var("HOST_ZONE", zone)
                .with_cmd(["-c", "fsync=off"])
        });
        let host = Self { container };
        let limit = Duration::from_mins(1);
        let started = Instant::now();
        while !host.try_run("pg_isready -q -h 127.0.0.1").status.success() {
            assert!(started.elapsed() < limit, "PostgreSQL does not answer:\n{}", host.container.logs());
            std::thread::sleep(Duration::from_millis(50));
        }
        for name in ["pgkeep", "backup-database", "setup-backup-cron"] {
            host.container.copy_in(&program(name), &format!("/usr/local/bin/{name}"));
        }
        host.run("chown root:root /usr/local/bin/*");
        host
    }

    /// The connection URL of a database on it, for programs on it; the password is in it.
    pub fn url(&self, database: &str) -> String {
        format!("postgresql://postgres:{PASSWORD}@127.0.0.1:{PORT}/{database}")
    }

    /// The address at which programs on this host reach the machine that the container runs on.
    pub fn gateway(&self) -> String {
        // destination 00000000 is the default; the gateway is four bytes in hexadecimal, the last one first.
        let route = self.run("awk '$2 == \"00000000\" { print $3 }' /proc/net/route");
        let address = u32::from_str_radix(route.trim(), 16).expect("the container has a default route");
        std::net::Ipv4Addr::from(address.swap_bytes()).to_string()
    }

    /// What a shell's command prints; it must succeed.
    pub fn run(&self, script: &str) -> String {
        let output = self.try_run(script);
        assert!(output.status.success(), "{script}\n{}", said(&output));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// What comes of a shell's command.
    pub fn try_run(&self, script: &str) -> Output {
        self.with_input(script, b"")
    }

    /// The same with something on stdin.
    pub fn with_input(&self, script: &str, input: &[u8]) -> Output {
        let mut child = self
            .container
            .command(&["sh", "-c", script])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("docker can be run");
        // A command that does not read to the end says why by its status.
        let _ = child.stdin.take().expect("stdin is piped").write_all(input);
        child.wait_with_output().expect("docker can be waited for")
    }

    /// Writes a file, readable by its owner alone.
    pub fn write(&self, path: &str, text: &[u8]) {
        let output = self.with_input(&format!("umask 077 && cat >{path}"), text);
        assert!(output.status.success(), "{path}: {}", said(&output));
    }

    /// Starts a cron daemon, which then runs until the host is gone.
    pub fn start_daemon(&self, daemon: CronDaemon) {
        match daemon {
            CronDaemon::Debian => self.container.start_beside(&["cron", "-f"]),
            CronDaemon::Cronie => self.container.start_beside(&["/opt/cronie/usr/sbin/crond", "-n"]),
        }
        self.wait_for("grep -qE '^crond?$' /proc/[0-9]*/comm", Duration::from_mins(1));
        // A daemon that has read the crontabs in the second of a change takes that change for the one it has read.
        std::thread::sleep(Duration::from_secs(2));
    }

    /// Waits for a shell's condition, such as that a file is there, for at most this long.
    pub fn wait_for(&self, condition: &str, limit: Duration) {
        let started = Instant::now();
        while !self.try_run(condition).status.success() {
            assert!(started.elapsed() < limit, "{condition} did not come true within {limit:?}");
            std::thread::sleep(Duration::from_millis(500));
        }
    }
}

#[derive(Debug, Clone)]
struct SchedulerImage;

impl Image for SchedulerImage {
    fn name(&self) -> &'static str {
        "pgkeep/scheduler"
    }

    fn tag(&self) -> &'static str {
        "17"
    }

    fn ready_conditions(&self) -> Vec<WaitFor> {
        vec![WaitFor::message_on_stderr("database system is ready to accept connections")]
    }

    fn expose_ports(&self) -> &[ContainerPort] {
        &[ContainerPort::Tcp(PORT)]
    }
}
