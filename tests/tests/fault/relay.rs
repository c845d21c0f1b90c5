//! A relay between clients and a server that reads along with the protocol, and makes the n-th statement go wrong.
//!
//! It understands frames, not what is in them: each start of a session, each simple query, the first rows of a COPY to the
//! server and its end are a statement. Sessions have to be in clear text.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;
const CANCEL_REQUEST: u32 = 80_877_102;
/// What libpq adds to the start of a session for `PGTZ`, which children of pgkeep always have. Our own client does not.
const MARK_OF_LIBPQ: &[u8] = b"\0timezone\0";

/// Who says a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// pgkeep itself.
    Ours,
    /// A client tool that it runs.
    Tools,
}

/// What becomes of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Act {
    /// The session is cut; the server never sees it.
    Cut,
    /// The server does it; the session is cut in the middle of the answer.
    Torn,
    /// The whole server is out of reach from here on, until the relay is mended.
    Down,
    /// The server refuses it with this SQLSTATE.
    Refuse(&'static str),
    /// The server ends the session as an administrator's order does (57P01).
    End,
    /// It is never answered.
    Stall,
}

#[derive(Debug, Default)]
struct State {
    armed: Option<(Whose, usize, Act)>,
    /// Statements so far: ours, the tools'.
    counts: [usize; 2],
    /// What it was that went wrong.
    struck: Option<String>,
    down: bool,
    /// Both ends of every session there was since the relay was armed.
    sessions: Vec<(TcpStream, TcpStream)>,
}

#[derive(Debug)]
struct Shared {
    server: u16,
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a statement; what becomes of it if it is the one.
    fn count(&self, whose: Whose, statement: &str) -> Option<Act> {
        let mut state = self.state();
        state.counts[whose as usize] += 1;
        let (armed, nth, act) = state.armed?;
        if state.struck.is_some() || armed != whose || nth != state.counts[whose as usize] {
            return None;
        }
        state.struck = Some(statement.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(160).collect());
        state.down = act == Act::Down;
        self.changed.notify_all();
        Some(act)
    }

    fn end_all(&self) {
        for (client, server) in self.state().sessions.drain(..) {
            let _ = client.shutdown(Shutdown::Both);
            let _ = server.shutdown(Shutdown::Both);
        }
    }
}

/// Listens as long as the test's process lives.
#[derive(Debug)]
pub(crate) struct StatementRelay {
    port: u16,
    shared: Arc<Shared>,
}

impl StatementRelay {
    /// To the server on this port.
    pub(crate) fn to(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let port = listener.local_addr().expect("a listener has an address").port();
        let shared = Arc::new(Shared { server, state: Mutex::default(), changed: Condvar::new() });
        let sharing = Arc::clone(&shared);
        std::thread::spawn(move || {
            for client in listener.incoming().flatten() {
                let sharing = Arc::clone(&sharing);
                // Whoever gets no session sees the connection end.
                std::thread::spawn(move || drop(session(client, &sharing)));
            }
        });
        Self { port, shared }
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// From now on statements are counted anew, and the n-th of these goes wrong.
    pub(crate) fn arm(&self, whose: Whose, nth: usize, act: Act) {
        let mut state = self.shared.state();
        *state = State { armed: Some((whose, nth, act)), ..State::default() };
    }

    /// Nothing goes wrong any more. What was cut or held stays so; whoever waits for an answer loses the session.
    pub(crate) fn mend(&self) {
        self.shared.end_all();
        let mut state = self.shared.state();
        (state.armed, state.down) = (None, false);
    }

    /// The statement that went wrong, if there was one.
    pub(crate) fn struck(&self) -> Option<String> {
        self.shared.state().struck.clone()
    }

    /// Waits until something goes wrong; false if nothing has within `limit`.
    pub(crate) fn wait_until_struck(&self, limit: Duration) -> bool {
        let until = Instant::now() + limit;
        let mut state = self.shared.state();
        while state.struck.is_none() {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            (state, _) = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner);
        }
        true
    }
}

/// How the answers of a session go wrong.
#[derive(Debug, Default)]
struct Answers {
    /// The next one is cut in its middle.
    torn: AtomicBool,
    /// The next error gets this SQLSTATE.
    sqlstate: Mutex<Option<&'static str>>,
}

fn session(mut client: TcpStream, shared: &Arc<Shared>) -> std::io::Result<()> {
    client.set_nodelay(true)?;
    let start = loop {
        let length = read_u32(&mut client)?;
        let mut packet = length.to_be_bytes().to_vec();
        packet.resize(length as usize, 0);
        client.read_exact(&mut packet[4..])?;
        let code = u32::from_be_bytes([packet[4], packet[5], packet[6], packet[7]]);
        match code {
            SSL_REQUEST | GSS_REQUEST => client.write_all(b"N")?,
            CANCEL_REQUEST if shared.state().down => return Ok(()),
            CANCEL_REQUEST => {
                let mut server = TcpStream::connect(("127.0.0.1", shared.server))?;
                server.write_all(&packet)?;
                // The server hangs up when it has taken it.
                let _ = server.read(&mut [0; 1]);
                return Ok(());
            }
            _ => break packet,
        }
    };
    if shared.state().down {
        return Ok(());
    }
    let is_libpq = start.windows(MARK_OF_LIBPQ.len()).any(|window| window == MARK_OF_LIBPQ);
    let whose = if is_libpq { Whose::Tools } else { Whose::Ours };
    let mut server = TcpStream::connect(("127.0.0.1", shared.server))?;
    server.set_nodelay(true)?;
    shared.state().sessions.push((client.try_clone()?, server.try_clone()?));
    let answers = Arc::new(Answers::default());
    match shared.count(whose, "the start of a session") {
        None => server.write_all(&start)?,
        Some(Act::Cut | Act::End) => {
            hang_up(&client, &server);
            return Ok(());
        }
        Some(Act::Down) => {
            shared.end_all();
            return Ok(());
        }
        Some(Act::Torn) => {
            answers.torn.store(true, Ordering::SeqCst);
            server.write_all(&start)?;
        }
        Some(Act::Refuse(sqlstate)) => {
            client.write_all(&fatal(sqlstate))?;
            hang_up(&client, &server);
            return Ok(());
        }
        // Both ends stay open until the relay is mended.
        Some(Act::Stall) => return Ok(()),
    }
    let (from_server, to_client, back) = (server.try_clone()?, client.try_clone()?, Arc::clone(&answers));
    std::thread::spawn(move || drop(pass_answers(from_server, to_client, &back)));
    let passed = pass_statements(&mut client, &mut server, whose, shared, &answers);
    if !matches!(passed, Ok(Passed::Held)) {
        let _ = server.shutdown(Shutdown::Write);
        let _ = client.shutdown(Shutdown::Read);
    }
    passed.map(drop)
}

