//! Reading frames: fetched in order, decompressed side by side, handed on in order again.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use futures::stream::{self, BoxStream, StreamExt, TryStreamExt};
use pgkeep_compress::{Codec, Compression};
use pgkeep_storage::{Error as StorageError, Key, Storage};

use crate::pipeline::joined;
use crate::plain::{Digester, Gone, Pieces, Slicer};
use crate::sealed::SealedArchive;
use crate::{Error, Meta, Result, objects};

/// What is allocated for a frame before any byte of it is there.
const BELIEVED: usize = 16 << 20;

/// A framed archive in a store.
#[derive(Debug, Clone)]
pub(crate) struct FramedArchive {
    pub(crate) meta: Arc<Meta>,
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) key: Key,
    /// How its bytes are had if it is encrypted.
    pub(crate) sealed: Option<Arc<SealedArchive>>,
}

/// A frame and what it holds.
#[derive(Debug)]
struct Decoded {
    frame: usize,
    stored: Bytes,
    plain: Bytes,
}

impl FramedArchive {
    /// Sends the whole plain archive, and checks sizes and digests at its end.
    pub(crate) async fn send_all(self, jobs: usize, pieces: Pieces) -> Result<()> {
        // Of an encrypted archive, what is compressed is not what is stored; that is digested before it is decrypted.
        let digester = Digester::spawn(self.sealed.is_none());
        let all = 0..self.meta.frames.len();
        let mut decoded = std::pin::pin!(self.decoded(vec![all], jobs)?);
        while let Some(Decoded { stored, plain, .. }) = decoded.try_next().await? {
            digester.take(stored, plain.clone()).await;
            if let Err(Gone) = pieces.send(plain).await {
                return Ok(());
            }
        }
        digester.check(&self.meta, &self.object()).await
    }

    /// Sends what `slicer` wants of the frames of `runs`, in order.
    pub(crate) async fn send_runs(
        self,
        runs: Vec<Range<usize>>,
        jobs: usize,
        slicer: Slicer,
        pieces: Pieces,
    ) -> Result<()> {
        let offsets = self.meta.frames.plain_offsets();
        let mut decoded = std::pin::pin!(self.decoded(runs, jobs)?);
        while let Some(Decoded { frame, plain, .. }) = decoded.try_next().await? {
            if let Err(Gone) = pieces.send_all(slicer.cut(offsets[frame], &plain)).await {
                break;
            }
        }
        Ok(())
    }

    /// The frames that hold `range` of the plain archive.
    pub(crate) fn holding(offsets: &[u64], range: &Range<u64>) -> Range<usize> {
        let first = offsets.partition_point(|&offset| offset <= range.start).saturating_sub(1);
        let last = offsets.partition_point(|&offset| offset < range.end);
        first..last.clamp(first, offsets.len().saturating_sub(1))
    }

    fn decoded(
        &self,
        runs: Vec<Range<usize>>,
        jobs: usize,
    ) -> Result<impl futures::Stream<Item = Result<Decoded>> + use<>> {
        let label = &self.meta.compression;
        let compression: Compression = label.parse().map_err(|_| Error::Meta {
            object: self.meta.file(),
            reason: format!("it names a compression that is not known here: {label}"),
        })?;
        let (codec, archive) = (compression.codec(), self.clone());
        let decode = move |fetched: Result<(usize, Bytes)>| {
            let (codec, archive) = (Arc::clone(&codec), archive.clone());
            async move {
                let (frame, stored) = fetched?;
                joined(tokio::task::spawn_blocking(move || archive.decode(codec.as_ref(), frame, stored)).await)?
            }
        };
        Ok(self.fetched(runs).map(decode).buffered(jobs.max(1) + 1))
    }

    fn decode(&self, codec: &dyn Codec, frame: usize, stored: Bytes) -> Result<Decoded> {
        let expected = self.meta.frames.plain[frame] as usize;
        let plain = if codec.extension().is_empty() {
            stored.clone()
        } else {
            let mut plain = Vec::new();
            let damaged = |source| Error::Frame { backup: self.meta.id.to_string(), frame: frame as u64, source };
            codec.decode(&stored, &mut plain, expected).map_err(damaged)?;
            plain.into()
        };
        if plain.len() != expected {
            let reason = format!("frame {frame} holds {} plain bytes instead of {expected}", plain.len());
            return Err(Error::Damaged { object: self.object(), reason });
        }
        Ok(Decoded { frame, stored, plain })
    }

