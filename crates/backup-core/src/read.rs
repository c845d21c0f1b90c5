//! Reading a backup back: stored bytes → frames → plain archive, every byte checked on the way.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use pgkeep_archive::{BlockWriter, Decoder, Event, Toc};
use pgkeep_compress::detect;
use pgkeep_dump::PrivateFacts;
use pgkeep_storage::{Key, Storage};
use tokio::sync::OnceCell;

use crate::frames::FramedArchive;
use crate::identities::{Locked, is_encrypted};
use crate::inventory::only_data_of;
use crate::meta::LARGEST_FRAME;
use crate::pipeline::joined;
use crate::plain::{Digested, Gone, Pieces, Slicer};
use crate::prune::beside;
use crate::sealed::SealedArchive;
use crate::unframed::{PlainSink, UnframedArchive};
use crate::{CatalogEntry, Error, Identities, Keeper, Meta, PlainArchive, Result, objects};

/// Plain bytes of the blocks of archives that are cut anew.
const BLOCK_BYTES: usize = 4 << 20;

/// Something restorable: one copy of a catalogued backup, or a foreign archive (pg_dump -Fc, plain or compressed outside).
#[derive(Debug, Clone)]
pub struct BackupSource {
    /// Its meta; `None` for a foreign archive.
    pub meta: Option<Arc<Meta>>,
    /// The store.
    pub storage: Arc<dyn Storage>,
    /// The archive's key.
    pub key: Key,
    /// For people: `bucket`, or the URL.
    pub place: String,
    /// What opens it, should it be encrypted.
    identities: Identities,
    /// How the bytes of an encrypted archive are had; its header is read once for all that is made of this.
    sealed: Option<Arc<SealedArchive>>,
    /// Header and TOC, once they were read: an archive is never changed.
    known: Arc<OnceCell<Arc<Toc>>>,
}

impl BackupSource {
    /// The copy of `entry` that is nearest and readable now: not found damaged, not in an archive tier, if there is one.
    /// Opened, if it is encrypted ([`Self::opened`]).
    pub fn nearest(keeper: &Keeper, entry: &CatalogEntry) -> Result<Self> {
        let there = || entry.copies.iter().filter(|copy| copy.stored_bytes.is_some());
        let online = |copy: &&crate::Copy| !copy.storage_class.as_deref().is_some_and(is_archive_tier);
        let good = |copy: &&crate::Copy| entry.good_at(copy.destination);
        let best = there().filter(online).find(good).or_else(|| there().find(good));
        let copy = best.or_else(|| there().find(online)).or_else(|| there().next());
        let missing =
            || Error::NotFound { wanted: format!("the archive of {}", entry.meta.id), candidates: Vec::new() };
        let copy = copy.ok_or_else(missing)?;
        Self::copy(keeper, entry, copy).opened()
    }

    /// One copy of `entry`. Of an encrypted one, only the stored bytes can be read until it is [`Self::opened`].
    pub fn copy(keeper: &Keeper, entry: &CatalogEntry, copy: &crate::Copy) -> Self {
        Self {
            meta: Some(Arc::clone(&entry.meta)),
            storage: Arc::clone(&keeper.destinations[copy.destination].storage),
            key: copy.key.clone(),
            place: copy.name.clone(),
            identities: keeper.identities.clone(),
            sealed: None,
            known: Arc::default(),
        }
    }

    /// The same with its whole meta, and with what decrypts the archive; as it is, if it is not encrypted.
    /// Fails with [`Error::KeyMissing`] or [`Error::KeyWrong`].
    pub fn opened(mut self) -> Result<Self> {
        let Some(meta) = self.meta.as_mut().filter(|meta| meta.encryption.is_some()) else { return Ok(self) };
        if meta.is_sealed() {
            *meta = Arc::new(meta.unseal(&self.identities)?);
        }
        let (storage, identities) = (Arc::clone(&self.storage), self.identities.clone());
        let sealed = SealedArchive::new(storage, self.key.clone(), meta.stored.clone(), identities);
        self.sealed = Some(Arc::new(sealed));
        Ok(self)
    }

    /// The same with these keys.
    #[must_use]
    pub fn with_identities(self, identities: &Identities) -> Self {
        Self { identities: identities.clone(), sealed: None, ..self }
    }

    /// A foreign archive.
    pub fn foreign(storage: Arc<dyn Storage>, key: Key) -> Self {
        let place = format!("{}/{key}", storage.location());
        Self { meta: None, storage, key, place, identities: Identities::default(), sealed: None, known: Arc::default() }
    }

    /// Its name for people and errors: the backup's, or the object's.
    pub fn name(&self) -> String {
        self.meta.as_ref().map_or_else(|| self.key.to_string(), |meta| meta.id.to_string())
    }