enum Passed {
    /// To its end.
    All,
    /// One is held, and the session with it.
    Held,
}

/// From the client to the server, statement by statement.
fn pass_statements(
    client: &mut TcpStream,
    server: &mut TcpStream,
    whose: Whose,
    shared: &Shared,
    answers: &Answers,
) -> std::io::Result<Passed> {
    let (mut statement, mut copying) = (String::new(), false);
    loop {
        let mut tag = [0];
        if client.read(&mut tag)? == 0 {
            return Ok(Passed::All);
        }
        let length = read_u32(client)?;
        let mut body = vec![0; length as usize - 4];
        client.read_exact(&mut body)?;
        let act = match tag[0] {
            b'Q' | b'P' => {
                copying = false;
                let text = body.strip_suffix(b"\0").unwrap_or(&body);
                statement = String::from_utf8_lossy(text).into_owned();
                shared.count(whose, &statement)
            }
            b'd' if !copying => {
                copying = true;
                shared.count(whose, &format!("the first rows of {statement}"))
            }
            b'c' => shared.count(whose, &format!("the end of {statement}")),
            _ => None,
        };
        let is_query = tag[0] == b'Q';
        let as_it_is = |server: &mut TcpStream| server.write_all(&frame(tag[0], &body));
        match act {
            None => as_it_is(server)?,
            Some(Act::Down) => {
                shared.end_all();
                return Ok(Passed::All);
            }
            Some(Act::Torn) => {
                answers.torn.store(true, Ordering::SeqCst);
                as_it_is(server)?;
            }
            Some(Act::Refuse(sqlstate)) if is_query => {
                let raise = format!(
                    "DO 'BEGIN RAISE EXCEPTION USING ERRCODE = ''{sqlstate}'', MESSAGE = ''made to fail''; END'\0"
                );
                server.write_all(&frame(b'Q', raise.as_bytes()))?;
            }
            Some(Act::Refuse(sqlstate)) => {
                *answers.sqlstate.lock().unwrap_or_else(PoisonError::into_inner) = Some(sqlstate);
                server.write_all(&frame(b'f', b"made to fail\0"))?;
            }
            Some(Act::End) if is_query => {
                server.write_all(&frame(
                    b'Q',
                    b"SELECT pg_catalog.pg_terminate_backend(pg_catalog.pg_backend_pid())\0",
                ))?;
            }
            Some(Act::Cut | Act::End) => {
                hang_up(client, server);
                return Ok(Passed::All);
            }
            Some(Act::Stall) => return Ok(Passed::Held),
        }
    }
}

/// From the server to the client.
fn pass_answers(mut server: TcpStream, mut client: TcpStream, answers: &Answers) -> std::io::Result<()> {
    let mut bytes = vec![0; 64 << 10];
    loop {
        let length = server.read(&mut bytes)?;
        if length == 0 {
            let _ = client.shutdown(Shutdown::Write);
            return Ok(());
        }
        if answers.torn.load(Ordering::SeqCst) {
            let _ = client.write_all(&bytes[..length / 2]);
            hang_up(&client, &server);
            return Ok(());
        }
        let sqlstate = answers.sqlstate.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(sqlstate) = sqlstate {
            // What CopyFail is answered with (`errcode(ERRCODE_QUERY_CANCELED)` in copyfromparse.c).
            let known: &[u8] = b"C57014\0";
            if let Some(place) = bytes[..length].windows(known.len()).position(|window| window == known) {
                bytes[place + 1..place + 6].copy_from_slice(sqlstate.as_bytes());
            }
        }
        client.write_all(&bytes[..length])?;
    }
}

fn hang_up(client: &TcpStream, server: &TcpStream) {
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
}

fn frame(tag: u8, body: &[u8]) -> Vec<u8> {
    let length = u32::try_from(body.len() + 4).expect("a message has less than 4 GB");
    [&[tag][..], &length.to_be_bytes(), body].concat()
}

/// A session is refused in these words.
fn fatal(sqlstate: &str) -> Vec<u8> {
    frame(b'E', format!("SFATAL\0VFATAL\0C{sqlstate}\0Mmade to fail\0\0").as_bytes())
}

fn read_u32(stream: &mut TcpStream) -> std::io::Result<u32> {
    let mut bytes = [0; 4];
    stream.read_exact(&mut bytes)?;
    Ok(u32::from_be_bytes(bytes))
}
