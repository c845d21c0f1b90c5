//! Whom a session trusts: sslmode by certificate, as libpq decides it.

use std::os::unix::fs::PermissionsExt;

use pgkeep_dump::{Error, ErrorKind};
use pgkeep_testkit::{MAJORS, PostgresServer};

use crate::relay::{encrypting, fixture};
use crate::{connect, through, try_connect, value};

#[tokio::test(flavor = "multi_thread")]
async fn certificates_are_verified_as_far_as_sslmode_asks() {
    let server = PostgresServer::shared(17);
    // Certificate, root certificate, sslmode, the host's name, and whether that will do.
    let cases = [
        ("server.crt", "ca.crt", "verify-full", "db.example.org", true),
        ("server.crt", "ca.crt", "verify-full", "DB.Example.Org", true),
        ("server.crt", "ca.crt", "verify-full", "127.0.0.1", true),
        ("server.crt", "ca.crt", "verify-full", "other.example.org", false),
        // Its common name does not count beside an alternative one.
        ("server.crt", "ca.crt", "verify-full", "ignored.example.org", false),
        ("server.crt", "ca.crt", "verify-ca", "other.example.org", true),
        ("server.crt", "other_ca.crt", "verify-ca", "db.example.org", false),
        ("server.crt", "other_ca.crt", "require", "db.example.org", false),
        ("server.crt", "", "require", "other.example.org", true),
        ("version1.crt", "ca.crt", "verify-full", "db.example.org", true),
        ("version1.crt", "ca.crt", "verify-full", "other.example.org", false),
        ("version1.crt", "ca.crt", "verify-ca", "other.example.org", true),
        ("version1.crt", "other_ca.crt", "verify-ca", "db.example.org", false),
        ("version1.crt", "", "require", "db.example.org", true),
        ("self_signed.crt", "self_signed.crt", "verify-full", "db.example.org", true),
        ("self_signed.crt", "self_signed.crt", "verify-full", "other.example.org", false),
        ("self_signed.crt", "self_signed.crt", "verify-ca", "other.example.org", true),
        ("self_signed.crt", "ca.crt", "verify-ca", "db.example.org", false),
        ("expired.crt", "ca.crt", "verify-ca", "db.example.org", false),
        ("expired.crt", "expired.crt", "verify-ca", "db.example.org", false),
        ("expired.crt", "", "require", "db.example.org", true),
        ("server.crt", "system", "verify-full", "db.example.org", false),
    ];
    for (certificate, root, mode, host, good) in cases {
        let relay = encrypting(certificate, None, server.port()).await;
        for version in ["TLSv1.2", "TLSv1.3"] {
            let root_parameter = match root {
                "" => String::new(),
                "system" => "sslrootcert=system".to_owned(),
                file => format!("sslrootcert={}", fixture(file).display()),
            };
            let place = format!(
                "host={host} hostaddr=127.0.0.1 port={} sslmode={mode} {root_parameter} ssl_min_protocol_version={version} ssl_max_protocol_version={version}",
                relay.port
            );
            let case = format!("{certificate} {root} {mode} {host} {version}");
            match try_connect(&through(server, &place)).await {
                Ok(session) => assert!(good && session.is_encrypted(), "{case} was accepted"),
                Err(error) => {
                    assert!(!good, "{case}: {error:?}");
                    assert!(matches!(error, Error::Tls { .. }), "{case}: {error:?}");
                    assert_eq!(error.kind(), ErrorKind::Refused);
                    let text = error.to_string();
                    assert!(text.contains("its certificate"), "{case}: {text}");
                }
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn revoked_certificates_are_refused() {
    let server = PostgresServer::shared(17);
    let relay = encrypting("server.crt", None, server.port()).await;
    let place = |list: &str| {
        let (root, list) = (fixture("ca.crt"), fixture(list));
        let place = format!(
            "host=db.example.org hostaddr=127.0.0.1 port={} sslmode=verify-full sslrootcert={} sslcrl={}",
            relay.port,
            root.display(),
            list.display()
        );
        through(server, &place)
    };
    connect(&place("empty.crl")).await;
    let error = try_connect(&place("revoked.crl")).await.unwrap_err().to_string();
    assert!(error.contains("was revoked"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn our_own_certificate_is_shown_and_its_key_must_be_private() {
    let server = PostgresServer::shared(17);
    let relay = encrypting("server.crt", Some("ca.crt"), server.port()).await;
    let folder = tempfile::tempdir().unwrap();
    let key = folder.path().join("client.key");
    std::fs::copy(fixture("client.key"), &key).unwrap();
    let place = |more: &str| through(server, &format!("host=127.0.0.1 port={} sslmode=require {more}", relay.port));
    let certificate = format!("sslcert={} sslkey={}", fixture("client.crt").display(), key.display());

    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
    connect(&place(&certificate)).await;
    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).unwrap();
    let error = try_connect(&place(&certificate)).await.unwrap_err().to_string();
    assert!(error.contains("others have access to it"), "{error}");
    try_connect(&place("")).await.unwrap_err();
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_in_between_cannot_pass_as_the_server_once_channels_are_bound() {
    let server = PostgresServer::shared(17);
    let relay = encrypting("server.crt", None, server.port()).await;
    let place = format!("host=127.0.0.1 port={} sslmode=require channel_binding=require", relay.port);
    let error = try_connect(&through(server, &place)).await.unwrap_err();
    assert!(matches!(error, Error::Authentication { .. }), "{error:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_servers_own_certificate() {
    for major in MAJORS {
        let server = PostgresServer::shared(major);
        let folder = tempfile::tempdir().unwrap();
        let root = folder.path().join("root.crt");
        std::fs::write(&root, server.exec(&["cat", "/etc/ssl/certs/ssl-cert-snakeoil.pem"]).stdout).unwrap();
        let place = |more: &str| {
            through(server, &format!("host=127.0.0.1 port={} sslrootcert={} {more}", server.port(), root.display()))
        };
        let mut session = connect(&place("sslmode=verify-ca channel_binding=require")).await;
        assert_eq!(
            value(&mut session, "SELECT version FROM pg_stat_ssl WHERE pid = pg_backend_pid()").await,
            "TLSv1.3"
        );
        let error = try_connect(&place("sslmode=verify-full")).await.unwrap_err();
        assert!(matches!(error, Error::Tls { .. }), "{error:?}");
        if major >= 17 {
            connect(&place("sslmode=verify-ca sslnegotiation=direct")).await;
        }
    }
}
