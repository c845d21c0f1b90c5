//! The HTTP client beneath every cloud store: sees to time limits, and that secrets stay out of errors.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};

use crate::classify::between;
use crate::cloud::Network;
use crate::object::{StorageClass, Thaw};

/// Joining the parts of a large object may take stores minutes.
const JOINING: Duration = Duration::from_mins(10);
/// Where stores tell an object's storage class.
const STORAGE_CLASS: [&str; 3] = ["x-amz-storage-class", "x-goog-storage-class", "x-ms-access-tier"];
/// More of an error's body than that is of no use to anybody.
const MAX_ERROR_BYTES: usize = 64 * 1024;

/// Makes clients that watch the time.
#[derive(Debug, Clone)]
pub(crate) struct Watch {
    network: Network,
}

impl Watch {
    pub(crate) fn new(network: &Network) -> Self {
        Self { network: network.clone() }
    }
}

impl HttpConnector for Watch {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let plain = ReqwestConnector::default();
        // A client's read timeout also runs while it sends, so what sends needs one without.
        let sending = plain.connect(&options.clone().with_read_timeout_disabled())?;
        let receiving = plain.connect(&options.clone().with_read_timeout(self.network.stall_timeout))?;
        Ok(HttpClient::new(Watched { sending, receiving, network: self.network.clone() }))
    }
}

#[derive(Debug)]
struct Watched {
    sending: HttpClient,
    receiving: HttpClient,
    network: Network,
}

/// No answer within the time that was due to the request.
#[derive(Debug, thiserror::Error)]
#[error("no answer within {0:?}")]
struct Silence(Duration);

#[async_trait]
impl HttpService for Watched {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let answer = match request.method().as_str() {
            "GET" | "HEAD" => self.receiving.execute(request).await?,
            method => {
                let bytes = request.body().content_length() as u64;
                let sending = Duration::from_secs(bytes / self.network.min_upload_rate.max(1));
                let due = if method == "POST" { JOINING } else { self.network.stall_timeout + sending };
                match tokio::time::timeout(due, self.sending.execute(request)).await {
                    Ok(answer) => answer?,
                    Err(_) => return Err(HttpError::new(HttpErrorKind::Timeout, Silence(due))),
                }
            }
        };
        let (mut parts, body) = answer.into_parts();
        if parts.status.is_success() {
            let class = STORAGE_CLASS.iter().find_map(|name| parts.headers.get(*name)?.to_str().ok());
            if let Some(class) = class.map(str::to_owned) {
                parts.extensions.insert(StorageClass(class));
            }
            let text = |name: &str| parts.headers.get(name).and_then(|value| value.to_str().ok()).map(str::to_owned);
            let thaw = Thaw { restore: text("x-amz-restore"), archive_status: text("x-amz-archive-status") };
            parts.extensions.insert(thaw);
            return Ok(HttpResponse::from_parts(parts, body));
        }
        let region =
            parts.headers.get("x-amz-bucket-region").and_then(|region| region.to_str().ok()).map(str::to_owned);
        if let Some(region) = region.filter(|_| parts.status.is_redirection()) {
            // A redirection elsewhere is of no use, since the signature names the region: say so instead.
            parts.status = parts.status.as_u16().max(400).try_into().expect("400 is a status");
            let message = format!("the bucket is in region {region}");
            return Ok(HttpResponse::from_parts(parts, error_body("PermanentRedirect", &message).into()));
        }
        let body = tokio::time::timeout(self.network.stall_timeout, body.bytes())
            .await
            .unwrap_or_else(|_| Ok(Bytes::new()))?;
        Ok(HttpResponse::from_parts(parts, essence(&body).into()))
    }
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
}
