//! An S3 server in this process, over HTTP, that can be told to misbehave.

use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use futures::stream::{self, StreamExt};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;
use pgkeep_storage::{Encryption, Key, Network, ObjectStorage, S3Settings, fixed_credentials};
use s3s::auth::SimpleAuth;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub(crate) const SECRET: &str = "a-secret-that-must-never-show";

/// How a request goes wrong.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Fault {
    /// It is answered with that status and not carried out.
    Status(u16),
    /// It is carried out, but the connection breaks before the answer.
    LoseAnswer,
    /// After so many bytes of the answer the connection breaks.
    BreakAfter(usize),
    /// After so many bytes of the answer nothing more comes.
    StallAfter(usize),
    /// No answer ever comes.
    Silence,
    /// Conditions are not looked at.
    Unconditional,
}

#[derive(Debug)]
struct Rule {
    matching: &'static str,
    times: usize,
    fault: Fault,
}

/// The server; ends with this.
#[derive(Debug)]
pub(crate) struct S3Server {
    address: std::net::SocketAddr,
    state: Arc<State>,
    accepting: JoinHandle<()>,
}

#[derive(Debug)]
struct State {
    root: tempfile::TempDir,
    rules: Mutex<Vec<Rule>>,
    requests: Mutex<Vec<String>>,
    /// The encryption that requests asked for: method, algorithm, key.
    encryption: Mutex<Vec<(String, String, String)>>,
    /// The server looks, then writes: conditional requests have to queue to be atomic.
    conditional: tokio::sync::Mutex<()>,
}

impl S3Server {
    /// A server with one bucket, `bucket`.
    pub(crate) async fn start() -> Self {
        let root = tempfile::tempdir().unwrap();
        std::fs::create_dir(root.path().join("bucket")).unwrap();
        let mut builder = S3ServiceBuilder::new(s3s_fs::FileSystem::new(root.path()).unwrap());
        builder.set_auth(SimpleAuth::from_single("key-id", SECRET));
        let service = builder.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State {
            root,
            rules: Mutex::default(),
            requests: Mutex::default(),
            encryption: Mutex::default(),
            conditional: tokio::sync::Mutex::default(),
        });
        let accepting = tokio::spawn(accept(listener, service, Arc::clone(&state)));
        Self { address, state, accepting }
    }

    pub(crate) fn settings(&self) -> S3Settings {
        S3Settings {
            endpoint: Some(format!("http://{}", self.address)),
            credentials: Some(fixed_credentials("key-id".to_owned(), SECRET.to_owned(), None)),
            encryption: Encryption::Auto,
            prefix: Key::new("database-backups/app").unwrap(),
            ..S3Settings::new("bucket")
        }
    }

    pub(crate) fn storage(&self) -> ObjectStorage {
        self.settings().connect().unwrap()
    }

    /// A client that loses patience within seconds.
    pub(crate) fn impatient(&self) -> S3Settings {
        let mut settings = self.settings();
        settings.network = Network {
            connect_timeout: Duration::from_secs(2),
            stall_timeout: Duration::from_secs(2),
            min_upload_rate: 1 << 30,
            quick_retries: 0,
            bulk_retries: 0,
            ..Network::default()
        };
        settings.transfer.patience = Duration::ZERO;
        settings
    }

    /// The next `times` requests whose line (`PUT /bucket/key?partNumber=2&…`) holds `matching` go wrong.
    pub(crate) fn fail(&self, matching: &'static str, times: usize, fault: Fault) {
        self.state.rules.lock().unwrap().push(Rule { matching, times, fault });
    }

    /// The lines of all requests since the last call.
    pub(crate) fn requests(&self) -> Vec<String> {
        std::mem::take(&mut self.state.requests.lock().unwrap())
    }

    /// The encryption that requests have asked for since the last call: method, algorithm, key.
    pub(crate) fn encryption(&self) -> Vec<(String, String, String)> {
        std::mem::take(&mut self.state.encryption.lock().unwrap())
    }

    /// Everything the server stores that is no object: parts of uploads.
    pub(crate) fn parts(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.state.root.path()).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| name.contains("upload_id") && name.contains("part")).collect()
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, service: S3Service, state: Arc<State>) {
    loop {
        let (socket, _) = listener.accept().await.unwrap();
        let (service, state) = (service.clone(), Arc::clone(&state));
        let serve = service_fn(move |request| answer(service.clone(), Arc::clone(&state), request));
        let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(socket), serve);
        tokio::spawn(async move {
            // Broken on purpose, or by a client that went away.
            let _ = connection.await;
        });
    }
}

async fn answer(
    service: S3Service,
    state: Arc<State>,
    request: Request<Incoming>,
) -> Result<Response<s3s::Body>, Broken> {
    let range = request.headers().get("range").map(|range| format!(" {}", range.to_str().unwrap())).unwrap_or_default();
    let line = format!("{} {}{range}", request.method(), request.uri());
    state.requests.lock().unwrap().push(line.clone());
    let header = |name: &str| request.headers().get(name).map(|value| value.to_str().unwrap().to_owned());
    if let Some(algorithm) = header("x-amz-server-side-encryption") {
        let key = header("x-amz-server-side-encryption-aws-kms-key-id").unwrap_or_default();
        state.encryption.lock().unwrap().push((request.method().to_string(), algorithm, key));
    }
    let fault = state.fault(&line);
    let conditional = request.headers().contains_key("if-none-match");
    match fault {
        // The header is signed, so it stays; what it asks about goes instead.
        Some(Fault::Unconditional) => drop(std::fs::remove_file(state.root.path().join(&request.uri().path()[1..]))),
        Some(Fault::Status(status)) => {
            // The body is read, as servers do that keep the connection.
            let _ = request.into_body().collect().await;
            return Ok(Response::builder().status(status).body(s3s::Body::empty()).unwrap());
        }
        Some(Fault::Silence) => std::future::pending::<()>().await,
        _ => {}
    }
    let _turn = if conditional { Some(state.conditional.lock().await) } else { None };
    let response = service.call(request.map(s3s::Body::from)).await.map_err(|_| Broken)?;
    match fault {
        Some(Fault::LoseAnswer) => Err(Broken),
        Some(Fault::BreakAfter(bytes)) => Ok(cut(response, bytes, stream::once(async { Err(Broken) }).boxed()).await),
        Some(Fault::StallAfter(bytes)) => Ok(cut(response, bytes, stream::pending().boxed()).await),
        _ => Ok(response),
    }
}

/// The answer's first `bytes` bytes, then `rest`.
async fn cut(
    response: Response<s3s::Body>,
    bytes: usize,
    rest: stream::BoxStream<'static, Result<Frame<Bytes>, Broken>>,
) -> Response<s3s::Body> {
    let (parts, body) = response.into_parts();
    let whole = BodyExt::collect(body).await.unwrap().to_bytes();
    let first = whole.slice(..bytes.min(whole.len()));
    let body = StreamBody::new(stream::iter([Ok(Frame::data(first))]).chain(rest));
    Response::from_parts(parts, s3s::Body::http_body_unsync(body))
}

impl State {
    fn fault(&self, line: &str) -> Option<Fault> {
        let mut rules = self.rules.lock().unwrap();
        let rule = rules.iter_mut().find(|rule| rule.times > 0 && line.contains(rule.matching))?;
        rule.times -= 1;
        Some(rule.fault)
    }
}

/// What breaks a connection.
#[derive(Debug)]
struct Broken;

impl std::fmt::Display for Broken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("broken on purpose")
    }
}

impl std::error::Error for Broken {}

impl From<Infallible> for Broken {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}
