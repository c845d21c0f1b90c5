//! Any bytes at all: the archive reader neither panics nor asks for memory that no input pays for; what it accepts, the
//! writer writes anew with the same content, and everything that reads a table of contents takes.
//!
//! Good seeds: crates/archive/tests/fixtures/*.dump.
#![no_main]

use libfuzzer_sys::fuzz_target;
use pgkeep_archive::{
    ArchiveReader, BlockWriter, Event, Result, copy_columns, copy_target, large_object_oids, list_line, patch_offsets,
    schema_lines, sequence_set,
};

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
            Event::Toc(toc) => {
                for entry in &toc.entries {
                    (copy_columns(entry), copy_target(entry), large_object_oids(entry), sequence_set(entry));
                    assert!(!list_line(entry).contains('\n'));
                    assert_eq!(toc.entry(entry.dump_id).map(|found| found.dump_id), Some(entry.dump_id));
                }
                schema_lines(&toc);
                let offsets: Vec<_> = toc.data_entries().map(|entry| (entry.dump_id, 1 << 33)).collect();
                patch_offsets(&toc.raw, &offsets).expect("a good table of contents");
            }
            _ => {}
        }
    }
    Ok(payload)
}

fuzz_target!(|input: (u16, &[u8])| {
    let (target, archive) = input;
    let mut writer = BlockWriter::new(target.into());
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
    assert_eq!(payload(&written, |_| {}).expect("a good archive"), read);
});
