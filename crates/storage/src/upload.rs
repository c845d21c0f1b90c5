//! Writing an object: one request if it is small, parts side by side if it is large.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use object_store::path::Path;
use object_store::{
    Attribute, Attributes, MultipartUpload, ObjectStore, PutMultipartOptions, PutOptions, PutPayloadMut, PutResult,
};
use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::multipart::PartPlan;
use crate::object::Inner;
use crate::{Error, Key, ObjectInfo, ObjectWriter, Result, WriteOptions};

/// Shorter pieces are copied together; longer ones are sent from where they lie.
const COPY_BELOW_BYTES: usize = 16 * 1024;

/// How long parts on their way are waited for when an upload is given up.
const LANDING: Duration = Duration::from_secs(3);

/// Parts on their way.
type Landing = JoinSet<object_store::Result<()>>;

/// An object on its way to a store.
pub(crate) struct Upload {
    inner: Arc<Inner>,
    key: Key,
    path: Path,
    attributes: Attributes,
    plan: PartPlan,
    /// The part being filled.
    part: PutPayloadMut,
    /// How many parts were handed over.
    parts: u32,
    written_bytes: u64,
    /// Begun with the second part.
    multipart: Option<Box<dyn MultipartUpload>>,
    in_flight: Landing,
    failed: bool,
    /// For what is left to do when this is dropped.
    runtime: Handle,
}

impl Upload {
    pub(crate) fn new(inner: Arc<Inner>, key: Key, options: &WriteOptions) -> Result<Self> {
        let path = inner.path(&key)?;
        let mut attributes = Attributes::new();
        if let Some(class) = &options.storage_class {
            attributes.insert(Attribute::StorageClass, class.clone().into());
        }
        Ok(Self {
            plan: PartPlan::new(inner.transfer.part_rules, options.expected_bytes),
            inner,
            key,
            path,
            attributes,
            part: PutPayloadMut::new(),
            parts: 0,
            written_bytes: 0,
            multipart: None,
            in_flight: JoinSet::new(),
            failed: false,
            runtime: Handle::current(),
        })
    }

    async fn take(&mut self, mut chunk: Bytes) -> Result<()> {
        self.written_bytes += chunk.len() as u64;
        while !chunk.is_empty() {
            let room = self.plan.part_bytes(self.parts) as usize - self.part.content_length();
            if room == 0 {
                self.hand_over().await?;
                continue;
            }
            let piece = chunk.split_to(room.min(chunk.len()));
            if piece.len() < COPY_BELOW_BYTES { self.part.extend_from_slice(&piece) } else { self.part.push(piece) }
        }
        Ok(())
    }

    /// Starts storing the part that was filled, once there is room for it on the way.
    async fn hand_over(&mut self) -> Result<()> {
        if self.parts == self.plan.max_parts() {
            return Err(Error::TooLarge {
                key: self.key.to_string(),
                location: self.inner.location.clone(),
                limit_bytes: self.plan.ceiling_bytes(),
                reason: format!(
                    "fit in {} parts of the size that was chosen for what was expected",
                    self.plan.max_parts()
                ),
            });
        }
        if self.multipart.is_none() {
            let options = multipart_options(&self.inner, self.attributes.clone());
            let begun = self.inner.clients.patient.put_multipart_opts(&self.path, options).await;
            self.multipart = Some(begun.map_err(|error| self.error(&error))?);
        }
        while self.in_flight.len() >= self.plan.in_flight(self.parts) {
            self.one_landed().await?;
        }
        let upload = self.multipart.as_mut().expect("it was begun above");
        let payload = std::mem::take(&mut self.part).freeze();
        self.in_flight.spawn(upload.put_part(payload));
        self.parts += 1;
        Ok(())
    }

    /// Waits for one of the parts on their way.
    async fn one_landed(&mut self) -> Result<()> {
        match self.in_flight.join_next().await {
            None | Some(Ok(Ok(()))) => Ok(()),
            Some(Ok(Err(error))) => Err(self.error(&error)),
            Some(Err(error)) => Err(self.error(&error.into())),
        }
    }

    async fn complete(&mut self) -> Result<ObjectInfo> {
        let stored = if self.multipart.is_none() {
            let payload = std::mem::take(&mut self.part).freeze();
            let options = PutOptions { attributes: self.attributes.clone(), ..PutOptions::default() };
            self.inner
                .clients
                .patient
                .put_opts(&self.path, payload, options)
                .await
                .map_err(|error| self.error(&error))?
        } else {
            self.hand_over().await?;
            while !self.in_flight.is_empty() {
                self.one_landed().await?;
            }
            self.join().await?
        };
        let info = self.inner.head(&self.key).await?;
        if info.bytes != self.written_bytes {
            return Err(Error::Mismatch {
                key: self.key.to_string(),
                location: self.inner.location.clone(),
                written_bytes: self.written_bytes,
                stored_bytes: info.bytes,
            });
        }
        Ok(ObjectInfo { e_tag: info.e_tag.or(stored.e_tag), ..info })
    }

