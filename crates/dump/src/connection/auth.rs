//! Proving who we are, and asking the same of the server.

use bytes::BytesMut;
use fallible_iterator::FallibleIterator;
use postgres_protocol::authentication::{md5_hash, sasl};
use postgres_protocol::message::backend::{AuthenticationSaslBody, Message};
use postgres_protocol::message::frontend;
use secrecy::{ExposeSecret, SecretString};

use super::startup::refused;
use super::wire::{Wire, decode_error};
use crate::settings::{AuthMethod, ChannelBinding, ConnectSettings, Host};
use crate::{Error, Result};

/// What the encryption of the session gives to authentication.
#[derive(Debug)]
pub(super) enum Channel {
    Plain,
    /// With the hash of the server's certificate, if it has one.
    Encrypted(Option<Vec<u8>>),
}

/// Answers the server's requests until it is satisfied, and we are.
pub(super) async fn authenticate(
    wire: &mut Wire,
    settings: &ConnectSettings,
    host: &Host,
    channel: &Channel,
) -> Result<()> {
    let server = wire.server.clone();
    let failed = |problem: &str| Error::Authentication { server: server.clone(), problem: problem.to_owned() };
    let allowed = |method: AuthMethod| match &settings.require_auth {
        Some(rule) if !rule.allows(method) => {
            Err(failed(&format!("the server asks for the method {}, which require_auth excludes", method.as_str())))
        }
        _ => Ok(()),
    };
    let password = || host.password.as_ref().ok_or_else(|| failed("the server asks for a password and none is given"));
    let mut asked = AuthMethod::None;
    let mut bound = false;
    loop {
        match wire.next().await? {
            Message::AuthenticationOk => {
                allowed(asked)?;
                if settings.channel_binding == ChannelBinding::Require && !bound {
                    return Err(failed("channel binding is required, but the server did not use it"));
                }
                return Ok(());
            }
            Message::ErrorResponse(body) => return Err(refused(&server, decode_error(body.fields()))),
            _ if asked != AuthMethod::None => return Err(wire.broken("it asks for authentication twice")),
            Message::AuthenticationCleartextPassword => {
                allowed(AuthMethod::Password)?;
                refuse_unbound(settings, &failed)?;
                asked = AuthMethod::Password;
                send_password(wire, password()?.expose_secret().as_bytes()).await?;
            }
            Message::AuthenticationMd5Password(body) => {
                allowed(AuthMethod::Md5)?;
                refuse_unbound(settings, &failed)?;
                asked = AuthMethod::Md5;
                let hash = md5_hash(settings.user.as_bytes(), password()?.expose_secret().as_bytes(), body.salt());
                send_password(wire, hash.as_bytes()).await?;
            }
            Message::AuthenticationSasl(body) => {
                allowed(AuthMethod::Scram)?;
                asked = AuthMethod::Scram;
                bound = scram(wire, settings, password()?, channel, &body).await?;
            }
            Message::AuthenticationGss | Message::AuthenticationKerberosV5 | Message::AuthenticationScmCredential => {
                return Err(failed("the server asks for GSSAPI, which is not supported"));
            }
            Message::AuthenticationSspi => return Err(failed("the server asks for SSPI, which is not supported")),
            _ => return Err(wire.broken("something else than authentication follows the startup")),
        }
    }
}

/// Only SCRAM knows channel binding; nothing may be sent to a server that asks for less.
fn refuse_unbound(settings: &ConnectSettings, failed: &impl Fn(&str) -> Error) -> Result<()> {
    match settings.channel_binding {
        ChannelBinding::Require => {
            Err(failed("channel binding is required, but the server asks for a method that has none"))
        }
        _ => Ok(()),
    }
}

async fn send_password(wire: &mut Wire, password: &[u8]) -> Result<()> {
    frontend::password_message(password, &mut wire.outbox)
        .map_err(|_| Error::setting("password", "holds a NUL character"))?;
    wire.flush().await
}

/// SCRAM-SHA-256 (RFC 5802, RFC 7677), bound to the channel where both sides can. True if it was.
async fn scram(
    wire: &mut Wire,
    settings: &ConnectSettings,
    password: &SecretString,
    channel: &Channel,
    body: &AuthenticationSaslBody,
) -> Result<bool> {
    let server = wire.server.clone();
    let failed = |problem: &str| Error::Authentication { server: server.clone(), problem: problem.to_owned() };
    let mut offered = Vec::new();
    let mut mechanisms = body.mechanisms();
    while let Ok(Some(mechanism)) = mechanisms.next() {
        offered.push(mechanism.to_owned());
    }
    let offers = |mechanism: &str| offered.iter().any(|offer| offer == mechanism);

    let hash = match channel {
        Channel::Encrypted(Some(hash)) if settings.channel_binding != ChannelBinding::Disable => Some(hash),
        _ => None,
    };
    let (mechanism, binding) = match hash {
        Some(hash) if offers(sasl::SCRAM_SHA_256_PLUS) => {
            (sasl::SCRAM_SHA_256_PLUS, sasl::ChannelBinding::tls_server_end_point(hash.clone()))
        }
        _ if settings.channel_binding == ChannelBinding::Require => {
            return Err(failed(
                "channel binding is required, but this session or the server's certificate does not allow it",
            ));
        }
        _ if !offers(sasl::SCRAM_SHA_256) => {
            return Err(failed(&format!("the server offers none of our mechanisms, only {}", offered.join(", "))));
        }
        // We could have bound the channel; saying so lets the server notice somebody between us who hid its offer.
        Some(_) => (sasl::SCRAM_SHA_256, sasl::ChannelBinding::unrequested()),
        None => (sasl::SCRAM_SHA_256, sasl::ChannelBinding::unsupported()),
    };
    let bound = mechanism == sasl::SCRAM_SHA_256_PLUS;

    let mut exchange = sasl::ScramSha256::new(password.expose_secret().as_bytes(), binding);
    send(wire, |outbox| frontend::sasl_initial_response(mechanism, exchange.message(), outbox)).await?;
    match wire.next().await? {
        Message::AuthenticationSaslContinue(body) => {
            exchange.update(body.data()).map_err(|error| failed(&error.to_string()))?;
        }
        Message::ErrorResponse(body) => return Err(refused(&server, decode_error(body.fields()))),
        _ => return Err(wire.broken("its SCRAM exchange is out of order")),
    }
    send(wire, |outbox| frontend::sasl_response(exchange.message(), outbox)).await?;
    match wire.next().await? {
        Message::AuthenticationSaslFinal(body) => {
            exchange.finish(body.data()).map_err(|_| failed("the server did not prove that it knows the password"))?;
        }
        Message::ErrorResponse(body) => return Err(refused(&server, decode_error(body.fields()))),
        _ => return Err(wire.broken("its SCRAM exchange is out of order")),
    }
    Ok(bound)
}

async fn send(wire: &mut Wire, write: impl FnOnce(&mut BytesMut) -> std::io::Result<()>) -> Result<()> {
    if let Err(error) = write(&mut wire.outbox) {
        return Err(wire.broken(error.to_string()));
    }
    wire.flush().await
}
