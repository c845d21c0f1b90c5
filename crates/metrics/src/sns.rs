//! Notices by way of a topic.

use async_trait::async_trait;
use aws_sdk_sns::Client;

use crate::{Error, Notice, Notifier, aws};

/// SNS takes no longer subject.
const LONGEST_SUBJECT: usize = 99;
/// Less than the 256 KiB that SNS takes.
const LONGEST_BODY: usize = 60_000;

/// Publishes to a topic.
#[derive(Debug, Clone)]
pub struct SnsTopic {
    client: Client,
    arn: String,
}

impl SnsTopic {
    /// The channel's name.
    pub const CHANNEL: &str = "SNS topic";

    /// The topic with this ARN.
    pub fn new(client: Client, arn: impl Into<String>) -> Self {
        Self { client, arn: arn.into() }
    }

    /// Its ARN.
    pub fn arn(&self) -> &str {
        &self.arn
    }
}

#[async_trait]
impl Notifier for SnsTopic {
    fn channel(&self) -> &str {
        Self::CHANNEL
    }

    async fn notify(&self, notice: &Notice) -> Result<(), Error> {
        let body: String = notice.body.chars().take(LONGEST_BODY).collect();
        self.client
            .publish()
            .topic_arn(&self.arn)
            .subject(subject(&notice.subject))
            .message(if body.is_empty() { notice.subject.clone() } else { body })
            .send()
            .await
            .map(|_| ())
            .map_err(|error| aws::error(Self::CHANNEL, &error))
    }
}

/// As SNS wants it: ASCII, no control characters, fewer than 100, beginning with a letter, digit or punctuation.
fn subject(text: &str) -> String {
    let ascii = |character: char| if character.is_ascii_graphic() { character } else { ' ' };
    let text: String = text.trim().chars().map(ascii).take(LONGEST_SUBJECT).collect();
    let text = text.trim().to_owned();
    if text.is_empty() { "pgkeep".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_as_sns_wants_them() {
        assert_eq!(subject("backup of app failed"), "backup of app failed");
        assert_eq!(subject("  b\nü "), "b");
        assert_eq!(subject(&"x".repeat(300)).len(), 99);
        assert_eq!(subject("é"), "pgkeep");
    }
}
