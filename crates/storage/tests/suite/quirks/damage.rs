//! Bytes that are not what they were, and tags that are not what they should be.

use std::collections::HashSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use pgkeep_storage::{ErrorKind, Storage, StorageExt};
use sha2::{Digest, Sha256};

use super::{
    Finding, LARGE_BYTES, PART_BYTES, Row, contract, count, fails_and_leaves_nothing, key, noise, small_parts, write,
};
use crate::s3_server::{S3Server, altered, refusal};

/// Which bodies have a bit flipped on their way.
#[derive(Debug, Clone, Copy)]
enum Flipped {
    /// Every fourth, the first time it is sent.
    Some,
    /// All, as often as they are sent.
    All,
}

/// Sees by their signature that bodies were damaged, as Amazon does (and radosgw:
/// `storage_radosgw::a_bit_that_is_flipped_on_the_way_in_is_refused_and_sent_again`); the server in this process has an internal error.
async fn flips(flipped: Flipped) -> S3Server {
    let seen: Arc<Mutex<HashSet<String>>> = Arc::default();
    S3Server::with(move |call| {
        let seen = Arc::clone(&seen);
        async move {
            let body = call.request.body();
            if call.request.method() != "PUT" || body.is_empty() {
                return call.pass().await;
            }
            let sha256 = |body: &[u8]| hex::encode(Sha256::digest(body));
            assert_eq!(
                call.header("x-amz-content-sha256"),
                Some(sha256(body).as_str()),
                "what is sent is what is signed"
            );
            let damages = {
                let mut seen = seen.lock().unwrap();
                let first = seen.insert(format!("{} {}", call.request.uri(), sha256(body)));
                matches!(flipped, Flipped::All) || (first && seen.len().is_multiple_of(4))
            };
            if damages {
                return refusal(
                    400,
                    "XAmzContentSHA256Mismatch",
                    "The provided header does not match what was computed.",
                );
            }
            call.pass().await
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_on_the_way_in_is_refused_and_sent_again() {
    on_the_way_in().await;
}

pub(super) async fn on_the_way_in() -> Row {
    static FOUND: Finding = Finding::new();
    FOUND
        .once(async {
            contract(flips(Flipped::Some).await.settings()).await;

            let server = flips(Flipped::All).await;
            let storage = small_parts(server.settings());
            let error = fails_and_leaves_nothing(&server, &storage, PART_BYTES + 1).await;
            assert_eq!(error.kind(), ErrorKind::Other, "{error:?}");
            assert_eq!(error.code(), Some("XAmzContentSHA256Mismatch"), "{error:?}");
            assert!((1..=4).contains(&count(&server.requests(), "partNumber")), "each of two parts, and once more");
            let error = storage.put(&key("a"), "small".into()).await.unwrap_err();
            assert_eq!((error.kind(), error.code()), (ErrorKind::Other, Some("XAmzContentSHA256Mismatch")));
            // The end of what was given up before may still be on its way.
            let asked = || count(&server.requests(), "PUT /bucket/database-backups/app/a");
            assert_eq!((asked(), server.stored("a")), (2, None));
            let error = storage.create(&key("a"), "small".into()).await.unwrap_err();
            assert_eq!((error.kind(), error.code()), (ErrorKind::Other, Some("XAmzContentSHA256Mismatch")));
            assert_eq!((asked(), server.stored("a")), (2, None));
            [
                "gets bytes that were damaged on the way (a bit of every fourth body)",
                "passes",
                "every body is signed with its sha256, so the store refuses it (`XAmzContentSHA256Mismatch`) and it is sent once more; always damaged: \
                 an error after 2 requests, nothing visible, no part left",
                "`storage::suite::quirks::damage::what_is_damaged_on_the_way_in_is_refused_and_sent_again`",
            ]
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_damaged_on_the_way_out_is_passed_on_as_it_came() {
    on_the_way_out().await;
}

pub(super) async fn on_the_way_out() -> Row {
    static FOUND: Finding = Finding::new();
    FOUND
        .once(async {
            let server = S3Server::with(|call| async move {
                let reads = call.request.method() == "GET" && call.header("range").is_some();
                let answer = call.pass().await?;
                if !reads {
                    return Ok(answer);
                }
                let flip = |mut body: Vec<u8>| {
                    let middle = body.len() / 2;
                    body[middle] ^= 4;
                    body
                };
                Ok(altered(answer, flip).await)
            })
            .await;
            let storage = small_parts(server.settings());
            let bytes = noise(LARGE_BYTES);
            write(&storage, "large", &bytes).await.unwrap();
            let read = storage.read_all(&key("large"), u64::MAX).await.unwrap();
            let differ = read.iter().zip(&bytes).filter(|(one, other)| one != other).count();
            assert_eq!((read.len(), differ), (bytes.len(), LARGE_BYTES.div_ceil(2 << 20) as usize), "one byte of each range");
            [
                "sends bytes that were damaged on the way (a bit of every answer)",
                "cannot pass",
                "a store's tags are no digests of what is read, so this layer passes on what it gets: the digests above it find every changed bit \
                 (chapter “Damage”)",
                "`storage::suite::quirks::damage::what_is_damaged_on_the_way_out_is_passed_on_as_it_came`",
            ]
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_that_change_or_are_missing_are_noticed() {
    of_entity_tags().await;
}

pub(super) async fn of_entity_tags() -> Row {
    static FOUND: Finding = Finding::new();
    FOUND
        .once(async {
            let answers = Arc::new(AtomicUsize::new(0));
            let server = S3Server::with(move |call| {
                let answers = Arc::clone(&answers);
                async move {
                    let (reads, stores) = (call.header("range").is_some(), call.is("PUT", "partNumber"));
                    let mut answer = call.pass().await?;
                    if reads {
                        let tag = format!("\"{}\"", answers.fetch_add(1, Ordering::SeqCst));
                        answer.headers_mut().insert("etag", tag.parse().unwrap());
                    } else if stores {
                        answer.headers_mut().remove("etag");
                    }
                    Ok(answer)
                }
            })
            .await;
            let storage = small_parts(server.settings());
            let error = fails_and_leaves_nothing(&server, &storage, PART_BYTES + 1).await;
            assert_eq!(error.kind(), ErrorKind::Other, "{error:?}");
            assert!(error.cause().unwrap().text.to_lowercase().contains("etag"), "{error:?}");
            storage.put(&key("a"), noise(PART_BYTES)).await.unwrap();
            let error = storage.read_all(&key("a"), u64::MAX).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Damaged, "{error:?}");
            assert!(error.to_string().contains("was replaced while it was being read"), "{error}");
            [
                "gives no ETag for a part, and another one with every range",
                "cannot pass",
                "a part without tag: the upload fails, nothing visible, no part left; ranges of different tags: `Damaged`, for they may be of different objects",
                "`storage::suite::quirks::damage::tags_that_change_or_are_missing_are_noticed`",
            ]
        })
        .await
}
