//! Rules for the parts of large objects.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use pgkeep_storage::{ErrorKind, Key, Location, ObjectStorage, PartRules, S3Settings, Storage, Transfer, WriteOptions};

use super::null_store::NullStore;
use super::{Finding, MIB, PART_BYTES, Row, contract, fails_and_leaves_nothing, small_parts};
use crate::s3_server::{S3Server, refusal};

const GIB: u64 = 1024 * MIB;

/// Numbers and sizes in bytes.
type Parts = Vec<(u32, usize)>;

#[tokio::test(flavor = "multi_thread")]
async fn where_parts_have_to_be_equal_they_are() {
    of_equal_size().await;
}

pub(super) async fn of_equal_size() -> Row {
    static FOUND: Finding = Finding::new();
    FOUND
        .once(async {
            // As R2 does, it finds out when they are to be joined.
            let sizes: Arc<Mutex<HashMap<String, Parts>>> = Arc::default();
            let server = S3Server::with(move |call| {
                let sizes = Arc::clone(&sizes);
                async move {
                    let Some(upload) = call.query("uploadId").map(str::to_owned) else { return call.pass().await };
                    if let Some(number) = call.query("partNumber") {
                        let part = (number.parse().unwrap(), call.request.body().len());
                        sizes.lock().unwrap().entry(upload).or_default().push(part);
                    } else if call.is("POST", "uploadId") {
                        let mut parts = sizes.lock().unwrap().remove(&upload).unwrap();
                        parts.sort_unstable();
                        let (last, others) = parts.split_last().unwrap();
                        if others.iter().any(|(_, bytes)| *bytes != others[0].1 || *bytes < last.1) {
                            return refusal(400, "InvalidPart", "All non-trailing parts must have the same length.");
                        }
                    }
                    call.pass().await
                }
            })
            .await;
            contract(server.settings()).await;

            let growing =
                PartRules { max_parts: 4, min_part_bytes: PART_BYTES, max_part_bytes: 10 * MIB, equal_sizes: false };
            let storage = S3Settings { part_rules: Some(growing), ..server.settings() }.connect().unwrap();
            let error = fails_and_leaves_nothing(&server, &storage, 27 * MIB).await;
            assert_eq!((error.kind(), error.code()), (ErrorKind::Other, Some("InvalidPart")));
            [
                "wants parts of one size but the last (Cloudflare R2)",
                "passes",
                "growing parts, if they were sent there: refused, nothing visible, no part left",
                "`storage::suite::quirks::parts::where_parts_have_to_be_equal_they_are`",
            ]
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn where_parts_are_few_too_many_are_not_tried() {
    at_most_a_few().await;
}

pub(super) async fn at_most_a_few() -> Row {
    static FOUND: Finding = Finding::new();
    FOUND
        .once(async {
            let most = 3;
            let server = S3Server::with(move |call| async move {
                match call.query("partNumber").map(|number| number.parse::<u32>().unwrap()) {
                    Some(number) if number > most => {
                        refusal(400, "InvalidArgument", "Part number must be an integer between 1 and 3, inclusive")
                    }
                    _ => call.pass().await,
                }
            })
            .await;
            let rules = PartRules { max_parts: most, min_part_bytes: PART_BYTES, max_part_bytes: PART_BYTES, equal_sizes: true };
            contract(S3Settings { part_rules: Some(rules), ..server.settings() }).await;

            server.requests();
            let knowing = S3Settings { part_rules: Some(rules), ..server.settings() }.connect().unwrap();
            let error = fails_and_leaves_nothing(&server, &knowing, 4 * PART_BYTES).await;
            assert_eq!(error.kind(), ErrorKind::TooLarge);
            assert_eq!(super::count(&server.requests(), "partNumber=4"), 0, "it was not even tried");

            let unknowing = small_parts(server.settings());
            let error = fails_and_leaves_nothing(&server, &unknowing, 4 * PART_BYTES).await;
            assert_eq!((error.kind(), error.code()), (ErrorKind::Other, Some("InvalidArgument")));
            assert_eq!(super::count(&server.requests(), "partNumber=4"), 2, "and once more");
            [
                "takes few parts (Scaleway: 1,000; here 3)",
                "passes",
                "what does not fit: `TooLarge` with the limit before a part too many is sent; where the limit is not known, refused after 2 requests. \
                 Nothing visible, no part left",
                "`storage::suite::quirks::parts::where_parts_are_few_too_many_are_not_tried`",
            ]
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn parts_grow_with_what_was_expected_and_with_what_comes() {
    sized_for_what_comes().await;
}

/// A store that counts, and keeps nothing; an object of that size in it, in pieces of 256 MiB.
async fn poured(rules: PartRules, expected_bytes: u64, bytes: u64) -> (pgkeep_storage::Result<u64>, NullStore) {
    static PIECE: [u8; 256 * MIB as usize] = [0; 256 * MIB as usize];
    let store = NullStore::new(rules);
    let transfer = Transfer { part_rules: rules, ..Transfer::default() };
    let storage = ObjectStorage::new(Arc::new(store.clone()), &Key::root(), Location::new("null"), transfer);
    let poured = async {
        let options = WriteOptions { expected_bytes, ..WriteOptions::default() };
        let mut writer = storage.write(&super::key("large"), &options).await?;
        let mut left = bytes;
        while left > 0 {
            let piece = left.min(PIECE.len() as u64);
            writer.write(Bytes::from_static(&PIECE).slice(..piece as usize)).await?;
            left -= piece;
        }
        writer.finish().await.map(|info| info.bytes)
    };
    (poured.await, store)
}

pub(super) async fn sized_for_what_comes() -> Row {
    static FOUND: Finding = Finding::new();
    FOUND
        .once(async {
            let equal = PartRules::S3_COMPATIBLE;
            for rules in [PartRules::S3, PartRules::SCALEWAY, equal, PartRules { max_parts: 1_000, ..equal }, PartRules::AZURE] {
                // A part more of the usual size than there may be, and something.
                let one_too_many = (u64::from(rules.max_parts) + 1) * 8 * MIB + 1;
                // Known beforehand; known by half where parts may grow, by two thirds where not; not known.
                let known = if rules.equal_sizes { one_too_many * 2 / 3 + MIB } else { one_too_many / 2 };
                let expectations = if rules == PartRules::AZURE { &[0][..] } else { &[one_too_many, known, 0] };
                for &expected in expectations {
                    let (poured, store) = poured(rules, expected, one_too_many).await;
                    assert_eq!(poured.unwrap(), one_too_many, "{rules:?} {expected}");
                    assert_eq!(store.whole(), Some(one_too_many));
                    assert!(store.parts().len() as u64 <= u64::from(rules.max_parts));
                }
                // As large as Amazon has objects, or as there can be of so many parts.
                let largest = (5 * 1024 * GIB).min(u64::from(rules.max_parts) * rules.max_part_bytes);
                let (poured, store) = poured(rules, largest, largest).await;
                assert_eq!(poured.unwrap(), largest, "{rules:?}");
                assert!(store.parts().len() as u64 <= u64::from(rules.max_parts));
            }
            // Beyond all that was expected there is an end, and nothing comes of it.
            let few = PartRules { max_parts: 100, ..equal };
            let ceiling = 100 * 32 * MIB;
            let (poured, store) = poured(few, 0, ceiling + 1).await;
            let error = poured.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TooLarge);
            assert!(error.to_string().contains(&format!("larger than {ceiling} bytes")), "{error}");
            store.is_given_up().await;
            assert_eq!(store.whole(), None);
            [
                "counts parts as Amazon, Scaleway, R2 and Azure do and keeps nothing",
                "does not apply",
                "one byte more than 10,001 (1,001; 50,001) parts of 8 MiB, known beforehand, by half (parts of one size: by two thirds) and not at all, \
                 and 5 TiB (4.9 TiB in 1,000 parts): no part too many, none too small or too large. Beyond the ceiling `TooLarge`, given up",
                "`storage::suite::quirks::parts::parts_grow_with_what_was_expected_and_with_what_comes`",
            ]
        })
        .await
}
