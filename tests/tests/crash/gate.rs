//! A relay before a store that stops at the n-th writing request: just before the store gets it, or when the store has done it
//! and nobody has been told.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Whoever is held up longer than this was forgotten.
const LIMIT: Duration = Duration::from_secs(120);
const WRITING: [&[u8]; 3] = [b"PUT /", b"POST /", b"DELETE /"];

/// Where a request is stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    /// The store never gets it.
    Before,
    /// The store does it; the answer is not passed on.
    After,
}

#[derive(Debug, Default)]
struct State {
    stop: Option<(usize, Side)>,
    /// Writing requests since the gate was closed.
    seen: usize,
    /// The request that was stopped, once it has come so far.
    reached: Option<String>,
    /// What was stopped goes on.
    go_on: bool,
}

#[derive(Debug)]
pub(crate) struct Gate {
    address: String,
    shared: Arc<(Mutex<State>, Condvar)>,
}

impl Gate {
    /// Before the store at `http://host:port`; it listens as long as the test's process lives.
    pub(crate) fn before(store: &str) -> Self {
        let store = store.trim_start_matches("http://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a listener has an address").to_string();
        let shared: Arc<(Mutex<State>, Condvar)> = Arc::default();
        let sharing = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (store, sharing) = (store.clone(), Arc::clone(&sharing));
                // A client that is cut off sees its connection end.
                std::thread::spawn(move || pass(client, &store, &sharing));
            }
        });
        Self { address, shared }
    }

    /// The store's URL for clients that go through here.
    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Stops at the n-th writing request from now, counted from 1.
    pub(crate) fn stop_at(&self, nth: usize, side: Side) {
        *self.state() = State { stop: Some((nth, side)), ..State::default() };
    }

    /// Lets everything through again, what was stopped too.
    pub(crate) fn release(&self) {
        *self.state() = State { go_on: true, ..State::default() };
        self.shared.1.notify_all();
    }

    /// Lets everything through again; what was stopped is cut off.
    pub(crate) fn open(&self) {
        *self.state() = State::default();
        self.shared.1.notify_all();
    }

    /// The request that is being held, if it has come to that.
    pub(crate) fn reached(&self) -> Option<String> {
        self.state().reached.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.shared.0)
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Counts what may be the beginning of a request; where it has to stop, if here.
fn count(shared: &(Mutex<State>, Condvar), bytes: &[u8]) -> Option<(String, Side)> {
    if !WRITING.iter().any(|method| bytes.starts_with(method)) {
        return None;
    }
    let mut state = lock(&shared.0);
    state.seen += 1;
    let (nth, side) = state.stop?;
    let line = bytes.split(|byte| *byte == b'\r').next().unwrap_or_default();
    (nth == state.seen).then(|| (String::from_utf8_lossy(line).into_owned(), side))
}

/// Says that it has come to the request, and waits; whether it may go on.
fn hold(shared: &(Mutex<State>, Condvar), request: String) -> bool {
    let mut state = lock(&shared.0);
    state.reached = Some(request);
    let until = Instant::now() + LIMIT;
    while state.reached.is_some() && Instant::now() < until {
        state = shared.1.wait_timeout(state, Duration::from_secs(1)).unwrap_or_else(PoisonError::into_inner).0;
    }
    state.go_on
}

/// Passes on both ways until one end is gone, or the request comes that is to be stopped.
fn pass(client: TcpStream, store: &str, shared: &Arc<(Mutex<State>, Condvar)>) -> Option<()> {
    let server = TcpStream::connect(store).ok()?;
    for stream in [&client, &server] {
        stream.set_nodelay(true).ok()?;
    }
    let holding: Arc<Mutex<Option<String>>> = Arc::default();
    let back = {
        let (mut server, mut client) = (server.try_clone().ok()?, client.try_clone().ok()?);
        let (holding, shared) = (Arc::clone(&holding), Arc::clone(shared));
        std::thread::spawn(move || {
            let mut buffer = vec![0; 64 << 10];
            while let Ok(length @ 1..) = server.read(&mut buffer) {
                let held = holding.lock().unwrap_or_else(PoisonError::into_inner).take();
                // `100 Continue` is no answer yet.
                if let Some(request) = held {
                    if buffer.starts_with(b"HTTP/1.1 100") {
                        *holding.lock().unwrap_or_else(PoisonError::into_inner) = Some(request);
                    } else if !hold(&shared, request) {
                        break;
                    }
                }
                if client.write_all(&buffer[..length]).is_err() {
                    break;
                }
            }
            let _ = client.shutdown(Shutdown::Both);
            let _ = server.shutdown(Shutdown::Both);
        })
    };
    let (mut from, mut to) = (client, server);
    let mut buffer = vec![0; 64 << 10];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        match count(shared, &buffer[..length]) {
            Some((request, Side::Before)) if !hold(shared, request.clone()) => break,
            Some((_, Side::Before)) => {}
            Some((request, Side::After)) => {
                *holding.lock().unwrap_or_else(PoisonError::into_inner) = Some(request);
            }
            None => {}
        }
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Write);
    let _ = back.join();
    Some(())
}
