//! A wire that does not always hold.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// What becomes of a connection.
#[derive(Debug, Clone, Copy)]
pub(super) enum Fate {
    /// It is accepted and never heard of again.
    Silence,
    /// It is accepted and reset.
    Reset,
    /// It is reset when so many bytes of requests have gone through.
    CutRequest(u64),
    /// It is reset when so many bytes of answers have gone through.
    CutAnswer(u64),
    /// When so many bytes of requests have gone through, no more are taken.
    StallRequest(u64),
    /// When so many bytes of answers have gone through, no more come.
    StallAnswer(u64),
}

#[derive(Debug)]
struct State {
    fates: VecDeque<Fate>,
    connections: usize,
}

/// Stands before the server; gone when dropped.
#[derive(Debug)]
pub(super) struct Relay {
    address: SocketAddr,
    state: Arc<Mutex<State>>,
    up: watch::Sender<bool>,
    accepting: JoinHandle<()>,
}

impl Relay {
    pub(super) async fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(Mutex::new(State { fates: VecDeque::new(), connections: 0 }));
        let (up, is_up) = watch::channel(true);
        let accepting = tokio::spawn(accept(listener, server, Arc::clone(&state), is_up));
        Self { address, state, up, accepting }
    }

    pub(super) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The next connections have these fates; those after them none.
    pub(super) fn next(&self, fates: impl IntoIterator<Item = Fate>) {
        self.state.lock().unwrap().fates = fates.into_iter().collect();
    }

    /// How many fates are still to come.
    pub(super) fn left(&self) -> usize {
        self.state.lock().unwrap().fates.len()
    }

    /// How many connections were tried since this was last asked.
    pub(super) fn connections(&self) -> usize {
        std::mem::take(&mut self.state.lock().unwrap().connections)
    }

    /// Resets every connection, and every one that is tried, until it is up again.
    pub(super) fn set_up(&self, up: bool) {
        self.up.send_replace(up);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn accept(listener: TcpListener, server: SocketAddr, state: Arc<Mutex<State>>, up: watch::Receiver<bool>) {
    loop {
        let (client, _) = listener.accept().await.unwrap();
        let fate = {
            let mut state = state.lock().unwrap();
            state.connections += 1;
            state.fates.pop_front()
        };
        let mut up = up.clone();
        tokio::spawn(async move {
            let mut client = client;
            let cut = tokio::select! {
                cut = pass(&mut client, server, fate) => cut,
                _ = up.wait_for(|up| !up) => true,
            };
            if cut {
                let _ = client.set_zero_linger();
            }
        });
    }
}

/// Until it ends by itself, or is cut, which it then says.
async fn pass(client: &mut TcpStream, server: SocketAddr, fate: Option<Fate>) -> bool {
    match fate {
        Some(Fate::Silence) => std::future::pending().await,
        Some(Fate::Reset) => return true,
        _ => {}
    }
    let Ok(mut server) = TcpStream::connect(server).await else { return true };
    let ((from_client, to_client), (from_server, to_server)) = (client.split(), server.split());
    let (requests, answers) = match fate {
        Some(Fate::CutRequest(bytes) | Fate::StallRequest(bytes)) => (bytes, u64::MAX),
        Some(Fate::CutAnswer(bytes) | Fate::StallAnswer(bytes)) => (u64::MAX, bytes),
        _ => (u64::MAX, u64::MAX),
    };
    let limit = tokio::select! {
        limit = copy(from_client, to_server, requests) => limit,
        limit = copy(from_server, to_client, answers) => limit,
    };
    if limit && matches!(fate, Some(Fate::StallRequest(_) | Fate::StallAnswer(_))) {
        std::future::pending::<()>().await;
    }
    limit
}

/// Until the end, or the limit, which it then says.
async fn copy(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, limit: u64) -> bool {
    let mut buffer = vec![0; 64 * 1024];
    let mut left = limit;
    loop {
        let Ok(length @ 1..) = from.read(&mut buffer).await else { return false };
        let passed = left.min(length as u64);
        if to.write_all(&buffer[..passed as usize]).await.is_err() {
            return false;
        }
        left -= passed;
        if left == 0 {
            return true;
        }
    }
}
