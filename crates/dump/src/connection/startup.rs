//! From settings to a session that is ready: the first host that answers, as libpq does.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use postgres_protocol::message::backend::Message;
use postgres_protocol::message::frontend;
use rand::seq::SliceRandom;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};

use super::auth::{Channel, authenticate};
use super::wire::{Transport, Wire, decode_error};
use super::{Connection, TransactionStatus, tls};
use crate::settings::{Host, Place, SslMode, TargetSession};
use crate::{ConnectSettings, Error, Result, ServerError, SessionSettings};

/// How an attempt deals with encryption.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encryption {
    Plain,
    /// If the server can.
    Offered,
    Required,
}

impl Connection {
    /// Connects (first host that answers and is what `target_session_attrs` asks for, as libpq does), authenticates, applies
    /// `session` by startup options and SETs.
    pub async fn connect(settings: &ConnectSettings, session: SessionSettings) -> Result<Self> {
        let mut hosts = settings.hosts.clone();
        if settings.shuffle {
            hosts.shuffle(&mut rand::rng());
        }
        let targets = match settings.target {
            TargetSession::PreferStandby => vec![TargetSession::Standby, TargetSession::Any],
            target => vec![target],
        };
        let mut attempts = Vec::new();
        for target in targets {
            attempts.clear();
            for host in &hosts {
                if let Some(connection) = connect_host(settings, host, target, session, &mut attempts).await? {
                    return Ok(connection);
                }
            }
        }
        match attempts.len() {
            1 => Err(attempts.remove(0).1),
            _ => Err(Error::NoServer { attempts }),
        }
    }
}

/// Tries all addresses of a host. `None`: try the next host; an error: do not.
async fn connect_host(
    settings: &ConnectSettings,
    host: &Host,
    target: TargetSession,
    session: SessionSettings,
    attempts: &mut Vec<(String, Error)>,
) -> Result<Option<Connection>> {
    let addresses: Vec<Option<IpAddr>> = match &host.place {
        Place::Socket(_) => vec![None],
        Place::Network { address: Some(address), .. } => vec![Some(*address)],
        Place::Network { name, .. } => {
            let name = name.as_deref().unwrap_or_default();
            let label = host.label();
            let lookup = async {
                let found = tokio::net::lookup_host((name, host.port)).await;
                found.map_err(|source| Error::Unreachable { server: label.clone(), source })
            };
            match in_time(settings.connect_timeout, &label, lookup).await {
                Ok(addresses) => addresses.map(|address| Some(address.ip())).collect(),
                Err(error) => {
                    attempts.push((host.label(), error));
                    return Ok(None);
                }
            }
        }
    };
    for address in addresses {
        let attempt = async {
            let mut connection = connect_address(settings, host, address, session).await?;
            connection.check_target(target).await?;
            Ok(connection)
        };
        match in_time(settings.connect_timeout, &host.label(), attempt).await {
            Ok(connection) => return Ok(Some(connection)),
            Err(error) if is_final(&error) => return Err(error),
            Err(error) => attempts.push((host.label(), error)),
        }
    }
    Ok(None)
}

async fn in_time<T>(limit: Option<Duration>, server: &str, work: impl Future<Output = Result<T>>) -> Result<T> {
    match limit {
        None => work.await,
        Some(after) => tokio::time::timeout(after, work)
            .await
            .unwrap_or_else(|_| Err(Error::Timeout { what: format!("connecting to {server}"), after })),
    }
}

/// Whether trying other servers would hide what is wrong: libpq goes on only if it got no session, not if it was refused one.
fn is_final(error: &Error) -> bool {
    match error {
        Error::Refused { source, .. } => !source.is_shutdown(),
        Error::Authentication { .. } | Error::Pooler { .. } | Error::Setting { .. } => true,
        _ => false,
    }
}

