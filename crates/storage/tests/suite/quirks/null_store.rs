//! A store that holds objects' parts to the rules, counts them, and keeps nothing.

use std::fmt;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::FutureExt;
use futures::stream::BoxStream;
use object_store::path::Path;
use object_store::{
    Attributes, CopyOptions, Error, Extensions, GetOptions, GetResult, GetResultPayload, ListResult, MultipartUpload,
    ObjectMeta, ObjectStore, PutMultipartOptions, PutOptions, PutPayload, PutResult, Result, UploadPart,
};
use pgkeep_storage::PartRules;

/// One object's worth of counting.
#[derive(Debug, Clone)]
pub(super) struct NullStore {
    rules: PartRules,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    parts: Vec<u64>,
    whole: Option<u64>,
    given_up: bool,
}

impl NullStore {
    pub(super) fn new(rules: PartRules) -> Self {
        Self { rules, state: Arc::default() }
    }

    /// The parts' sizes in bytes.
    pub(super) fn parts(&self) -> Vec<u64> {
        self.state.lock().unwrap().parts.clone()
    }

    /// The size of the object, if it came to one.
    pub(super) fn whole(&self) -> Option<u64> {
        self.state.lock().unwrap().whole
    }

    /// Waits until the upload was aborted.
    pub(super) async fn is_given_up(&self) {
        let deadline = Instant::now() + Duration::from_secs(30);
        while !self.state.lock().unwrap().given_up {
            assert!(Instant::now() < deadline, "it was not given up");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

fn refused(reason: String) -> Error {
    Error::Generic { store: "null", source: reason.into() }
}

fn stored() -> PutResult {
    PutResult { e_tag: Some("\"null\"".to_owned()), version: None, extensions: Extensions::default() }
}

#[async_trait]
impl ObjectStore for NullStore {
    async fn put_opts(&self, _: &Path, payload: PutPayload, _: PutOptions) -> Result<PutResult> {
        self.state.lock().unwrap().whole = Some(payload.content_length() as u64);
        Ok(stored())
    }

    async fn put_multipart_opts(&self, _: &Path, _: PutMultipartOptions) -> Result<Box<dyn MultipartUpload>> {
        Ok(Box::new(self.clone()))
    }

    async fn get_opts(&self, path: &Path, _: GetOptions) -> Result<GetResult> {
        let Some(size) = self.whole() else {
            return Err(Error::NotFound { path: path.to_string(), source: "null".into() });
        };
        let meta = ObjectMeta {
            location: path.clone(),
            last_modified: chrono::DateTime::UNIX_EPOCH,
            size,
            e_tag: None,
            version: None,
        };
        let payload = GetResultPayload::Stream(Box::pin(futures::stream::empty()));
        Ok(GetResult {
            payload,
            meta,
            range: 0..size,
            attributes: Attributes::new(),
            extensions: Extensions::default(),
        })
    }

    fn delete_stream(&self, paths: BoxStream<'static, Result<Path>>) -> BoxStream<'static, Result<Path>> {
        paths
    }

    fn list(&self, _: Option<&Path>) -> BoxStream<'static, Result<ObjectMeta>> {
        Box::pin(futures::stream::empty())
    }

    async fn list_with_delimiter(&self, _: Option<&Path>) -> Result<ListResult> {
        Err(refused("it has no folders".to_owned()))
    }

    async fn copy_opts(&self, _: &Path, _: &Path, _: CopyOptions) -> Result<()> {
        Err(refused("it has nothing to copy".to_owned()))
    }
}

#[async_trait]
impl MultipartUpload for NullStore {
    fn put_part(&mut self, data: PutPayload) -> UploadPart {
        let mut state = self.state.lock().unwrap();
        state.parts.push(data.content_length() as u64);
        let too_many = state.parts.len() > self.rules.max_parts as usize;
        async move { if too_many { Err(refused("a part too many".to_owned())) } else { Ok(()) } }.boxed()
    }

    async fn complete(&mut self) -> Result<PutResult> {
        let mut state = self.state.lock().unwrap();
        let (last, others) = state.parts.split_last().ok_or_else(|| refused("no parts".to_owned()))?;
        for &bytes in others {
            let fits = (self.rules.min_part_bytes..=self.rules.max_part_bytes).contains(&bytes);
            if !fits || (self.rules.equal_sizes && (bytes != others[0] || *last > bytes)) {
                return Err(refused(format!("a part of {bytes} bytes")));
            }
        }
        if *last > self.rules.max_part_bytes {
            return Err(refused(format!("a last part of {last} bytes")));
        }
        state.whole = Some(state.parts.iter().sum());
        Ok(stored())
    }

    async fn abort(&mut self) -> Result<()> {
        self.state.lock().unwrap().given_up = true;
        Ok(())
    }
}

impl fmt::Display for NullStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("null")
    }
}