    /// Opens the whole plain archive; frames are decompressed side by side by up to `jobs` threads, order kept.
    #[expect(clippy::unused_async, reason = "part of the interface: a store may be asked something first")]
    pub async fn open(&self, jobs: usize) -> Result<PlainArchive> {
        self.opened_already()?;
        if let Some(framed) = self.framed() {
            return Ok(PlainArchive::from_task(move |pieces| framed.send_all(jobs, pieces)));
        }
        let unframed = self.unframed();
        Ok(PlainArchive::from_task(move |pieces| unframed.send_all(pieces)))
    }

    /// Opens a reduced archive: header and TOC with only the wanted entries marked as having data, then their data blocks.
    ///
    /// Where the backup has a frame index, only the frames of those entries are fetched; whole-archive digests then
    /// can't be compared, the frames' own checksums still are.
    pub async fn open_entries(&self, dump_ids: &[i32], jobs: usize) -> Result<PlainArchive> {
        let toc = self.toc().await?;
        let reduced = only_data_of(&toc, dump_ids).map_err(|source| self.damaged(source))?;
        let Some(meta) = &self.meta else {
            let (unframed, name) = (self.unframed(), self.name());
            return Ok(PlainArchive::from_task(move |pieces| cut_anew(unframed, name, reduced, pieces)));
        };
        let blocks = meta.data_blocks();
        let wanted: Vec<Range<u64>> =
            blocks.into_iter().filter(|(dump_id, _)| dump_ids.contains(dump_id)).map(|(_, range)| range).collect();
        let slicer = Slicer::new(wanted.clone());
        let head = reduced.raw.clone();
        if let Some(framed) = self.framed() {
            let runs = runs(&meta.frames.plain_offsets(), &wanted);
            return Ok(PlainArchive::from_task(move |pieces| async move {
                let _ = pieces.send(head).await;
                framed.send_runs(runs, jobs, slicer, pieces).await
            }));
        }
        let mut whole = self.open(jobs).await?;
        Ok(PlainArchive::from_task(move |pieces| async move {
            let _ = pieces.send(head).await;
            let mut offset = 0;
            while let Some(plain) = whole.next().await? {
                if let Err(Gone) = pieces.send_all(slicer.cut(offset, &plain)).await {
                    break;
                }
                offset += plain.len() as u64;
            }
            Ok(())
        }))
    }

    /// Header and TOC only, with as few bytes fetched as can be, and those once.
    pub async fn toc(&self) -> Result<Arc<Toc>> {
        self.known.get_or_try_init(|| self.read_toc()).await.map(Arc::clone)
    }

    async fn read_toc(&self) -> Result<Arc<Toc>> {
        self.opened_already()?;
        let mut beginning = match (self.framed(), &self.meta) {
            (Some(framed), Some(meta)) => {
                let toc = 0..meta.toc_bytes;
                let run = FramedArchive::holding(&meta.frames.plain_offsets(), &toc);
                PlainArchive::from_task(move |pieces| framed.send_runs(vec![run], 1, Slicer::new([toc]), pieces))
            }
            _ => self.open(1).await?,
        };
        let mut decoder = Decoder::new();
        while let Some(piece) = beginning.next().await? {
            decoder.push_bytes(piece);
            if let Some(Event::Toc(toc)) = decoder.next_event().map_err(|source| self.damaged(source))? {
                return Ok(toc);
            }
        }
        let reason = "it ends inside its table of contents".to_owned();
        Err(Error::Damaged { object: self.object(&self.key), reason })
    }

    /// The globals as SQL, digests checked; `None` if the backup has none.
    pub async fn globals(&self) -> Result<Option<Bytes>> {
        let Some(globals) = self.meta.as_ref().and_then(|meta| meta.globals.as_ref()) else { return Ok(None) };
        let key = beside(&self.key, &globals.file)?;
        let object = self.object(&key);
        let damaged = |reason: String| Error::Damaged { object: object.clone(), reason };
        let stored =
            objects::get(self.storage.as_ref(), &key).await?.ok_or_else(|| damaged("it is missing".to_owned()))?;
        check(&object, &stored, globals.stored.bytes, &globals.stored.sha256)?;
        let stored = if is_encrypted(&stored) { self.decrypted(&object, stored).await? } else { stored };
        let plain = match detect(&stored) {
            None => stored,
            Some(codec) => {
                let mut plain = Vec::new();
                let limit = globals.plain.bytes.min(LARGEST_FRAME) as usize;
                codec.decode(&stored, &mut plain, limit).map_err(|error| damaged(error.to_string()))?;
                plain.into()
            }
        };
        globals.plain.check(&object, &plain)?;
        Ok(Some(plain))
    }

    /// The structured facts inside the globals.
    pub async fn private_facts(&self) -> Result<Option<PrivateFacts>> {
        match self.globals().await? {
            Some(globals) => Ok(PrivateFacts::from_globals(&globals)?),
            None => Ok(None),
        }
    }

