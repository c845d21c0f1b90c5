//! What can stand between a client and a server.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::aws_lc_rs;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{RootCertStore, ServerConfig};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::Mutex;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;

/// Something that listens; gone when dropped.
#[derive(Debug)]
pub(crate) struct Relay {
    pub(crate) port: u16,
    task: JoinHandle<()>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Whatever comes in through a Unix socket goes to the server.
pub(crate) fn unix_socket(folder: &Path, port: u16, server: u16) -> Relay {
    let listener = UnixListener::bind(folder.join(format!(".s.PGSQL.{port}"))).expect("the folder is ours");
    let task = tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            tokio::spawn(async move {
                let mut server = TcpStream::connect(("127.0.0.1", server)).await.expect("the server listens");
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    Relay { port, task }
}

/// Accepts connections and says nothing.
pub(crate) async fn silent() -> Relay {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let task = tokio::spawn(async move {
        let mut held = Vec::new();
        while let Ok((client, _)) = listener.accept().await {
            held.push(client);
        }
    });
    Relay { port, task }
}

/// Says these bytes to whoever connects and has said something, and closes.
pub(crate) async fn says(bytes: &[u8]) -> Relay {
    let bytes = bytes.to_owned();
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let task = tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let mut heard = [0; 1024];
            let _ = client.read(&mut heard).await;
            let _ = client.write_all(&bytes).await;
        }
    });
    Relay { port, task }
}

/// A file of `fixtures/tls`.
pub(crate) fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/tls").join(name)
}

/// Hands out one certificate, whatever it is.
#[derive(Debug)]
struct Any(Arc<CertifiedKey>);

impl ResolvesServerCert for Any {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.clone())
    }
}

/// Ends encryption with a certificate of `fixtures/tls` before a server that sees plain text; asks for certificates that `client_authority`
/// signed, if there is one.
pub(crate) async fn encrypting(certificate: &str, client_authority: Option<&str>, server: u16) -> Relay {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let chain = CertificateDer::pem_file_iter(fixture(certificate)).unwrap().collect::<Result<Vec<_>, _>>().unwrap();
    let key =
        provider.key_provider.load_private_key(PrivateKeyDer::from_pem_file(fixture("server.key")).unwrap()).unwrap();
    let builder = ServerConfig::builder_with_provider(provider.clone()).with_safe_default_protocol_versions().unwrap();
    let builder = match client_authority {
        None => builder.with_no_client_auth(),
        Some(authority) => {
            let mut roots = RootCertStore::empty();
            roots.add(CertificateDer::from_pem_file(fixture(authority)).unwrap()).unwrap();
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build().unwrap();
            builder.with_client_cert_verifier(verifier)
        }
    };
    let config = builder.with_cert_resolver(Arc::new(Any(Arc::new(CertifiedKey::new(chain, key)))));
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let task = tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let acceptor = acceptor.clone();
            tokio::spawn(async move {
                let mut request = [0; 8];
                if client.read_exact(&mut request).await.is_err() || request[4..] != 80_877_103u32.to_be_bytes() {
                    return;
                }
                client.write_all(b"S").await.unwrap();
                if let Ok(mut client) = acceptor.accept(client).await {
                    let mut server = TcpStream::connect(("127.0.0.1", server)).await.expect("the server listens");
                    let _ = copy_bidirectional(&mut client, &mut server).await;
                }
            });
        }
    });
    Relay { port, task }
}

/// A transaction pooler with one session on the server for all its clients. It trusts everyone, invents process ids, and
/// (as one told to ignore them) drops nothing of the startup settings, because its own session has them too.
pub(crate) async fn pooler(startup: Vec<u8>, server: u16) -> Relay {
    let mut backend = TcpStream::connect(("127.0.0.1", server)).await.expect("the server listens");
    backend.write_all(&startup).await.unwrap();
    let mut greeting = Vec::new();
    loop {
        let message = read_message(&mut backend).await.expect("the server lets us in without a password");
        match message[0] {
            b'K' => greeting.extend(b"K\0\0\0\x0c\0\0\x03\xe7\0\0\0\x01"),
            _ => greeting.extend(&message),
        }
        if message[0] == b'Z' {
            break;
        }
    }
    let backend = Arc::new(Mutex::new(backend));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let task = tokio::spawn(async move {
        while let Ok((mut client, _)) = listener.accept().await {
            let (backend, greeting) = (backend.clone(), greeting.clone());
            tokio::spawn(async move {
                let length = client.read_u32().await.unwrap();
                let mut rest = vec![0; length as usize - 4];
                client.read_exact(&mut rest).await.unwrap();
                client.write_all(&greeting).await.unwrap();
                let mut held = None;
                while let Ok(message) = read_message(&mut client).await {
                    if message[0] == b'X' {
                        break;
                    }
                    let mut session = match held.take() {
                        Some(session) => session,
                        None => backend.clone().lock_owned().await,
                    };
                    session.write_all(&message).await.unwrap();
                    loop {
                        let answer = read_message(&mut session).await.unwrap();
                        client.write_all(&answer).await.unwrap();
                        if answer[0] == b'Z' {
                            held = (answer[5] != b'I').then_some(session);
                            break;
                        }
                    }
                }
                if let Some(mut session) = held {
                    session.write_all(b"Q\0\0\0\x0dROLLBACK\0").await.unwrap();
                    while read_message(&mut session).await.unwrap()[0] != b'Z' {}
                }
            });
        }
    });
    Relay { port, task }
}

async fn read_message(stream: &mut TcpStream) -> std::io::Result<Vec<u8>> {
    let mut message = vec![0; 5];
    stream.read_exact(&mut message).await?;
    let length = u32::from_be_bytes([message[1], message[2], message[3], message[4]]) as usize;
    message.resize(1 + length, 0);
    stream.read_exact(&mut message[5..]).await?;
    Ok(message)
}
