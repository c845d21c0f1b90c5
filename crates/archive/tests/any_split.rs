//! Any archive, pushed in any pieces, tells the same story; anything less or more than an archive is refused.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod story;

use bytes::Bytes;
use pgkeep_archive::{Decoder, Error, InnerCompression, SyntheticArchive, synthetic_entry};
use proptest::prelude::*;
use story::{Story, archive, read};

fn push_all(bytes: &[u8], cuts: &[usize]) -> Result<Story, Error> {
    let mut decoder = Decoder::new();
    let mut story = Story::default();
    let mut rest = bytes;
    let mut cuts = cuts.iter().cycle();
    while !rest.is_empty() {
        let count = cuts.next().copied().unwrap_or(rest.len()).clamp(1, rest.len());
        let (piece, after) = rest.split_at(count);
        rest = after;
        if count % 2 == 0 {
            decoder.push(piece);
        } else {
            decoder.push_bytes(Bytes::copy_from_slice(piece));
        }
        while let Some(event) = decoder.next_event()? {
            story.add(event);
        }
    }
    decoder.finish()?;
    assert_eq!(decoder.offset(), bytes.len() as u64);
    Ok(story)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn the_pieces_make_no_difference(archive in archive(), cuts in prop::collection::vec(1..3000_usize, 1..8)) {
        let whole = archive.bytes();
        let story = push_all(&whole, &[whole.len()]).unwrap();
        prop_assert_eq!(&story, &archive.story());
        prop_assert_eq!(&push_all(&whole, &cuts).unwrap(), &story);
        prop_assert_eq!(&read(whole.as_slice()), &story);
    }

    #[test]
    fn flipped_bits_never_panic(archive in archive(), flips in prop::collection::vec(any::<prop::sample::Index>(), 1..4)) {
        let mut bytes = archive.bytes();
        let bits = bytes.len() * 8;
        for flip in flips {
            let bit = flip.index(bits);
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        if let Ok(story) = push_all(&bytes, &[bytes.len()]) {
            // Whatever the damage made of it is no larger than decompression can make it.
            prop_assert!(story.payload_bytes() < (1 << 20) + 2000 * bytes.len());
        }
    }

    #[test]
    fn random_bytes_are_no_archive(bytes in prop::collection::vec(any::<u8>(), 0..2000)) {
        prop_assert!(push_all(&bytes, &[7]).is_err());
        let headed = [b"PGDMP\x01\x10\x00\x04\x08\x01\x00", &bytes[..]].concat();
        prop_assert!(push_all(&headed, &[77]).is_err());
    }
}

fn small(minor: u8, compression: InnerCompression) -> Vec<u8> {
    let mut archive = SyntheticArchive::new(minor, compression);
    archive
        .chunk_bytes(30)
        .entry(synthetic_entry(1, "TABLE", "t"))
        .table(2, "t", "id, name", &[b"1\tone\n", b"2\ttwo\n"])
        .table(3, "empty", "id", &[])
        .large_objects(4, &[(7, b""), (3_000_000_001, b"content of a large object, longer than a chunk")]);
    archive.bytes()
}

const COMPRESSIONS: [InnerCompression; 4] =
    [InnerCompression::None, InnerCompression::Gzip, InnerCompression::Lz4, InnerCompression::Zstd];

#[test]
fn an_archive_cut_short_at_any_byte_is_refused_with_its_length() {
    for compression in COMPRESSIONS {
        for minor in 12..=16 {
            if minor < 15 && !matches!(compression, InnerCompression::None | InnerCompression::Gzip) {
                continue;
            }
            let bytes = small(minor, compression);
            push_all(&bytes, &[9]).unwrap();
            for end in 0..bytes.len() {
                match push_all(&bytes[..end], &[1000]) {
                    Err(Error::Damaged { offset, expected }) => {
                        assert_eq!(offset, end as u64, "1.{minor} {compression:?}: {expected}");
                    }
                    other => panic!("1.{minor} {compression:?} cut at {end}: {other:?}"),
                }
            }
        }
    }
}

#[test]
fn whatever_follows_an_archive_is_refused_where_it_begins() {
    for compression in COMPRESSIONS {
        let mut bytes = small(16, compression);
        let end = bytes.len() as u64;
        bytes.push(0);
        let error = push_all(&bytes, &[13]).unwrap_err();
        assert_eq!(error.to_string(), format!("archive is damaged at byte {end}: expected the end of the archive"));
    }
}

/// Replaces the one place where `from` stands.
fn replaced(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let at = bytes.windows(from.len()).rposition(|window| window == from).expect("it is there");
    [&bytes[..at], to, &bytes[at + from.len()..]].concat()
}

#[test]
fn damage_is_told_with_its_place_and_what_should_stand_there() {
    let good = small(16, InnerCompression::None);
    let refusal = |from: &[u8], to: &[u8]| push_all(&replaced(&good, from, to), &[1 << 20]).unwrap_err().to_string();
    let table = |id: u8| [1, 0, id, 0, 0, 0];

    for (what, from, to, expected) in [
        ("a wrong block type", table(2), [3, 0, 2, 0, 0, 0], "the data block of entry 2 (TABLE DATA public.t)"),
        ("an unknown dump id", table(2), table(9), "the dump id of entry 2 (TABLE DATA public.t)"),
        ("a block twice", table(3), table(2), "the dump id of entry 3 (TABLE DATA public.empty)"),
        ("a bad sign", table(3), [1, 7, 3, 0, 0, 0], "an integer's sign byte, 0 or 1"),
    ] {
        assert!(refusal(&from, &to).ends_with(expected), "{what}: {}", refusal(&from, &to));
    }
    let last = b"\x00\x05\x00\x00\x00\\.\n\n\n\x00\x00\x00\x00\x00";
    assert!(refusal(last, b"\x00\x00\x00\x00\x00").contains(r"\. and three line feeds before the end of table data"));
    assert!(refusal(b"\ttwo\n", b"\ttwo ").contains(r"a line feed before the final \. of table data"));
    assert!(refusal(b"\x00\x05\x00\x00\x00\\.", b"\x01\x05\x00\x00\x00\\.").contains("a chunk's length"));
}

#[test]
fn headers_of_other_things_are_refused_by_name() {
    let good = small(16, InnerCompression::None);
    let refusal = |at: usize, byte: u8| {
        let mut bytes = good.clone();
        bytes[at] = byte;
        push_all(&bytes, &[5]).unwrap_err().to_string()
    };
    assert_eq!(
        refusal(0, b'p'),
        "archive is damaged at byte 0: expected PGDMP, the beginning of a custom-format archive"
    );
    assert_eq!(refusal(6, 17), "archive format 1.17 is not supported");
    assert_eq!(refusal(6, 11), "archive format 1.11 is not supported");
    assert_eq!(refusal(8, 8), "an integer size of 8 bytes is not supported");
    assert_eq!(refusal(10, 3), "an archive of kind 3 (1 is custom, 3 tar, 5 directory) is not supported");
    assert_eq!(refusal(11, 4), "archive is damaged at byte 11: expected a compression algorithm, 0 to 3");
}

#[test]
fn a_length_is_not_believed_before_its_bytes_are_there() {
    let mut bytes = small(16, InnerCompression::None);
    let row = bytes.windows(6).position(|window| window == b"1\tone\n").unwrap();
    bytes.truncate(row);
    bytes[row - 4..row].copy_from_slice(&0x7fff_ffff_u32.to_le_bytes());
    let mut decoder = Decoder::new();
    decoder.push(&bytes);
    while decoder.next_event().unwrap().is_some() {}
    let mut given = 0;
    for _ in 0..64 {
        decoder.push(&vec![b'x'; 100_000]);
        while let Some(event) = decoder.next_event().unwrap() {
            let pgkeep_archive::Event::Data { bytes, .. } = event else { panic!("{event:?}") };
            assert!(bytes.len() <= 256 << 10);
            given += bytes.len();
        }
    }
    assert!(given > 6_000_000, "a chunk is passed on before it is complete: {given}");
    assert!(decoder.finish().is_err());
}

#[test]
fn after_an_error_it_stays_an_error() {
    let mut decoder = Decoder::new();
    decoder.push(b"nonsense");
    let first = decoder.next_event().unwrap_err().to_string();
    decoder.push(&small(16, InnerCompression::None));
    assert_eq!(decoder.next_event().unwrap_err().to_string(), first);
    assert_eq!(decoder.finish().unwrap_err().to_string(), first);
}
