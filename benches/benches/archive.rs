//! How fast archives are read and written anew: `cargo bench -p pgkeep-benches --bench archive`.
//!
//! The archive is what pg_dump makes of short rows, one chunk to each row, which is the dearest kind for a reader.

use std::hint::black_box;

use bytes::Bytes;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pgkeep_archive::{BlockWriter, Decoder, Event, InnerCompression, SyntheticArchive, rows};

const ARCHIVE_BYTES: usize = 256 << 20;
/// What a pipe gives at a time.
const PIECE_BYTES: usize = 64 << 10;
const BLOCK_BYTES: usize = 4 << 20;

fn archive(row_bytes: usize) -> Bytes {
    let row = [vec![b'x'; row_bytes - 1], b"\n".to_vec()].concat();
    let rows: Vec<&[u8]> = std::iter::repeat_n(&row[..], ARCHIVE_BYTES / row_bytes).collect();
    SyntheticArchive::new(16, InnerCompression::None).table(1, "t", "a", &rows).bytes().into()
}

fn decode(pieces: &[Bytes], mut each: impl FnMut(Event)) {
    let mut decoder = Decoder::new();
    for piece in pieces {
        decoder.push_bytes(piece.clone());
        while let Some(event) = decoder.next_event().expect("a good archive") {
            each(event);
        }
    }
    decoder.finish().expect("a whole archive");
}

fn rewrite(pieces: &[Bytes]) -> Vec<Bytes> {
    let mut writer = BlockWriter::new(BLOCK_BYTES);
    let mut blocks = Vec::new();
    decode(pieces, |event| {
        writer.event(&event).expect("events in order");
        blocks.extend(std::iter::from_fn(|| writer.take()).map(|block| block.bytes));
    });
    writer.finish().expect("a whole archive");
    blocks.extend(std::iter::from_fn(|| writer.take()).map(|block| block.bytes));
    blocks
}

fn reading_and_writing(criterion: &mut Criterion) {
    for row_bytes in [20, 100, 1000] {
        let whole = archive(row_bytes);
        let pieces: Vec<Bytes> = whole.chunks(PIECE_BYTES).map(|piece| whole.slice_ref(piece)).collect();
        let mut group = criterion.benchmark_group(format!("rows of {row_bytes} bytes"));
        group.sample_size(10).throughput(Throughput::Bytes(whole.len() as u64));
        group.bench_function("read", |bencher| bencher.iter(|| decode(&pieces, |event| drop(black_box(event)))));
        group.bench_function("read and write anew", |bencher| {
            bencher.iter(|| {
                let mut writer = BlockWriter::new(BLOCK_BYTES);
                decode(&pieces, |event| {
                    writer.event(&event).expect("events in order");
                    while let Some(block) = writer.take() {
                        black_box(block);
                    }
                });
            });
        });
        let blocks = rewrite(&pieces);
        group.bench_function("read what was written anew", |bencher| {
            bencher.iter(|| decode(&blocks, |event| drop(black_box(event))));
        });
        group.bench_function("count rows", |bencher| {
            bencher.iter(|| {
                let mut count = 0;
                decode(&blocks, |event| {
                    if let Event::Data { bytes, .. } = event {
                        count += rows(&bytes).count();
                    }
                });
                black_box(count)
            });
        });
        group.finish();
    }
}

criterion_group!(benches, reading_and_writing);
criterion_main!(benches);
