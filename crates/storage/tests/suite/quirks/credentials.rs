//! Keys that end before the work does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use pgkeep_storage::{
    AwsCredential, CredentialProvider, ErrorKind, Key, ObjectStoreError, S3Settings, Storage, StorageExt,
};

use super::{Finding, MIB, PART_BYTES, Row, count, key, noise, small_parts, write};
use crate::s3_server::{Call, S3Server, SECRET, refusal};

/// Keys whose token names the hour they are good for.
#[derive(Debug, Default)]
struct Hours(AtomicUsize);

impl Hours {
    fn now(&self) -> String {
        format!("hour-{}", self.0.load(Ordering::SeqCst))
    }
}

#[async_trait]
impl CredentialProvider for Hours {
    type Credential = AwsCredential;

    async fn get_credential(&self) -> Result<Arc<AwsCredential>, ObjectStoreError> {
        let token = Some(self.now());
        Ok(Arc::new(AwsCredential { key_id: "key-id".to_owned(), secret_key: SECRET.to_owned(), token }))
    }
}

/// In the header of what is signed there, in the query of what is signed by its URL.
fn token(call: &Call) -> Option<String> {
    call.header("x-amz-security-token").or_else(|| call.query("X-Amz-Security-Token")).map(str::to_owned)
}

/// Takes only the keys of the hour; a new one strikes after every so many requests that bear the old ones.
async fn hourly(hours: &Arc<Hours>, requests_per_hour: usize) -> S3Server {
    let (hours, served) = (Arc::clone(hours), Arc::new(AtomicUsize::new(0)));
    S3Server::with(move |call| {
        let (hours, served) = (Arc::clone(&hours), Arc::clone(&served));
        async move {
            if token(&call) != Some(hours.now()) {
                return refusal(400, "ExpiredToken", "The provided token has expired.");
            }
            let answer = call.pass().await;
            if (served.fetch_add(1, Ordering::SeqCst) + 1).is_multiple_of(requests_per_hour) {
                hours.0.fetch_add(1, Ordering::SeqCst);
            }
            answer
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_renewed_in_the_middle_are_taken_up() {
    that_expire().await;
}

pub(super) async fn that_expire() -> Row {
    static FOUND: Finding = Finding::new();
    FOUND
        .once(async {
            let hours = Arc::new(Hours::default());
            // One request at a time never bears old keys.
            let server = hourly(&hours, 5).await;
            let mut settings = S3Settings { credentials: Some(Arc::clone(&hours) as _), ..server.settings() };
            settings.transfer.reads_in_flight = 1;
            let storage = settings.connect().unwrap();
            for number in 0..10 {
                let name = key(&format!("small/{number}"));
                storage.put(&name, "x".into()).await.unwrap();
                assert_eq!(storage.read_all(&name, 10).await.unwrap(), "x");
                storage.list_all(&Key::root()).await.unwrap();
            }
            // Several do, if the hour strikes while they are on their way.
            let bytes = noise(8 * PART_BYTES + 1);
            let storage = small_parts(S3Settings { credentials: Some(Arc::clone(&hours) as _), ..server.settings() });
            write(&storage, "large", &bytes).await.unwrap();
            assert!(storage.read_all(&key("large"), u64::MAX).await.unwrap() == bytes);
            assert!(hours.0.load(Ordering::SeqCst) > 8, "many hours have passed");
            [
                "keys end in the middle (`ExpiredToken`) and are renewed",
                "does not apply",
                "every request is signed with the keys of its time; parts and reads on their way are sent once more, with new ones",
                "`storage::suite::quirks::credentials::keys_that_are_renewed_in_the_middle_are_taken_up`",
            ]
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_nobody_renews_end_the_work_with_a_word() {
    that_are_not_renewed().await;
}

pub(super) async fn that_are_not_renewed() -> Row {
    static FOUND: Finding = Finding::new();
    FOUND
        .once(async {
            for status in [400, 403] {
                let served = Arc::new(AtomicUsize::new(0));
                let server = S3Server::with(move |call| {
                    let served = Arc::clone(&served);
                    async move {
                        // An upload is begun, three of its parts are stored, and then the keys have ended.
                        match served.fetch_add(1, Ordering::SeqCst) {
                            0..4 => call.pass().await,
                            _ => refusal(status, "ExpiredToken", "The provided token has expired."),
                        }
                    }
                })
                .await;
                let storage = small_parts(server.settings());
                let error = write(&storage, "large", &noise(9 * PART_BYTES)).await.unwrap_err();
                assert_eq!((error.kind(), error.code()), (ErrorKind::Denied, Some("ExpiredToken")), "{error:?}");
                assert!(!error.is_retryable() && error.cause().unwrap().text.contains("has expired"), "{error:?}");
                let refused = count(&server.requests(), "partNumber") - 3;
                assert!((2..=8).contains(&refused), "four parts at once, and each once more: {refused}");
                assert_eq!(server.stored("large"), None);

                let one_at_a_time = [
                    storage.list_all(&Key::root()).await.map(drop).unwrap_err(),
                    storage.put(&key("a"), "x".into()).await.map(drop).unwrap_err(),
                    storage.read_all(&key("a"), 10).await.map(drop).unwrap_err(),
                ];
                for error in one_at_a_time {
                    assert_eq!((error.kind(), error.code()), (ErrorKind::Denied, Some("ExpiredToken")), "{error:?}");
                }
            }
            [
                "keys end in the middle (`ExpiredToken`) and nobody renews them",
                "does not apply",
                "`Denied` with the store's words after one more request for each part on its way; nothing visible. Its parts stay: whoever has no keys can \
                 abort nothing (swept later)",
                "`storage::suite::quirks::credentials::keys_that_nobody_renews_end_the_work_with_a_word`",
            ]
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_wrong_is_named_at_once() {
    by_another_clock().await;
}

pub(super) async fn by_another_clock() -> Row {
    static FOUND: Finding = Finding::new();
    FOUND
        .once(async {
            let server = S3Server::with(|_| async {
                refusal(
                    403,
                    "RequestTimeTooSkewed",
                    "The difference between the request time and the current time is too large.",
                )
            })
            .await;
            let storage = small_parts(server.settings());
            let errors = [
                storage.put(&key("a"), "x".into()).await.map(drop).unwrap_err(),
                storage.read_all(&key("a"), 10).await.map(drop).unwrap_err(),
                storage.list_all(&Key::root()).await.map(drop).unwrap_err(),
                storage.delete(&key("a")).await.unwrap_err(),
                write(&storage, "large", &noise(2 * PART_BYTES + MIB)).await.unwrap_err(),
            ];
            assert_eq!(server.requests().len(), errors.len(), "one request each");
            for error in errors {
                assert_eq!(
                    (error.kind(), error.code()),
                    (ErrorKind::Denied, Some("RequestTimeTooSkewed")),
                    "{error:?}"
                );
                assert!(!error.is_retryable() && error.cause().unwrap().text.contains("The difference"), "{error:?}");
            }
            [
                "has another time (403 `RequestTimeTooSkewed`)",
                "does not apply",
                "`Denied` with the store's words, after one request",
                "`storage::suite::quirks::credentials::a_clock_that_is_wrong_is_named_at_once`",
            ]
        })
        .await
}
