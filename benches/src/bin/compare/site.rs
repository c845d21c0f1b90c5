//! The servers, folders and programs that everybody works with.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use pgkeep_testkit::{Ceph, PostgresOptions, PostgresServer, client_tools, program, python_program};
use tempfile::TempDir;

use crate::Outcome;
use crate::plan::{Plan, Store};

/// The bucket that backups go to.
pub(crate) const BUCKET: &str = "bench";
/// The port of the gateway in its container.
const GATEWAY_PORT: u16 = 8000;

/// The servers, folders and programs that everybody works with. The source database is `app`, restores go to `target`.
#[derive(Debug)]
pub(crate) struct Site {
    pub(crate) server: PostgresServer,
    /// `host:port`: the container's own, because published ports go through a proxy that takes processor time of its own.
    server_address: String,
    ceph: Option<(Ceph, String)>,
    tools: PathBuf,
    work: TempDir,
}

impl Site {
    /// The folder of our backups.
    pub(crate) const KEEP: &str = "keep";

    /// Starts the servers.
    pub(crate) fn start(plan: &Plan) -> Outcome<Self> {
        // Thousands of tables are dumped in one transaction, and restored in one where somebody likes to.
        let settings = vec![("max_locks_per_transaction".to_owned(), "256".to_owned())];
        let server = PostgresServer::start(plan.major, &PostgresOptions { settings, ..PostgresOptions::default() });
        let server_address = format!("{}:5432", own_address(&server.exec(&["hostname", "-i"]))?);
        let ceph = if plan.stores.contains(&Store::Bucket) {
            let ceph = Ceph::start();
            let address = own_address(&ceph.exec(&["hostname", "-i"]))?;
            ceph.s3("PUT", &format!("/{BUCKET}"), "");
            Some((ceph, format!("{address}:{GATEWAY_PORT}")))
        } else {
            None
        };
        let site = Self { server, server_address, ceph, tools: client_tools(plan.major), work: tempfile::tempdir()? };
        if site.ceph.is_some() {
            site.warm_up()?;
        }
        Ok(site)
    }

    /// The gateway makes its pools when they are first written to; nobody who is measured should wait for that.
    fn warm_up(&self) -> Outcome {
        let file = self.path("warm");
        std::fs::write(&file, vec![0; 20 << 20])?;
        let upload = format!("{} s3 cp --only-show-errors {} s3://{BUCKET}/warm", self.aws(), file.display());
        let done = Command::new("sh").args(["-c", &upload]).output()?;
        if !done.status.success() {
            return Err(format!("cannot upload: {}", String::from_utf8_lossy(&done.stderr)).into());
        }
        self.clear_folders()
    }

    /// A connection URL.
    pub(crate) fn url(&self, database: &str) -> String {
        self.server.url(database).replace(&format!("127.0.0.1:{}", self.server.port()), &self.server_address)
    }

    /// One of PostgreSQL's client programs.
    pub(crate) fn tool(&self, name: &str) -> String {
        self.tools.join(name).display().to_string()
    }

