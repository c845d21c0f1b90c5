//! From the errors of systems and stores to [`Error`], with everything left out that could be secret.
//!
//! A store's refusal of a signature quotes the request it got, session token included; so bodies of
//! answers are never passed on, only their status, code and message.

use std::error::Error as StdError;
use std::io;

use rustix::io::Errno;

use crate::{Cause, Error, Key, Location};

/// Longest text of a cause: enough for people, too short for a dump of a request.
const MAX_TEXT: usize = 300;

/// The error of a file operation. `free_bytes` is asked only when the disk is full.
pub(crate) fn io_error(
    doing: &str,
    location: &Location,
    error: &io::Error,
    free_bytes: impl FnOnce() -> Option<u64>,
) -> Error {
    let (doing, location) = (doing.to_owned(), location.clone());
    let errno = Errno::from_io_error(error);
    let code = errno.and_then(errno_name).map(str::to_owned);
    let source = Box::new(Cause { text: error.to_string(), code, status: None });
    match errno {
        Some(Errno::NOSPC | Errno::DQUOT) => Error::Full { doing, location, free_bytes: free_bytes(), source },
        Some(Errno::ACCESS | Errno::PERM | Errno::ROFS | Errno::LOOP) => Error::Denied { doing, location, source },
        Some(Errno::NOTDIR | Errno::ISDIR | Errno::NOTEMPTY | Errno::NAMETOOLONG) => {
            Error::Invalid { location, reason: format!("cannot {doing}: {error}") }
        }
        Some(Errno::OPNOTSUPP | Errno::NOSYS) => Error::Unsupported { doing, location, source },
        Some(Errno::NOENT | Errno::NODEV | Errno::NXIO) => Error::NoStore { location, source },
        _ => Error::Failed { doing, location, source },
    }
}

fn errno_name(errno: Errno) -> Option<&'static str> {
    Some(match errno {
        Errno::NOSPC => "ENOSPC",
        Errno::DQUOT => "EDQUOT",
        Errno::ACCESS => "EACCES",
        Errno::PERM => "EPERM",
        Errno::ROFS => "EROFS",
        Errno::LOOP => "ELOOP",
        Errno::IO => "EIO",
        Errno::FBIG => "EFBIG",
        _ => return None,
    })
}

/// The error of a store's operation on `key`.
pub(crate) fn store_error(verb: &str, key: &Key, location: &Location, error: &object_store::Error) -> Error {
    use object_store::Error as Theirs;

    let facts = Facts::of(error);
    let doing = format!("{verb} {key}").trim_end().to_owned();
    let (location, code) = (location.clone(), facts.code().to_owned());
    let transport = facts.transport;
    let source = Box::new(facts.cause);
    match (code.as_str(), source.status, transport) {
        ("NoSuchBucket" | "ContainerNotFound", ..) => Error::NoStore { location, source },
        ("InvalidObjectState" | "BlobArchived", ..) => Error::Archived { key: key.to_string(), location, source },
        ("QuotaExceeded" | "EntityTooLarge", ..) => Error::Full { doing, location, free_bytes: None, source },
        (
            "ExpiredToken"
            | "InvalidToken"
            | "TokenRefreshRequired"
            | "InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "AccessDenied"
            | "RequestTimeTooSkewed",
            ..,
        )
        | (_, Some(401 | 403), _) => Error::Denied { doing, location, source },
        ("NoSuchKey" | "BlobNotFound", ..) => Error::NotFound { key: key.to_string(), location },
        ("NotImplemented", ..) | (_, Some(501), _) => Error::Unsupported { doing, location, source },
        (_, Some(507), _) => Error::Full { doing, location, free_bytes: None, source },
        (_, _, Some(Transport::Timeout)) => Error::Timeout { doing, location, source },
        (_, _, Some(Transport::Broken)) => Error::Unreachable { doing, location, source },
        _ => match error {
            Theirs::NotFound { .. } => Error::NotFound { key: key.to_string(), location },
            Theirs::PermissionDenied { .. } | Theirs::Unauthenticated { .. } => {
                Error::Denied { doing, location, source }
            }
            Theirs::NotSupported { .. } | Theirs::NotImplemented { .. } => {
                Error::Unsupported { doing, location, source }
            }
            _ => Error::Failed { doing, location, source },
        },
    }
}

/// What can be learned from an `object_store` error and all that lies beneath it.
#[derive(Debug)]
pub(crate) struct Facts {
    pub(crate) cause: Cause,
    transport: Option<Transport>,
}

/// How the network failed us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Transport {
    Timeout,
    Broken,
}

