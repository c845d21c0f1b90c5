//! Bytes to and from a server, and the frames in them.

use std::collections::BTreeMap;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::{Buf, Bytes, BytesMut};
use fallible_iterator::FallibleIterator;
use postgres_protocol::message::backend::{COPY_DATA_TAG, ErrorFields, Message};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

use super::tls::Encrypted;
use crate::{Error, Result, ServerError};

/// Read at a time, at most.
const READ_BYTES: usize = 256 * 1024;
/// The longest message before we know who is there.
const STRANGER_MESSAGE_BYTES: usize = 64 * 1024;
/// Notices kept until somebody asks for them.
const KEPT_NOTICES: usize = 1000;

/// What carries the bytes.
#[derive(Debug)]
pub(super) enum Transport {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<Encrypted>),
}

impl AsyncRead for Transport {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Transport {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

/// A transport with its buffers. Absorbs what the server may say at any time: parameters, notices, notifications.
#[derive(Debug)]
pub(super) struct Wire {
    /// `None` once it is closed.
    transport: Option<Transport>,
    /// Bytes that came and were not taken yet.
    pub(super) inbox: BytesMut,
    /// Bytes to go with the next flush.
    pub(super) outbox: BytesMut,
    /// `host:port` or the socket's path.
    pub(super) server: String,
    pub(super) parameters: BTreeMap<String, String>,
    pub(super) notices: Vec<ServerError>,
    longest_message: usize,
}

impl Wire {
    pub(super) fn new(transport: Transport, server: String) -> Self {
        Self {
            transport: Some(transport),
            inbox: BytesMut::new(),
            outbox: BytesMut::new(),
            server,
            parameters: BTreeMap::new(),
            notices: Vec::new(),
            longest_message: STRANGER_MESSAGE_BYTES,
        }
    }

    /// From now on messages may be as long as the protocol allows.
    pub(super) fn trust(&mut self) {
        self.longest_message = usize::MAX;
    }

    pub(super) fn is_closed(&self) -> bool {
        self.transport.is_none()
    }

    /// Cuts the connection; the server notices by itself.
    pub(super) fn close(&mut self) {
        self.transport = None;
    }

    /// Says goodbye on the transport's own level and cuts the connection.
    pub(super) async fn shut_down(&mut self) {
        if let Some(mut transport) = self.transport.take() {
            // The session is over either way.
            let _ = transport.shutdown().await;
        }
    }

    pub(super) fn lost(&mut self, source: io::Error) -> Error {
        self.close();
        Error::Lost { server: self.server.clone(), source }
    }

    pub(super) fn broken(&mut self, problem: impl Into<String>) -> Error {
        self.close();
        Error::Protocol { server: self.server.clone(), problem: problem.into() }
    }

    /// Waits for more bytes in the inbox. Safe to drop.
    pub(super) async fn fill(&mut self) -> Result<()> {
        let read = std::future::poll_fn(|cx| self.poll_fill(cx)).await;
        match read {
            Ok(0) => Err(self.lost(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection"))),
            Ok(_) => Ok(()),
            Err(source) => Err(self.lost(source)),
        }
    }

    fn poll_fill(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let Some(transport) = &mut self.transport else { return Poll::Ready(Err(closed())) };
        if self.inbox.capacity() - self.inbox.len() < READ_BYTES / 4 {
            self.inbox.reserve(READ_BYTES);
        }
        tokio_util::io::poll_read_buf(Pin::new(transport), cx, &mut self.inbox)
    }

    /// Sends the outbox.
    pub(super) async fn flush(&mut self) -> Result<()> {
        self.flush_with(&mut Bytes::new()).await
    }

    /// Sends the outbox, then `payload`. Whatever the server says meanwhile goes into the inbox, so that neither side waits for the
    /// other for ever. Dropped midway, the stream is torn: the caller must not go on.
    pub(super) async fn flush_with(&mut self, payload: &mut Bytes) -> Result<()> {
        let sent = std::future::poll_fn(|cx| self.poll_flush_with(cx, payload)).await;
        sent.map_err(|source| self.lost(source))
    }

    fn poll_flush_with(&mut self, cx: &mut Context<'_>, payload: &mut Bytes) -> Poll<io::Result<()>> {
        loop {
            let Some(transport) = &mut self.transport else { return Poll::Ready(Err(closed())) };
            let mut transport = Pin::new(transport);
            let written = if self.outbox.is_empty() && payload.is_empty() {
                ready!(transport.poll_flush(cx))?;
                return Poll::Ready(Ok(()));
            } else {
                transport.as_mut().poll_write_vectored(cx, &[IoSlice::new(&self.outbox), IoSlice::new(payload)])
            };
            match written {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Poll::Ready(Ok(count)) => {
                    let first = count.min(self.outbox.len());
                    self.outbox.advance(first);
                    payload.advance(count - first);
                }
                // The server may have said why before it hung up.
                Poll::Ready(Err(error)) => {
                    while let Poll::Ready(Ok(1..)) = self.poll_fill(cx) {}
                    return Poll::Ready(Err(error));
                }
                Poll::Pending => match self.poll_fill(cx) {
                    Poll::Ready(Ok(0)) => return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into())),
                    Poll::Ready(Ok(_)) => {}
                    Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                    Poll::Pending => return Poll::Pending,
                },
            }
        }
    }

