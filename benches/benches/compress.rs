//! How fast blocks are made into frames and back: `cargo bench -p pgkeep-benches --bench compress`.

use std::fmt::Write;
use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use flate2::{Compress, FlushCompress};
use pgkeep_compress::Compression;

const BLOCK_BYTES: usize = 4 << 20;

/// Rows as an application's tables have them: keys, times, words, an amount, a digest.
fn block() -> Vec<u8> {
    let words = ["pending", "paid", "shipped", "returned", "refunded", "cancelled"];
    let mut text = String::with_capacity(BLOCK_BYTES + 200);
    let mut state = 1_u64;
    let mut id = 1_000_000;
    while text.len() < BLOCK_BYTES {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let (a, b, c) = (state >> 33, (state >> 20) % 100_000, (state >> 40) as usize);
        writeln!(
            text,
            "{id}\t{}\tuser{b}@example.com\t2025-{:02}-{:02} {:02}:{:02}:{:02}.{:06}+00\t{}.{:02}\t{state:016x}",
            words[c % words.len()],
            a % 12 + 1,
            a % 28 + 1,
            a % 24,
            b % 60,
            c % 60,
            a % 1_000_000,
            b / 7,
            c % 100,
        )
        .expect("writing to memory");
        id += 1;
    }
    text.into_bytes()
}

fn codecs(criterion: &mut Criterion) {
    let block = block();
    for compression in [
        Compression::Lz4,
        Compression::Zstd(1),
        Compression::Zstd(3),
        Compression::Zstd(9),
        Compression::Gzip(1),
        Compression::Gzip(6),
        Compression::Gzip(9),
    ] {
        let codec = compression.codec();
        let mut frame = Vec::new();
        codec.encode(&block, &mut frame).expect("memory");
        let name = format!("{} ({:.2} times smaller)", codec.label(), block.len() as f64 / frame.len() as f64);
        let mut group = criterion.benchmark_group(name);
        group.sample_size(10).throughput(Throughput::Bytes(block.len() as u64));
        let mut buffer = Vec::new();
        group.bench_function("encode", |bencher| {
            bencher.iter(|| {
                buffer.clear();
                codec.encode(&block, &mut buffer).expect("memory");
                black_box(buffer.len())
            });
        });
        group.bench_function("decode", |bencher| {
            bencher.iter(|| {
                buffer.clear();
                codec.decode(&frame, &mut buffer, block.len()).expect("a good frame");
                black_box(buffer.len())
            });
        });
        group.finish();
    }
}

/// What gzip would be made with otherwise: zlib, the whole block at once.
fn zlib(criterion: &mut Criterion) {
    let block = block();
    for level in [1, 6, 9] {
        let mut deflate = Compress::new(flate2::Compression::new(level), false);
        let mut frame = Vec::with_capacity(block.len());
        let mut encode = |frame: &mut Vec<u8>| {
            frame.clear();
            deflate.reset();
            deflate.compress_vec(&block, frame, FlushCompress::Finish).expect("memory");
            frame.len()
        };
        let name = format!("zlib-{level} ({:.2} times smaller)", block.len() as f64 / encode(&mut frame) as f64);
        let mut group = criterion.benchmark_group(name);
        group.sample_size(10).throughput(Throughput::Bytes(block.len() as u64));
        group.bench_function("encode", |bencher| bencher.iter(|| black_box(encode(&mut frame))));
        group.finish();
    }
}

criterion_group!(benches, codecs, zlib);
criterion_main!(benches);
