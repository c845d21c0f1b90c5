//! Compressed bytes, of any codec.

use std::io::Read as _;

use pgkeep_compress::{Compression, codec_for_extension, detect};

/// What may come out.
const LIMIT: usize = 1 << 20;

const ALL: [Compression; 4] = [Compression::GZIP, Compression::ZSTD, Compression::Lz4, Compression::None];

/// No more than was allowed, all or nothing, nothing behind the end; and what comes out can be put in again.
pub(super) fn frame(input: &[u8]) {
    for compression in ALL {
        let codec = compression.codec();
        let mut block = b"before".to_vec();
        let decoded = codec.decode(input, &mut block, LIMIT);
        if decoded.is_err() {
            assert!(block == b"before", "after an error the block is as it was");
            continue;
        }
        let plain = block.split_off(b"before".len());
        assert!(plain.len() <= LIMIT, "no more than was allowed");
        if let Some(less) = plain.len().checked_sub(1) {
            codec.decode(input, &mut Vec::new(), less).expect_err("one byte too many");
        }
        let mut again = Vec::new();
        codec.encode(&plain, &mut again).expect("anything can be compressed");
        let mut back = Vec::new();
        codec.decode(&again, &mut back, plain.len()).expect("our own frame");
        assert!(back == plain, "it comes back");
        if compression != Compression::None {
            let behind = [input, b"\0"].concat();
            codec.decode(&behind, &mut Vec::new(), LIMIT).expect_err("a byte behind the end");
            let mut read = Vec::new();
            let reader = codec.reader(Box::new(input)).expect("memory");
            // A stream may ask for a window that a frame, which is there as a whole, does not need.
            if reader.take(LIMIT as u64 + 1).read_to_end(&mut read).is_ok() {
                assert!(read == plain, "both ways to read agree");
            } else {
                assert!(compression == Compression::ZSTD, "a frame is a stream too");
            }
        }
    }
}

/// Anybody's stream: bytes or an error, whatever lies in it.
pub(super) fn stream(input: &[u8]) {
    let text = String::from_utf8_lossy(input);
    let _ = codec_for_extension(&text);
    if let Ok(compression) = text.parse::<Compression>() {
        assert!(compression.to_string().parse::<Compression>().ok() == Some(compression), "it is shown as it is set");
    }
    for codec in detect(input).into_iter().chain(ALL.map(Compression::codec)) {
        let mut plain = Vec::new();
        let reader = codec.reader(Box::new(input)).expect("memory");
        let _ = reader.take(LIMIT as u64).read_to_end(&mut plain);
    }
}
