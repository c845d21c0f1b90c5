//! Stores in the cloud: clients with the right time limits, from settings.
//!
//! `object_store`'s defaults end every request after 30 s, which breaks large transfers. Here a request has no
//! limit as a whole; what is limited is silence, and the time an upload may take for its size (`watch`).

#[cfg(feature = "azure")]
mod azure;
#[cfg(feature = "gcp")]
mod gcs;
#[cfg(feature = "aws")]
mod s3;
#[cfg(feature = "aws")]
mod unfinished;
mod watch;

use std::time::Duration;

use async_trait::async_trait;
use object_store::client::HttpErrorKind;
use object_store::retry::{RetryContext, RetryFailure, RetryPolicy};
use object_store::{BackoffConfig, Certificate, ClientOptions, RetryConfig};

#[cfg(feature = "azure")]
pub use self::azure::AzureSettings;
#[cfg(feature = "gcp")]
pub use self::gcs::GcsSettings;
#[cfg(feature = "aws")]
pub use self::s3::{Encryption, S3Settings, fixed_credentials};
pub(crate) use self::watch::Watch;

/// The longest pause between two attempts at a part.
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// How long the network is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Network {
    /// For a connection.
    pub connect_timeout: Duration,
    /// For the next byte of an answer.
    pub stall_timeout: Duration,
    /// The least speed of an upload, in bytes per second: a slower one counts as stalled.
    pub min_upload_rate: u64,
    /// How often a small request is tried again.
    pub quick_retries: usize,
    /// How often a request that carries bulk data is tried again, with pauses of up to 15 s; after that,
    /// [`crate::Transfer::patience`] decides.
    pub bulk_retries: usize,
    /// Certificates, as PEM, of authorities that are trusted beside those of the system.
    pub root_certificates_pem: Vec<String>,
}

impl Default for Network {
    /// 10 s for a connection, 60 s of silence, 32 KiB/s, 3 and 10 retries.
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            stall_timeout: Duration::from_mins(1),
            min_upload_rate: 32 * 1024,
            quick_retries: 3,
            bulk_retries: 10,
            root_certificates_pem: Vec::new(),
        }
    }
}

/// The three degrees of patience of [`crate::object::Clients`].
#[derive(Debug, Clone, Copy)]
pub(crate) enum Patience {
    Patient,
    Quick,
    Once,
}

impl Network {
    pub(crate) fn client_options(&self, allow_http: bool) -> object_store::Result<ClientOptions> {
        let mut options = ClientOptions::new()
            .with_timeout_disabled()
            .with_connect_timeout(self.connect_timeout)
            .with_allow_http(allow_http);
        for pem in &self.root_certificates_pem {
            let certificates = Certificate::from_pem_bundle(pem.as_bytes())?;
            options = certificates.into_iter().fold(options, ClientOptions::with_root_certificate);
        }
        Ok(options)
    }

    pub(crate) fn retries(&self, patience: Patience) -> RetryConfig {
        let (max_retries, max_backoff) = match patience {
            Patience::Patient => (self.bulk_retries, Duration::from_secs(15)),
            Patience::Quick => (self.quick_retries, Duration::from_secs(3)),
            Patience::Once => (0, Duration::ZERO),
        };
        let backoff = BackoffConfig { init_backoff: Duration::from_millis(100), max_backoff, base: 2.0 };
        RetryConfig { backoff, max_retries, retry_timeout: Duration::from_mins(3) }
    }
}

/// Tries a part again, with fresh credentials and signature, when the retries of its request are used up.
#[derive(Debug)]
pub(crate) struct PartRetry {
    pub(crate) patience: Duration,
}

#[async_trait]
impl RetryPolicy for PartRetry {
    async fn retry(&self, context: RetryContext) -> bool {
        let passing = match context.failure {
            RetryFailure::Status(status) => {
                status.is_success() || status.is_server_error() || matches!(status.as_u16(), 408 | 429)
            }
            RetryFailure::Transport(kind) => kind != HttpErrorKind::Decode,
            _ => false,
        };
        if !passing || context.elapsed > self.patience {
            return false;
        }
        tokio::time::sleep(LONGEST_PAUSE.min(Duration::from_secs(1) * context.attempt as u32)).await;
        true
    }
}

/// The host of an endpoint's URL.
#[cfg(feature = "aws")]
pub(crate) fn host_of(endpoint: &str) -> Option<String> {
    url::Url::parse(endpoint).ok()?.host_str().map(str::to_owned)
}
