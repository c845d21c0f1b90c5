//! A relay between client and server that loses every session at a commit.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use pgkeep_metrics::{Event, Observer, Stage};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// `COMMIT` as a simple query.
const COMMIT: &[u8] = b"Q\0\0\0\x0bCOMMIT\0";

#[derive(Debug, Default)]
struct State {
    armed: AtomicBool,
    down: AtomicBool,
    /// Ends the sessions that there are.
    cut: Mutex<CancellationToken>,
}

/// Gone when dropped.
#[derive(Debug)]
pub(crate) struct Relay {
    port: u16,
    state: Arc<State>,
    task: JoinHandle<()>,
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Relay {
    /// To the server on this port. Armed, it is down from the next commit on; `forwards` says whether the server gets that one.
    pub(crate) async fn new(server: u16, forwards: bool) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let state: Arc<State> = Arc::default();
        let task = tokio::spawn({
            let state = Arc::clone(&state);
            async move {
                while let Ok((client, _)) = listener.accept().await {
                    if !state.down.load(Ordering::SeqCst) {
                        tokio::spawn(session(client, server, forwards, Arc::clone(&state)));
                    }
                }
            }
        });
        Self { port, state, task }
    }

    /// The URL with this relay's port instead of the server's, in clear text, so that the relay can read along.
    pub(crate) fn url(&self, url: &str, server: u16) -> String {
        format!("{}?sslmode=disable", url.replace(&format!(":{server}/"), &format!(":{}/", self.port)))
    }

    pub(crate) fn arm(&self) {
        self.state.armed.store(true, Ordering::SeqCst);
    }

    /// What arms it when names begin to be exchanged.
    pub(crate) fn armed_by_swap(&self) -> Arc<dyn Observer> {
        Arc::new(Swapping(Arc::clone(&self.state)))
    }

    /// Up again.
    pub(crate) fn heal(&self) {
        *self.state.cut.lock().unwrap() = CancellationToken::new();
        self.state.down.store(false, Ordering::SeqCst);
    }
}

#[derive(Debug)]
struct Swapping(Arc<State>);

impl Observer for Swapping {
    fn notice(&self, event: &Event) {
        if matches!(event, Event::StageStarted { stage: Stage::Swap, .. }) {
            self.0.armed.store(true, Ordering::SeqCst);
        }
    }
}

async fn session(client: TcpStream, server: u16, forwards: bool, state: Arc<State>) {
    let cut = state.cut.lock().unwrap().clone();
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = TcpStream::connect(("127.0.0.1", server)).await.unwrap().into_split();
    let answers = CancellationToken::new();
    let there = forward(from_client, to_server, forwards, &state, &answers);
    let back = answer(from_server, to_client, &state, &answers);
    tokio::select! {
        () = async { tokio::join!(there, back); } => {}
        () = cut.cancelled() => {}
    }
}

/// From the client to the server, up to the commit.
async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    forwards: bool,
    state: &State,
    answered: &CancellationToken,
) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(length) = from.read(&mut bytes).await {
        let chunk = &bytes[..length];
        let commits = chunk.windows(COMMIT.len()).any(|window| window == COMMIT);
        if commits && state.armed.swap(false, Ordering::SeqCst) {
            state.down.store(true, Ordering::SeqCst);
            if forwards {
                to.write_all(chunk).await.unwrap();
                answered.cancelled().await;
            }
            state.cut.lock().unwrap().cancel();
            return;
        }
        if length == 0 || to.write_all(chunk).await.is_err() {
            return;
        }
    }
}

/// From the server to the client, as long as it is up.
async fn answer(mut from: OwnedReadHalf, mut to: OwnedWriteHalf, state: &State, answered: &CancellationToken) {
    let mut bytes = vec![0; 64 << 10];
    while let Ok(length) = from.read(&mut bytes).await {
        if state.down.load(Ordering::SeqCst) {
            answered.cancel();
        } else if to.write_all(&bytes[..length]).await.is_err() {
            return;
        }
        if length == 0 {
            return;
        }
    }
}
