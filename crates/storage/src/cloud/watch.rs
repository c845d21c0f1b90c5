//! What every request to a cloud store goes through: sees to time limits, to answers that are not what their status says, and
//! that secrets stay out of errors.

use std::error::Error as StdError;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};

use super::{Network, Patience, client};
use crate::classify::{Untrusted, between};
use crate::object::{StorageClass, Thaw};

/// Where stores tell an object's storage class.
const STORAGE_CLASS: [&str; 3] = ["x-amz-storage-class", "x-goog-storage-class", "x-ms-access-tier"];
/// More of an error's body than that is of no use to anybody.
const MAX_ERROR_BYTES: usize = 64 * 1024;
/// The longest wait that a store can ask for; clients wait a little beside.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// Errors in the body of a success that pass; the rest are as final as with a status of their own.
const PASSING: [&str; 5] = ["InternalError", "OperationAborted", "RequestTimeout", "ServiceUnavailable", "SlowDown"];

/// Makes clients that watch the time.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    network: Network,
    patience: Patience,
}

impl Watch {
    pub(crate) fn new(network: &Network, patience: Patience) -> Self {
        Self { network: network.clone(), patience }
    }
}

impl HttpConnector for Watch {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        // A client's read timeout also runs while it sends, so what sends needs one without.
        let sending = client::connect(&self.network, options, None)?;
        let receiving = client::connect(&self.network, options, Some(self.network.stall_timeout))?;
        Ok(HttpClient::new(Watched { sending, receiving, watch: self.clone() }))
    }
}

#[derive(Debug)]
struct Watched {
    sending: HttpClient,
    receiving: HttpClient,
    watch: Watch,
}

/// No answer within the time that was due to the request.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {0:?}")]
struct Silence(Duration);

#[async_trait]
impl HttpService for Watched {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answer = if matches!(request.method().as_str(), "GET" | "HEAD") {
            self.receiving.execute(request).await
        } else {
            let due = self.due(&request);
            // What answers these requests is short: an answer is one when it is here as a whole.
            let whole = async {
                let (mut parts, body) = self.sending.execute(request).await?.into_parts();
                let body = body.bytes().await?;
                if parts.status.is_success()
                    && let Some(status) = status_of_error(&body)
                {
                    parts.status = status.try_into().expect("it is a status");
                }
                Ok(HttpResponse::from_parts(parts, body.into()))
            };
            let answer = tokio::time::timeout(due, whole).await;
            answer.unwrap_or_else(|_| Err(HttpError::new(HttpErrorKind::Timeout, Silence(due))))
        };
        let answer = answer.map_err(sorted)?;
        if answer.status().is_success() { Ok(told(answer)) } else { self.refusal(answer).await }
    }
}

impl Watched {
    /// How long the answer to a request that sends something may take.
    fn due(&self, request: &HttpRequest) -> Duration {
        let network = &self.watch.network;
        let joins =
            request.method() == "POST" && request.uri().query().is_some_and(|query| query.contains("uploadId="));
        if joins {
            return network.join_timeout;
        }
        let bytes = request.body().content_length() as u64;
        network.stall_timeout + Duration::from_secs(bytes / network.min_upload_rate.max(1))
    }

    /// An answer that is no success, with what may be told of it and nothing else.
    async fn refusal(&self, answer: HttpResponse) -> Result<HttpResponse, HttpError> {
        let (mut parts, body) = answer.into_parts();
        let header = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok());
        if parts.status.is_redirection() && parts.status != 304 {
            // Of no use, since the signature names host and region: say where it would lead instead.
            let message = match (header("x-amz-bucket-region"), header("location").and_then(origin)) {
                (Some(region), _) => format!("the bucket is in region {region}"),
                (None, Some(origin)) => format!("the server refers to {origin}, and is not followed there"),
                (None, None) => "the server refers to another one, which it does not name".to_owned(),
            };
            parts.status = 400.try_into().expect("400 is a status");
            return Ok(HttpResponse::from_parts(parts, error_body("PermanentRedirect", &message).into()));
        }
        let wait = header("retry-after").and_then(|seconds| seconds.trim().parse().ok()).map(Duration::from_secs);
        let asked_to_wait = matches!(parts.status.as_u16(), 429 | 503);
        let body = tokio::time::timeout(self.watch.network.stall_timeout, body.bytes())
            .await
            .unwrap_or_else(|_| Ok(Bytes::new()))?;
        if let Some(wait) = wait.filter(|_| asked_to_wait && self.watch.patience != Patience::Once) {
            tokio::time::sleep(wait.min(LONGEST_WAIT)).await;
        }
        Ok(HttpResponse::from_parts(parts, essence(&body).into()))
    }
}

