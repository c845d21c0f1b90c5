//! Asking a server to stop a session's statement.

use bytes::BytesMut;
use postgres_protocol::message::frontend;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::Connection;
use super::startup::{Encryption, open};
use crate::settings::Place;
use crate::{ConnectSettings, Error, Result};

/// Can ask the server, from anywhere, to stop what a session is doing.
#[derive(Clone)]
pub struct CancelToken {
    settings: ConnectSettings,
    encrypted: bool,
    key: (i32, i32),
}

impl std::fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CancelToken")
            .field("server", &self.settings.server())
            .field("backend_pid", &self.key.0)
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// What stops this session's statement while a future of the session is being awaited.
    pub fn cancel_token(&self) -> CancelToken {
        CancelToken { settings: self.settings.clone(), encrypted: self.encrypted, key: self.key }
    }
}

impl CancelToken {
    /// Asks the server to stop the session's current statement, over a connection of its own, encrypted as the session is.
    /// The session then gets an error of SQLSTATE 57014, unless the statement ended before. Waits until the server has taken
    /// the request, within `connect_timeout`.
    pub async fn cancel(&self) -> Result<()> {
        let host = &self.settings.hosts[0];
        let address = match &host.place {
            Place::Network { address, .. } => *address,
            Place::Socket(_) => None,
        };
        let encryption = if self.encrypted { Encryption::Required } else { Encryption::Plain };
        let request = async {
            let lost = |source| Error::Lost { server: host.label(), source };
            let (mut transport, _) = open(&self.settings, host, address, encryption).await?;
            let mut bytes = BytesMut::new();
            frontend::cancel_request(self.key.0, self.key.1, &mut bytes);
            transport.write_all(&bytes).await.map_err(lost)?;
            transport.flush().await.map_err(lost)?;
            // The server closes without a word, rudely where it encrypts.
            let _ = transport.read(&mut [0; 1]).await;
            Ok(())
        };
        match self.settings.connect_timeout {
            None => request.await,
            Some(after) => tokio::time::timeout(after, request).await.unwrap_or_else(|_| {
                Err(Error::Timeout { what: format!("cancelling a statement on {}", host.label()), after })
            }),
        }
    }
}
