//! Objects of several parts.

use std::ops::Range;
use std::sync::LazyLock;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures::TryStreamExt;

use super::{Suite, told};
use crate::{Key, ObjectWriter, WriteOptions};

/// Five parts of the usual size and an odd rest; three reads.
const LARGE_BYTES: u64 = 41 * 1024 * 1024 + 12_345;
/// Sizes of the pieces handed over, again and again: never a divisor of a part.
const PIECES: [u64; 6] = [1, 65_537, 7, 1_048_579, 9_437_189, 16_383];
/// How long the remains of a dropped writer may take to vanish.
const VANISHING: Duration = Duration::from_secs(15);

impl Suite<'_> {
    pub(super) async fn large(&self) {
        let key = self.key("large/a");
        let mut writer = self.begin(&key).await;
        let mut at = 0;
        for piece in PIECES.iter().cycle() {
            let end = LARGE_BYTES.min(at + piece);
            writer.write(noise(at..end)).await.unwrap_or_else(|error| panic!("at {at}: {}", told(&error)));
            at = end;
            if at == LARGE_BYTES {
                break;
            }
        }
        self.assert_missing(&key, "before its parts are joined").await;
        let info = writer.finish().await.unwrap_or_else(|error| panic!("joining: {}", told(&error)));
        assert_eq!(info.bytes, LARGE_BYTES);
        assert_eq!(self.storage.head(&key).await.expect("head").bytes, LARGE_BYTES);
        self.assert_reads(&key, None).await;
        let mib = 1024 * 1024;
        for range in [
            8 * mib - 3..8 * mib + 3,
            16 * mib - 1..32 * mib + 1,
            5..LARGE_BYTES - 5,
            LARGE_BYTES - 1..LARGE_BYTES,
            0..LARGE_BYTES,
        ] {
            self.assert_reads(&key, Some(range)).await;
        }
        self.storage.delete(&key).await.expect("deleting");
    }

    async fn assert_reads(&self, key: &Key, range: Option<Range<u64>>) {
        let expected = range.clone().unwrap_or(0..LARGE_BYTES);
        let pieces = self.storage.read(key, range).await;
        let mut pieces = pieces.unwrap_or_else(|error| panic!("{expected:?}: {}", told(&error)));
        let mut at = expected.start;
        while let Some(piece) = pieces.try_next().await.expect("the bytes") {
            let end = at + piece.len() as u64;
            assert!(end <= expected.end, "no more than {expected:?}");
            assert!(piece == noise(at..end), "the bytes {at}..{end} are those that were written");
            at = end;
        }
        assert_eq!(at, expected.end, "all of {expected:?}");
    }

    pub(super) async fn large_ones_given_up(&self) {
        for name in ["large/aborted", "large/dropped", "large/dropped-while-writing"] {
            let key = self.key(name);
            let mut writer = self.begin(&key).await;
            for at in 0..3 {
                writer.write(noise(at * 9_000_000..(at + 1) * 9_000_000)).await.expect("a write");
            }
            match name {
                "large/aborted" => writer.abort().await.unwrap_or_else(|error| panic!("aborting: {}", told(&error))),
                "large/dropped" => drop(writer),
                _ => {
                    let write = writer.write(noise(0..30_000_000));
                    let _ = tokio::time::timeout(Duration::from_millis(1), write).await;
                    drop(writer);
                }
            }
            self.assert_missing(&key, "after it was given up").await;
        }
        let deadline = tokio::time::Instant::now() + VANISHING;
        loop {
            let unfinished = self.storage.unfinished(i64::MAX).await.expect("the unfinished ones");
            let mut ours = unfinished.unwrap_or_default();
            ours.retain(|unfinished| unfinished.key.below(&self.scratch).is_some());
            if ours.is_empty() {
                break;
            }
            assert!(tokio::time::Instant::now() < deadline, "given up, but still there: {ours:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    async fn begin(&self, key: &Key) -> Box<dyn ObjectWriter> {
        let options = WriteOptions { expected_bytes: LARGE_BYTES, ..WriteOptions::default() };
        self.storage.write(key, &options).await.expect("a writer")
    }
}

/// The bytes `range` of an endless reproducible noise, whose period is prime so that no part looks like another.
fn noise(range: Range<u64>) -> Bytes {
    const PERIOD: u64 = 1_048_573;
    static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let words = (0..PERIOD.div_ceil(8)).map(|word| (word ^ 0x5bd1_e995).wrapping_mul(0x9e37_79b9_7f4a_7c15));
        words.flat_map(|word| (word ^ (word >> 29)).to_le_bytes()).take(PERIOD as usize).collect()
    });
    let mut bytes = BytesMut::with_capacity((range.end - range.start) as usize);
    let mut at = range.start;
    while at < range.end {
        let begin = at % PERIOD;
        let end = PERIOD.min(begin + (range.end - at));
        bytes.extend_from_slice(&NOISE[begin as usize..end as usize]);
        at += end - begin;
    }
    bytes.freeze()
}
