//! Writing a file so that it appears whole, durably, or not at all.

use std::fs::File;
use std::io::Write;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use rustix::io::Errno;
use tokio::task::JoinHandle;

use super::dir::{Dir, Stat};
use super::{Place, is_partial, object_info, partial_name, run_blocking};
use crate::{Created, Error, Key, ObjectInfo, ObjectWriter, Result};

/// How much is collected before it is handed to the file; as much again may be on its way.
const PIECE_BYTES: usize = 1024 * 1024;
/// So much is written before it is flushed to the device, beside the writing: what is left for the end is little.
const FLUSH_BYTES: u64 = 64 * 1024 * 1024;
/// How often a directory may be swept away by a deletion beside us while we enter it.
const ATTEMPTS: usize = 5;

/// A file being written under a temporary name.
#[derive(Debug)]
pub(super) struct DiskWriter {
    place: Arc<Place>,
    key: Key,
    doing: String,
    /// `None` once the temporary file has its name, or is gone.
    partial: Option<Partial>,
    state: State,
    /// What was written before is on its way to the device.
    flushing: Option<JoinHandle<std::io::Result<()>>>,
    unflushed_bytes: u64,
    collected: Vec<Bytes>,
    collected_bytes: usize,
    written_bytes: u64,
}

/// The temporary file's name, and where it is.
#[derive(Debug, Clone)]
struct Partial {
    dir: Arc<Dir>,
    name: String,
}

impl Partial {
    fn remove(&self, place: &Place, key: &Key) -> rustix::io::Result<()> {
        self.dir.unlink(&self.name)?;
        place.remove_emptied(key);
        Ok(())
    }
}

#[derive(Debug)]
enum State {
    Idle(File),
    Writing(JoinHandle<(File, std::io::Result<()>)>),
    Broken,
}

impl DiskWriter {
    pub(super) async fn begin(place: Arc<Place>, key: Key) -> Result<Self> {
        if key.is_root() || is_partial(key.name()) {
            let reason = format!("{:?} cannot name an object in a directory", key.as_str());
            return Err(Error::Invalid { location: place.location.clone(), reason });
        }
        let doing = format!("write {key}");
        let (partial, file) = {
            let (place, key, doing) = (Arc::clone(&place), key.clone(), doing.clone());
            run_blocking(move || open_partial(&place, &key).map_err(|error| place.error(&doing, &error))).await?
        };
        let (partial, state) = (Some(partial), State::Idle(file));
        Ok(Self {
            place,
            key,
            doing,
            partial,
            state,
            flushing: None,
            unflushed_bytes: 0,
            collected: Vec::new(),
            collected_bytes: 0,
            written_bytes: 0,
        })
    }

    /// Makes the file durable and gives it its name unless that is taken.
    pub(super) async fn link(mut self) -> Result<Created> {
        let (partial, _) = self.complete().await?;
        let name = self.key.name().to_owned();
        let outcome = run_blocking(move || match partial.dir.rename_new(&partial.name, &name) {
            Ok(()) => partial.dir.sync().map(|()| Created::Created),
            Err(Errno::EXIST) => Ok(Created::Exists),
            Err(error) => Err(error),
        })
        .await
        .map_err(|error| self.place.error(&self.doing.replacen("write", "create", 1), &error.into()))?;
        if outcome == Created::Created {
            self.partial = None;
        }
        Ok(outcome)
    }

    /// Everything written and synced.
    async fn complete(&mut self) -> Result<(Partial, Stat)> {
        self.hand_over().await?;
        let file = self.idle().await?;
        self.flushed().await?;
        let stat = run_blocking(move || {
            file.sync_all()?;
            Ok(Stat::of(&file)?)
        })
        .await
        .map_err(|error: std::io::Error| self.place.error(&self.doing, &error))?;
        if stat.bytes != self.written_bytes {
            return Err(Error::Mismatch {
                key: self.key.to_string(),
                location: self.place.location.clone(),
                written_bytes: self.written_bytes,
                stored_bytes: stat.bytes,
            });
        }
        let partial =
            self.partial.clone().expect("only link and finish take the temporary name, and they end the writer");
        Ok((partial, stat))
    }

