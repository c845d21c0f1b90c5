//! The HTTP clients: whom they trust, and that they go nowhere on their own.
//!
//! `object_store` makes clients that follow redirections. S3's requests are signed for one host, so following gains nothing, and a
//! session token would go along to whatever host an answer names.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use object_store::client::HttpClient;
use object_store::{ClientConfigKey, ClientOptions, Error};
use rand::seq::SliceRandom;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use reqwest::{Certificate, redirect};

use super::Network;

/// For a connection to an instance's own metadata service, which is near or not there at all.
const METADATA_CONNECT: Duration = Duration::from_secs(1);

/// A client for the store that `options` are for. With `read_timeout`, the silence after which an answer counts as stalled.
pub(super) fn connect(
    network: &Network,
    options: &ClientOptions,
    read_timeout: Option<Duration>,
) -> object_store::Result<HttpClient> {
    let said = |key| options.get_config_value(&key);
    let usual = network.client_options(false).get_config_value(&ClientConfigKey::ConnectTimeout);
    let is_metadata = said(ClientConfigKey::ConnectTimeout) != usual;
    let mut builder = reqwest::Client::builder()
        .user_agent(concat!("pgkeep/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .referer(false)
        .https_only(said(ClientConfigKey::AllowHttp).as_deref() != Some("true"))
        .connect_timeout(if is_metadata { METADATA_CONNECT } else { network.connect_timeout })
        .dns_resolver(Shuffled)
        // Several connections are faster than several streams on one.
        .http1_only()
        // What is stored is what is asked for.
        .no_gzip()
        .no_brotli()
        .no_zstd()
        .no_deflate();
    if let Some(timeout) = read_timeout {
        builder = builder.read_timeout(timeout);
    }
    for pem in &network.root_certificates_pem {
        let certificates = Certificate::from_pem_bundle(pem.as_bytes()).map_err(failure)?;
        if certificates.is_empty() {
            return Err(failure("what is to hold the certificates of trusted authorities holds none"));
        }
        builder = builder.tls_certs_merge(certificates);
    }
    Ok(HttpClient::new(builder.build().map_err(failure)?))
}

fn failure(source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Error {
    Error::Generic { store: "HTTP client", source: source.into() }
}

/// The system's resolver. Addresses come in another order each time, so that connections go to many of a store's servers.
#[derive(Debug)]
struct Shuffled;

impl Resolve for Shuffled {
    fn resolve(&self, name: Name) -> Resolving {
        Box::pin(async move {
            let mut addresses: Vec<SocketAddr> = tokio::net::lookup_host((name.as_str(), 0)).await?.collect();
            if addresses.is_empty() {
                return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address").into());
            }
            addresses.shuffle(&mut rand::rng());
            Ok(Box::new(addresses.into_iter()) as Addrs)
        })
    }
}
