//! S3: Amazon's, and whatever speaks like it.

use std::fmt;
use std::sync::Arc;

use object_store::StaticCredentialProvider;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, AwsCredential, AwsCredentialProvider};

use super::unfinished::MultipartListing;
use super::{Network, Patience, Watch, host_of};
use crate::object::Clients;
use crate::{Error, Key, Location, ObjectStorage, PartRules, Result, Transfer};

/// Where an S3 bucket is, and how it is spoken to.
#[derive(Clone)]
pub struct S3Settings {
    /// The bucket.
    pub bucket: String,
    /// What every key is below; the root is the whole bucket.
    pub prefix: Key,
    /// The region; of little matter to servers other than Amazon's.
    pub region: String,
    /// The server's URL, `https://s3.example.com`; `None` is Amazon's for the region. Plain `http://` is
    /// taken for what it says.
    pub endpoint: Option<String>,
    /// Whether the bucket stands in the path instead of the host name. `None`: with an endpoint of one's own, and
    /// for buckets whose name has a dot, which no certificate covers.
    pub path_style: Option<bool>,
    /// Where keys come from, asked anew for every request. Needed unless `skip_signature`.
    pub credentials: Option<AwsCredentialProvider>,
    /// For public buckets: requests are not signed.
    pub skip_signature: bool,
    /// How objects are encrypted by the server.
    pub encryption: Encryption,
    /// Amazon's transfer acceleration.
    pub accelerate: bool,
    /// Whether whoever asks pays.
    pub request_payer: bool,
    /// Whether `create` asks for `If-None-Match`; without, it looks before it writes.
    pub conditional_writes: bool,
    /// Rules for parts, if not those known for the endpoint.
    pub part_rules: Option<PartRules>,
    /// How large objects are moved (`part_rules` is decided above).
    pub transfer: Transfer,
    /// How long the network is waited for.
    pub network: Network,
}

/// Encryption by the server.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum Encryption {
    /// `AES256` on Amazon, nothing elsewhere: other servers refuse it unless they have a vault.
    #[default]
    Auto,
    /// Not asked for; the bucket's default holds.
    BucketDefault,
    /// SSE-S3.
    Aes256,
    /// SSE-KMS with the key of that id or ARN.
    Kms(String),
}

impl S3Settings {
    /// A bucket on Amazon, in `us-east-1`, everything at its default and no credentials yet.
    pub fn new(bucket: impl Into<String>) -> Self {
        Self {
            bucket: bucket.into(),
            prefix: Key::root(),
            region: "us-east-1".to_owned(),
            endpoint: None,
            path_style: None,
            credentials: None,
            skip_signature: false,
            encryption: Encryption::default(),
            accelerate: false,
            request_payer: false,
            conditional_writes: true,
            part_rules: None,
            transfer: Transfer::default(),
            network: Network::default(),
        }
    }

    /// `s3://bucket/prefix`.
    pub fn location(&self) -> Location {
        Location::new(format!("s3://{}/{}", self.bucket, self.prefix))
    }

    /// A client for it. Nothing is asked of the server yet.
    pub fn connect(&self) -> Result<ObjectStorage> {
        let location = self.location();
        let invalid = |reason: String| Error::Invalid { location: location.clone(), reason };
        if self.credentials.is_none() && !self.skip_signature {
            return Err(invalid("no credentials were given".to_owned()));
        }
        let endpoint = self.bucket_endpoint().map_err(invalid)?;
        let build = |patience| {
            let built = self.builder(endpoint.as_ref(), patience).and_then(AmazonS3Builder::build);
            built.map_err(|error| invalid(crate::classify::Facts::of(&error).cause.text))
        };
        let patient = Arc::new(build(Patience::Patient)?);
        let quick = Arc::new(build(Patience::Quick)?);
        let once = Arc::new(build(Patience::Once)?);
        let listing = MultipartListing::new(Arc::clone(&quick), &self.network, self.plain_http())
            .map_err(|error| invalid(crate::classify::Facts::of(&error).cause.text))?;

        let rules = self.part_rules.unwrap_or_else(|| PartRules::of_s3_host(self.host().as_deref()));
        let transfer = Transfer { part_rules: rules, ..self.transfer.clone() };
        let clients = Clients { patient, quick, once };
        let storage = ObjectStorage::assemble(clients, &self.prefix, location.clone(), transfer)
            .with_unfinished(Arc::new(listing));
        if !self.conditional_writes {
            storage.inner.learn(crate::Support::No);
        }
        Ok(storage)
    }

    fn builder(&self, endpoint: Option<&Endpoint>, patience: Patience) -> object_store::Result<AmazonS3Builder> {
        let mut builder = AmazonS3Builder::new()
            .with_bucket_name(&self.bucket)
            .with_region(&self.region)
            .with_virtual_hosted_style_request(!self.is_path_style())
            .with_skip_signature(self.skip_signature)
            .with_request_payer(self.request_payer)
            // One request per deletion: every server knows it, the bulk request not.
            .with_disable_bulk_delete(true)
            .with_retry(self.network.retries(patience))
            .with_client_options(self.network.client_options(self.plain_http())?)
            .with_http_connector(Watch::new(&self.network));
        if let Some(Endpoint(url)) = endpoint {
            builder = builder.with_endpoint(url);
        }
        if let Some(credentials) = &self.credentials {
            builder = builder.with_credentials(Arc::clone(credentials));
        }
        Ok(match self.asked_encryption() {
            Encryption::Aes256 => {
                let setting: AmazonS3ConfigKey =
                    "aws_server_side_encryption".parse().expect("object_store knows this key");
                builder.with_config(setting, "AES256")
            }
            Encryption::Kms(key) => builder.with_sse_kms_encryption(key),
            Encryption::Auto | Encryption::BucketDefault => builder,
        })
    }

