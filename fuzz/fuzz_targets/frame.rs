//! Any bytes as a frame or stream of any codec: no panic, no more than was allowed.
#![no_main]

use std::io::Read;

use libfuzzer_sys::fuzz_target;
use pgkeep_compress::{Compression, detect};

const LIMIT: usize = 1 << 20;

fuzz_target!(|input: &[u8]| {
    for compression in [Compression::GZIP, Compression::ZSTD, Compression::Lz4, Compression::None] {
        let codec = compression.codec();
        let mut block = Vec::new();
        match codec.decode(input, &mut block, LIMIT) {
            Ok(()) => assert!(block.len() <= LIMIT),
            Err(_) => assert!(block.is_empty()),
        }
    }
    if let Some(codec) = detect(input) {
        let mut plain = Vec::new();
        let reader = codec.reader(Box::new(input)).expect("memory");
        let _ = reader.take(LIMIT as u64).read_to_end(&mut plain);
    }
});
