//! A server that says anything.

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;

use super::auth::Channel;
use super::certificate::Certificate;
use super::startup::begin_session;
use super::wire::{Transport, Wire};
use crate::{ConnectSettings, Error, Result, SessionSettings};

/// Says `words` and hangs up, while we do what we do with any server. Bytes of COPY data that came.
pub(crate) async fn converse(settings: &ConnectSettings, words: &[u8]) -> Result<u64> {
    let (ours, theirs) = UnixStream::pair().map_err(|error| Error::io("make a pair of sockets", error))?;
    let (mut listening, mut speaking) = theirs.into_split();
    let words = words.to_vec();
    let server = async move {
        let spoken = async {
            let _ = speaking.write_all(&words).await;
            drop(speaking);
        };
        let heard = async {
            let _ = tokio::io::copy(&mut (&mut listening).take(1 << 20), &mut tokio::io::sink()).await;
        };
        tokio::join!(spoken, heard);
    };
    let client = async {
        let host = &settings.hosts[0];
        let wire = Wire::new(Transport::Unix(ours), host.label());
        let session = SessionSettings::Dump;
        let mut connection = begin_session(wire, &Channel::Plain, settings, host, None, session).await?;
        let mut bytes = 0;
        let rows = connection.query("SELECT 1").await?;
        for row in &rows {
            let columns = row.len();
            bytes += (0..=columns).filter_map(|column| row.bytes(column)).map(|value| value.len() as u64).sum::<u64>();
        }
        let _ = connection.query_one("SELECT 1").await.map(|row| row.get::<u32>(0).is_ok());
        let mut copy = connection.copy_out("COPY t TO STDOUT").await?;
        while let Some(piece) = copy.next().await? {
            bytes += piece.len() as u64;
        }
        drop(copy);
        connection.close().await?;
        Ok(bytes)
    };
    let (outcome, ()) = tokio::join!(client, server);
    outcome
}

/// Whether a certificate can be read; asks it everything that is asked of a server's.
pub(crate) fn certificate(der: &[u8]) -> bool {
    let Some(certificate) = Certificate::parse(der) else { return false };
    let _ = (certificate.end_point_hash(der), certificate.is_valid_at(0), certificate.common_name_matches("a.b"));
    true
}
