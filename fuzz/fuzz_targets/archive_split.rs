//! However an archive is cut into pieces, the reader says the same of it.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgkeep_archive::{Decoder, Event};

/// Everything the decoder says, in one text: events with payload put together, or the error.
fn told<'p>(pieces: impl Iterator<Item = &'p [u8]>) -> Result<Vec<u8>, String> {
    let mut decoder = Decoder::new();
    let mut told = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        while let Some(event) = decoder.next_event().map_err(|error| error.to_string())? {
            match event {
                Event::Data { bytes, .. } | Event::LargeObjectData { bytes, .. } => told.extend_from_slice(&bytes),
                other => told.extend_from_slice(format!("\0{other:?}\0").as_bytes()),
            }
        }
    }
    decoder.finish().map_err(|error| error.to_string())?;
    Ok(told)
}

fuzz_target!(|input: (Vec<u8>, &[u8])| {
    let (cuts, archive) = input;
    let mut rest = archive;
    let mut cuts = cuts.iter().cycle();
    let pieces = std::iter::from_fn(|| {
        let length = cuts.next().map_or(1, |cut| usize::from(*cut) + 1).min(rest.len());
        let (piece, after) = rest.split_at(length);
        rest = after;
        (!piece.is_empty()).then_some(piece)
    });
    assert_eq!(told(pieces), told(std::iter::once(archive)));
});
