//! No compression.

use std::io::Read;

use crate::{Codec, Error, Result};

/// Frames that are the blocks themselves.
#[derive(Debug)]
pub(crate) struct Plain;

impl Codec for Plain {
    fn label(&self) -> String {
        "none".to_owned()
    }

    fn extension(&self) -> &'static str {
        ""
    }

    fn encode(&self, block: &[u8], frame: &mut Vec<u8>) -> Result<()> {
        frame.extend_from_slice(block);
        Ok(())
    }

    fn decode(&self, frame: &[u8], block: &mut Vec<u8>, limit: usize) -> Result<()> {
        if frame.len() > limit {
            return Err(Error::TooLarge { codec: "none", limit });
        }
        block.extend_from_slice(frame);
        Ok(())
    }

    fn reader<'r>(&self, stored: Box<dyn Read + Send + 'r>) -> Result<Box<dyn Read + Send + 'r>> {
        Ok(stored)
    }
}