    /// The stored frames of `runs`, each run by one request.
    fn fetched(&self, runs: Vec<Range<usize>>) -> impl futures::Stream<Item = Result<(usize, Bytes)>> + use<> {
        let fetch = Fetch {
            offsets: self.meta.frames.stored_offsets(),
            archive: self.clone(),
            runs: runs.into_iter().filter(|run| !run.is_empty()).collect(),
            current: None,
        };
        stream::try_unfold(fetch, |mut fetch| async move { Ok(fetch.next().await?.map(|frame| (frame, fetch))) })
    }

    fn object(&self) -> String {
        format!("{}/{}", self.storage.location(), self.key)
    }

    /// The bytes of its frames, or a range of them.
    async fn read(&self, range: Option<Range<u64>>) -> Result<BoxStream<'static, Result<Bytes>>> {
        if let Some(sealed) = &self.sealed {
            return sealed.read(range).await;
        }
        let pieces = self.storage.read(&self.key, range).await.map_err(|error| self.failed(error))?;
        let archive = self.clone();
        Ok(pieces.map_err(move |error| archive.failed(error)).boxed())
    }

    /// An error of the store, or of what it holds: a missing part is damage.
    fn failed(&self, error: StorageError) -> Error {
        match error {
            StorageError::OutOfRange { bytes, .. } => {
                let reason = format!("it has {bytes} bytes instead of {}", self.meta.stored.bytes);
                Error::Damaged { object: self.object(), reason }
            }
            error => objects::at(self.storage.as_ref())(error),
        }
    }
}

/// Fetching runs of frames.
struct Fetch {
    archive: FramedArchive,
    offsets: Vec<u64>,
    runs: VecDeque<Range<usize>>,
    current: Option<(Range<usize>, Cutter)>,
}

impl Fetch {
    async fn next(&mut self) -> Result<Option<(usize, Bytes)>> {
        loop {
            if let Some((frames, cutter)) = &mut self.current {
                if let Some(frame) = frames.next() {
                    let stored = cutter.take(&self.archive, self.archive.meta.frames.stored[frame] as usize).await?;
                    return Ok(Some((frame, stored)));
                }
                // Also what lies behind the last frame would be a difference.
                cutter.end(&self.archive).await?;
                self.current = None;
            }
            let Some(run) = self.runs.pop_front() else { return Ok(None) };
            let whole = run == (0..self.archive.meta.frames.len());
            let range = (!whole).then(|| self.offsets[run.start]..self.offsets[run.end]);
            let pieces = self.archive.read(range).await?;
            self.current = Some((run, Cutter { pieces, rest: Bytes::new(), taken: 0 }));
        }
    }
}

/// Cuts a stream of pieces into frames.
struct Cutter {
    pieces: BoxStream<'static, Result<Bytes>>,
    rest: Bytes,
    taken: u64,
}

impl Cutter {
    async fn take(&mut self, archive: &FramedArchive, bytes: usize) -> Result<Bytes> {
        self.taken += bytes as u64;
        if self.rest.is_empty() {
            self.rest = self.piece().await?.unwrap_or_default();
        }
        if self.rest.len() >= bytes {
            return Ok(self.rest.split_to(bytes));
        }
        let mut frame = BytesMut::with_capacity(bytes.min(BELIEVED));
        frame.extend_from_slice(&self.rest);
        self.rest = Bytes::new();
        while frame.len() < bytes {
            let Some(mut piece) = self.piece().await? else {
                let missing = (bytes - frame.len()) as u64;
                let reason =
                    format!("it ends {missing} bytes before the end of a frame, at byte {}", self.taken - missing);
                return Err(Error::Damaged { object: archive.object(), reason });
            };
            let part = piece.split_to(piece.len().min(bytes - frame.len()));
            frame.extend_from_slice(&part);
            self.rest = piece;
        }
        Ok(frame.freeze())
    }

    async fn end(&mut self, archive: &FramedArchive) -> Result<()> {
        if self.rest.is_empty() {
            self.rest = self.piece().await?.unwrap_or_default();
        }
        if self.rest.is_empty() {
            return Ok(());
        }
        let reason = format!("it goes on after its last frame, at byte {}", self.taken);
        Err(Error::Damaged { object: archive.object(), reason })
    }

    async fn piece(&mut self) -> Result<Option<Bytes>> {
        loop {
            match self.pieces.try_next().await? {
                Some(piece) if piece.is_empty() => {}
                piece => return Ok(piece),
            }
        }
    }
}
