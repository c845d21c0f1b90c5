//! From a URL to a store.

use std::sync::Arc;

use pgkeep_storage::{AzureSettings, DiskStorage, Encryption, GcsSettings, Key, S3Settings, Storage};
use url::Url;

use super::aws;
use crate::failure::{Failure, Result};
use crate::settings::{Addressing, Settings, Sse, variable};

/// The store a URL names, everything below its path.
pub(super) async fn open(url: &Url, settings: &Settings) -> Result<Arc<dyn Storage>> {
    open_with(url, settings, &settings.sse).await
}

/// The same with this encryption by the server, where that is S3's.
pub(super) async fn open_with(url: &Url, settings: &Settings, sse: &Sse) -> Result<Arc<dyn Storage>> {
    let host = url.host_str().unwrap_or_default().to_owned();
    match url.scheme() {
        "s3" => s3(host, prefix(url)?, settings, sse).await,
        "gs" => gcs(host, prefix(url)?, settings),
        "az" => azure(host, prefix(url)?, settings),
        "file" => {
            let path = url.to_file_path().map_err(|()| Failure::settings("a file:// URL needs an absolute path"))?;
            Ok(Arc::new(DiskStorage::open(path)?))
        }
        scheme => Err(Failure::settings(format!("{scheme}:// is no store; s3://, gs://, az:// and file:// are"))),
    }
}

fn prefix(url: &Url) -> Result<Key> {
    let path = url.path().trim_matches('/');
    if path.is_empty() { Ok(Key::root()) } else { Ok(Key::new(path)?) }
}

async fn s3(bucket: String, prefix: Key, settings: &Settings, sse: &Sse) -> Result<Arc<dyn Storage>> {
    let layers = &settings.layers;
    let endpoint = settings.s3_endpoint();
    if let Some(found) = &endpoint
        && found.text.starts_with("http://")
        && layers.truth(&variable::AWS_ALLOW_HTTP)? == Some(false)
    {
        return Err(Failure::settings(format!("{} is http, and AWS_ALLOW_HTTP is false", found.origin)));
    }
    let identity = aws::identity(layers, endpoint.is_some()).await?;
    let storage = S3Settings {
        prefix,
        region: identity.region,
        endpoint: endpoint.map(|found| found.text),
        path_style: match settings.addressing {
            Addressing::Auto => None,
            Addressing::Path => Some(true),
            Addressing::Virtual => Some(false),
        },
        credentials: Some(identity.credentials),
        encryption: match sse {
            Sse::Auto => Encryption::Auto,
            Sse::Off => Encryption::BucketDefault,
            Sse::Aes256 => Encryption::Aes256,
            Sse::Kms(key) => Encryption::Kms(key.clone()),
        },
        accelerate: layers.truth(&variable::AWS_ACCELERATE)?.unwrap_or(false),
        ..S3Settings::new(bucket)
    };
    Ok(Arc::new(storage.connect()?))
}

fn gcs(bucket: String, prefix: Key, settings: &Settings) -> Result<Arc<dyn Storage>> {
    let layers = &settings.layers;
    let storage = GcsSettings {
        prefix,
        service_account_key: layers.text(&variable::GOOGLE_SERVICE_ACCOUNT_KEY),
        application_credentials: layers.text(&variable::GOOGLE_APPLICATION_CREDENTIALS),
        endpoint: layers.text(&variable::GOOGLE_ENDPOINT_URL),
        ..GcsSettings::new(bucket)
    };
    Ok(Arc::new(storage.connect()?))
}

fn azure(container: String, prefix: Key, settings: &Settings) -> Result<Arc<dyn Storage>> {
    let layers = &settings.layers;
    let account = layers.text(&variable::AZURE_STORAGE_ACCOUNT_NAME).ok_or_else(|| {
        Failure::settings("AZURE_STORAGE_ACCOUNT_NAME is not set, and an az:// URL names the container only")
    })?;
    let storage = AzureSettings {
        prefix,
        access_key: layers.text(&variable::AZURE_STORAGE_ACCOUNT_KEY),
        sas: layers.text(&variable::AZURE_STORAGE_SAS_KEY),
        endpoint: layers.text(&variable::AZURE_ENDPOINT_URL),
        ..AzureSettings::new(account, container)
    };
    Ok(Arc::new(storage.connect()?))
}
