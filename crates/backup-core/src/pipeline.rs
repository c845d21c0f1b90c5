//! From a dump's blocks to frames at every destination: tap, compress, put in order, encrypt, digest, store.
//!
//! Blocks come in archive order. Each is hashed row by row and compressed by one of several workers, side by side; the
//! frames are taken up in order again, handed to every store, and sequenced (digests, index) on a thread of its own
//! while the stores are writing. Whatever is slowest brakes all that comes before it: memory is bounded by what is
//! under way, `jobs` + 1 blocks with their frames and a few more between the stages.

use std::sync::Arc;

use futures::stream::{self, StreamExt, TryStreamExt};
use pgkeep_archive::Block;
use pgkeep_compress::Codec;
use pgkeep_dump::{DumpStream, StreamSegment};
use tokio::sync::mpsc;
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
        let stored_elsewhere = self.stores_plain() || self.recipients.is_some();
        let sequencer = Sequencer::new(self.key, &dump.toc, stored_elsewhere);
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

    /// The frames of a dump, in order, made side by side.
    fn frames<'d>(&self, dump: &'d mut DumpStream) -> impl futures::Stream<Item = Result<Frame>> + use<'d> {
        let buffers = Buffers::new(self.jobs + WAITING);
        let worker = self.clone();
        blocks(dump)
            .map(move |block| {
                let (worker, buffers) = (worker.clone(), buffers.clone());
                async move {
                    let block = block?;
                    joined(tokio::task::spawn_blocking(move || worker.frame(block, &buffers)).await)?
                }
            })
            .buffered(self.jobs + 1)
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

/// The blocks of a dump, segment after segment.
fn blocks(dump: &mut DumpStream) -> impl futures::Stream<Item = Result<Block>> {
    let state = (&mut dump.segments, None::<StreamSegment>);
    stream::unfold(state, async |(segments, mut current)| {
        loop {
            match &mut current {
                None => current = Some(segments.recv().await?),
                Some(segment) => match segment.blocks.recv().await {
                    Some(Ok(block)) if block.bytes.is_empty() => {}
                    Some(block) => return Some((block.map_err(Error::from), (segments, current))),
                    None => current = None,
                },
            }
        }
    })
}

/// What a task gave, or why it gave nothing.
pub(crate) fn joined<T>(outcome: Result<T, tokio::task::JoinError>) -> Result<T> {
    outcome.map_err(|error| Error::Task(error.to_string()))
}