    /// Makes one object of the parts.
    async fn join(&mut self) -> Result<PutResult> {
        let upload = self.multipart.as_mut().expect("only called when it was begun");
        let error = match upload.complete().await {
            Ok(stored) => {
                self.multipart = None;
                return Ok(stored);
            }
            Err(error) => self.error(&error),
        };
        // The answer to a completion gets lost at times; asked again, some stores know nothing of the upload any more.
        let made_of_parts = format!("-{}", self.parts);
        match self.inner.head(&self.key).await {
            Ok(found)
                if found.bytes == self.written_bytes
                    && found.e_tag.as_deref().is_some_and(|tag| tag.trim_matches('"').ends_with(&made_of_parts)) =>
            {
                self.multipart = None;
                Ok(PutResult { e_tag: found.e_tag, version: None, extensions: object_store::Extensions::default() })
            }
            _ => Err(error),
        }
    }

    fn error(&self, error: &object_store::Error) -> Error {
        match self.inner.error("write", &self.key, error) {
            // There is no object yet that could be missing: the upload is, or what it belongs to.
            Error::NotFound { .. } => {
                let (doing, location) = (format!("write {}", self.key), self.inner.location.clone());
                Error::Failed { doing, location, source: Box::new(crate::classify::Facts::of(error).cause) }
            }
            error => error,
        }
    }
}

#[async_trait]
impl ObjectWriter for Upload {
    async fn write(&mut self, chunk: Bytes) -> Result<()> {
        // Set for as long as the future runs: one that is dropped half way has lost bytes.
        let failed_before = std::mem::replace(&mut self.failed, true);
        if failed_before {
            return Err(self.broken());
        }
        self.take(chunk).await?;
        self.failed = false;
        Ok(())
    }

    async fn finish(mut self: Box<Self>) -> Result<ObjectInfo> {
        if self.failed {
            return Err(self.broken());
        }
        self.complete().await
    }

    async fn abort(mut self: Box<Self>) -> Result<()> {
        let Some(upload) = self.multipart.take() else { return Ok(()) };
        let given_up = give_up(upload, std::mem::take(&mut self.in_flight)).await;
        given_up.map_err(|error| self.inner.error("give up", &self.key, &error))
    }
}

impl Upload {
    fn broken(&self) -> Error {
        let (doing, location) = (format!("write {}", self.key), self.inner.location.clone());
        Error::Failed { doing, location, source: Box::new(crate::Cause::new("an earlier write failed")) }
    }
}

/// Removes the parts that were stored. Those on their way are let land first, for a moment: a part that a
/// server is still busy with when the upload is aborted may be stored after all, and nobody would ever know.
async fn give_up(mut upload: Box<dyn MultipartUpload>, mut in_flight: Landing) -> object_store::Result<()> {
    let landed = tokio::time::timeout(LANDING, async { while in_flight.join_next().await.is_some() {} }).await;
    if landed.is_ok() {
        return upload.abort().await;
    }
    in_flight.shutdown().await;
    upload.abort().await?;
    tokio::time::sleep(LANDING).await;
    // Gone already, unless something landed late.
    let _ = upload.abort().await;
    Ok(())
}

impl Drop for Upload {
    /// Removes the parts of an upload that was neither finished nor given up, as far as there is time for it.
    fn drop(&mut self) {
        let Some(upload) = self.multipart.take() else { return };
        let in_flight = std::mem::take(&mut self.in_flight);
        let (location, key) = (self.inner.location.clone(), self.key.clone());
        self.runtime.spawn(async move {
            if let Err(error) = give_up(upload, in_flight).await {
                let cause = crate::classify::Facts::of(&error).cause;
                tracing::warn!(%location, %key, %cause, "the parts of an unfinished upload stay behind");
            }
        });
    }
}

impl fmt::Debug for Upload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Upload")
            .field("location", &self.inner.location.as_str())
            .field("key", &self.key.as_str())
            .field("written_bytes", &self.written_bytes)
            .finish_non_exhaustive()
    }
}

#[cfg(feature = "cloud")]
fn multipart_options(inner: &Inner, attributes: Attributes) -> PutMultipartOptions {
    let policy = crate::cloud::PartRetry { patience: inner.transfer.patience };
    PutMultipartOptions { attributes, ..PutMultipartOptions::default() }.with_retry_policy(Arc::new(policy))
}

#[cfg(not(feature = "cloud"))]
fn multipart_options(_inner: &Inner, attributes: Attributes) -> PutMultipartOptions {
    PutMultipartOptions { attributes, ..PutMultipartOptions::default() }
}