impl Facts {
    pub(crate) fn of(error: &object_store::Error) -> Self {
        let mut innermost: &(dyn StdError + 'static) = error;
        let mut chain = vec![innermost];
        while let Some(source) = innermost.source() {
            innermost = source;
            chain.push(source);
        }
        let transport = chain.iter().find_map(|error| transport(*error));
        let answer = chain.iter().rev().find_map(|error| Answer::parse(&error.to_string()));
        let cause = match answer {
            Some(answer) => answer.into_cause(),
            // The innermost error says what happened; those around it repeat the URL.
            None => Cause::new(shorten(&innermost.to_string())),
        };
        Self { cause, transport }
    }

    pub(crate) fn code(&self) -> &str {
        self.cause.code.as_deref().unwrap_or_default()
    }

    /// Whether trying again may help: the network failed, or the store asks for patience.
    pub(crate) fn is_passing(&self) -> bool {
        self.transport.is_some() || self.cause.is_passing()
    }
}

fn transport(error: &(dyn StdError + 'static)) -> Option<Transport> {
    #[cfg(feature = "cloud")]
    if let Some(error) = error.downcast_ref::<object_store::client::HttpError>() {
        // Else no connection, a broken one, a certificate that is not trusted, a body cut short: the text tells.
        let timeout = error.kind() == object_store::client::HttpErrorKind::Timeout;
        return Some(if timeout { Transport::Timeout } else { Transport::Broken });
    }
    match error.downcast_ref::<io::Error>()?.kind() {
        io::ErrorKind::TimedOut => Some(Transport::Timeout),
        io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset | io::ErrorKind::ConnectionAborted => {
            Some(Transport::Broken)
        }
        _ => None,
    }
}

/// An HTTP answer that is no success, as `object_store` words it.
struct Answer {
    status: u16,
    code: Option<String>,
    message: Option<String>,
}

impl Answer {
    fn parse(text: &str) -> Option<Self> {
        const WORDING: [&str; 2] = ["Server returned non-2xx status code: ", "Server returned error response: "];
        let begin = WORDING.iter().find_map(|wording| text.find(wording).map(|at| at + wording.len()))?;
        let rest = &text[begin..];
        let status = rest.get(..3).and_then(|digits| digits.parse().ok()).unwrap_or(500);
        let code = between(rest, "<Code>", "</Code>").or_else(|| between(rest, "\"reason\": \"", "\""));
        let message = between(rest, "<Message>", "</Message>").or_else(|| between(rest, "\"message\": \"", "\""));
        Some(Self { status, code, message })
    }

    fn into_cause(self) -> Cause {
        let text = match (&self.code, &self.message) {
            (Some(code), Some(message)) => format!("{code}: {message} (HTTP status {})", self.status),
            (Some(code), None) => format!("{code} (HTTP status {})", self.status),
            (None, Some(message)) => format!("{message} (HTTP status {})", self.status),
            (None, None) => format!("HTTP status {}", self.status),
        };
        Cause { text: shorten(&text), code: self.code, status: Some(self.status) }
    }
}

/// The text between two others, if it is there and not empty.
pub(crate) fn between(text: &str, before: &str, after: &str) -> Option<String> {
    let begin = text.find(before)? + before.len();
    let length = text[begin..].find(after)?;
    (length > 0).then(|| text[begin..begin + length].to_owned())
}

fn shorten(text: &str) -> String {
    let line = text.lines().next().unwrap_or_default().trim();
    match line.char_indices().nth(MAX_TEXT) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::ErrorKind;

    fn theirs(text: &str) -> object_store::Error {
        object_store::Error::Generic { store: "S3", source: text.to_owned().into() }
    }

    fn answer(status: &str, body: &str) -> object_store::Error {
        theirs(&format!(
            "Error performing PUT https://b/k in 3ms - Server returned non-2xx status code: {status}: {body}"
        ))
    }

    #[rstest]
    #[case("403 Forbidden", "<Error><Code>SignatureDoesNotMatch</Code></Error>", ErrorKind::Denied)]
    #[case("400 Bad Request", "<Error><Code>ExpiredToken</Code></Error>", ErrorKind::Denied)]
    #[case("403 Forbidden", "", ErrorKind::Denied)]
    #[case("403 Forbidden", "<Error><Code>InvalidObjectState</Code></Error>", ErrorKind::Archived)]
    #[case("404 Not Found", "<Error><Code>NoSuchBucket</Code></Error>", ErrorKind::NoStore)]
    #[case("404 Not Found", "<Error><Code>NoSuchKey</Code></Error>", ErrorKind::NotFound)]
    #[case("501 Not Implemented", "", ErrorKind::Unsupported)]
    #[case("507 Insufficient Storage", "", ErrorKind::Full)]
    #[case("503 Slow Down", "<Error><Code>SlowDown</Code></Error>", ErrorKind::Other)]
    #[case("400 Bad Request", "<Error><Code>InvalidArgument</Code></Error>", ErrorKind::Other)]
    fn kinds(#[case] status: &str, #[case] body: &str, #[case] kind: ErrorKind) {
        let error = store_error("write", &Key::new("k").unwrap(), &Location::new("s3://b"), &answer(status, body));
        assert_eq!(error.kind(), kind, "{error:?}");
        assert_eq!(error.is_retryable(), status.starts_with("503"));
    }

    #[test]
    fn a_quoted_request_is_not_passed_on() {
        let body = "<Error><Code>SignatureDoesNotMatch</Code><Message>The signature does not match.</Message>\
                    <CanonicalRequest>x-amz-security-token:s3cr3t</CanonicalRequest></Error>";
        let error =
            store_error("write", &Key::new("k").unwrap(), &Location::new("s3://b"), &answer("403 Forbidden", body));
        let told = format!("{error} {error:?} {}", error.cause().unwrap());
        assert!(told.contains("The signature does not match."));
        assert!(!told.contains("s3cr3t"), "{told}");
        assert_eq!(error.code(), Some("SignatureDoesNotMatch"));
    }

    #[test]
    fn full_disk_says_what_is_free() {
        let location = Location::new("file:///srv");
        let error = io_error("write a", &location, &Errno::NOSPC.into(), || Some(512));
        assert!(matches!(error, Error::Full { free_bytes: Some(512), .. }));
        assert_eq!(error.to_string(), "no space is left in file:///srv to write a");
        assert_eq!(error.code(), Some("ENOSPC"));
    }

    #[test]
    fn long_texts_are_cut_at_characters() {
        let error = store_error("read", &Key::new("k").unwrap(), &Location::new("s3://b"), &theirs(&"ü".repeat(1000)));
        assert_eq!(error.cause().unwrap().text.chars().count(), MAX_TEXT + 1);
    }
}
