//! What `object_store` cannot ask of an S3 bucket: its unfinished multipart uploads, its settings, its versions, and objects
//! out of archive tiers.
//!
//! These requests are made by hand, with URLs it signs: ListMultipartUploads, AbortMultipartUpload, ListObjectVersions,
//! DeleteObject of a version, RestoreObject, and the bucket's settings (Amazon S3 API Reference). The URLs are good for seconds and never shown.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::client::{HttpClient, HttpConnector, HttpRequest, HttpRequestBody};
use object_store::path::Path;
use object_store::signer::{Method, SignedUrlOptions, Signer};

use super::s3::S3Client;
use super::{Network, Watch};
use crate::classify::between;
use crate::object::UnfinishedUploads;
use crate::{Key, ThawTier, Unfinished};

/// How long a signed URL is good.
const GOOD_FOR: Duration = Duration::from_mins(2);
/// How often a request is made in all.
const ATTEMPTS: u32 = 4;

/// Lists and aborts uploads of one bucket.
pub(super) struct MultipartListing {
    s3: S3Client,
    http: HttpClient,
}

impl MultipartListing {
    pub(super) fn new(s3: S3Client, network: &Network, plain_http: bool) -> object_store::Result<Self> {
        let http = Watch::new(network).connect(&network.client_options(plain_http)?)?;
        Ok(Self { s3, http })
    }

    async fn request(&self, method: Method, path: &Path, query: Vec<(&str, String)>) -> object_store::Result<String> {
        self.send(method, path, query, Bytes::new()).await
    }

    async fn send(
        &self,
        method: Method,
        path: &Path,
        query: Vec<(&str, String)>,
        body: Bytes,
    ) -> object_store::Result<String> {
        let mut attempt = 0;
        loop {
            attempt += 1;
            let options = SignedUrlOptions::new().with_query(query.clone());
            let url = self.s3.signed_url_opts(method.clone(), path, GOOD_FOR, &options).await?;
            let mut request = HttpRequest::new(HttpRequestBody::from(body.clone()));
            *request.method_mut() = method.clone();
            *request.uri_mut() = url.as_str().parse().map_err(|_| failure("a key that is no URL".to_owned()))?;
            let passing = match self.http.execute(request).await {
                Ok(answer) => {
                    let status = answer.status();
                    let body = answer.into_body().bytes().await.map_err(failure)?;
                    let body = String::from_utf8_lossy(&body).into_owned();
                    if status.is_success() {
                        return Ok(body);
                    }
                    // Worded as object_store words it, to be understood like its own.
                    let text = format!("Server returned non-2xx status code: {status}: {body}");
                    if !status.is_server_error() || attempt == ATTEMPTS {
                        return Err(failure(text));
                    }
                    text
                }
                Err(error) if attempt == ATTEMPTS => return Err(failure(error)),
                Err(error) => error.to_string(),
            };
            tracing::debug!(passing, "listing unfinished uploads is tried again");
            tokio::time::sleep(Duration::from_millis(100) * 2u32.pow(attempt)).await;
        }
    }
}

#[async_trait]
impl UnfinishedUploads for MultipartListing {
    async fn list(&self, prefix: &Path) -> object_store::Result<Vec<Unfinished>> {
        let mut found = Vec::new();
        let mut marker: Option<(String, String)> = None;
        loop {
            let mut query = vec![("uploads", String::new())];
            if !prefix.is_root() {
                query.push(("prefix", format!("{prefix}/")));
            }
            if let Some((key, upload)) = marker.take() {
                query.extend([("key-marker", key), ("upload-id-marker", upload)]);
            }
            let page = self.request(Method::GET, &Path::ROOT, query).await?;
            found.extend(page.split("<Upload>").skip(1).filter_map(upload));
            if tag(&page, "IsTruncated").as_deref() != Some("true") {
                return Ok(found);
            }
            match (tag(&page, "NextKeyMarker"), tag(&page, "NextUploadIdMarker")) {
                (Some(key), Some(upload)) => marker = Some((key, upload)),
                _ => return Err(failure("a listing of uploads that ends before its end".to_owned())),
            }
        }
    }

