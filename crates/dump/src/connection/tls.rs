//! Encrypted sessions: rustls with a provider of its own, verifying as libpq's sslmode asks.

use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::Arc;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, ServerName, UnixTime};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme};
use tokio::io::BufReader;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::certificate::Certificate;
use crate::settings::{Host, Place, Roots, SslMode, TlsSettings, TlsVersion};
use crate::{Error, Result};

/// Bytes that are read from the network at a time: rustls itself asks for 4 KiB, half a record of PostgreSQL's.
const READ_BYTES: usize = 128 * 1024;

/// What an encrypted session lies upon.
pub(super) type Encrypted = TlsStream<BufReader<TcpStream>>;

/// Encrypts a connection on which both sides have agreed to do so.
pub(super) async fn encrypt(stream: TcpStream, tls: &TlsSettings, host: &Host) -> Result<Encrypted> {
    let label = host.label();
    let failed = |problem: String| Error::Tls { server: label.clone(), problem };
    let address = stream.peer_addr().map_err(|error| failed(error.to_string()))?.ip();
    let name = match &host.place {
        Place::Network { name: Some(name), .. } => ServerName::try_from(name.trim_end_matches('.').to_owned())
            .or_else(|_| match tls.mode {
                SslMode::VerifyFull => Err(failed("the host's name is none that a certificate could have".to_owned())),
                _ => Ok(ServerName::from(address)),
            })?,
        _ => ServerName::from(address),
    };
    let settings = tls.clone();
    let config = tokio::task::spawn_blocking(move || configure(&settings))
        .await
        .map_err(|error| failed(error.to_string()))?
        .map_err(|problem| failed(problem.0))?;
    let stream = BufReader::with_capacity(READ_BYTES, stream);
    TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(|error| failed(in_words(&error)))
}

/// What a handshake failed of, for people.
fn in_words(error: &std::io::Error) -> String {
    let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
    let words = match inner {
        Some(rustls::Error::InvalidCertificate(problem)) => match problem {
            CertificateError::UnknownIssuer => "its certificate was signed by none of the given authorities",
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                "its certificate is for another host name"
            }
            CertificateError::Expired | CertificateError::ExpiredContext { .. } => "its certificate has expired",
            CertificateError::NotValidYet | CertificateError::NotValidYetContext { .. } => {
                "its certificate is not valid yet"
            }
            CertificateError::Revoked => "its certificate was revoked",
            CertificateError::UnknownRevocationStatus => "no revocation list speaks for its certificate",
            other => return format!("its certificate cannot be verified ({other})"),
        },
        _ => return error.to_string(),
    };
    words.to_owned()
}

/// The hash for SCRAM's channel binding, if the certificate has one.
pub(super) fn end_point_hash(stream: &Encrypted) -> Option<Vec<u8>> {
    let der = stream.get_ref().1.peer_certificates()?.first()?;
    Certificate::parse(der)?.end_point_hash(der)
}

/// What is wrong with a file or with rustls' configuration.
struct Problem(String);

impl From<rustls::Error> for Problem {
    fn from(error: rustls::Error) -> Self {
        Self(error.to_string())
    }
}

fn configure(tls: &TlsSettings) -> Result<ClientConfig, Problem> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let maximum = tls.maximum.unwrap_or(TlsVersion::V13);
    let versions: Vec<_> = [(TlsVersion::V13, &rustls::version::TLS13), (TlsVersion::V12, &rustls::version::TLS12)]
        .into_iter()
        .filter(|(version, _)| (tls.minimum..=maximum).contains(version))
        .map(|(_, version)| version)
        .collect();
    let verifier = Verifier::new(tls, &provider)?;
    let builder = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions)?
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(verifier));
    let mut config = match &tls.certificate {
        Some((certificate, key)) => {
            check_key_permissions(key)?;
            let chain = read_certificates(certificate)?;
            let key = PrivateKeyDer::from_pem_file(key)
                .map_err(|error| Problem(format!("the private key {} cannot be used: {error}", key.display())))?;
            builder.with_client_auth_cert(chain, key)?
        }
        None => builder.with_no_client_auth(),
    };
    config.enable_sni = tls.name_indication;
    if tls.direct {
        config.alpn_protocols = vec![b"postgresql".to_vec()];
    }
    Ok(config)
}

