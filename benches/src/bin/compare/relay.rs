//! A relay that counts what goes through it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::Outcome;

/// Large enough not to be felt.
const BUFFER_BYTES: usize = 256 << 10;

/// Bytes so far.
#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    fetched: AtomicU64,
}

/// Listens on loopback as long as this process lives.
#[derive(Debug)]
pub(crate) struct Relay {
    address: String,
    counts: Arc<Counts>,
}

impl Relay {
    /// To this server, `host:port`.
    pub(crate) fn to(server: &str) -> Outcome<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?.to_string();
        let counts: Arc<Counts> = Arc::default();
        let (server, counting) = (server.to_owned(), Arc::clone(&counts));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A client whose connection cannot be passed on sees it end.
                let _ = pass(client, &server, &counting);
            }
        });
        Ok(Self { address, counts })
    }

    /// Where it listens, `host:port`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// What clients have sent and fetched since this was last asked, in bytes of HTTP: headers count.
    pub(crate) fn take(&self) -> (u64, u64) {
        (self.counts.sent.swap(0, Ordering::SeqCst), self.counts.fetched.swap(0, Ordering::SeqCst))
    }
}

fn pass(client: TcpStream, server: &str, counts: &Arc<Counts>) -> std::io::Result<()> {
    let server = TcpStream::connect(server)?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    let (from_client, to_server) = (client.try_clone()?, server.try_clone()?);
    let (there, back) = (Arc::clone(counts), Arc::clone(counts));
    std::thread::spawn(move || copy(from_client, to_server, &there.sent));
    std::thread::spawn(move || copy(server, client, &back.fetched));
    Ok(())
}

/// Until one of them hangs up; then the other one is told.
fn copy(mut from: TcpStream, mut to: TcpStream, count: &AtomicU64) {
    let mut buffer = vec![0; BUFFER_BYTES];
    while let Ok(length @ 1..) = from.read(&mut buffer) {
        count.fetch_add(length as u64, Ordering::SeqCst);
        if to.write_all(&buffer[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
    let _ = from.shutdown(Shutdown::Read);
}
