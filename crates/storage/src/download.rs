//! Reading an object: ranged requests of a bounded size, a few ahead of the reader, taken up again at the byte where they broke.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use futures::stream::{self, StreamExt};
use object_store::path::Path;
use object_store::{GetOptions, GetRange, ObjectMeta, ObjectStore};
use tokio_util::task::AbortOnDropHandle;

use crate::classify::Facts;
use crate::object::Inner;
use crate::{ByteStream, Cause, Error, ErrorKind, Key, Result};

/// The longest pause between two attempts; the first is a tenth of a second, and they double.
const LONGEST_PAUSE: Duration = Duration::from_secs(20);

/// What is being read: one version of one object.
#[derive(Debug)]
struct Object {
    key: Key,
    path: Path,
    meta: ObjectMeta,
}

/// The bytes of `key`, or of a range of it. The first request is made, and answered, before this returns.
pub(crate) async fn open(inner: Arc<Inner>, key: Key, range: Option<Range<u64>>) -> Result<ByteStream> {
    if range.as_ref().is_some_and(|range| range.start >= range.end) {
        return nothing(&inner, &key, range).await;
    }
    let path = inner.path(&key)?;
    let (start, end) = range.as_ref().map_or((0, u64::MAX), |range| (range.start, range.end));
    let first = start..end.min(start.saturating_add(inner.transfer.read_bytes));
    let (first, meta) = match fetch(&inner, &key, &path, first, None).await {
        Ok(answer) => answer,
        // No store serves a range that begins at the end of an object, be it empty or not: is it that?
        Err(error) if error.kind() == ErrorKind::Other => {
            let bytes = inner.head(&key).await?.bytes;
            return if start >= bytes { nothing(&inner, &key, range).await } else { Err(error) };
        }
        Err(error) => return Err(error),
    };
    let end = range.map_or(meta.size, |range| range.end);
    if end > meta.size {
        return Err(out_of_range(&inner, &key, start..end, meta.size));
    }
    let next = start + first.len() as u64;
    let object = Arc::new(Object { key, path, meta });
    let rest = Rest { inner, object, unasked: next..end, asked: VecDeque::new() };
    let rest = stream::try_unfold(rest, |mut rest| async move { Ok(rest.next().await?.map(|piece| (piece, rest))) });
    Ok(stream::once(std::future::ready(Ok(first))).chain(rest).boxed())
}

/// No bytes, if `range` holds none that the object has not.
async fn nothing(inner: &Inner, key: &Key, range: Option<Range<u64>>) -> Result<ByteStream> {
    let bytes = inner.head(key).await?.bytes;
    let range = range.unwrap_or(0..bytes);
    if range.start == range.end && range.end <= bytes {
        return Ok(stream::empty().boxed());
    }
    Err(out_of_range(inner, key, range, bytes))
}

fn out_of_range(inner: &Inner, key: &Key, range: Range<u64>, bytes: u64) -> Error {
    let (key, location) = (key.to_string(), inner.location.clone());
    Error::OutOfRange { key, location, start: range.start, end: range.end, bytes }
}

/// What follows the first request.
struct Rest {
    inner: Arc<Inner>,
    object: Arc<Object>,
    unasked: Range<u64>,
    /// Requests under way, in order. They run by themselves, however slow the reader is, and end with it.
    asked: VecDeque<AbortOnDropHandle<Result<Bytes>>>,
}