    /// What `encryption` comes to on this server; never [`Encryption::Auto`].
    pub fn asked_encryption(&self) -> Encryption {
        match &self.encryption {
            Encryption::Auto if self.is_amazon() => Encryption::Aes256,
            Encryption::Auto => Encryption::BucketDefault,
            chosen => chosen.clone(),
        }
    }

    fn host(&self) -> Option<String> {
        self.endpoint.as_deref().and_then(host_of)
    }

    fn is_amazon(&self) -> bool {
        self.host().is_none_or(|host| host.ends_with(".amazonaws.com") || host.ends_with(".amazonaws.com.cn"))
    }

    fn is_path_style(&self) -> bool {
        !self.accelerate && self.path_style.unwrap_or(self.endpoint.is_some() || self.bucket.contains('.'))
    }

    fn plain_http(&self) -> bool {
        self.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"))
    }

    /// The endpoint as `object_store` wants it: with the bucket, if that stands in the host name.
    fn bucket_endpoint(&self) -> Result<Option<Endpoint>, String> {
        if self.accelerate {
            if self.endpoint.is_some() || self.bucket.contains('.') {
                return Err("transfer acceleration is for Amazon's own endpoint and buckets without a dot".to_owned());
            }
            return Ok(Some(Endpoint(format!("https://{}.s3-accelerate.amazonaws.com", self.bucket))));
        }
        let endpoint = match &self.endpoint {
            Some(endpoint) => endpoint.trim_end_matches('/').to_owned(),
            // The one partition with a domain of its own.
            None if self.region.starts_with("cn-") => format!("https://s3.{}.amazonaws.com.cn", self.region),
            None => return Ok(None),
        };
        let mut url = url::Url::parse(&endpoint).map_err(|error| format!("the endpoint is no URL: {error}"))?;
        if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() || url.password().is_some() {
            return Err("the endpoint must be an http or https URL without user and password".to_owned());
        }
        if self.is_path_style() {
            return Ok(Some(Endpoint(endpoint)));
        }
        let host = format!("{}.{}", self.bucket, url.host_str().unwrap_or_default());
        url.set_host(Some(&host)).map_err(|error| format!("{host} is no host name: {error}"))?;
        Ok(Some(Endpoint(url.as_str().trim_end_matches('/').to_owned())))
    }
}

/// The URL of an endpoint.
struct Endpoint(String);

/// Credentials that never change, from an access key, its secret and, for temporary ones, a session token.
pub fn fixed_credentials(key_id: String, secret_key: String, token: Option<String>) -> AwsCredentialProvider {
    Arc::new(StaticCredentialProvider::new(AwsCredential { key_id, secret_key, token }))
}

/// What the listing of unfinished uploads needs of the client.
pub(super) type S3Client = Arc<AmazonS3>;

impl fmt::Debug for S3Settings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("S3Settings")
            .field("location", &self.location().as_str())
            .field("region", &self.region)
            .field("endpoint", &self.endpoint)
            .field("path_style", &self.path_style)
            .field("credentials", &self.credentials.as_ref().map(|_| "given"))
            .field("encryption", &self.encryption)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings() -> S3Settings {
        let credentials = Some(fixed_credentials("id".to_owned(), "s3cr3t".to_owned(), Some("t0k3n".to_owned())));
        S3Settings { credentials, ..S3Settings::new("bucket") }
    }

    fn endpoint(settings: &S3Settings) -> Option<String> {
        settings.bucket_endpoint().unwrap().map(|endpoint| endpoint.0)
    }

    #[test]
    fn styles_and_endpoints() {
        let amazon = settings();
        assert!(!amazon.is_path_style() && amazon.is_amazon() && endpoint(&amazon).is_none());
        assert!(S3Settings { bucket: "a.b".to_owned(), ..settings() }.is_path_style());

        let own = S3Settings { endpoint: Some("http://127.0.0.1:9000/".to_owned()), ..settings() };
        assert!(own.is_path_style() && !own.is_amazon() && own.plain_http());
        assert_eq!(endpoint(&own).unwrap(), "http://127.0.0.1:9000");
        let host =
            S3Settings { endpoint: Some("https://s3.example.com".to_owned()), path_style: Some(false), ..settings() };
        assert_eq!(endpoint(&host).unwrap(), "https://bucket.s3.example.com");
        let china = S3Settings { region: "cn-north-1".to_owned(), ..settings() };
        assert_eq!(endpoint(&china).unwrap(), "https://bucket.s3.cn-north-1.amazonaws.com.cn");
        let fast = S3Settings { accelerate: true, ..settings() };
        assert_eq!(endpoint(&fast).unwrap(), "https://bucket.s3-accelerate.amazonaws.com");
    }

    #[test]
    fn what_cannot_work_is_refused() {
        for refused in [
            S3Settings::new("bucket"),
            S3Settings { endpoint: Some("https://user:pw@s3.example.com".to_owned()), ..settings() },
            S3Settings { endpoint: Some("s3.example.com".to_owned()), ..settings() },
            S3Settings { accelerate: true, endpoint: Some("https://s3.example.com".to_owned()), ..settings() },
        ] {
            assert_eq!(refused.connect().unwrap_err().kind(), crate::ErrorKind::Invalid, "{refused:?}");
        }
    }

    #[test]
    fn secrets_are_not_shown() {
        let settings = S3Settings { prefix: Key::new("database-backups").unwrap(), ..settings() };
        let storage = settings.connect().unwrap();
        let shown = format!("{settings:?} {storage:?} {}", settings.location());
        assert!(shown.contains("s3://bucket/database-backups"));
        assert!(!shown.contains("s3cr3t") && !shown.contains("t0k3n"), "{shown}");
    }
}
