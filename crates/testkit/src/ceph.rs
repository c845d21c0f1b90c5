//! A real S3 server: Ceph's object gateway, in one container.

use std::process::Output;
use std::sync::OnceLock;

use testcontainers::core::{ContainerPort, WaitFor};
use testcontainers::{Image, ImageExt};

use crate::container::{Container, said};
use crate::percent_encoded;

const PORT: u16 = 8000;
const ACCESS_KEY: &str = "PGKEEPTESTKEY0000001";
const SECRET_KEY: &str = "pgkeep/secret+key=that/appears/nowhere/else";

/// A Ceph with an S3 gateway: multipart uploads, conditional puts, storage classes `STANDARD_IA` and `GLACIER`
/// (names only, nothing freezes), SSE-KMS with the key `testkey`; SSE-S3 is refused.
#[derive(Debug)]
pub struct Ceph {
    container: Container,
}

impl Ceph {
    /// The one that all tests of this process share. Make a bucket of your own and never stop it.
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<Ceph> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// One of one's own; it takes some fifteen seconds.
    pub fn start() -> Self {
        let container = Container::start("ceph", &CephImage, PORT, |request| {
            request
                .with_env_var("S3_ACCESS_KEY", ACCESS_KEY)
                .with_env_var("S3_SECRET_KEY", SECRET_KEY)
                .with_startup_timeout(std::time::Duration::from_mins(2))
        });
        Self { container }
    }

    /// `http://127.0.0.1:port`; buckets are addressed by path.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.container.host_port())
    }

    /// The user's access key id.
    pub fn access_key(&self) -> &'static str {
        ACCESS_KEY
    }

    /// The user's secret key.
    pub fn secret_key(&self) -> &'static str {
        SECRET_KEY
    }

    /// The region requests are signed for.
    pub fn region(&self) -> &'static str {
        "us-east-1"
    }

    /// What the AWS SDKs and pgkeep read from the environment.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", self.endpoint()),
            ("AWS_ACCESS_KEY_ID", ACCESS_KEY.into()),
            ("AWS_SECRET_ACCESS_KEY", SECRET_KEY.into()),
            ("AWS_REGION", self.region().into()),
            ("AWS_ALLOW_HTTP", "true".into()),
        ]
    }

    /// Makes a new bucket and gives its name: `label-<process>-<number>`.
    pub fn create_bucket(&self, label: &str) -> String {
        let name = crate::unique(label).replace('_', "-").to_lowercase();
        self.s3("PUT", &format!("/{name}"), "");
        name
    }

    /// One signed S3 request; the answer's body. Panics unless the status is a success.
    pub fn s3(&self, method: &str, path_and_query: &str, body: &str) -> String {
        self.try_s3(method, path_and_query, body).unwrap_or_else(|error| panic!("{method} {path_and_query}: {error}"))
    }

    /// The same; the error is status and body.
    pub fn try_s3(&self, method: &str, path_and_query: &str, body: &str) -> Result<String, String> {
        let url = format!("http://127.0.0.1:{PORT}{path_and_query}");
        let user = format!("{ACCESS_KEY}:{SECRET_KEY}");
        let signature = format!("aws:amz:{}:s3", self.region());
        let mut curl = vec!["curl", "--silent", "--show-error", "--fail-with-body", "--request", method];
        curl.extend_from_slice(&["--aws-sigv4", &signature, "--user", &user, &url]);
        if !body.is_empty() {
            curl.extend_from_slice(&["--data-binary", body]);
        }
        let output = self.exec(&curl);
        if output.status.success() {
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        } else {
            Err(said(&output))
        }
    }

    /// The keys of a bucket's objects, in order.
    pub fn keys(&self, bucket: &str) -> Vec<String> {
        let mut keys = Vec::new();
        let mut start_after = String::new();
        loop {
            let path = format!("/{bucket}?list-type=2&start-after={}", percent_encoded(&start_after));
            let answer = self.s3("GET", &path, "");
            keys.extend(elements(&answer, "Key"));
            match keys.last() {
                Some(last) if answer.contains("<IsTruncated>true") => start_after.clone_from(last),
                _ => return keys,
            }
        }
    }

    /// The keys of a bucket's unfinished multipart uploads.
    pub fn unfinished_uploads(&self, bucket: &str) -> Vec<String> {
        elements(&self.s3("GET", &format!("/{bucket}?uploads="), ""), "Key")
    }

    /// Runs a command in the container: `["radosgw-admin", "user", "info", "--uid=pgkeep"]`.
    pub fn exec(&self, arguments: &[&str]) -> Output {
        self.container.command(arguments).stdin(std::process::Stdio::null()).output().expect("docker can be run")
    }

    /// Freezes it: connections stay open and nothing answers. Not on the shared one.
    pub fn pause(&self) {
        self.container.docker(&["pause"]);
    }

    /// Lets it go on.
    pub fn unpause(&self) {
        self.container.docker(&["unpause"]);
    }

    /// Kills it; what it held is lost. Not on the shared one.
    pub fn kill(&self) {
        self.container.docker(&["kill"]);
    }
}

#[derive(Debug, Clone)]
struct CephImage;

impl Image for CephImage {
    fn name(&self) -> &'static str {
        "pgkeep/ceph"
    }

    fn tag(&self) -> &'static str {
        "18"
    }

    fn ready_conditions(&self) -> Vec<WaitFor> {
        vec![WaitFor::message_on_stdout("ceph: ready")]
    }

    fn expose_ports(&self) -> &[ContainerPort] {
        &[ContainerPort::Tcp(PORT)]
    }
}

/// The texts of all elements of this name; enough for S3's flat lists.
fn elements(xml: &str, name: &str) -> Vec<String> {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    xml.split(&open)
        .skip(1)
        .filter_map(|rest| rest.split(&close).next())
        .map(|text| text.replace("&lt;", "<").replace("&gt;", ">").replace("&quot;", "\"").replace("&amp;", "&"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::elements;

    #[test]
    fn keys_are_read_out_of_a_listing() {
        let xml = "<L><Contents><Key>a&amp;b</Key></Contents><Contents><Key>c</Key></Contents></L>";
        assert_eq!(elements(xml, "Key"), ["a&b", "c"]);
    }
}
