//! How fast rows are fingerprinted: `cargo bench -p pgkeep-benches --bench fingerprint`.
//!
//! Beside it, for orientation, what else could be summed up over rows: XXH3-128, which anybody can forge, and SHA-256.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use pgkeep_archive::rows;
use pgkeep_core::{FingerprintKey, Tally};
use sha2::{Digest as _, Sha256};
use twox_hash::XxHash3_128;

const TEXT_BYTES: usize = 16 << 20;
const KEY: FingerprintKey = FingerprintKey([7; 32]);

/// Rows of this length, no two of them equal.
fn text(row_bytes: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(TEXT_BYTES + row_bytes);
    let mut number = 0_u64;
    while text.len() < TEXT_BYTES {
        let beginning = format!("{number}\t");
        text.extend_from_slice(beginning.as_bytes());
        text.resize(text.len() + (row_bytes - 1).saturating_sub(beginning.len()), b'x');
        text.push(b'\n');
        number += 1;
    }
    text
}

/// The sum over all rows of what `hash` makes of each.
fn summed(text: &[u8], hash: impl Fn(&[u8]) -> u128) -> u128 {
    rows(text).fold(0, |sum: u128, row| sum.wrapping_add(hash(row)))
}

fn sha256(row: &[u8]) -> u128 {
    let digest = Sha256::digest(row);
    u128::from_le_bytes(digest[..16].try_into().expect("16 bytes of 32"))
}

fn fingerprints(criterion: &mut Criterion) {
    for row_bytes in [24, 120, 1000, 100_000] {
        let text = text(row_bytes);
        let mut group = criterion.benchmark_group(format!("fingerprints of rows of {row_bytes} bytes"));
        group.sample_size(10).throughput(Throughput::Bytes(text.len() as u64));
        group.bench_function("fingerprint", |bencher| {
            bencher.iter(|| {
                let mut tally = Tally::default();
                tally.add_rows(&KEY, &text);
                black_box(tally)
            });
        });
        group.bench_function("XXH3-128", |bencher| bencher.iter(|| black_box(summed(&text, XxHash3_128::oneshot))));
        group.bench_function("SHA-256", |bencher| bencher.iter(|| black_box(summed(&text, sha256))));
        group.finish();
    }
}

criterion_group!(benches, fingerprints);
criterion_main!(benches);