    /// Takes what the server has said so far into the inbox, without waiting.
    pub(super) async fn peek(&mut self) -> Result<()> {
        let read = std::future::poll_fn(|cx| Poll::Ready(self.poll_fill(cx))).await;
        match read {
            Poll::Ready(Ok(0)) => {
                Err(self.lost(io::Error::new(io::ErrorKind::UnexpectedEof, "the server closed the connection")))
            }
            Poll::Ready(Err(source)) => Err(self.lost(source)),
            Poll::Ready(Ok(_)) | Poll::Pending => Ok(()),
        }
    }

    /// Takes what has come, without waiting, until there are so many bytes in the inbox; how many there are. That the server
    /// has hung up is told when its last words have been read.
    pub(super) async fn gather(&mut self, enough: usize) -> usize {
        while self.inbox.len() < enough {
            let before = self.inbox.len();
            if self.peek().await.is_err() || self.inbox.len() == before {
                break;
            }
        }
        self.inbox.len()
    }

    /// The next message that is an answer. Safe to drop.
    pub(super) async fn next(&mut self) -> Result<Message> {
        loop {
            if let Some(message) = self.next_buffered()? {
                return Ok(message);
            }
            self.fill().await?;
        }
    }

    /// The next message that is an answer; `None` if data of a COPY come next and not all of their message is there: it may have a
    /// gigabyte, and is taken out of the inbox in pieces. Safe to drop.
    pub(super) async fn next_unless_data(&mut self) -> Result<Option<Message>> {
        loop {
            if let Some(message) = self.next_buffered()? {
                return Ok(Some(message));
            }
            if self.inbox.first() == Some(&COPY_DATA_TAG) {
                return Ok(None);
            }
            self.fill().await?;
        }
    }

    /// The next message that is an answer, if all of it is in the inbox.
    pub(super) fn next_buffered(&mut self) -> Result<Option<Message>> {
        while let Some(length) = self.length()? {
            if self.inbox.len() < 1 + length {
                return Ok(None);
            }
            let mut frame = self.inbox.split_to(1 + length);
            match Message::parse(&mut frame) {
                Ok(Some(Message::NoticeResponse(body))) => {
                    if self.notices.len() < KEPT_NOTICES {
                        self.notices.push(decode_error(body.fields()));
                    }
                }
                Ok(Some(Message::ParameterStatus(body))) => {
                    if let (Ok(name), Ok(value)) = (body.name(), body.value()) {
                        self.parameters.insert(name.to_owned(), value.to_owned());
                    }
                }
                Ok(Some(Message::NotificationResponse(_))) => {}
                Ok(Some(message)) => return Ok(Some(message)),
                Ok(None) => return Err(self.broken("a message is shorter than it says")),
                Err(error) => return Err(self.broken(error.to_string())),
            }
        }
        Ok(None)
    }

    /// The length of the message at the beginning of the inbox, without its tag; `None` until it is known.
    fn length(&mut self) -> Result<Option<usize>> {
        if self.inbox.len() < 5 {
            return Ok(None);
        }
        let length = u32::from_be_bytes([self.inbox[1], self.inbox[2], self.inbox[3], self.inbox[4]]) as usize;
        if !(4..=i32::MAX as usize).contains(&length) || length > self.longest_message {
            return Err(self.broken("a message has an impossible length; is it a PostgreSQL server?"));
        }
        Ok(Some(length))
    }
}

fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::NotConnected, "the connection is closed")
}

/// An error or notice, whatever its encoding.
pub(super) fn decode_error(mut fields: ErrorFields<'_>) -> ServerError {
    let mut error = ServerError::default();
    let mut translated = String::new();
    while let Ok(Some(field)) = fields.next() {
        let text = String::from_utf8_lossy(field.value_bytes()).into_owned();
        match field.type_() {
            b'V' => error.severity = text,
            b'S' => translated = text,
            b'C' => error.sqlstate = text,
            b'M' => error.message = text,
            b'D' => error.detail = Some(text),
            b'H' => error.hint = Some(text),
            b'W' => error.context = Some(text),
            b'P' => error.position = text.parse().ok(),
            b's' => error.schema = Some(text),
            b't' => error.table = Some(text),
            b'c' => error.column = Some(text),
            b'd' => error.data_type = Some(text),
            b'n' => error.constraint = Some(text),
            _ => {}
        }
    }
    if error.severity.is_empty() {
        error.severity = translated;
    }
    error
}