/// As libpq: readable by its owner alone, or owned by root and readable by its group.
fn check_key_permissions(key: &Path) -> Result<(), Problem> {
    let metadata = std::fs::metadata(key)
        .map_err(|error| Problem(format!("the private key {} cannot be read: {error}", key.display())))?;
    let forbidden = if metadata.uid() == 0 { 0o037 } else { 0o077 };
    if metadata.permissions().mode() & forbidden != 0 {
        return Err(Problem(format!(
            "the private key {} is not used: others have access to it; chmod 0600 it",
            key.display()
        )));
    }
    Ok(())
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Problem> {
    let failed = |error: &dyn std::fmt::Display| {
        Problem(format!("the certificate file {} cannot be used: {error}", path.display()))
    };
    let certificates = CertificateDer::pem_file_iter(path)
        .map_err(|error| failed(&error))?
        .collect::<Result<Vec<_>, _>>()
        .map_err(|error| failed(&error))?;
    if certificates.is_empty() { Err(failed(&"it holds none")) } else { Ok(certificates) }
}

/// Verifies a server's certificate as far as sslmode asks.
#[derive(Debug)]
struct Verifier {
    provider: Arc<CryptoProvider>,
    /// `None`: the certificate is taken as it is.
    chain: Option<Chain>,
}

#[derive(Debug)]
struct Chain {
    webpki: Arc<WebPkiServerVerifier>,
    /// The certificates of a root file, for what webpki refuses and OpenSSL takes. Empty with revocation lists.
    roots: Vec<CertificateDer<'static>>,
    check_name: bool,
}

impl Verifier {
    fn new(tls: &TlsSettings, provider: &Arc<CryptoProvider>) -> Result<Self, Problem> {
        let certificates = match &tls.roots {
            Roots::None => return Ok(Self { provider: provider.clone(), chain: None }),
            Roots::File(path) => read_certificates(path)?,
            Roots::System => rustls_native_certs::load_native_certs().certs,
        };
        let mut store = RootCertStore::empty();
        let (usable, _) = store.add_parsable_certificates(certificates.iter().cloned());
        if usable == 0 {
            return Err(Problem("no root certificate can be used".to_owned()));
        }
        let mut builder = WebPkiServerVerifier::builder_with_provider(Arc::new(store), provider.clone());
        if let Some(path) = &tls.revoked {
            let failed = |error: &dyn std::fmt::Display| {
                Problem(format!("the revocation list {} cannot be used: {error}", path.display()))
            };
            // Of version 2 only; OpenSSL makes version 1 unless it is given extensions.
            let lists = CertificateRevocationListDer::pem_file_iter(path)
                .map_err(|error| failed(&error))?
                .collect::<Result<Vec<_>, _>>()
                .map_err(|error| failed(&error))?;
            builder = builder.with_crls(lists);
        }
        let webpki = builder.build().map_err(|error| Problem(error.to_string()))?;
        let named = matches!(tls.roots, Roots::File(_)) && tls.revoked.is_none();
        Ok(Self {
            provider: provider.clone(),
            chain: Some(Chain {
                webpki,
                roots: if named { certificates } else { Vec::new() },
                check_name: tls.mode == SslMode::VerifyFull,
            }),
        })
    }

    fn check_handshake(
        &self,
        verified: Result<HandshakeSignatureValid, rustls::Error>,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verified.or_else(|error| match Certificate::parse(certificate) {
            Some(parsed)
                if parsed.version < 3
                    && parsed.has_signed(
                        message,
                        signed.scheme,
                        signed.signature(),
                        &self.provider.signature_verification_algorithms,
                    ) =>
            {
                Ok(HandshakeSignatureValid::assertion())
            }
            _ => Err(error),
        })
    }
}

impl Chain {
    /// What OpenSSL takes and webpki does not: the server's certificate is itself one of the roots named by the user (self-signed), or it
    /// is of version 1 and a named root has signed it.
    fn trusts_directly(&self, certificate: &CertificateDer<'_>, now: UnixTime, provider: &CryptoProvider) -> bool {
        let now = now.as_secs() as i64;
        let Some(parsed) = Certificate::parse(certificate).filter(|parsed| parsed.is_valid_at(now)) else {
            return false;
        };
        self.roots.iter().any(|root| {
            root == certificate
                || parsed.version < 3
                    && Certificate::parse(root).is_some_and(|root| {
                        root.is_valid_at(now) && parsed.is_signed_by(&root, &provider.signature_verification_algorithms)
                    })
        })
    }
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        certificate: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let Some(chain) = &self.chain else { return Ok(ServerCertVerified::assertion()) };
        let wrong_name = match chain.webpki.verify_server_cert(certificate, intermediates, name, ocsp, now) {
            Ok(verified) => return Ok(verified),
            // The name is looked at last: all the rest is right.
            Err(
                error @ rustls::Error::InvalidCertificate(
                    CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. },
                ),
            ) => error,
            Err(error) => {
                if !chain.trusts_directly(certificate, now, &self.provider) {
                    // That webpki knows no version 1 would only mislead.
                    let old = Certificate::parse(certificate).is_some_and(|parsed| parsed.version < 3);
                    return Err(if old { CertificateError::UnknownIssuer.into() } else { error });
                }
                let parsed = rustls::server::ParsedCertificate::try_from(certificate);
                match parsed.and_then(|parsed| rustls::client::verify_server_name(&parsed, name)) {
                    Ok(()) => return Ok(ServerCertVerified::assertion()),
                    Err(_) => CertificateError::NotValidForName.into(),
                }
            }
        };
        let matches =
            |host: &str| Certificate::parse(certificate).is_some_and(|parsed| parsed.common_name_matches(host));
        if !chain.check_name || matches(&name.to_str()) { Ok(ServerCertVerified::assertion()) } else { Err(wrong_name) }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        let verified = rustls::crypto::verify_tls12_signature(message, certificate, signed, algorithms);
        self.check_handshake(verified, message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        let verified = rustls::crypto::verify_tls13_signature(message, certificate, signed, algorithms);
        self.check_handshake(verified, message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}
