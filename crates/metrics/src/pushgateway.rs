//! Prometheus' Pushgateway: one group per database, replaced as a whole.

use std::fmt;

use async_trait::async_trait;
use reqwest::Client;
use secrecy::SecretString;
use url::Url;

use crate::{Error, MetricsSink, Sample, http, prometheus};

const CHANNEL: &str = "Pushgateway";

/// Puts samples to `<url>/metrics/job/pgkeep/database/<name>`.
#[derive(Clone)]
pub struct Pushgateway {
    client: Client,
    url: Url,
}

impl Pushgateway {
    /// The one at this URL, which can hold a user and a password.
    pub fn new(url: &SecretString) -> Result<Self, Error> {
        Ok(Self { client: http::client(CHANNEL)?, url: http::url(CHANNEL, url)? })
    }

    fn address(&self, database: &str) -> Url {
        let mut url = self.url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop_if_empty().extend(["metrics", "job", "pgkeep"]);
            // A slash would end the value, and an empty one can't be said otherwise.
            if database.is_empty() || database.contains('/') {
                path.extend(["database@base64", &base64url(database.as_bytes())]);
            } else {
                path.extend(["database", database]);
            }
        }
        url
    }
}

// It may hold a password.
impl fmt::Debug for Pushgateway {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pushgateway").field("host", &self.url.host_str()).finish_non_exhaustive()
    }
}

#[async_trait]
impl MetricsSink for Pushgateway {
    fn channel(&self) -> &str {
        CHANNEL
    }

    /// A sample without a standing leaves the group as it is.
    async fn send(&self, sample: &Sample) -> Result<(), Error> {
        let Some(standing) = &sample.standing else { return Ok(()) };
        let request = self
            .client
            .put(self.address(&sample.database))
            .header("content-type", "text/plain; version=0.0.4")
            .body(prometheus::text(sample, standing));
        http::send(CHANNEL, request).await
    }
}

/// RFC 4648 §5, padded: what the Pushgateway decodes.
fn base64url(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    let mut text = String::new();
    for chunk in bytes.chunks(3) {
        let word = chunk.iter().chain([0, 0].iter()).take(3).fold(0_usize, |word, byte| word << 8 | usize::from(*byte));
        for place in 0..4 {
            let digit = char::from(DIGITS[word >> (18 - 6 * place) & 63]);
            text.push(if place <= chunk.len() { digit } else { '=' });
        }
    }
    if text.is_empty() { "=".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_paths() {
        let gateway = Pushgateway::new(&"http://user:s3cret@push.test:9091/".into()).unwrap();
        assert!(!format!("{gateway:?}").contains("s3cret"));
        let path = |database: &str| gateway.address(database).path().to_owned();
        assert_eq!(path("app"), "/metrics/job/pgkeep/database/app");
        assert_eq!(path("a b"), "/metrics/job/pgkeep/database/a%20b");
        assert_eq!(path("a/b"), "/metrics/job/pgkeep/database@base64/YS9i");
        for (plain, coded) in [("f", "Zg=="), ("fo", "Zm8="), ("foo", "Zm9v"), ("\u{3ff}/", "z78v"), ("", "=")] {
            assert_eq!(base64url(plain.as_bytes()), coded);
        }
    }
}
