//! Stores that refer to others.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use hyper::Response;
use pgkeep_storage::{ErrorKind, Key, S3Settings, Storage, StorageExt, fixed_credentials};
use tokio::net::TcpListener;

use super::{Finding, PART_BYTES, Row, key, noise, small_parts, write};
use crate::s3_server::{S3Server, SECRET};

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_followed_elsewhere_with_keys_in_hand() {
    elsewhere().await;
}

pub(super) async fn elsewhere() -> Row {
    static FOUND: Finding = Finding::new();
    FOUND
        .once(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let other = listener.local_addr().unwrap();
            let visits = Arc::new(AtomicUsize::new(0));
            let seen = Arc::clone(&visits);
            let listening = tokio::spawn(async move {
                loop {
                    let _ = listener.accept().await.unwrap();
                    seen.fetch_add(1, Ordering::SeqCst);
                }
            });
            for status in [301, 302, 303, 307, 308] {
                for region in [None, Some("eu-west-1")] {
                    let server = S3Server::with(move |call| async move {
                        let location = format!("http://{other}{}", call.request.uri());
                        let mut answer = Response::builder().status(status).header("location", location);
                        if let Some(region) = region {
                            answer = answer.header("x-amz-bucket-region", region);
                        }
                        Ok(answer.body(s3s::Body::empty()).unwrap())
                    })
                    .await;
                    let token = Some("a-session-token".to_owned());
                    let credentials = Some(fixed_credentials("key-id".to_owned(), SECRET.to_owned(), token));
                    let storage = small_parts(S3Settings { credentials, ..server.settings() });
                    let errors = [
                        storage.head(&key("a")).await.map(drop).unwrap_err(),
                        storage.put(&key("a"), "x".into()).await.map(drop).unwrap_err(),
                        storage.delete(&key("a")).await.unwrap_err(),
                        storage.list_all(&Key::root()).await.map(drop).unwrap_err(),
                        write(&storage, "large", &noise(PART_BYTES + 1)).await.unwrap_err(),
                        storage.unfinished(i64::MAX).await.map(drop).unwrap_err(),
                    ];
                    assert_eq!(server.requests().len(), errors.len(), "{status}: one request each");
                    let told = match region {
                        Some(region) => format!("the bucket is in region {region}"),
                        None => format!("the server refers to http://{other}, and is not followed there"),
                    };
                    for error in errors {
                        assert_eq!((error.kind(), error.code()), (ErrorKind::Other, Some("PermanentRedirect")), "{error:?}");
                        assert!(!error.is_retryable());
                        let shown = format!("{error:?}");
                        assert!(shown.contains(&told), "{shown}");
                        assert!(!shown.contains("a-session-token") && !shown.contains("X-Amz-"), "{shown}");
                    }
                }
            }
            assert_eq!(visits.load(Ordering::SeqCst), 0, "the other server was never visited");
            listening.abort();
            [
                "refers to another server or region (301, 302, 303, 307, 308)",
                "does not apply",
                "never followed, so that neither a signature nor a session token goes there: an error after one request that names the region or host",
                "`storage::suite::quirks::redirects::nobody_is_followed_elsewhere_with_keys_in_hand`",
            ]
        })
        .await
}
