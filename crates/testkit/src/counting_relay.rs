//! A relay that counts what goes through it.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Large enough not to be felt.
const BUFFER_BYTES: usize = 256 << 10;

#[derive(Debug, Default)]
struct Counts {
    sent: AtomicU64,
    fetched: AtomicU64,
}

/// Passes TCP connections on to a server and counts their bytes, headers of whatever protocol included. It listens on
/// loopback as long as the process lives.
#[derive(Debug)]
pub struct CountingRelay {
    address: String,
    counts: Arc<Counts>,
}

impl CountingRelay {
    /// To this server, `host:port`.
    pub fn to(server: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let address = listener.local_addr().expect("a listener has an address").to_string();
        let counts: Arc<Counts> = Arc::default();
        let (server, counting) = (server.to_owned(), Arc::clone(&counts));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                // A client whose connection cannot be passed on sees it end.
                let _ = pass(client, &server, &counting);
            }
        });
        Self { address, counts }
    }

    /// Where it listens, `host:port`.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// What clients have sent and fetched since this was last asked, in bytes.
    pub fn take(&self) -> (u64, u64) {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_are_counted() {
        let server = TcpListener::bind("127.0.0.1:0").unwrap();
        let relay = CountingRelay::to(&server.local_addr().unwrap().to_string());
        let mut client = TcpStream::connect(relay.address()).unwrap();
        let (mut served, _) = server.accept().unwrap();
        client.write_all(b"give").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let mut asked = String::new();
        served.read_to_string(&mut asked).unwrap();
        served.write_all(b"taken!").unwrap();
        drop(served);
        let mut answer = String::new();
        client.read_to_string(&mut answer).unwrap();
        assert_eq!((asked.as_str(), answer.as_str()), ("give", "taken!"));
        assert_eq!(relay.take(), (4, 6));
        assert_eq!(relay.take(), (0, 0));
    }
}
