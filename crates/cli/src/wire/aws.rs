//! Who we are on AWS: environment, profile, web identity, container and instance, as every AWS user expects.
//!
//! object_store knows no profiles, so aws-config's chain is adapted to its trait. Keys that were set, in the environment
//! or in an env-file, go before the chain.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider};
use pgkeep_storage::{AwsCredential, AwsCredentialProvider, CredentialProvider, ObjectStoreError, fixed_credentials};
use tokio::sync::Mutex;

use crate::failure::{Failure, Result, chain};
use crate::hint::Code;
use crate::settings::{Layers, variable};

pub(super) const DEFAULT_REGION: &str = "us-east-1";
/// Temporary credentials are renewed this long before they end.
const MARGIN: Duration = Duration::from_mins(5);

/// Keys and a region.
#[derive(Debug)]
pub(super) struct Identity {
    /// Where keys come from.
    pub(super) credentials: AwsCredentialProvider,
    /// The region.
    pub(super) region: String,
}

/// Who we are. With an endpoint of one's own, the region matters little and is not asked of the instance.
pub(super) async fn identity(layers: &Layers, own_endpoint: bool) -> Result<Identity> {
    let region = layers.text(&variable::AWS_REGION).or_else(|| layers.text(&variable::AWS_DEFAULT_REGION));
    let key = layers.text(&variable::AWS_ACCESS_KEY_ID);
    let secret = layers.text(&variable::AWS_SECRET_ACCESS_KEY);
    match (key, secret) {
        (Some(key), Some(secret)) => {
            let token = layers.text(&variable::AWS_SESSION_TOKEN);
            let region = match region {
                Some(region) => region,
                None if own_endpoint => DEFAULT_REGION.to_owned(),
                None => {
                    load(layers, None).await.region().map_or_else(|| DEFAULT_REGION.to_owned(), ToString::to_string)
                }
            };
            Ok(Identity { credentials: fixed_credentials(key, secret, token), region })
        }
        (None, None) => {
            let region = region.or_else(|| own_endpoint.then(|| DEFAULT_REGION.to_owned()));
            let config = load(layers, region).await;
            let provider =
                config.credentials_provider().ok_or_else(|| Failure::settings("no AWS credentials can be had"))?;
            let credentials = Chain { provider, known: Mutex::new(None) };
            // The first answer now, so that what is wrong is said before any work is done.
            credentials.get_credential().await.map_err(|error| {
                let nowhere = std::error::Error::source(&error)
                    .and_then(|cause| cause.downcast_ref::<CredentialsError>())
                    .is_some_and(|cause| matches!(cause, CredentialsError::CredentialsNotLoaded(_)));
                let message = if nowhere {
                    "no AWS credentials were found: not in the environment, a profile, a web identity, nor from the container or instance".to_owned()
                } else {
                    format!("no AWS credentials could be had: {}", chain(&error))
                };
                Failure::new(Code::StoreRefused, message).hint("set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE after `aws configure`, or give the instance or pod a role")
            })?;
            let region = config.region().map_or_else(|| DEFAULT_REGION.to_owned(), ToString::to_string);
            Ok(Identity { credentials: Arc::new(credentials), region })
        }
        (Some(_), None) => Err(Failure::settings("AWS_ACCESS_KEY_ID is set, AWS_SECRET_ACCESS_KEY is not")),
        (None, Some(_)) => Err(Failure::settings("AWS_SECRET_ACCESS_KEY is set, AWS_ACCESS_KEY_ID is not")),
    }
}

