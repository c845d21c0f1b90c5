//! One stream into several stores at once.

use bytes::Bytes;
use futures::future::join_all;

use crate::{ObjectInfo, ObjectWriter, Result};

/// Several objects written from one stream, in one pass.
///
/// The slowest sink sets the pace. One that fails is given up and set aside with its error; the others go
/// on. Sinks keep the order they were given in.
#[derive(Debug)]
pub struct FanOut {
    sinks: Vec<Result<Box<dyn ObjectWriter>>>,
}

impl FanOut {
    /// Sinks that were begun, or failed to.
    pub fn new(sinks: Vec<Result<Box<dyn ObjectWriter>>>) -> Self {
        Self { sinks }
    }

    /// Hands the next bytes to every sink that has not failed; says how many of them are left.
    pub async fn write(&mut self, chunk: Bytes) -> usize {
        join_all(self.sinks.iter_mut().map(|sink| write_one(sink, chunk.clone()))).await;
        self.alive()
    }

    /// How many sinks have not failed.
    pub fn alive(&self) -> usize {
        self.sinks.iter().filter(|sink| sink.is_ok()).count()
    }

    /// The error of sink `index`, if it failed.
    pub fn failure(&self, index: usize) -> Option<&crate::Error> {
        self.sinks.get(index)?.as_ref().err()
    }

    /// Completes every sink that has not failed. One outcome per sink.
    pub async fn finish(self) -> Vec<Result<ObjectInfo>> {
        join_all(self.sinks.into_iter().map(async |sink| sink?.finish().await)).await
    }

    /// Gives every sink up. One outcome per sink; one that failed before was given up then, and is no failure now.
    pub async fn abort(self) -> Vec<Result<()>> {
        join_all(self.sinks.into_iter().map(async |sink| match sink {
            Ok(writer) => writer.abort().await,
            Err(_) => Ok(()),
        }))
        .await
    }
}

async fn write_one(sink: &mut Result<Box<dyn ObjectWriter>>, chunk: Bytes) {
    let Ok(writer) = sink else { return };
    let Err(error) = writer.write(chunk).await else { return };
    tracing::debug!(%error, "a sink failed; the others go on");
    if let Ok(writer) = std::mem::replace(sink, Err(error)) {
        // What cannot be removed now is swept later; the first error is the one that tells.
        let _ = writer.abort().await;
    }
}
