//! One way to send HTTP requests, for every channel that does.

use std::time::Duration;

use reqwest::{Client, RequestBuilder};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::Error;
use crate::chain::chain;

/// A client that does not follow redirects: a POST that became a GET would be lost without a word.
pub(crate) fn client(channel: &str) -> Result<Client, Error> {
    Client::builder()
        .connect_timeout(Duration::from_secs(5))
        .timeout(Duration::from_secs(10))
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("pgkeep/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| Error::permanent(channel, reason(error)))
}

/// An http or https URL. It can hold a secret: the error does not repeat it.
pub(crate) fn url(channel: &str, text: &SecretString) -> Result<Url, Error> {
    Url::parse(text.expose_secret())
        .ok()
        .filter(|url| matches!(url.scheme(), "http" | "https") && url.has_host())
        .ok_or_else(|| Error::permanent(channel, "its address is no http:// or https:// URL"))
}

/// Sends it; any status but 2xx is an error.
pub(crate) async fn send(channel: &str, request: RequestBuilder) -> Result<(), Error> {
    let response = request.send().await.map_err(|error| Error::passing(channel, reason(error)))?;
    let status = response.status();
    if status.is_success() {
        return Ok(());
    }
    let retryable = status.is_server_error() || matches!(status.as_u16(), 408 | 429);
    let said = response.text().await.unwrap_or_default();
    let said: String = said.lines().next().unwrap_or_default().trim().chars().take(200).collect();
    let reason = if said.is_empty() { format!("HTTP {status}") } else { format!("HTTP {status}: {said}") };
    let denied = matches!(status.as_u16(), 401 | 403);
    Err(Error { retryable, denied, ..Error::permanent(channel, reason) })
}

/// An error and its causes in one line, without the URL, which can hold a secret.
fn reason(error: reqwest::Error) -> String {
    chain(&error.without_url())
}