/// The same for the SDK's own clients, which ask for credentials when they need them.
pub(super) async fn sdk_config(layers: &Layers) -> aws_config::SdkConfig {
    let set = |variable| layers.get(variable).is_some();
    let own_endpoint = set(&variable::AWS_ENDPOINT_URL) || set(&variable::AWS_ENDPOINT_URL_CLOUDWATCH);
    let region = layers.text(&variable::AWS_REGION).or_else(|| layers.text(&variable::AWS_DEFAULT_REGION));
    let config = load(layers, region.or_else(|| own_endpoint.then(|| DEFAULT_REGION.to_owned()))).await;
    let region = config.region().cloned().unwrap_or_else(|| Region::from_static(DEFAULT_REGION));
    let mut builder = config.into_builder();
    builder.set_region(Some(region));
    let key = layers.text(&variable::AWS_ACCESS_KEY_ID);
    if let (Some(key), Some(secret)) = (key, layers.text(&variable::AWS_SECRET_ACCESS_KEY)) {
        let keys = Credentials::new(key, secret, layers.text(&variable::AWS_SESSION_TOKEN), None, "settings");
        builder.set_credentials_provider(Some(SharedCredentialsProvider::new(keys)));
    }
    builder.build()
}

async fn load(layers: &Layers, region: Option<String>) -> aws_config::SdkConfig {
    let mut loader = aws_config::defaults(BehaviorVersion::latest());
    if let Some(profile) = layers.text(&variable::AWS_PROFILE) {
        loader = loader.profile_name(profile);
    }
    if let Some(region) = region {
        loader = loader.region(Region::new(region));
    }
    loader.load().await
}

/// aws-config's chain, as object_store asks for keys; what it gives is kept until shortly before it ends.
#[derive(Debug)]
struct Chain {
    provider: SharedCredentialsProvider,
    known: Mutex<Option<(Arc<AwsCredential>, Option<SystemTime>)>>,
}

#[async_trait]
impl CredentialProvider for Chain {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> Result<Arc<AwsCredential>, ObjectStoreError> {
        let mut known = self.known.lock().await;
        if let Some((credential, ends)) = known.as_ref()
            && ends.is_none_or(|ends| ends > SystemTime::now() + MARGIN)
        {
            return Ok(Arc::clone(credential));
        }
        match self.provider.provide_credentials().await {
            Ok(fresh) => {
                let credential = Arc::new(adapt(&fresh));
                *known = Some((Arc::clone(&credential), fresh.expiry()));
                Ok(credential)
            }
            // What is known may be good for some minutes yet.
            Err(error) => match known.as_ref() {
                Some((credential, Some(ends))) if *ends > SystemTime::now() => Ok(Arc::clone(credential)),
                _ => Err(ObjectStoreError::Generic { store: "S3", source: Box::new(error) }),
            },
        }
    }
}

fn adapt(credentials: &Credentials) -> AwsCredential {
    AwsCredential {
        key_id: credentials.access_key_id().to_owned(),
        secret_key: credentials.secret_access_key().to_owned(),
        token: credentials.session_token().map(str::to_owned),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use aws_credential_types::provider::future;

    use super::*;

    /// Gives new keys each time, good for so long; none from the second time on if it is broken.
    #[derive(Debug)]
    struct Toy {
        asked: AtomicU32,
        good_for: Duration,
        breaks: bool,
    }

    impl ProvideCredentials for Toy {
        fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
        where
            Self: 'a,
        {
            let asked = self.asked.fetch_add(1, Ordering::SeqCst);
            future::ProvideCredentials::ready(if asked > 0 && self.breaks {
                Err(aws_credential_types::provider::error::CredentialsError::not_loaded("broken"))
            } else {
                let ends = SystemTime::now() + self.good_for;
                Ok(Credentials::new(format!("key{asked}"), "secret", Some("token".to_owned()), Some(ends), "toy"))
            })
        }
    }

    async fn keys(good_for: Duration, breaks: bool) -> [String; 2] {
        let toy = Toy { asked: AtomicU32::new(0), good_for, breaks };
        let chain = Chain { provider: SharedCredentialsProvider::new(toy), known: Mutex::new(None) };
        let mut keys = [String::new(), String::new()];
        for key in &mut keys {
            *key = chain.get_credential().await.unwrap().key_id.clone();
        }
        keys
    }

    #[tokio::test]
    async fn keys_are_kept_until_shortly_before_they_end() {
        assert_eq!(keys(Duration::from_hours(1), false).await, ["key0", "key0"]);
        assert_eq!(keys(Duration::from_mins(4), false).await, ["key0", "key1"]);
        assert_eq!(keys(Duration::from_mins(4), true).await, ["key0", "key0"], "better old ones than none");
    }
}
