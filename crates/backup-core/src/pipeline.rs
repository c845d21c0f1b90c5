//! From a dump's blocks to frames at every destination: tap, compress, put in order, encrypt, digest, store.
//!
//! Blocks come in segments, one or several at a time. Each block is hashed row by row and compressed by one of several
//! workers, side by side; the frames are taken up in archive order again, handed to every store, and sequenced (digests,
//! index) on a thread of its own while the stores are writing. Whatever is slowest brakes all that comes before it: memory
//! is bounded by what is under way, some segments with a few blocks and frames each.

use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use pgkeep_archive::Block;
use pgkeep_compress::Codec;
use pgkeep_dump::{DumpStream, StreamSegment};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinHandle;

use crate::buffers::Buffers;
use crate::lanes::Lanes;
use crate::progress::Progress;
use crate::sealing::Sealing;
use crate::sequencer::{Frame, Sequencer};
use crate::tap::tally;
use crate::{Error, FingerprintKey, Recipients, Result, StoredDigest};

/// Frames between the workers and the sequencer.
const WAITING: usize = 2;

/// What turns blocks into frames.
#[derive(Debug, Clone)]
pub(crate) struct Pipeline {
    /// The backup's name, for errors.
    pub(crate) backup: String,
    pub(crate) codec: Arc<dyn Codec>,
    /// Blocks compressed at once.
    pub(crate) jobs: usize,
    pub(crate) key: FingerprintKey,
    /// Whom the stored bytes are encrypted to, if they are.
    pub(crate) recipients: Option<Recipients>,
}

impl Pipeline {
    /// Whether frames are their blocks.
    pub(crate) fn stores_plain(&self) -> bool {
        self.codec.extension().is_empty()
    }

    /// Moves everything `dump` yields into `lanes`. When it returns, every byte was taken by the stores that are left,
    /// and the dump has nothing more to say but its verdict, which is not asked for here.
    ///
    /// Encrypted, what is stored is not what was sequenced: its size and digest come apart.
    pub(crate) async fn run(
        &self,
        dump: &mut DumpStream,
        lanes: &mut Lanes,
        progress: &mut Progress,
    ) -> Result<(Sequencer, Option<StoredDigest>)> {
        progress.expect(&dump.toc);
        let sequencer = Sequencer::new(self.key, &dump.toc, self.recipients.is_some());
        let (ordered, sequencing) = self.sequence(sequencer);
        let frames = self.frames(dump);
        let mut frames = std::pin::pin!(frames);
        let encrypted = if let Some(recipients) = &self.recipients {
            let Sealing { frames: sealing, mut pieces, task } = Sealing::spawn(recipients.clone());
            let feeding = async {
                while let Some(frame) = frames.try_next().await? {
                    let taken = sealing.send(frame.stored.clone()).await.is_ok();
                    progress.block(&frame.block);
                    if !taken || ordered.send(frame).await.is_err() {
                        break;
                    }
                }
                drop((sealing, ordered));
                Ok::<(), Error>(())
            };
            let storing = async {
                while let Some(piece) = pieces.recv().await {
                    lanes.send(&piece).await?;
                }
                Ok::<(), Error>(())
            };
            tokio::try_join!(feeding, storing)?;
            Some(joined(task.await)??)
        } else {
            while let Some(frame) = frames.try_next().await? {
                lanes.send(&frame.stored).await?;
                progress.block(&frame.block);
                if ordered.send(frame).await.is_err() {
                    break;
                }
            }
            drop(ordered);
            None
        };
        let sequencer = joined(sequencing.await)??;
        lanes.close().await?;
        progress.finish();
        Ok((sequencer, encrypted))
    }