    /// Starts writing what was collected, once the writing before it is done.
    async fn hand_over(&mut self) -> Result<()> {
        let flush_due = self.unflushed_bytes >= FLUSH_BYTES;
        if flush_due {
            self.flushed().await?;
        }
        let mut file = self.idle().await?;
        if flush_due {
            let file = file.try_clone().map_err(|error| self.place.error(&self.doing, &error))?;
            self.flushing = Some(tokio::task::spawn_blocking(move || file.sync_data()));
            self.unflushed_bytes = 0;
        }
        let pieces = std::mem::take(&mut self.collected);
        let bytes = std::mem::take(&mut self.collected_bytes) as u64;
        self.written_bytes += bytes;
        self.unflushed_bytes += bytes;
        self.state = State::Writing(tokio::task::spawn_blocking(move || {
            let outcome = pieces.iter().try_for_each(|piece| file.write_all(piece));
            (file, outcome)
        }));
        Ok(())
    }

    /// Waits for the flush that is under way. The kernel tells of a failure once, so it must not get lost.
    async fn flushed(&mut self) -> Result<()> {
        let Some(flushing) = &mut self.flushing else { return Ok(()) };
        let outcome = flushing.await.unwrap_or_else(|panic| Err(std::io::Error::other(panic)));
        self.flushing = None;
        if let Err(error) = outcome {
            // From here on nothing can be written any more.
            let _ = self.idle().await;
            return Err(self.place.error(&self.doing, &error));
        }
        Ok(())
    }

    /// The file, once nothing is being written to it. It is the caller's until the next state is set.
    async fn idle(&mut self) -> Result<File> {
        if let State::Writing(writing) = &mut self.state {
            // Should this future be dropped meanwhile, the handle is still here to be awaited again.
            let outcome = writing.await;
            self.state = State::Broken;
            match outcome {
                Ok((file, Ok(()))) => return Ok(file),
                Ok((_, Err(error))) => return Err(self.place.error(&self.doing, &error)),
                Err(_) => {}
            }
        }
        match std::mem::replace(&mut self.state, State::Broken) {
            State::Idle(file) => Ok(file),
            _ => Err(self.place.error(&self.doing, &std::io::Error::other("an earlier write failed"))),
        }
    }
}

#[async_trait]
impl ObjectWriter for DiskWriter {
    async fn write(&mut self, chunk: Bytes) -> Result<()> {
        if matches!(self.state, State::Broken) {
            return self.idle().await.map(drop);
        }
        self.collected_bytes += chunk.len();
        self.collected.push(chunk);
        if self.collected_bytes >= PIECE_BYTES { self.hand_over().await } else { Ok(()) }
    }

    async fn finish(mut self: Box<Self>) -> Result<ObjectInfo> {
        let (partial, stat) = self.complete().await?;
        let name = self.key.name().to_owned();
        run_blocking(move || partial.dir.rename(&partial.name, &name).and_then(|()| partial.dir.sync()))
            .await
            .map_err(|error| self.place.error(&self.doing, &error.into()))?;
        self.partial = None;
        Ok(object_info(self.key.clone(), stat))
    }

    async fn abort(mut self: Box<Self>) -> Result<()> {
        // Whether the last write went well matters no more, only that it is over.
        let _ = self.idle().await;
        let Some(partial) = self.partial.take() else { return Ok(()) };
        let (place, key) = (Arc::clone(&self.place), self.key.clone());
        run_blocking(move || partial.remove(&place, &key))
            .await
            .map_err(|error| self.place.error(&self.doing.replacen("write", "give up", 1), &error.into()))
    }
}

impl Drop for DiskWriter {
    fn drop(&mut self) {
        let Some(partial) = self.partial.take() else { return };
        if let Err(error) = partial.remove(&self.place, &self.key) {
            tracing::warn!(location = %self.place.location, file = partial.name, %error, "an unfinished file stays behind");
        }
    }
}

fn open_partial(place: &Place, key: &Key) -> std::io::Result<(Partial, File)> {
    let name = partial_name(key.name());
    let mut attempts = 0;
    loop {
        attempts += 1;
        let opened = place.make_holder(key).and_then(|dir| Ok((dir.new_file(&name)?, dir)));
        match opened {
            Ok((file, dir)) => return Ok((Partial { dir: Arc::new(dir), name }, file)),
            // A deletion took the directory, which it had emptied, from under us.
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && attempts < ATTEMPTS => {}
            Err(error) => return Err(error),
        }
    }
}
