//! TLS before a server that speaks none.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::ServerConfig;
use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// A file of `tests/fixtures/tls`.
pub fn tls_fixture(name: &str) -> PathBuf {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fixtures/tls")).join(name)
}

/// Ends TLS, with any certificate of `tests/fixtures/tls`, before a server that sees plain text. Gone when dropped.
#[derive(Debug)]
pub struct EncryptingRelay {
    port: u16,
    accepting: JoinHandle<()>,
}

impl EncryptingRelay {
    /// Before this server, `host:port`.
    pub async fn to(server: &str, certificate: &str) -> Self {
        let acceptor = TlsAcceptor::from(Arc::new(config(certificate)));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let port = listener.local_addr().expect("a listener has an address").port();
        let server = server.to_owned();
        let accepting = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (acceptor, server) = (acceptor.clone(), server.clone());
                tokio::spawn(async move {
                    // Whoever does not trust the certificate goes away.
                    if let Ok(mut client) = acceptor.accept(client).await
                        && let Ok(mut server) = TcpStream::connect(server).await
                    {
                        let _ = copy_bidirectional(&mut client, &mut server).await;
                    }
                });
            }
        });
        Self { port, accepting }
    }

    /// Where it listens, at 127.0.0.1.
    pub fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for EncryptingRelay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn config(certificate: &str) -> ServerConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let chain = CertificateDer::pem_file_iter(tls_fixture(certificate)).expect("the fixture can be read");
    let chain = chain.collect::<Result<Vec<_>, _>>().expect("the fixture is a certificate");
    let key = PrivateKeyDer::from_pem_file(tls_fixture("server.key")).expect("the fixture is a key");
    let key = provider.key_provider.load_private_key(key).expect("the key is of a known kind");
    ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("the provider has what they need")
        .with_no_client_auth()
        .with_cert_resolver(Arc::new(Any(Arc::new(CertifiedKey::new(chain, key)))))
}

/// Hands out one certificate, whatever it is.
#[derive(Debug)]
struct Any(Arc<CertifiedKey>);

impl ResolvesServerCert for Any {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }
}
