//! Archives: whoever may write to a bucket makes them, and a restore reads them.

use bytes::Bytes;
use pgkeep_archive::{
    ArchiveReader, BlockWriter, Decoder, Event, Result, Toc, copy_columns, copy_target, large_object_oids, list_line,
    patch_offsets, rows, schema_lines, sequence_set,
};
use pgkeep_core::{FingerprintKey, RowHasher, Tally};

use crate::sql::{Token, is_one, tokens};

/// What a table of contents may take in these runs.
const TOC_LIMIT: u64 = 16 << 20;

/// Payload by entry or large object, put together.
fn payload(archive: &[u8], mut each: impl FnMut(&Event)) -> Result<Vec<(u64, Vec<u8>)>> {
    let mut payload = Vec::new();
    for event in ArchiveReader::new(archive) {
        let event = event?;
        each(&event);
        match event {
            Event::DataStarted { dump_id } => payload.push((dump_id as u64, Vec::new())),
            Event::LargeObjectStarted { oid, .. } => payload.push((u64::from(oid) << 32, Vec::new())),
            Event::Data { bytes, .. } | Event::LargeObjectData { bytes, .. } => {
                payload.last_mut().expect("something that began").1.extend_from_slice(&bytes);
            }
            _ => {}
        }
    }
    Ok(payload)
}

/// What is accepted, the writer writes anew with the same content.
pub(super) fn archive(input: &[u8]) {
    let (target, archive) = input.split_at(input.len().min(2));
    let target = target.first_chunk().map_or(0, |bytes| usize::from(u16::from_le_bytes(*bytes)));
    let mut writer = BlockWriter::new(target);
    let read = payload(archive, |event| {
        // Text that is not COPY's need not end at a line; the writer may refuse that.
        let _ = writer.event(event);
    });
    let Ok(read) = read else { return };
    if writer.finish().is_err() {
        return;
    }
    let blocks = std::iter::from_fn(|| writer.take());
    let written: Vec<u8> = blocks.flat_map(|block| block.bytes).collect();
    assert!(payload(&written, |_| {}).expect("a good archive") == read, "it is written as it was read");
}

/// Everything the decoder says, in one text: events with payload put together, or the error.
fn told<'p>(pieces: impl Iterator<Item = &'p [u8]>) -> Result<Vec<u8>, String> {
    let mut decoder = Decoder::new().with_toc_limit(TOC_LIMIT);
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

/// However an archive is cut into pieces, the reader says the same of it; and it takes nothing behind the end.
pub(super) fn split(input: &[u8]) {
    let (cuts, archive) = input.split_at(input.len().min(4));
    let mut rest = archive;
    let mut cuts = cuts.iter().cycle();
    let pieces = std::iter::from_fn(|| {
        let length = cuts.next().map_or(1, |cut| usize::from(*cut) + 1).min(rest.len());
        let (piece, after) = rest.split_at(length);
        rest = after;
        (!piece.is_empty()).then_some(piece)
    });
    let whole = told(std::iter::once(archive));
    match (&whole, told(pieces)) {
        (Ok(whole), Ok(pieces)) => assert!(*whole == pieces, "it is read the same in pieces"),
        // Where it is damaged, and what is said of it, depends on how much was there when that was seen.
        (Err(_), Err(_)) => {}
        (whole, pieces) => panic!("in one: {:?}; in pieces: {:?}", whole.as_ref().err(), pieces.err()),
    }
    if whole.is_ok() {
        told([archive, b"\0"].into_iter()).expect_err("a byte behind the end");
        told(std::iter::once(&archive[..archive.len() - 1])).expect_err("a byte is missing");
    }
}

/// A table of contents: nothing in it becomes more SQL than one statement of the kind that it is, or more lines than one.
pub(super) fn toc(input: &[u8]) {
    let Ok(toc) = Toc::parse(Bytes::copy_from_slice(input)) else { return };
    for entry in &toc.entries {
        let _ = (copy_target(entry), large_object_oids(entry), sequence_set(entry), entry.title());
        assert!(!list_line(entry).contains(['\n', '\r']), "a line stays a line");
        assert!(toc.entry(entry.dump_id).map(|found| found.dump_id) == Some(entry.dump_id), "it is found");
        if let Some(columns) = copy_columns(entry) {
            let comma_or_name = |token: &Token| matches!(token, Token::Word(_) | Token::Name(_) | Token::Other(b','));
            assert!(tokens(columns).is_some_and(|tokens| tokens.iter().all(comma_or_name)), "columns are names");
        }
    }
    for part in [false, true] {
        for statement in pgkeep_restore::fuzzing::statements(&toc, part) {
            let shown = String::from_utf8_lossy(&statement);
            assert!(is_one(&statement, &["copy"]) || is_one(&statement, &["create", "database"]), "{shown}");
            let words = tokens(&statement).unwrap_or_default();
            let word = |text: &str| Token::Word(text.to_owned());
            let copies =
                words.ends_with(&[word("from"), word("stdin")]) || words.ends_with(&[word("to"), word("stdout")]);
            assert!(copies || words.starts_with(&[word("create")]), "{shown}");
        }
    }
    schema_lines(&toc);
    let offsets: Vec<_> = toc.data_entries().map(|entry| (entry.dump_id, 1 << 33)).collect();
    let patched = patch_offsets(&toc.raw, &offsets).expect("a good table of contents");
    assert!(patched.len() == toc.raw.len(), "positions have their places already");
    Toc::parse(patched.into()).expect("a good table of contents");
    let reduced = toc.with_data_of(|entry| entry.dump_id % 2 == 0).expect("a good table of contents");
    Toc::parse(reduced).expect("a good table of contents");
    if let Some(set) = toc.with_settings("SET x = 1;\n").expect("a good table of contents") {
        Toc::parse(set).expect("a good table of contents");
    }
    Toc::parse(toc.plain()).expect("a good table of contents");
}

fn tally(pieces: &[&[u8]], key: FingerprintKey) -> Option<Tally> {
    let mut hasher = RowHasher::new(key);
    for piece in pieces {
        hasher.update(piece);
    }
    hasher.finish().ok()
}

/// Rows are the same however they arrive, and their order says nothing.
pub(super) fn copy_text(input: &[u8]) {
    let Some((&cut, text)) = input.split_first() else { return };
    let joined = rows(text).collect::<Vec<_>>().join(&b'\n');
    assert!(joined == text.strip_suffix(b"\n").unwrap_or(text), "rows are what lies between line feeds");
    let key = FingerprintKey([7; 32]);
    let (one, two) = text.split_at(usize::from(cut).min(text.len()));
    let whole = tally(&[text], key);
    assert!(whole == tally(&[one, two], key), "pieces make no difference");
    if let Some(whole) = whole {
        let mut sorted: Vec<&[u8]> = text.split_inclusive(|&byte| byte == b'\n').collect();
        sorted.sort_unstable();
        assert!(tally(&sorted, key) == Some(whole), "order makes no difference");
        let mut added = Tally::default();
        added.add_rows(&key, text);
        assert!(added == whole, "both ways to count agree");
    }
    let list = String::from_utf8_lossy(text);
    pgkeep_restore::fuzzing::column_names(&list);
}
