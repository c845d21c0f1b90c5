//! Requests that not every store knows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pgkeep_storage::{Created, Storage, StorageExt, Support};

use super::{Finding, Row, contract, count, key};
use crate::s3_server::{S3Server, refusal};

#[tokio::test(flavor = "multi_thread")]
async fn objects_are_deleted_without_the_bulk_request() {
    no_bulk_delete().await;
}

pub(super) async fn no_bulk_delete() -> Row {
    static FOUND: Finding = Finding::new();
    FOUND
        .once(async {
            let method_not_allowed = Arc::new(AtomicBool::new(false));
            let server = S3Server::with(move |call| {
                let method_not_allowed = Arc::clone(&method_not_allowed);
                async move {
                    // Nor is anything copied, whose success may hide an error too.
                    if call.is("POST", "delete") || call.header("x-amz-copy-source").is_some() {
                        let known = method_not_allowed.fetch_not(Ordering::Relaxed);
                        return if known {
                            refusal(405, "MethodNotAllowed", "no")
                        } else {
                            refusal(501, "NotImplemented", "no")
                        };
                    }
                    call.pass().await
                }
            })
            .await;
            contract(server.settings()).await;
            let lines = server.requests();
            assert_eq!(lines.iter().filter(|line| line.contains("?delete")).count(), 0);
            assert!(count(&lines, "DELETE /bucket/database-backups/app/") > 20);
            [
                "has no bulk delete and no copy (501, 405)",
                "passes",
                "neither is ever asked for: one request per deletion",
                "`storage::suite::quirks::conditions::objects_are_deleted_without_the_bulk_request`",
            ]
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn where_conditions_are_passed_over_nothing_is_written_over() {
    ignored().await;
}

pub(super) async fn ignored() -> Row {
    static FOUND: Finding = Finding::new();
    FOUND
        .once(async {
            let server = S3Server::with(|call| async move {
                if call.header("if-none-match").is_some() {
                    call.forget_object();
                }
                call.pass().await
            })
            .await;
            let storage = contract(server.settings()).await;
            assert_eq!(storage.conditional_writes(), Support::No, "the suite has probed it");

            // Who has not probed it is none the worse.
            let storage = server.storage();
            assert_eq!(storage.create(&key("lock"), "first".into()).await.unwrap(), Created::Created);
            assert_eq!(storage.create(&key("lock"), "second".into()).await.unwrap(), Created::Exists);
            let another = server.storage();
            assert_eq!(another.create(&key("lock"), "third".into()).await.unwrap(), Created::Exists);
            assert_eq!(storage.read_all(&key("lock"), 10).await.unwrap(), "first");
            assert_eq!(another.conditional_writes(), Support::Unknown, "what was looked at says nothing of conditions");
            [
                "passes over `If-None-Match` without a word",
                "passes, but that two that create in the same instant may both win",
                "`create` looks before it writes until it is known that the store looks: what is there stays, also before anybody has probed",
                "`storage::suite::quirks::conditions::where_conditions_are_passed_over_nothing_is_written_over`",
            ]
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn where_conditions_are_refused_it_looks_before_it_writes() {
    refused().await;
}

pub(super) async fn refused() -> Row {
    static FOUND: Finding = Finding::new();
    FOUND
        .once(async {
            let server = S3Server::with(|call| async move {
                match call.header("if-none-match") {
                    Some(_) => refusal(
                        501,
                        "NotImplemented",
                        "A header you provided implies functionality that is not implemented",
                    ),
                    None => call.pass().await,
                }
            })
            .await;
            let storage = contract(server.settings()).await;
            assert_eq!(storage.conditional_writes(), Support::No);
            server.requests();
            storage.create(&key("lock"), "first".into()).await.unwrap();
            assert_eq!(count(&server.requests(), "app/lock"), 2, "it asks once only: a look and a write");
            [
                "refuses `If-None-Match` (501)",
                "passes, but that two that create in the same instant may both win",
                "it is asked once per run; from then on a look and a write",
                "`storage::suite::quirks::conditions::where_conditions_are_refused_it_looks_before_it_writes`",
            ]
        })
        .await
}