impl Rest {
    async fn next(&mut self) -> Result<Option<Bytes>> {
        while self.asked.len() < self.inner.transfer.reads_in_flight.max(1) && !self.unasked.is_empty() {
            let end = self.unasked.end.min(self.unasked.start + self.inner.transfer.read_bytes);
            let range = std::mem::replace(&mut self.unasked.start, end)..end;
            let (inner, object) = (Arc::clone(&self.inner), Arc::clone(&self.object));
            let request = tokio::spawn(async move {
                // All that was seen of the object makes sure that this is of the same version.
                let seen = Some(object.meta.clone());
                fetch(&inner, &object.key, &object.path, range, seen).await.map(|(bytes, _)| bytes)
            });
            self.asked.push_back(AbortOnDropHandle::new(request));
        }
        // Awaited in its place, so that a future that is dropped loses nothing.
        let Some(oldest) = self.asked.front_mut() else { return Ok(None) };
        let outcome = oldest.await;
        self.asked.pop_front();
        match outcome {
            Ok(piece) => piece.map(Some),
            Err(failed) => Err(Error::Failed {
                doing: format!("read {}", self.object.key),
                location: self.inner.location.clone(),
                source: Box::new(Cause::new(format!("the request ended without an answer: {failed}"))),
            }),
        }
    }
}

/// The bytes of `range`, up to the object's end. Tried again, from the byte where it broke, until patience ends.
/// A store that has not answered at all yet gets no more than the client's own few retries: it may not be there.
async fn fetch(
    inner: &Inner,
    key: &Key,
    path: &Path,
    range: Range<u64>,
    mut seen: Option<ObjectMeta>,
) -> Result<(Bytes, ObjectMeta)> {
    let mut got = BytesMut::new();
    let mut pause = Duration::from_millis(100);
    let mut waiting_since = Instant::now();
    loop {
        let had = got.len();
        let error = match fetch_some(inner, path, &range, &mut got, &mut seen).await {
            Ok(()) => {
                let meta = seen.expect("an answer came");
                return Ok((got.freeze(), meta));
            }
            Err(error) => error,
        };
        if got.len() > had {
            (waiting_since, pause) = (Instant::now(), Duration::from_millis(100));
        }
        let out_of_patience = seen.is_none() || waiting_since.elapsed() + pause > inner.transfer.patience;
        let give_up = match &error {
            Broken::Store(error) => out_of_patience || !Facts::of(error).is_passing(),
            Broken::Short => out_of_patience,
            Broken::Replaced => true,
        };
        if give_up {
            return Err(match error {
                Broken::Store(error) => inner.error("read", key, &error),
                Broken::Short => Error::Unreachable {
                    doing: format!("read {key}"),
                    location: inner.location.clone(),
                    source: Box::new(Cause::new("answers end before they are complete")),
                },
                Broken::Replaced => Error::Changed { key: key.to_string(), location: inner.location.clone() },
            });
        }
        tracing::debug!(location = %inner.location, %key, at = range.start + got.len() as u64, "reading broke off; going on from there");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

/// How an attempt ended before its end.
enum Broken {
    Store(object_store::Error),
    Short,
    Replaced,
}

impl From<object_store::Error> for Broken {
    fn from(error: object_store::Error) -> Self {
        Self::Store(error)
    }
}

/// One attempt: what is missing of `range` is asked for, and what comes is added to `got`.
async fn fetch_some(
    inner: &Inner,
    path: &Path,
    range: &Range<u64>,
    got: &mut BytesMut,
    seen: &mut Option<ObjectMeta>,
) -> Result<(), Broken> {
    let missing = range.start + got.len() as u64..range.end;
    let options = GetOptions { range: Some(GetRange::Bounded(missing.clone())), ..GetOptions::default() };
    let answer = inner.clients.quick.get_opts(path, options).await?;
    if seen.as_ref().is_some_and(|seen| seen.size != answer.meta.size || seen.e_tag != answer.meta.e_tag) {
        return Err(Broken::Replaced);
    }
    let end = missing.end.min(answer.meta.size);
    *seen = Some(answer.meta.clone());
    if answer.range != (missing.start..end) {
        return Err(Broken::Short);
    }
    got.reserve((end - missing.start) as usize);
    let mut pieces = answer.into_stream();
    while let Some(piece) = pieces.next().await {
        let piece = piece?;
        let left = (end - range.start) as usize - got.len();
        got.extend_from_slice(&piece[..piece.len().min(left)]);
    }
    if range.start + got.len() as u64 == end { Ok(()) } else { Err(Broken::Short) }
}
