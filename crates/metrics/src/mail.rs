//! Notices by mail.

use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use async_trait::async_trait;
use lettre::message::{Mailbox, header};
use lettre::transport::smtp::extension::ClientId;
use lettre::{AsyncSmtpTransport, AsyncTransport, Message, Tokio1Executor};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::chain::chain;
use crate::{Error, Notice, Notifier, RunId};

const CHANNEL: &str = "mail";

/// Sends mail through one SMTP server.
pub struct Mail {
    transport: AsyncSmtpTransport<Tokio1Executor>,
    from: Mailbox,
    to: Vec<Mailbox>,
    host: String,
}

impl Mail {
    /// Mail through the server at `url`: `smtps://user:password@host` (TLS from the first byte, port 465), or
    /// `smtp://user:password@host:587?tls=required` (STARTTLS). A password never goes unencrypted to another machine: with one,
    /// `smtp://` means `tls=required`. `to` has addresses separated by commas; `host` is this machine's name.
    pub fn new(url: &SecretString, from: &str, to: &str, host: &str) -> Result<Self, Error> {
        let wrong = || {
            Error::permanent(
                CHANNEL,
                "the server's address is no smtp:// or smtps:// URL, or its tls is not what it can be",
            )
        };
        let mut server = Url::parse(url.expose_secret()).map_err(|_| wrong())?;
        if !matches!(server.scheme(), "smtp" | "smtps") {
            return Err(wrong());
        }
        let says_how = server.query_pairs().any(|(key, _)| key == "tls");
        if server.scheme() == "smtp" && server.password().is_some() && !says_how && !is_this_machine(&server) {
            server.query_pairs_mut().append_pair("tls", "required");
        }
        let address = |text: &str| -> Result<Mailbox, Error> {
            text.trim().parse().map_err(|error| Error::permanent(CHANNEL, format!("{text:?} is no address: {error}")))
        };
        let to: Vec<Mailbox> =
            to.split(',').filter(|address| !address.trim().is_empty()).map(address).collect::<Result<_, _>>()?;
        if to.is_empty() {
            return Err(Error::permanent(CHANNEL, "there is nobody to send it to"));
        }
        let transport = AsyncSmtpTransport::<Tokio1Executor>::from_url(server.as_str())
            .map_err(|_| wrong())?
            .hello_name(ClientId::Domain(host.to_owned()))
            .timeout(Some(Duration::from_secs(10)))
            .build();
        Ok(Self { transport, from: address(from)?, to, host: host.to_owned() })
    }

    fn message(&self, notice: &Notice) -> Result<Message, Error> {
        let subject = notice.subject.split_whitespace().collect::<Vec<_>>().join(" ");
        let id = format!("<{}@{}>", RunId::random(), self.host);
        let mut message = Message::builder().from(self.from.clone()).subject(subject).message_id(Some(id)).date_now();
        for address in &self.to {
            message = message.to(address.clone());
        }
        message
            .header(header::ContentType::TEXT_PLAIN)
            .body(notice.body.clone())
            .map_err(|error| Error::permanent(CHANNEL, error.to_string()))
    }
}

fn is_this_machine(url: &Url) -> bool {
    url.host_str().is_some_and(|host| {
        host == "localhost" || host.trim_matches(['[', ']']).parse().is_ok_and(|address: IpAddr| address.is_loopback())
    })
}

// The transport holds a password.
impl fmt::Debug for Mail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mail").field("from", &self.from).field("to", &self.to).finish_non_exhaustive()
    }
}

#[async_trait]
impl Notifier for Mail {
    fn channel(&self) -> &str {
        CHANNEL
    }

    /// Connects and logs in.
    async fn reach(&self) -> Option<Result<(), Error>> {
        Some(match self.transport.test_connection().await {
            Ok(true) => Ok(()),
            Ok(false) => Err(Error::passing(CHANNEL, "the server does not answer as a mail server does")),
            Err(error) => Err(refused(&error)),
        })
    }

    async fn notify(&self, notice: &Notice) -> Result<(), Error> {
        self.transport.send(self.message(notice)?).await.map(|_| ()).map_err(|error| refused(&error))
    }
}

fn refused(error: &lettre::transport::smtp::Error) -> Error {
    Error {
        retryable: !error.is_permanent() && !error.is_client(),
        denied: error.status().is_some_and(|code| matches!(u16::from(code), 530 | 534 | 535 | 538)),
        ..Error::permanent(CHANNEL, chain(error))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Severity;

    fn mail(url: &str, to: &str) -> Result<Mail, Error> {
        Mail::new(&url.into(), "pgkeep <pgkeep@db1.test>", to, "db1.test")
    }

    #[test]
    fn a_message() {
        let mail = mail("smtps://user:s3cret@mail.test", "ann@example.test, Bob <bob@example.test>").unwrap();
        assert!(!format!("{mail:?}").contains("s3cret"));
        let notice = Notice {
            severity: Severity::Failure,
            subject: "backup of app failed\r\nBcc: x@y".to_owned(),
            body: "why\nhint: what now".to_owned(),
        };
        let text = String::from_utf8(mail.message(&notice).unwrap().formatted()).unwrap();
        assert!(text.contains("Subject: backup of app failed Bcc: x@y\r\n"), "{text}");
        assert!(text.contains("why\r\nhint: what now"), "{text}");
        assert!(text.contains("@db1.test>"), "{text}");
    }

    #[test]
    fn what_can_not_be_sent_is_said_before_anything_is() {
        for (url, to) in [
            ("http://mail.test", "ann@example.test"),
            ("s3cret", "ann@example.test"),
            ("smtp://mail.test?tls=s3cret", "ann@example.test"),
            ("smtp://mail.test", ""),
            ("smtp://mail.test", "nobody"),
        ] {
            let error = mail(url, to).unwrap_err();
            assert!(!error.retryable && !error.to_string().contains("s3cret"), "{error}");
        }
    }
}