/// A success, with what its headers tell of an object.
fn told(answer: HttpResponse) -> HttpResponse {
    let (mut parts, body) = answer.into_parts();
    let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
    let class = STORAGE_CLASS.iter().find_map(|name| text(name));
    let thaw = Thaw { restore: text("x-amz-restore"), archive_status: text("x-amz-archive-status") };
    if let Some(class) = class {
        parts.extensions.insert(StorageClass(class));
    }
    parts.extensions.insert(thaw);
    HttpResponse::from_parts(parts, body)
}

/// S3 answers 200 before it knows the outcome of what takes long; the body may be an error (CompleteMultipartUpload, Amazon S3 API
/// Reference). The status that it should have had; `None` if it is none.
fn status_of_error(body: &[u8]) -> Option<u16> {
    let text = String::from_utf8_lossy(&body[..body.len().min(MAX_ERROR_BYTES)]);
    let text = text.trim_start();
    let document =
        text.strip_prefix("<?xml").and_then(|rest| rest.split_once("?>")).map_or(text, |(_, document)| document);
    if !document.trim_start().starts_with("<Error>") {
        return None;
    }
    let passes = between(document, "<Code>", "</Code>").is_some_and(|code| PASSING.contains(&code.as_str()));
    Some(if passes { 503 } else { 400 })
}

/// The error, sorted by whether it passes. One that says of a certificate that it is not trusted is no trouble of the network's,
/// whereas what the client has no word for, such as a connection that was reset before it was used, is nothing else.
fn sorted(error: HttpError) -> HttpError {
    const WORDING: &str = "invalid peer certificate: ";
    let mut cause: Option<&dyn StdError> = Some(&error);
    while let Some(found) = cause {
        if let Some((_, reason)) = found.to_string().split_once(WORDING)
            && found.source().is_none()
        {
            return HttpError::new(HttpErrorKind::Decode, Untrusted(reason.to_owned()));
        }
        cause = found.source();
    }
    if error.kind() == HttpErrorKind::Unknown { HttpError::new(HttpErrorKind::Interrupted, error) } else { error }
}

/// Scheme and host of a URL, which may hold a secret elsewhere.
fn origin(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let host = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    Some(format!("{scheme}://{host}"))
}

/// The code and message of an error's body, and nothing else: some quote the request with all its tokens.
fn essence(body: &[u8]) -> Bytes {
    let text = String::from_utf8_lossy(&body[..body.len().min(MAX_ERROR_BYTES)]);
    let code = between(&text, "<Code>", "</Code>").or_else(|| json_text(&text, "reason"));
    let message = between(&text, "<Message>", "</Message>").or_else(|| json_text(&text, "message"));
    match (code, message) {
        (None, None) => Bytes::new(),
        (code, message) => error_body(&code.unwrap_or_default(), &message.unwrap_or_default()),
    }
}

/// The first text of that name in a JSON document.
fn json_text(text: &str, name: &str) -> Option<String> {
    let (_, rest) = text.split_once(&format!("\"{name}\""))?;
    let rest = rest.trim_start().strip_prefix(':')?.trim_start().strip_prefix('"')?;
    rest.split_once('"').map(|(value, _)| value.to_owned())
}

fn error_body(code: &str, message: &str) -> Bytes {
    format!("<Error><Code>{code}</Code><Message>{message}</Message></Error>").into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_and_message_are_kept() {
        let xml =
            b"<?xml?><Error><Code>AccessDenied</Code><Message>no</Message><StringToSign>token</StringToSign></Error>";
        assert_eq!(essence(xml), "<Error><Code>AccessDenied</Code><Message>no</Message></Error>");
        let json =
            br#"{"error": {"code": 403, "message": "no access", "errors": [{"reason" : "forbidden", "x": "token"}]}}"#;
        assert_eq!(essence(json), "<Error><Code>forbidden</Code><Message>no access</Message></Error>");
        assert_eq!(essence(b"<html>token</html>"), "");
    }

    #[test]
    fn of_where_a_redirection_leads_only_the_host_is_told() {
        assert_eq!(
            origin("https://u:pw@s3.example.com:9000/b/k?X-Amz-Signature=s").unwrap(),
            "https://s3.example.com:9000"
        );
        assert_eq!(origin("/b/k?token"), None);
    }

    #[test]
    fn an_error_in_a_success_is_an_error() {
        assert_eq!(status_of_error(b"\n \n<?xml version=\"1.0\"?>\n<Error><Code>SlowDown</Code></Error>"), Some(503));
        assert_eq!(status_of_error(b"<Error><Code>AccessDenied</Code></Error>"), Some(400));
        assert_eq!(
            status_of_error(b"<CompleteMultipartUploadResult><ETag>e</ETag></CompleteMultipartUploadResult>"),
            None
        );
        assert_eq!(status_of_error(b""), None);
    }
}