    /// A path in the folder that everything is written to.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.work.path().join(name)
    }

    /// The folder that everything is written to, where also every command is started: no settings of pgkeep lie there.
    pub(crate) fn folder(&self) -> &Path {
        self.work.path()
    }

    /// `pgkeep` as a shell command with its settings, but for those that say where backups are.
    pub(crate) fn pgkeep(&self, settings: &str) -> String {
        format!(
            "exec env LOG_FILE={} DATABASE_URL='{}' PG_BINDIRS={} {settings} {}",
            self.path("backups.log").display(),
            self.url("app"),
            self.tools.display(),
            program("pgkeep").display(),
        )
    }

    /// Settings of pgkeep: backups are in a folder.
    pub(crate) fn on_disk(&self) -> String {
        format!("BACKUP_DIR={}", self.path(Self::KEEP).display())
    }

    /// Settings of pgkeep: backups are in the bucket, and nowhere else.
    pub(crate) fn in_bucket(&self) -> String {
        self.in_bucket_through(&self.gateway())
    }

    /// The same by way of a relay at this address.
    pub(crate) fn in_bucket_through(&self, address: &str) -> String {
        format!("BACKUP_DIR=none AWS_S3_BACKUP_BUCKET={BUCKET} {}", self.credentials(address))
    }

    /// The AWS command line interface as a shell command.
    pub(crate) fn aws(&self) -> String {
        // Checksums in trailers are younger than many gateways.
        format!(
            "env AWS_REQUEST_CHECKSUM_CALCULATION=when_required AWS_RESPONSE_CHECKSUM_VALIDATION=when_required {} {}",
            self.credentials(&self.gateway()),
            python_program("aws").display()
        )
    }

    /// `host:port` of the gateway.
    pub(crate) fn gateway(&self) -> String {
        self.ceph.as_ref().map(|(_, address)| address.clone()).unwrap_or_default()
    }

    /// The object store; only asked for where the plan has one.
    pub(crate) fn ceph(&self) -> Outcome<&Ceph> {
        self.ceph.as_ref().map(|(ceph, _)| ceph).ok_or_else(|| "no object store was started".into())
    }

    fn credentials(&self, address: &str) -> String {
        let Some((ceph, _)) = &self.ceph else { return String::new() };
        format!(
            "AWS_ENDPOINT_URL=http://{address} AWS_ACCESS_KEY_ID='{}' AWS_SECRET_ACCESS_KEY='{}' AWS_REGION={} \
             AWS_DEFAULT_REGION={} AWS_ALLOW_HTTP=true AWS_EC2_METADATA_DISABLED=true",
            ceph.access_key(),
            ceph.secret_key(),
            ceph.region(),
            ceph.region()
        )
    }

    /// Empties the bucket, and the memory that its objects took.
    pub(crate) fn empty_bucket(&self) -> Outcome {
        let ceph = self.ceph()?;
        let bucket = format!("--bucket={BUCKET}");
        let removed = ceph.exec(&["radosgw-admin", "bucket", "rm", &bucket, "--purge-objects", "--bypass-gc"]);
        if !removed.status.success() {
            return Err(format!("cannot empty the bucket: {}", String::from_utf8_lossy(&removed.stderr)).into());
        }
        ceph.s3("PUT", &format!("/{BUCKET}"), "");
        Ok(())
    }

    /// What all objects of the bucket take.
    pub(crate) fn bucket_bytes(&self) -> Outcome<u64> {
        let ceph = self.ceph()?;
        let mut bytes = 0;
        for key in ceph.keys(BUCKET) {
            let answer = ceph.s3("GET", &format!("/{BUCKET}?list-type=2&max-keys=1&prefix={key}"), "");
            let size = answer.split_once("<Size>").and_then(|(_, rest)| rest.split_once("</Size>"));
            bytes += size.ok_or_else(|| format!("the store does not tell the size of {key}"))?.0.parse::<u64>()?;
        }
        Ok(bytes)
    }

    /// An empty database for restores, and nothing left to write for the server.
    pub(crate) fn renew_target(&self) {
        self.server.psql("postgres", "DROP DATABASE IF EXISTS target WITH (FORCE)");
        self.server.psql("postgres", "CREATE DATABASE target TEMPLATE template0");
        self.server.psql("postgres", "CHECKPOINT");
    }

    /// Removes all that contenders have written to disk.
    pub(crate) fn clear_folders(&self) -> Outcome {
        for entry in std::fs::read_dir(self.folder())? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                std::fs::remove_dir_all(entry.path())?;
            } else {
                std::fs::remove_file(entry.path())?;
            }
        }
        Ok(())
    }

    /// Removes every trace of a database, so that the next one finds what the first one found.
    pub(crate) fn forget(&self) -> Outcome {
        self.clear_folders()?;
        if self.ceph.is_some() {
            self.empty_bucket()?;
        }
        let names = "SELECT datname FROM pg_database WHERE datname ~ '^(app|target)'";
        for name in self.server.psql("postgres", names).lines() {
            self.server.psql("postgres", &format!("DROP DATABASE \"{name}\" WITH (FORCE)"));
        }
        Ok(())
    }
}

fn own_address(hostname: &Output) -> Outcome<String> {
    let said = String::from_utf8_lossy(&hostname.stdout);
    Ok(said.split_whitespace().next().ok_or("a container does not know its address")?.to_owned())
}
