//! Stores that want to be asked again.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use hyper::Response;
use pgkeep_storage::{ErrorKind, Key, S3Settings, Storage, StorageExt};

use super::{Finding, PART_BYTES, Row, contract, count, fails_and_leaves_nothing, key, noise, small_parts, write};
use crate::s3_server::{Answer, Call, S3Server, refusal};

/// A 200 that was sent before the outcome was known, with a sign of life before the error.
fn error_in_200(code: &str) -> Answer {
    let body = format!(
        "\n \n<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>so sorry</Message></Error>"
    );
    Ok(Response::builder().status(200).body(s3s::Body::from(body)).unwrap())
}

fn joins(call: &Call) -> bool {
    call.is("POST", "uploadId=")
}

/// Refuses to join parts with an error in a 200, so many times.
async fn joins_badly(code: &'static str, times: usize) -> S3Server {
    let left = Arc::new(AtomicUsize::new(times));
    S3Server::with(move |call| {
        let left = Arc::clone(&left);
        async move {
            if joins(&call) && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
            {
                return error_in_200(code);
            }
            call.pass().await
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_in_a_success_is_no_success() {
    errors_in_a_success().await;
}

pub(super) async fn errors_in_a_success() -> Row {
    static FOUND: Finding = Finding::new();
    FOUND
        .once(async {
            for code in ["InternalError", "ServiceUnavailable"] {
                let server = joins_badly(code, 2).await;
                let storage = if code == "InternalError" {
                    contract(server.settings()).await
                } else {
                    let storage = small_parts(server.settings());
                    write(&storage, "large", &noise(PART_BYTES + 1)).await.unwrap();
                    storage
                };
                let joins = |line: &&String| line.starts_with("POST") && line.contains("uploadId=");
                assert_eq!(server.requests().iter().filter(joins).count(), 3, "one object, and two errors");
                drop(storage);
            }

            let server = joins_badly("InternalError", usize::MAX).await;
            let mut settings = server.settings();
            settings.network.bulk_retries = 2;
            let error = fails_and_leaves_nothing(&server, &small_parts(settings), PART_BYTES + 1).await;
            assert_eq!((error.kind(), error.code()), (ErrorKind::Other, Some("InternalError")));
            assert!(error.is_retryable());
            assert_eq!(count(&server.requests(), "?uploadId="), 3 + 1, "it is joined three times and given up once");

            for (code, kind) in [("AccessDenied", ErrorKind::Denied), ("EntityTooLarge", ErrorKind::Full), ("InvalidPart", ErrorKind::Other)] {
                let server = joins_badly(code, usize::MAX).await;
                let error = fails_and_leaves_nothing(&server, &small_parts(server.settings()), PART_BYTES + 1).await;
                assert_eq!((error.kind(), error.code()), (kind, Some(code)));
                assert!(!error.is_retryable());
                assert_eq!(count(&server.requests(), "?uploadId="), 1 + 1, "{code} is final");
            }
            [
                "answers CompleteMultipartUpload with 200 and an error in the body",
                "passes, where the error passes",
                "`InternalError` for ever: `bulk_retries` more requests, then retryable; `AccessDenied`, `EntityTooLarge`, `InvalidPart`: one request, \
                 `Denied`, `Full`, `Other`. Nothing visible, no part left",
                "`storage::suite::quirks::patience::an_error_in_a_success_is_no_success`",
            ]
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_throttles_is_asked_again_and_not_for_ever() {
    throttled().await;
}

pub(super) async fn throttled() -> Row {
    static FOUND: Finding = Finding::new();
    FOUND
        .once(async {
            let asked = Arc::new(AtomicUsize::new(0));
            let server = S3Server::with(move |call| {
                let asked = Arc::clone(&asked);
                async move {
                    match asked.fetch_add(1, Ordering::SeqCst) % 14 {
                        6 => refusal(503, "SlowDown", "Please reduce your request rate."),
                        13 => refusal(429, "TooManyRequests", "too many"),
                        _ => call.pass().await,
                    }
                }
            })
            .await;
            contract(server.settings()).await;

            let server =
                S3Server::with(|_| async { refusal(503, "SlowDown", "Please reduce your request rate.") }).await;
            let mut settings = server.settings();
            (settings.network.quick_retries, settings.network.bulk_retries) = (2, 2);
            settings.transfer.patience = Duration::ZERO;
            let storage = small_parts(settings);
            for error in [
                storage.head(&key("a")).await.map(drop).unwrap_err(),
                storage.read_all(&key("a"), 10).await.map(drop).unwrap_err(),
                storage.list_all(&Key::root()).await.map(drop).unwrap_err(),
                storage.delete(&key("a")).await.unwrap_err(),
                storage.put(&key("a"), "x".into()).await.map(drop).unwrap_err(),
                // The look before it.
                storage.create(&key("a"), "x".into()).await.map(drop).unwrap_err(),
            ] {
                assert_eq!(error.kind(), ErrorKind::Other, "{error:?}");
                assert!(error.is_retryable(), "{error:?}");
            }
            assert_eq!(server.requests().len(), 6 * 3);
            [
                "throttles (503 `SlowDown`, 429), every seventh request",
                "passes",
                "for ever: as many requests as the settings say, then retryable",
                "`storage::suite::quirks::patience::a_store_that_throttles_is_asked_again_and_not_for_ever`",
            ]
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_asked_to_wait_waits() {
    asked_to_wait().await;
}

pub(super) async fn asked_to_wait() -> Row {
    static FOUND: Finding = Finding::new();
    FOUND
        .once(async {
            /// Until when nobody is to come, and how many came all the same.
            #[derive(Default)]
            struct Closed {
                told: Vec<String>,
                until: Option<Instant>,
                too_early: usize,
            }
            let closed: Arc<Mutex<Closed>> = Arc::default();
            let state = Arc::clone(&closed);
            let server = S3Server::with(move |call| {
                let state = Arc::clone(&state);
                async move {
                    let method = call.request.method().to_string();
                    {
                        let mut closed = state.lock().unwrap();
                        if closed.until.is_some_and(|until| Instant::now() < until) {
                            closed.too_early += 1;
                        }
                        if !closed.told.contains(&method) {
                            closed.told.push(method);
                            closed.until = Some(Instant::now() + Duration::from_secs(1));
                            let answer = Response::builder().status(429).header("retry-after", "1");
                            return Ok(answer.body(s3s::Body::empty()).unwrap());
                        }
                    }
                    call.pass().await
                }
            })
            .await;
            let storage = S3Settings { ..server.settings() }.connect().unwrap();
            storage.put(&key("a"), "x".into()).await.unwrap();
            storage.read_all(&key("a"), 10).await.unwrap();
            storage.delete(&key("a")).await.unwrap();
            let closed = closed.lock().unwrap();
            assert_eq!(closed.told, ["PUT", "HEAD", "GET", "DELETE"]);
            assert_eq!(closed.too_early, 0, "nobody came before the second was over");
            [
                "asks for a pause (429 with `Retry-After: 1`) once for every method",
                "does not apply",
                "no request comes before its time; no wait is longer than 20 s",
                "`storage::suite::quirks::patience::whoever_is_asked_to_wait_waits`",
            ]
        })
        .await
}
