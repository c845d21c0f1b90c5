//! Pings of dead-man services: `<url>/start`, `<url>`, `<url>/fail`, each with `rid=<run>`, as healthchecks.io has them.

use std::fmt;

use async_trait::async_trait;
use reqwest::Client;
use secrecy::SecretString;
use url::Url;

use crate::{DeadMan, Error, RunId, Signal, http};

const CHANNEL: &str = "ping";
/// What is kept of a message there.
const LONGEST: usize = 10_000;

/// A check's ping URL.
#[derive(Clone)]
pub struct Ping {
    client: Client,
    url: Url,
}

impl Ping {
    /// The check with this URL, which is a secret.
    pub fn new(url: &SecretString) -> Result<Self, Error> {
        Ok(Self { client: http::client(CHANNEL)?, url: http::url(CHANNEL, url)? })
    }

    fn address(&self, signal: Signal, run: RunId) -> Url {
        let mut url = self.url.clone();
        let path = url.path().trim_end_matches('/').to_owned();
        match signal {
            Signal::Start => url.set_path(&format!("{path}/start")),
            Signal::Success => {}
            Signal::Fail => url.set_path(&format!("{path}/fail")),
        }
        url.query_pairs_mut().append_pair("rid", &run.to_string());
        url
    }
}

// Who knows the URL can ping.
impl fmt::Debug for Ping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ping").field("host", &self.url.host_str()).finish_non_exhaustive()
    }
}

#[async_trait]
impl DeadMan for Ping {
    fn channel(&self) -> &str {
        CHANNEL
    }

    async fn signal(&self, signal: Signal, run: RunId, message: &str) -> Result<(), Error> {
        let message: String = message.chars().take(LONGEST).collect();
        http::send(CHANNEL, self.client.post(self.address(signal, run)).body(message)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_are_paths() {
        let ping = Ping::new(&"https://hc.test/ping/abc?create=1".into()).unwrap();
        let run = RunId::random();
        let address = |signal| ping.address(signal, run).to_string();
        assert_eq!(address(Signal::Start), format!("https://hc.test/ping/abc/start?create=1&rid={run}"));
        assert_eq!(address(Signal::Success), format!("https://hc.test/ping/abc?create=1&rid={run}"));
        assert_eq!(address(Signal::Fail), format!("https://hc.test/ping/abc/fail?create=1&rid={run}"));
        assert!(!format!("{ping:?}").contains("abc"));
    }
}