    async fn thaw(&self, path: &Path, tier: ThawTier, days: u32) -> object_store::Result<()> {
        let tier = match tier {
            ThawTier::Standard => "Standard",
            ThawTier::Bulk => "Bulk",
            ThawTier::Expedited => "Expedited",
        };
        let body = format!(
            "<RestoreRequest xmlns=\"http://s3.amazonaws.com/doc/2006-03-01/\"><Days>{days}</Days>\
             <GlacierJobParameters><Tier>{tier}</Tier></GlacierJobParameters></RestoreRequest>"
        );
        self.send(Method::POST, path, vec![("restore", String::new())], body.into()).await.map(drop)
    }

    async fn abort(&self, path: &Path, upload: &str) -> object_store::Result<()> {
        self.request(Method::DELETE, path, vec![("uploadId", upload.to_owned())]).await.map(drop)
    }

    async fn setting(&self, name: &str) -> object_store::Result<String> {
        self.request(Method::GET, &Path::ROOT, vec![(name, String::new())]).await
    }

    /// Of one key there are few: the first page is enough.
    async fn versions(&self, path: &Path) -> object_store::Result<Vec<String>> {
        let query = vec![("versions", String::new()), ("prefix", path.to_string())];
        let page = self.request(Method::GET, &Path::ROOT, query).await?;
        let elements = ["Version", "DeleteMarker"].into_iter().flat_map(|kind| {
            let (open, close) = (format!("<{kind}>"), format!("</{kind}>"));
            page.split(&open).skip(1).filter_map(|rest| rest.split(&close).next()).collect::<Vec<_>>()
        });
        Ok(elements
            .filter(|element| tag(element, "Key").as_deref() == Some(path.as_ref()))
            .filter_map(|element| tag(element, "VersionId"))
            .collect())
    }

    async fn delete_version(&self, path: &Path, version: &str) -> object_store::Result<()> {
        self.request(Method::DELETE, path, vec![("versionId", version.to_owned())]).await.map(drop)
    }
}

/// One upload of a listing; `None` if its key is none of ours.
fn upload(element: &str) -> Option<Unfinished> {
    let element = element.split("</Upload>").next()?;
    let begun = chrono::DateTime::parse_from_rfc3339(&tag(element, "Initiated")?).ok()?;
    let key = Key::new(tag(element, "Key")?).ok()?;
    Some(Unfinished { key, begun_ms: begun.timestamp_millis(), upload: tag(element, "UploadId")? })
}

/// The text of the first element of that name.
fn tag(xml: &str, name: &str) -> Option<String> {
    let text = between(xml, &format!("<{name}>"), &format!("</{name}>"))?;
    let text = [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&apos;", "'"),
        ("&#39;", "'"),
        ("&#34;", "\""),
        ("&amp;", "&"),
    ]
    .iter()
    .fold(text, |text, (escaped, plain)| text.replace(escaped, plain));
    Some(text)
}

fn failure(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> object_store::Error {
    object_store::Error::Generic { store: "S3", source: source.into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uploads_are_read_from_a_listing() {
        let page = "<ListMultipartUploadsResult><IsTruncated>false</IsTruncated><Upload><Initiated>2026-11-22T12:00:00.500Z</Initiated>\
                    <Key>a/R&amp;amp;D &lt;1&gt;</Key><UploadId>2~x.y_z-</UploadId><Owner><ID>1</ID></Owner></Upload>\
                    <Upload><Key>no date</Key><UploadId>u</UploadId></Upload></ListMultipartUploadsResult>";
        let found: Vec<Unfinished> = page.split("<Upload>").skip(1).filter_map(upload).collect();
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].key.as_str(), "a/R&amp;D <1>");
        assert_eq!((found[0].begun_ms % 60_000, found[0].upload.as_str()), (500, "2~x.y_z-"));
        assert_eq!(tag(page, "NextKeyMarker"), None);
    }
}
