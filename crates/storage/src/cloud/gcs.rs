//! Google Cloud Storage.

use std::fmt;
use std::sync::Arc;

use object_store::gcp::{GcpCredentialProvider, GoogleCloudStorageBuilder};

use super::{Network, Patience, Watch};
use crate::object::Clients;
use crate::{Error, Key, Location, ObjectStorage, PartRules, Result, Transfer};

/// Where a bucket of Google Cloud Storage is, and how it is spoken to.
#[derive(Clone)]
pub struct GcsSettings {
    /// The bucket.
    pub bucket: String,
    /// What every key is below; the root is the whole bucket.
    pub prefix: Key,
    /// Where tokens come from, asked anew for every request; goes before `service_account_key`.
    pub credentials: Option<GcpCredentialProvider>,
    /// The JSON text of a service account's key.
    pub service_account_key: Option<String>,
    /// A file of application default credentials. With none of the three, the instance's own identity is used.
    pub application_credentials: Option<String>,
    /// Another server than Google's, `http://127.0.0.1:4443`, for emulators.
    pub endpoint: Option<String>,
    /// For public buckets: requests are not signed.
    pub skip_signature: bool,
    /// How large objects are moved; its part rules are replaced by Google's.
    pub transfer: Transfer,
    /// How long the network is waited for.
    pub network: Network,
}

impl GcsSettings {
    /// A bucket with everything at its default.
    pub fn new(bucket: impl Into<String>) -> Self {
        Self {
            bucket: bucket.into(),
            prefix: Key::root(),
            credentials: None,
            service_account_key: None,
            application_credentials: None,
            endpoint: None,
            skip_signature: false,
            transfer: Transfer::default(),
            network: Network::default(),
        }
    }

    /// `gs://bucket/prefix`.
    pub fn location(&self) -> Location {
        Location::new(format!("gs://{}/{}", self.bucket, self.prefix))
    }

    /// A client for it. Nothing is asked of the server yet.
    pub fn connect(&self) -> Result<ObjectStorage> {
        let build = |patience| {
            let built = self.builder(patience).and_then(GoogleCloudStorageBuilder::build);
            built.map_err(|error| Error::Invalid {
                location: self.location(),
                reason: crate::classify::Facts::of(&error).cause.text,
            })
        };
        let clients = Clients {
            patient: Arc::new(build(Patience::Patient)?),
            quick: Arc::new(build(Patience::Quick)?),
            once: Arc::new(build(Patience::Once)?),
        };
        let transfer = Transfer { part_rules: PartRules::S3, ..self.transfer.clone() };
        Ok(ObjectStorage::assemble(clients, &self.prefix, self.location(), transfer))
    }

    fn builder(&self, patience: Patience) -> object_store::Result<GoogleCloudStorageBuilder> {
        let plain_http = self.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        let mut builder = GoogleCloudStorageBuilder::new()
            .with_bucket_name(&self.bucket)
            .with_skip_signature(self.skip_signature)
            .with_retry(self.network.retries(patience))
            .with_client_options(self.network.client_options(plain_http)?)
            .with_http_connector(Watch::new(&self.network));
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_base_url(endpoint.trim_end_matches('/'));
        }
        if let Some(credentials) = &self.credentials {
            return Ok(builder.with_credentials(Arc::clone(credentials)));
        }
        if let Some(key) = &self.service_account_key {
            builder = builder.with_service_account_key(key);
        }
        if let Some(path) = &self.application_credentials {
            builder = builder.with_application_credentials(path);
        }
        Ok(builder)
    }
}

impl fmt::Debug for GcsSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GcsSettings")
            .field("location", &self.location().as_str())
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn connects_and_shows_no_secret() {
        let settings = GcsSettings {
            prefix: Key::new("a/b").unwrap(),
            skip_signature: true,
            endpoint: Some("http://127.0.0.1:9".to_owned()),
            ..GcsSettings::new("bucket")
        };
        let storage = settings.connect().unwrap();
        assert_eq!(format!("{storage:?}"), "ObjectStorage { location: \"gs://bucket/a/b\", .. }");

        let refused = GcsSettings { service_account_key: Some("s3cr3t".to_owned()), ..GcsSettings::new("bucket") };
        let error = refused.connect().unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Invalid);
        assert!(!format!("{error:?} {refused:?}").contains("s3cr3t"), "{error:?}");
    }
}
