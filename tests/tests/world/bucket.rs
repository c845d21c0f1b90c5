//! A bucket that goes away in the middle: for a while, and for good.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use pgkeep_testkit::Ceph;

use crate::ground::{backups, ended, eventually, nothing_half_made, small, wait};
use crate::setup::Setup;

/// What stands between a run and its bucket does with connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Passes,
    /// Cuts those there are, and hangs up on new ones.
    Refuses,
    /// Takes what it is sent and answers nothing.
    Hangs,
    /// Answers everything with 403.
    Forbids,
}

/// Listens as long as the test's process lives.
struct Way {
    port: u16,
    mode: Arc<AtomicU8>,
    sent: Arc<AtomicU64>,
}

impl Way {
    fn to(server: String) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (mode, sent) = (Arc::new(AtomicU8::new(0)), Arc::new(AtomicU64::new(0)));
        let (shared_mode, shared_sent) = (Arc::clone(&mode), Arc::clone(&sent));
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let (mode, sent) = (Arc::clone(&shared_mode), Arc::clone(&shared_sent));
                let Ok(server) = TcpStream::connect(&server) else { continue };
                let (from, to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let (there, nobody) = (Arc::clone(&mode), Arc::new(AtomicU64::new(0)));
                std::thread::spawn(move || pass(from, to, &there, &sent, true));
                std::thread::spawn(move || pass(server, client, &mode, &nobody, false));
            }
        });
        Self { port, mode, sent }
    }

    fn set(&self, mode: Mode) {
        self.mode.store(mode as u8, Ordering::SeqCst);
    }

    /// Waits until so many bytes were sent since it was last asked.
    fn after(&self, bytes: u64) {
        self.sent.store(0, Ordering::SeqCst);
        eventually("the upload is under way", || self.sent.load(Ordering::SeqCst) >= bytes);
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream, mode: &AtomicU8, count: &AtomicU64, is_request: bool) {
    // Short, so that a change of mode is noticed.
    from.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
    let mut buffer = vec![0; 64 << 10];
    loop {
        let read = from.read(&mut buffer);
        let mode = mode.load(Ordering::SeqCst);
        if mode == Mode::Refuses as u8 {
            break;
        }
        match read {
            Ok(0) => break,
            Ok(_) if mode == Mode::Hangs as u8 => {}
            Ok(_) if mode == Mode::Forbids as u8 => {
                if is_request {
                    let answer = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
                    let _ = from.write_all(answer);
                    // The rest of the request is taken, or the answer is lost with it.
                    while matches!(from.read(&mut buffer), Ok(1..)) {}
                    break;
                }
            }
            Ok(length) => {
                count.fetch_add(length as u64, Ordering::SeqCst);
                if to.write_all(&buffer[..length]).is_err() {
                    break;
                }
            }
            Err(error) if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) => {}
            Err(_) => break,
        }
    }
    let _ = from.shutdown(Shutdown::Both);
    let _ = to.shutdown(Shutdown::Both);
}

/// A set-up whose bucket lies behind a way, and is large enough to be sent in parts.
fn behind(setup: Setup, bucket: &str) -> (Setup, Way) {
    let ceph = Ceph::shared();
    let way = Way::to(ceph.endpoint().trim_start_matches("http://").to_owned());
    let mut setup = setup.with("AWS_S3_BACKUP_BUCKET", bucket).with("BACKUP_COMPRESSION", "none");
    for (name, value) in ceph.environment() {
        setup.set(name, value);
    }
    setup.set("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", way.port));
    (setup, way)
}

fn metas(bucket: &str) -> usize {
    Ceph::shared().keys(bucket).iter().filter(|key| key.ends_with(".meta")).count()
}

#[test]
fn a_bucket_that_is_away_for_a_while_is_waited_for() {
    let (_source, setup) = small("awhile");
    let bucket = Ceph::shared().create_bucket("awhile");
    let (setup, way) = behind(setup, &bucket);
    for (number, mode) in [Mode::Refuses, Mode::Hangs].into_iter().enumerate() {
        let child = setup.start("pgkeep", &["backup"]);
        way.after(1_000_000);
        way.set(mode);
        // Longer than a first and a second try.
        std::thread::sleep(Duration::from_secs(2));
        if mode == Mode::Hangs {
            // Whoever hung is cut off in the end, by the system or a router.
            way.set(Mode::Refuses);
            std::thread::sleep(Duration::from_millis(200));
        }
        way.set(Mode::Passes);
        ended(&wait(child), 0, &[], &format!("{mode:?}"));
        assert_eq!((metas(&bucket), backups(&setup.backups())), (number + 1, number + 1), "{mode:?}");
    }
    setup.pgkeep(&["verify", "--all", "--stored"]);
    assert!(Ceph::shared().unfinished_uploads(&bucket).is_empty());
}

#[test]
fn a_bucket_that_is_closed_in_the_middle_costs_its_copy_which_the_next_run_makes() {
    let (_source, setup) = small("closed");
    let bucket = Ceph::shared().create_bucket("closed");
    let (setup, way) = behind(setup, &bucket);
    let child = setup.start("pgkeep", &["backup"]);
    way.after(1_000_000);
    way.set(Mode::Forbids);
    let run = wait(child);
    ended(&run, 6, &["a complete copy is at local"], "closed");
    assert_eq!((metas(&bucket), backups(&setup.backups())), (0, 1), "{run}");
    nothing_half_made(&setup.backups(), "closed");
    way.set(Mode::Passes);
    setup.pgkeep(&["backup", "--weekly"]);
    assert_eq!((metas(&bucket), backups(&setup.backups())), (2, 2));
    setup.pgkeep(&["verify", "--all", "--stored"]);
}
