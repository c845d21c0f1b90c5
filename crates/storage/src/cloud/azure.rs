//! Azure Blob Storage.

use std::fmt;
use std::sync::Arc;

use object_store::azure::{AzureCredentialProvider, MicrosoftAzureBuilder};

use super::{Network, Patience, Watch};
use crate::object::Clients;
use crate::{Error, Key, Location, ObjectStorage, PartRules, Result, Transfer};

/// Where a container of Azure Blob Storage is, and how it is spoken to.
#[derive(Clone)]
pub struct AzureSettings {
    /// The storage account.
    pub account: String,
    /// The container.
    pub container: String,
    /// What every key is below; the root is the whole container.
    pub prefix: Key,
    /// Where tokens come from, asked anew for every request; goes before all else.
    pub credentials: Option<AzureCredentialProvider>,
    /// The account's key.
    pub access_key: Option<String>,
    /// A shared access signature, as the portal shows it. With none of the three, the machine's managed identity is used.
    pub sas: Option<String>,
    /// Another server than Microsoft's, `http://127.0.0.1:10000/account`, for emulators and other clouds.
    pub endpoint: Option<String>,
    /// How large objects are moved; its part rules are replaced by Azure's.
    pub transfer: Transfer,
    /// How long the network is waited for.
    pub network: Network,
}

impl AzureSettings {
    /// A container with everything at its default.
    pub fn new(account: impl Into<String>, container: impl Into<String>) -> Self {
        Self {
            account: account.into(),
            container: container.into(),
            prefix: Key::root(),
            credentials: None,
            access_key: None,
            sas: None,
            endpoint: None,
            transfer: Transfer::default(),
            network: Network::default(),
        }
    }

    /// `az://container/prefix`.
    pub fn location(&self) -> Location {
        Location::new(format!("az://{}/{}", self.container, self.prefix))
    }

    /// A client for it. Nothing is asked of the server yet.
    pub fn connect(&self) -> Result<ObjectStorage> {
        let build = |patience| {
            let built = self.builder(patience)?.build();
            built.map_err(|error| self.refused(&error))
        };
        let clients = Clients {
            patient: Arc::new(build(Patience::Patient)?),
            quick: Arc::new(build(Patience::Quick)?),
            once: Arc::new(build(Patience::Once)?),
        };
        let transfer = Transfer { part_rules: PartRules::AZURE, ..self.transfer.clone() };
        Ok(ObjectStorage::assemble(clients, &self.prefix, self.location(), transfer))
    }

    fn refused(&self, error: &object_store::Error) -> Error {
        self.invalid(crate::classify::Facts::of(error).cause.text)
    }

    fn invalid(&self, reason: String) -> Error {
        Error::Invalid { location: self.location(), reason }
    }

    fn builder(&self, patience: Patience) -> Result<MicrosoftAzureBuilder> {
        let plain_http = self.endpoint.as_deref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        let client = self.network.client_options(plain_http).map_err(|error| self.refused(&error))?;
        let mut builder = MicrosoftAzureBuilder::new()
            .with_account(&self.account)
            .with_container_name(&self.container)
            .with_retry(self.network.retries(patience))
            .with_client_options(client)
            .with_http_connector(Watch::new(&self.network));
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(endpoint.trim_end_matches('/').to_owned());
        }
        if let Some(credentials) = &self.credentials {
            return Ok(builder.with_credentials(Arc::clone(credentials)));
        }
        if let Some(key) = &self.access_key {
            builder = builder.with_access_key(key);
        }
        if let Some(sas) = &self.sas {
            let pairs: Vec<(String, String)> = url::form_urlencoded::parse(sas.trim_start_matches('?').as_bytes())
                .map(|(name, value)| (name.into_owned(), value.into_owned()))
                .collect();
            if !pairs.iter().any(|(name, _)| name == "sig") {
                return Err(self.invalid("the shared access signature has no sig".to_owned()));
            }
            builder = builder.with_sas_authorization(pairs);
        }
        Ok(builder)
    }
}

impl fmt::Debug for AzureSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AzureSettings")
            .field("account", &self.account)
            .field("location", &self.location().as_str())
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connects_and_shows_no_secret() {
        let settings = AzureSettings {
            sas: Some("?sv=2024-01-01&sig=s3cr3t%3D".to_owned()),
            prefix: Key::new("a").unwrap(),
            ..AzureSettings::new("account", "container")
        };
        let storage = settings.connect().unwrap();
        let shown = format!("{settings:?} {storage:?}");
        assert!(shown.contains("az://container/a") && !shown.contains("s3cr3t"), "{shown}");

        let refused = AzureSettings { sas: Some("s3cr3t".to_owned()), ..AzureSettings::new("account", "container") };
        let error = refused.connect().unwrap_err();
        assert!(!format!("{error:?}").contains("s3cr3t"), "{error:?}");
    }
}
