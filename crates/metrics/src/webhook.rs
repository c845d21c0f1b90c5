//! Notices as Slack's incoming webhooks take them; Mattermost, Discord (`…/slack`), Rocket.Chat and others do too.

use std::fmt;

use async_trait::async_trait;
use reqwest::Client;
use secrecy::SecretString;
use url::Url;

use crate::{Error, Notice, Notifier, Severity, http};

const CHANNEL: &str = "webhook";
/// Slack cuts off longer texts.
const LONGEST: usize = 35_000;

/// Posts `{"text": …}` to a URL.
#[derive(Clone)]
pub struct Webhook {
    client: Client,
    url: Url,
}

impl Webhook {
    /// A webhook at this URL, which is a secret.
    pub fn new(url: &SecretString) -> Result<Self, Error> {
        Ok(Self { client: http::client(CHANNEL)?, url: http::url(CHANNEL, url)? })
    }
}

// Who knows the URL can post.
impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Webhook").field("host", &self.url.host_str()).finish_non_exhaustive()
    }
}

#[async_trait]
impl Notifier for Webhook {
    fn channel(&self) -> &str {
        CHANNEL
    }

    async fn notify(&self, notice: &Notice) -> Result<(), Error> {
        let json = serde_json::json!({ "text": text(notice) }).to_string();
        http::send(CHANNEL, self.client.post(self.url.clone()).header("content-type", "application/json").body(json))
            .await
    }
}

/// Slack's markup, in which `&`, `<` and `>` are not themselves.
fn text(notice: &Notice) -> String {
    let mark = match notice.severity {
        Severity::Info => ":white_check_mark:",
        Severity::Warning => ":warning:",
        Severity::Failure => ":red_circle:",
    };
    let escape = |text: &str| text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let mut text = format!("{mark} *{}*\n{}", escape(&notice.subject), escape(&notice.body));
    if let Some((end, _)) = text.char_indices().nth(LONGEST) {
        text.truncate(end);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn markup_is_escaped() {
        let notice =
            Notice { severity: Severity::Failure, subject: "a<b".to_owned(), body: "c & d > e\nhint".to_owned() };
        assert_eq!(text(&notice), ":red_circle: *a&lt;b*\nc &amp; d &gt; e\nhint");
    }

    #[test]
    fn the_address_is_in_no_text() {
        let webhook = Webhook::new(&"https://hooks.test/services/T0/B0/s3cret".into()).unwrap();
        assert!(!format!("{webhook:?}").contains("s3cret"));
        let error = Webhook::new(&"s3cret".into()).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("s3cret"));
    }
}