/// One address, with and without encryption as sslmode says.
async fn connect_address(
    settings: &ConnectSettings,
    host: &Host,
    address: Option<IpAddr>,
    session: SessionSettings,
) -> Result<Connection> {
    let mode = if address.is_some() { settings.tls.mode } else { SslMode::Disable };
    let attempt = |encryption| start_session(settings, host, address, session, encryption);
    // A server that wants it the other way says so by "no pg_hba.conf entry".
    let other_way = |error: &Error| error.sqlstate() == Some("28000");
    match mode {
        SslMode::Disable => attempt(Encryption::Plain).await,
        SslMode::Allow => match attempt(Encryption::Plain).await {
            Err(error) if other_way(&error) => attempt(Encryption::Required).await.map_err(|_| error),
            outcome => outcome,
        },
        SslMode::Prefer => match attempt(Encryption::Offered).await {
            Err(error) if other_way(&error) || matches!(error, Error::Tls { .. }) => {
                tracing::debug!(server = %host.label(), %error, "trying again without encryption, as sslmode=prefer allows");
                attempt(Encryption::Plain).await.map_err(|plain| if other_way(&plain) { error } else { plain })
            }
            outcome => outcome,
        },
        SslMode::Require | SslMode::VerifyCa | SslMode::VerifyFull => attempt(Encryption::Required).await,
    }
}

/// A transport to the server, encrypted or not.
pub(super) async fn open(
    settings: &ConnectSettings,
    host: &Host,
    address: Option<IpAddr>,
    encryption: Encryption,
) -> Result<(Transport, Channel)> {
    let unreachable = |source: io::Error| Error::Unreachable { server: host.label(), source };
    let Some(address) = address else {
        let Place::Socket(folder) = &host.place else {
            return Err(unreachable(io::Error::other("it has no address")));
        };
        let stream = UnixStream::connect(host.socket(folder)).await.map_err(unreachable)?;
        return Ok((Transport::Unix(stream), Channel::Plain));
    };
    let mut stream = TcpStream::connect(SocketAddr::new(address, host.port)).await.map_err(unreachable)?;
    stream.set_nodelay(true).map_err(unreachable)?;
    keep_alive(&stream, settings).map_err(unreachable)?;
    if encryption == Encryption::Plain || !(settings.tls.direct || ask_for_tls(&mut stream, host).await?) {
        if encryption == Encryption::Required {
            return Err(Error::Tls { server: host.label(), problem: "the server does not support it".to_owned() });
        }
        return Ok((Transport::Tcp(stream), Channel::Plain));
    }
    let stream = tls::encrypt(stream, &settings.tls, host).await?;
    let hash = tls::end_point_hash(&stream);
    Ok((Transport::Tls(Box::new(stream)), Channel::Encrypted(hash)))
}

/// Whether the server is willing to encrypt. Reads exactly one byte: what somebody put behind it would be taken for
/// part of the handshake, and fail it.
async fn ask_for_tls(stream: &mut TcpStream, host: &Host) -> Result<bool> {
    let unreachable = |source: io::Error| Error::Unreachable { server: host.label(), source };
    let mut request = bytes::BytesMut::new();
    frontend::ssl_request(&mut request);
    stream.write_all(&request).await.map_err(unreachable)?;
    match stream.read_u8().await.map_err(unreachable)? {
        b'S' => Ok(true),
        b'N' => Ok(false),
        // An error message here is nobody's word (CVE-2024-10977): it is not shown.
        _ => Err(Error::Protocol {
            server: host.label(),
            problem: "it does not answer the question for encryption; is it a PostgreSQL server?".to_owned(),
        }),
    }
}

fn keep_alive(stream: &TcpStream, settings: &ConnectSettings) -> io::Result<()> {
    let socket = socket2::SockRef::from(stream);
    if let Some(keepalive) = &settings.keepalive {
        let mut wanted = socket2::TcpKeepalive::new();
        if let Some(idle) = keepalive.idle {
            wanted = wanted.with_time(idle);
        }
        if let Some(interval) = keepalive.interval {
            wanted = wanted.with_interval(interval);
        }
        if let Some(count) = keepalive.count {
            wanted = wanted.with_retries(count);
        }
        socket.set_keepalive(true)?;
        socket.set_tcp_keepalive(&wanted)?;
    }
    #[cfg(target_os = "linux")]
    socket.set_tcp_user_timeout(settings.tcp_user_timeout)?;
    Ok(())
}

