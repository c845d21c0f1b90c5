//! Whom a store's client trusts.

use pgkeep_storage::{ErrorKind, Key, Network, S3Settings, Storage, StorageExt};
use pgkeep_testkit::{EncryptingRelay, tls_fixture};

use super::{Finding, PART_BYTES, Row, contract, key, noise, small_parts, write};
use crate::s3_server::{S3Server, settings_at};

#[tokio::test(flavor = "multi_thread")]
async fn only_a_certificate_that_is_trusted_is_spoken_to() {
    certificates().await;
}

pub(super) async fn certificates() -> Row {
    static FOUND: Finding = Finding::new();
    FOUND
        .once(async {
            let server = S3Server::start().await;
            let settings = |port: u16, host: &str, authority: Option<&str>| {
                let pem = authority.map(|name| std::fs::read_to_string(tls_fixture(name)).unwrap());
                let network = Network { root_certificates_pem: pem.into_iter().collect(), ..Network::default() };
                S3Settings { network, ..settings_at(format!("https://{host}:{port}")) }
            };
            // Certificate, host, the authority that is configured, what is said of it.
            let refused = [
                ("server.crt", "127.0.0.1", None, "UnknownIssuer"),
                ("server.crt", "127.0.0.1", Some("other_ca.crt"), "UnknownIssuer"),
                ("server.crt", "localhost", Some("ca.crt"), "not valid for name"),
                ("expired.crt", "127.0.0.1", Some("ca.crt"), "expired"),
                ("expired.crt", "127.0.0.1", None, ""),
                ("self_signed.crt", "127.0.0.1", None, ""),
                // Version 1, and with a common name only.
                ("version1.crt", "127.0.0.1", Some("ca.crt"), ""),
            ];
            for (certificate, host, authority, reason) in refused {
                let relay = EncryptingRelay::to(&server.address.to_string(), certificate).await;
                let storage = small_parts(settings(relay.port(), host, authority));
                for error in [
                    storage.put(&key("a"), "x".into()).await.map(drop).unwrap_err(),
                    storage.create(&key("a"), "x".into()).await.map(drop).unwrap_err(),
                    storage.read_all(&key("a"), 10).await.map(drop).unwrap_err(),
                    storage.list_all(&Key::root()).await.map(drop).unwrap_err(),
                    write(&storage, "large", &noise(PART_BYTES + 1)).await.unwrap_err(),
                ] {
                    let told = error.cause().unwrap().text.clone();
                    assert_eq!(error.kind(), ErrorKind::Untrusted, "{certificate} {host} {authority:?}: {error:?}");
                    assert!(told.starts_with("its certificate is not trusted: ") && told.contains(reason), "{certificate}: {told}");
                    assert!(!error.is_retryable());
                }
            }
            assert_eq!(server.requests().len(), 0, "nothing was asked");
            let empty = Network { root_certificates_pem: vec!["no certificate".to_owned()], ..Network::default() };
            let error = S3Settings { network: empty, ..server.settings() }.connect().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Invalid);

            let relay = EncryptingRelay::to(&server.address.to_string(), "server.crt").await;
            contract(settings(relay.port(), "127.0.0.1", Some("ca.crt"))).await;
            [
                "https, with a certificate of an authority that is not known, of another one, for another name, expired, self-signed, without a name",
                "passes, where the authority is configured and the name is right",
                "else `Untrusted` with the reason, without a retry, and nothing is asked of it",
                "`storage::suite::quirks::tls::only_a_certificate_that_is_trusted_is_spoken_to`",
            ]
        })
        .await
}
