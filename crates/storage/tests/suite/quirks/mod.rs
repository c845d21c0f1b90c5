//! Stores are alike until they are not. One stand-in per quirk, in front of the server of this process: the contract suite passes on it,
//! or what cannot be done is an error of the right kind, after no more requests than are of use, and leaves nothing visible.

mod conditions;
mod credentials;
mod damage;
mod listings;
mod null_store;
mod parts;
mod patience;
mod redirects;
mod relay;
mod tls;
mod wire;

use std::sync::LazyLock;

use bytes::Bytes;
use pgkeep_storage::{Error, Key, ObjectStorage, PartRules, Result, S3Settings, Storage, WriteOptions, conformance};
use tokio::sync::OnceCell;

use crate::s3_server::S3Server;

const MIB: u64 = 1024 * 1024;
/// The least that the server takes as a part.
const PART_BYTES: u64 = 5 * MIB;
/// Two parts and an odd rest.
const LARGE_BYTES: u64 = 2 * PART_BYTES + MIB + 12_345;

/// A row of the table: the store, what the contract suite says, what was tried beside it, and the test that shows it.
type Row = [&'static str; 4];

/// What is found out once, by a test of its own or by the table's.
struct Finding(OnceCell<Row>);

impl Finding {
    const fn new() -> Self {
        Self(OnceCell::const_new())
    }

    async fn once(&self, work: impl Future<Output = Row>) -> Row {
        *self.0.get_or_init(|| work).await
    }
}

/// The whole suite, over parts of the least size.
async fn contract(settings: S3Settings) -> ObjectStorage {
    let storage = small_parts(settings);
    conformance::run_with(&storage, LARGE_BYTES).await;
    storage
}

fn small_parts(mut settings: S3Settings) -> ObjectStorage {
    settings.transfer.read_bytes = 2 * MIB;
    settings.part_rules.get_or_insert(PartRules {
        min_part_bytes: PART_BYTES,
        max_part_bytes: PART_BYTES,
        ..PartRules::S3_COMPATIBLE
    });
    settings.connect().unwrap()
}

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

/// Bytes of a prime period, so that no part looks like another.
fn noise(bytes: u64) -> Bytes {
    const PERIOD: u32 = 1_048_573;
    static NOISE: LazyLock<Vec<u8>> = LazyLock::new(|| {
        let words = (0..PERIOD.div_ceil(4)).flat_map(|word| word.wrapping_mul(0x9e37_79b9).to_le_bytes());
        words.take(PERIOD as usize).collect()
    });
    let mut noise = Vec::with_capacity(bytes as usize);
    while noise.len() < bytes as usize {
        noise.extend_from_slice(&NOISE[..NOISE.len().min(bytes as usize - noise.len())]);
    }
    noise.into()
}

/// Writes in pieces of a MiB.
async fn write(storage: &ObjectStorage, name: &str, bytes: &Bytes) -> Result<()> {
    let mut writer = storage.write(&key(name), &WriteOptions::default()).await?;
    for start in (0..bytes.len()).step_by(MIB as usize) {
        writer.write(bytes.slice(start..bytes.len().min(start + MIB as usize))).await?;
    }
    writer.finish().await.map(drop)
}

/// That much of it comes to nothing: neither an object nor, soon, a part.
async fn fails_and_leaves_nothing(server: &S3Server, storage: &ObjectStorage, bytes: u64) -> Error {
    let error = write(storage, "given-up", &noise(bytes)).await.unwrap_err();
    assert_eq!(server.stored("given-up"), None, "{error:?}");
    server.no_parts_are_left().await;
    error
}

/// How many of these lines of requests hold that.
fn count(lines: &[String], what: &str) -> usize {
    lines.iter().filter(|line| line.contains(what)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_quirk_is_in_the_table() {
    let rows = [
        parts::of_equal_size().await,
        parts::at_most_a_few().await,
        parts::sized_for_what_comes().await,
        conditions::no_bulk_delete().await,
        conditions::ignored().await,
        conditions::refused().await,
        patience::errors_in_a_success().await,
        patience::throttled().await,
        patience::asked_to_wait().await,
        credentials::that_expire().await,
        credentials::that_are_not_renewed().await,
        credentials::by_another_clock().await,
        wire::stalled().await,
        wire::cut().await,
        wire::down_for_a_while().await,
        damage::on_the_way_in().await,
        damage::on_the_way_out().await,
        damage::of_entity_tags().await,
        listings::in_tiny_pages().await,
        listings::of_strange_names().await,
        listings::that_come_late().await,
        listings::that_are_none().await,
        redirects::elsewhere().await,
        tls::certificates().await,
    ];
    let rows: Vec<Vec<String>> = rows.iter().map(|row| row.map(str::to_owned).to_vec()).collect();
    let columns = ["store", "contract suite", "and beside it", "shown by"];
    pgkeep_testkit::hold_against_document("quirks", &columns, &rows);
}