async fn start_session(
    settings: &ConnectSettings,
    host: &Host,
    address: Option<IpAddr>,
    session: SessionSettings,
    encryption: Encryption,
) -> Result<Connection> {
    let (transport, channel) = open(settings, host, address, encryption).await?;
    let mut wire = Wire::new(transport, host.label());
    let options = settings.startup_options(session);
    let parameters = [
        ("user", settings.user.as_str()),
        ("database", &settings.database),
        ("application_name", &settings.application_name),
        ("options", &options),
    ];
    frontend::startup_message(parameters, &mut wire.outbox)
        .map_err(|_| Error::setting("string", "holds a NUL character"))?;
    wire.flush().await?;
    authenticate(&mut wire, settings, host, &channel).await?;
    wire.trust();
    let mut key = (0, 0);
    loop {
        match wire.next().await? {
            Message::BackendKeyData(body) => key = (body.process_id(), body.secret_key()),
            Message::ReadyForQuery(_) => break,
            Message::ErrorResponse(body) => return Err(refused(&wire.server, decode_error(body.fields()))),
            _ => return Err(wire.broken("something else than its parameters follows authentication")),
        }
    }
    let version = wire.parameters.get("server_version").map_or(0, |text| version_number(text));
    let encoding = wire.parameters.get("server_encoding").cloned().unwrap_or_default();
    let mut connection = Connection {
        wire,
        settings: settings.pinned(host, address),
        encrypted: matches!(channel, Channel::Encrypted(_)),
        key,
        version,
        transaction: TransactionStatus::Idle,
        busy: false,
    };
    connection.execute(session.statements(version, &encoding)).await?;
    connection.wire.notices.clear();
    Ok(connection)
}

/// A refused startup, told apart from a pooler that does not know what a server knows.
pub(super) fn refused(server: &str, error: ServerError) -> Error {
    let message = error.message.to_ascii_lowercase();
    if message.contains("unsupported startup parameter") || message.contains("rds proxy") {
        return Error::Pooler {
            server: server.to_owned(),
            sign: format!("it refuses session settings at startup ({})", error.message),
        };
    }
    Error::Refused { server: server.to_owned(), source: Box::new(error) }
}

/// `server_version` as a number: 15.18 is 150018, 19devel is 190000, 9.6.24 is 90624.
fn version_number(text: &str) -> u32 {
    let mut numbers = text.split('.').map(|part| {
        let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
        part[..digits].parse::<u32>().unwrap_or(0)
    });
    let mut next = || numbers.next().unwrap_or(0).min(9999);
    match next() {
        major @ 10.. => major * 10_000 + next(),
        major => major * 10_000 + next() * 100 + next(),
    }
}

impl Connection {
    async fn check_target(&mut self, target: TargetSession) -> Result<()> {
        let (wanted, question, right) = match target {
            TargetSession::Any | TargetSession::PreferStandby => return Ok(()),
            TargetSession::Primary => ("a primary", "SELECT pg_catalog.pg_is_in_recovery()", "f"),
            TargetSession::Standby => ("a standby", "SELECT pg_catalog.pg_is_in_recovery()", "t"),
            TargetSession::ReadWrite => ("open for writing", READ_ONLY, "off"),
            TargetSession::ReadOnly => ("read-only", READ_ONLY, "on"),
        };
        let rows = self.query(question).await?;
        if rows.first().and_then(|row| row.text(0)).as_deref() == Some(right) {
            return Ok(());
        }
        Err(Error::WrongRole { server: self.wire.server.clone(), wanted })
    }
}

/// Whether a session is read-only unless it asks otherwise; our own settings at startup must not decide it.
const READ_ONLY: &str = "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN 'on' ELSE coalesce( \
    (SELECT reset_val FROM pg_catalog.pg_settings WHERE name = 'default_transaction_read_only' AND source <> 'client'), 'off') END";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions() {
        for (text, number) in [
            ("15.18 (Debian 15.18-0+deb12u1)", 150_018),
            ("17.11", 170_011),
            ("18beta2", 180_000),
            ("19devel", 190_000),
            ("9.6.24", 90_624),
            ("nonsense", 0),
            ("99999999999", 0),
        ] {
            assert_eq!(version_number(text), number, "{text}");
        }
    }

    #[test]
    fn poolers_give_themselves_away_at_startup() {
        let error = |message: &str| ServerError { message: message.to_owned(), ..ServerError::default() };
        for message in
            ["unsupported startup parameter: options", "unsupported startup parameter in options: bytea_output"]
        {
            assert!(matches!(refused("db:6432", error(message)), Error::Pooler { .. }));
        }
        assert!(matches!(refused("db:5432", error("password authentication failed")), Error::Refused { .. }));
    }
}