    /// The frames of a dump, in order, made side by side: of several segments at once, and of several blocks of each.
    fn frames(&self, dump: &mut DumpStream) -> impl futures::Stream<Item = Result<Frame>> + use<> {
        let (_, none) = mpsc::channel(1);
        let mut segments = std::mem::replace(&mut dump.segments, none);
        // A single segment needs every worker for itself; several at once share them.
        let ahead = if dump.engine == "pg_dump" { self.jobs + 1 } else { 2 };
        let press = Press {
            ahead,
            worker: self.clone(),
            buffers: Buffers::new(self.jobs + WAITING),
            permits: Arc::new(Semaphore::new(self.jobs)),
        };
        let (presses, pressed) = mpsc::channel::<mpsc::Receiver<Result<Frame>>>(self.jobs);
        // Ends when the segments do, or when nobody wants frames any more.
        let task = tokio::spawn(async move {
            while let Some(segment) = segments.recv().await {
                let (frames, receiver) = mpsc::channel(WAITING);
                tokio::spawn(press.clone().run(segment, frames));
                if presses.send(receiver).await.is_err() {
                    break;
                }
            }
        });
        let state = (pressed, None::<mpsc::Receiver<Result<Frame>>>, AbortOnDrop(task));
        stream::unfold(state, async |(mut pressed, mut current, task)| {
            loop {
                match &mut current {
                    None => current = Some(pressed.recv().await?),
                    Some(frames) => match frames.recv().await {
                        Some(frame) => return Some((frame, (pressed, current, task))),
                        None => current = None,
                    },
                }
            }
        })
    }

    /// One worker's work.
    fn frame(&self, block: Block, buffers: &Buffers) -> Result<Frame> {
        let tallies = tally(&self.key, &block);
        let stored = if self.stores_plain() {
            block.bytes.clone()
        } else {
            let mut frame = buffers.take();
            self.codec.encode(&block.bytes, &mut frame).map_err(|error| Error::Task(error.to_string()))?;
            buffers.freeze(frame)
        };
        Ok(Frame { block, stored, tallies })
    }

    /// A thread that sequences what it is sent, and gives the sequencer back when there is no more.
    fn sequence(&self, mut sequencer: Sequencer) -> (mpsc::Sender<Frame>, JoinHandle<Result<Sequencer>>) {
        let (sender, mut frames) = mpsc::channel::<Frame>(WAITING);
        let backup = self.backup.clone();
        let task = tokio::task::spawn_blocking(move || {
            while let Some(frame) = frames.blocking_recv() {
                sequencer.absorb(&frame).map_err(|source| Error::Archive { backup: backup.clone(), source })?;
            }
            Ok(sequencer)
        });
        (sender, task)
    }
}

/// What makes the frames of one segment.
#[derive(Debug, Clone)]
struct Press {
    /// Blocks of one segment under way.
    ahead: usize,
    worker: Pipeline,
    buffers: Buffers,
    /// Shared by all segments.
    permits: Arc<Semaphore>,
}

impl Press {
    /// Makes frames of the segment's blocks, in order, until there are no more or nobody wants them.
    async fn run(self, segment: StreamSegment, frames: mpsc::Sender<Result<Frame>>) {
        let ahead = self.ahead;
        let blocks = stream::unfold(segment.blocks, async |mut blocks| Some((blocks.recv().await?, blocks)));
        let made = blocks
            .filter(|block| std::future::ready(block.as_ref().map_or(true, |block| !block.bytes.is_empty())))
            .map(|block| {
                // On its own: whoever gets a permit must use it, even while this segment waits for its turn.
                let mut task = AbortOnDrop(tokio::spawn(self.clone().frame(block)));
                async move { joined((&mut task.0).await)? }
            })
            .buffered(ahead);
        let mut made = std::pin::pin!(made);
        while let Some(frame) = made.next().await {
            if frames.send(frame).await.is_err() {
                break;
            }
        }
    }

    async fn frame(self, block: pgkeep_dump::Result<Block>) -> Result<Frame> {
        let block = block?;
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|error| Error::Task(error.to_string()))?;
        let (worker, buffers) = (self.worker.clone(), self.buffers.clone());
        joined(
            tokio::task::spawn_blocking(move || {
                let _permit = permit;
                worker.frame(block, &buffers)
            })
            .await,
        )?
    }
}

/// A task that ends with its owner.
pub(crate) struct AbortOnDrop<T>(pub(crate) JoinHandle<T>);

impl<T> Drop for AbortOnDrop<T> {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What a task gave, or why it gave nothing.
pub(crate) fn joined<T>(outcome: Result<T, tokio::task::JoinError>) -> Result<T> {
    outcome.map_err(|error| Error::Task(error.to_string()))
}
