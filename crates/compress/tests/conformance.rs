//! What every codec promises, asked of every codec.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::Read;
use std::sync::Arc;

use pgkeep_compress::{Codec, Compression, Error, codec_for_extension, detect};
use proptest::prelude::*;

fn codecs() -> Vec<Arc<dyn Codec>> {
    let settings = ["none", "lz4", "gzip:1", "gzip", "gzip:9", "zstd:1", "zstd", "zstd:9", "zstd:19"];
    settings.iter().map(|setting| setting.parse::<Compression>().unwrap().codec()).collect()
}

fn compressing() -> impl Iterator<Item = Arc<dyn Codec>> {
    codecs().into_iter().filter(|codec| codec.label() != "none")
}

fn encode(codec: &dyn Codec, block: &[u8]) -> Vec<u8> {
    let mut frame = Vec::new();
    codec.encode(block, &mut frame).unwrap();
    frame
}

fn decode(codec: &dyn Codec, frame: &[u8], limit: usize) -> Result<Vec<u8>, Error> {
    let mut block = b"before".to_vec();
    let outcome = codec.decode(frame, &mut block, limit);
    if outcome.is_err() {
        assert_eq!(block, b"before", "{}: an error leaves the block as it was", codec.label());
    }
    assert!(block.starts_with(b"before"));
    outcome.map(|()| block.split_off(6))
}

fn read(codec: &dyn Codec, stored: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut plain = Vec::new();
    codec.reader(Box::new(stored)).unwrap().read_to_end(&mut plain).map(|_| plain)
}

fn samples() -> Vec<Vec<u8>> {
    let mut noise = Vec::new();
    let mut state = 1_u64;
    while noise.len() < 5_000_000 {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        noise.extend_from_slice(&state.to_le_bytes()[4..]);
    }
    vec![
        Vec::new(),
        b"x".to_vec(),
        b"1\tsome row of text\t2025-10-17 03:00:01\n".repeat(20_000),
        noise[..70_000].to_vec(),
        vec![0; 9_000_000],
        noise,
    ]
}

#[test]
fn a_frame_gives_its_block_back() {
    for codec in codecs() {
        for block in samples() {
            let frame = encode(&*codec, &block);
            assert!(decode(&*codec, &frame, block.len()).unwrap() == block, "{}", codec.label());
            assert!(frame.len() <= block.len() + block.len() / 8 + 64, "{}: {}", codec.label(), frame.len());
            let mut again = b"before".to_vec();
            codec.encode(&block, &mut again).unwrap();
            assert!(again.strip_prefix(b"before").unwrap() == frame, "{}: frames are the same again", codec.label());
        }
    }
}

#[test]
fn frames_one_after_the_other_are_one_stream() {
    for codec in codecs() {
        let samples = samples();
        let stored: Vec<u8> = samples.iter().flat_map(|block| encode(&*codec, block)).collect();
        assert!(read(&*codec, &stored).unwrap() == samples.concat(), "{}", codec.label());
    }
}

#[test]
fn more_than_the_limit_is_refused() {
    for codec in codecs() {
        for block in samples().into_iter().filter(|block| !block.is_empty()) {
            let frame = encode(&*codec, &block);
            for limit in [block.len() - 1, 0] {
                let refused = decode(&*codec, &frame, limit);
                assert!(matches!(refused, Err(Error::TooLarge { .. })), "{}: {refused:?}", codec.label());
            }
        }
    }
}

#[test]
fn frames_are_known_by_their_first_bytes_and_extension() {
    for codec in compressing() {
        let found = detect(&encode(&*codec, b"block")[..4]).unwrap();
        assert_eq!(found.extension(), codec.extension());
        assert_eq!(codec_for_extension(codec.extension()).unwrap().label(), found.label());
        assert!(codec.label().starts_with(found.label().split('-').next().unwrap()));
    }
    assert!(detect(b"PGDMP").is_none());
    assert!(detect(b"").is_none());
}

#[test]
fn a_frame_cut_short_or_followed_by_anything_is_refused() {
    let block = b"1\tsome row of text\n".repeat(100);
    for codec in compressing() {
        let frame = encode(&*codec, &block);
        for end in 0..frame.len() {
            assert!(decode(&*codec, &frame[..end], 1 << 20).is_err(), "{} cut at {end}", codec.label());
            assert!(read(&*codec, &frame[..end]).is_err(), "{} stream cut at {end}", codec.label());
        }
        for rest in [&b"\0"[..], b"rest", &frame] {
            let longer = [&frame, rest].concat();
            assert!(decode(&*codec, &longer, 1 << 20).is_err(), "{} with {} more", codec.label(), rest.len());
        }
        for end in 1..frame.len() {
            let two = [&frame, &frame[..end]].concat();
            assert!(read(&*codec, &two).is_err(), "{} stream cut in its second frame at {end}", codec.label());
        }
        assert!(read(&*codec, &[&frame[..], b"garbage"].concat()).is_err(), "{}", codec.label());
    }
}

#[test]
fn no_flipped_bit_changes_what_comes_back() {
    let block: Vec<u8> = (0..200_u32).flat_map(|number| format!("{number}\trow\n").into_bytes()).collect();
    for codec in compressing() {
        let frame = encode(&*codec, &block);
        for bit in 0..frame.len() * 8 {
            let mut damaged = frame.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            // Some bits mean nothing, such as the time in gzip's header.
            for outcome in [decode(&*codec, &damaged, 1 << 20).ok(), read(&*codec, &damaged).ok()].into_iter().flatten()
            {
                assert!(outcome == block, "{} bit {bit}", codec.label());
            }
        }
    }
}

#[test]
fn many_threads_share_a_codec() {
    let block = b"1\tsome row of text\n".repeat(3000);
    for codec in codecs() {
        let frame = encode(&*codec, &block);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..8 {
                        assert!(encode(&*codec, &block) == frame);
                        assert!(decode(&*codec, &frame, block.len()).unwrap() == block);
                    }
                });
            }
        });
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn any_blocks_come_back(
        blocks in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..400), 0..300_usize), 1..5),
        codec in 0..9_usize,
    ) {
        let codec = codecs().swap_remove(codec);
        let blocks: Vec<_> = blocks.into_iter().map(|(bytes, times)| bytes.repeat(times)).collect();
        let frames: Vec<_> = blocks.iter().map(|block| encode(&*codec, block)).collect();
        for (block, frame) in blocks.iter().zip(&frames) {
            prop_assert!(&decode(&*codec, frame, block.len()).unwrap() == block);
        }
        prop_assert!(read(&*codec, &frames.concat()).unwrap() == blocks.concat());
    }

    #[test]
    fn noise_is_refused(bytes in prop::collection::vec(any::<u8>(), 0..300), codec in 1..9_usize) {
        let codec = codecs().swap_remove(codec);
        prop_assert!(decode(&*codec, &bytes, 1 << 20).is_err());
        let magic = &encode(&*codec, b"")[..4];
        let headed = [magic, &bytes].concat();
        if let Ok(plain) = decode(&*codec, &headed, 1 << 16) {
            prop_assert!(plain.len() <= 1 << 16);
        }
    }
}