    async fn decrypted(&self, object: &str, stored: Bytes) -> Result<Bytes> {
        let identities = self.identities.clone();
        // A passphrase takes a second of work.
        let opened = joined(tokio::task::spawn_blocking(move || identities.open(&stored)).await)?;
        let recipients = || {
            let encryption = self.meta.as_ref().and_then(|meta| meta.encryption.as_ref());
            encryption.map(|encryption| encryption.recipients.clone()).unwrap_or_default()
        };
        opened.map(Bytes::from).map_err(|locked| match locked {
            Locked::Damaged(reason) => Error::Damaged { object: object.to_owned(), reason },
            Locked::WrongKey if self.identities.is_empty() => {
                Error::KeyMissing { object: object.to_owned(), recipients: recipients() }
            }
            Locked::WrongKey => Error::KeyWrong { object: object.to_owned(), recipients: recipients() },
        })
    }

    /// A sealed meta does not say where anything lies.
    fn opened_already(&self) -> Result<()> {
        let sealed = self.meta.as_ref().filter(|meta| meta.is_sealed());
        let recipients = |meta: &Meta| meta.encryption.as_ref().map(|encryption| encryption.recipients.clone());
        sealed.map_or(Ok(()), |meta| {
            Err(Error::KeyMissing { object: meta.id.to_string(), recipients: recipients(meta).unwrap_or_default() })
        })
    }

    fn framed(&self) -> Option<FramedArchive> {
        let meta = self.meta.as_ref().filter(|meta| !meta.frames.is_empty())?;
        let (storage, key, sealed) = (Arc::clone(&self.storage), self.key.clone(), self.sealed.clone());
        Some(FramedArchive { meta: Arc::clone(meta), storage, key, sealed })
    }

    pub(crate) fn unframed(&self) -> UnframedArchive {
        let (storage, key, identities) = (Arc::clone(&self.storage), self.key.clone(), self.identities.clone());
        UnframedArchive { meta: self.meta.clone(), storage, key, identities }
    }

    pub(crate) fn object(&self, key: &Key) -> String {
        format!("{}/{key}", self.storage.location())
    }

    pub(crate) fn damaged(&self, source: pgkeep_archive::Error) -> Error {
        Error::Archive { backup: self.name(), source }
    }
}

/// Storage classes out of which an object must be fetched before it can be read.
fn is_archive_tier(class: &str) -> bool {
    ["GLACIER", "DEEP_ARCHIVE", "ARCHIVE"].iter().any(|tier| class.eq_ignore_ascii_case(tier))
}

fn check(object: &str, bytes: &[u8], expected: u64, sha256: &str) -> Result<()> {
    let mut digested = Digested::default();
    digested.update(bytes);
    digested.check(object, expected, sha256)
}

/// Runs of frames that hold `wanted`, each frame once.
fn runs(offsets: &[u64], wanted: &[Range<u64>]) -> Vec<Range<usize>> {
    let mut runs: Vec<Range<usize>> = Vec::new();
    for range in wanted {
        let frames = FramedArchive::holding(offsets, range);
        match runs.last_mut() {
            Some(last) if frames.start <= last.end => last.end = last.end.max(frames.end),
            _ => runs.push(frames),
        }
    }
    runs
}

/// Reads a foreign archive to its end and sends a plain one with the data that `reduced` has.
async fn cut_anew(archive: UnframedArchive, name: String, reduced: Arc<Toc>, pieces: Pieces) -> Result<()> {
    let (decoder, writer) = (Decoder::new(), BlockWriter::new(BLOCK_BYTES));
    let sink = CutAnew { name, decoder, writer, reduced, wanted: false, pieces };
    let (mut sink, found) = archive.read(sink).await?;
    if found.is_some() {
        sink.decoder.finish().and_then(|()| sink.writer.finish()).map_err(|source| sink.damaged(source))?;
        while let Some(block) = sink.writer.take() {
            if let Err(Gone) = sink.pieces.send(block.bytes).await {
                break;
            }
        }
    }
    Ok(())
}

struct CutAnew {
    name: String,
    decoder: Decoder,
    writer: BlockWriter,
    reduced: Arc<Toc>,
    /// Whether the current entry is.
    wanted: bool,
    pieces: Pieces,
}

impl CutAnew {
    fn damaged(&self, source: pgkeep_archive::Error) -> Error {
        Error::Archive { backup: self.name.clone(), source }
    }

    fn event(&mut self, event: &Event) -> pgkeep_archive::Result<()> {
        if let Event::Toc(_) = event {
            return self.writer.toc(&self.reduced);
        }
        if let Event::DataStarted { dump_id } = event {
            self.wanted = self.reduced.entry(*dump_id).is_some_and(|entry| entry.has_data);
        }
        if self.wanted { self.writer.event(event) } else { Ok(()) }
    }
}

impl PlainSink for CutAnew {
    fn take(&mut self, plain: Bytes) -> Result<bool> {
        self.decoder.push_bytes(plain);
        while let Some(event) = self.decoder.next_event().map_err(|source| self.damaged(source))? {
            self.event(&event).map_err(|source| self.damaged(source))?;
            while let Some(block) = self.writer.take() {
                if let Err(Gone) = self.pieces.blocking_send(block.bytes) {
                    return Ok(false);
                }
            }
        }
        Ok(true)
    }
}
