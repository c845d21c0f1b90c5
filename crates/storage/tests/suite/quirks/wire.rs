//! Connections that stall, break, or come to nothing for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use futures::TryStreamExt;
use pgkeep_storage::{Created, ErrorKind, Key, S3Settings, Storage, StorageExt, WriteOptions};

use super::relay::{Fate, Relay};
use super::{Finding, MIB, PART_BYTES, Row, contract, count, key, noise, small_parts, write};
use crate::s3_server::{Answer, Broken, Call, Fault, S3Server, impatient, settings_at};

#[tokio::test(flavor = "multi_thread")]
async fn silence_ends_and_what_is_left_is_done_elsewhere() {
    stalled().await;
}

pub(super) async fn stalled() -> Row {
    static FOUND: Finding = Finding::new();
    FOUND
        .once(async {
            let server = S3Server::start().await;
            let bytes = noise(2 * PART_BYTES + 1);
            write(&small_parts(server.settings()), "there", &bytes).await.unwrap();
            // The answer to joining that begins, and does not end.
            server.fail("POST /bucket/database-backups/app/joined?uploadId", 1, Fault::StallAfter(10));
            let hasty = small_parts(impatient(server.settings()));
            let (joined, ()) = tokio::join!(write(&hasty, "joined", &bytes), stalled_once(&server, &bytes));
            joined.unwrap();
            tokio::join!(
                stalled_for_ever(&server, Fate::Silence, &bytes),
                stalled_for_ever(&server, Fate::StallRequest(100), &bytes),
                stalled_for_ever(&server, Fate::StallAnswer(100), &bytes),
            );
            server.no_parts_are_left().await;
            [
                "accepts connections and does not answer; stops in the middle of a request or of an answer",
                "does not apply",
                "once: upload and download go on over another connection. For ever: `Timeout` after the time that the settings say, nothing visible, no \
                 part left. An answer to joining that never ends: what was made is looked at",
                "`storage::suite::quirks::wire::silence_ends_and_what_is_left_is_done_elsewhere`",
            ]
        })
        .await
}

/// Who asks has no patience: each call ends by itself, after one connection.
async fn stalled_for_ever(server: &S3Server, fate: Fate, bytes: &Bytes) {
    let relay = Relay::to(server.address).await;
    relay.next([fate; 5]);
    let storages = [(); 5].map(|()| small_parts(impatient(settings_at(relay.endpoint()))));
    let (small, large, there, root) = (key("small"), format!("large-{fate:?}"), key("there"), Key::root());
    let (put, head, read, list, written) = tokio::join!(
        storages[0].put(&small, "x".into()),
        storages[1].head(&there),
        storages[2].read_all(&there, u64::MAX),
        storages[3].list_all(&root),
        write(&storages[4], &large, bytes),
    );
    for error in [put.map(drop), head.map(drop), read.map(drop), list.map(drop), written].map(Result::unwrap_err) {
        assert_eq!(error.kind(), ErrorKind::Timeout, "{fate:?}: {error:?}");
        assert!(error.is_retryable());
    }
    assert_eq!(relay.left(), 0, "{fate:?}");
    assert_eq!(server.stored(&large), None);
}

/// Who asks has patience: in the middle of an upload, and of a download.
async fn stalled_once(server: &S3Server, bytes: &Bytes) {
    let relay = Relay::to(server.address).await;
    let mut settings = impatient(settings_at(relay.endpoint()));
    settings.network.stall_timeout = Duration::from_secs(4);
    settings.network.quick_retries = 3;
    settings.network.bulk_retries = 3;
    settings.transfer.patience = Duration::from_mins(5);
    relay.next([Fate::StallRequest(3 * MIB), Fate::StallRequest(3 * MIB)]);
    write(&small_parts(settings.clone()), "once", bytes).await.unwrap();
    relay.next([Fate::StallAnswer(MIB), Fate::StallAnswer(MIB)]);
    assert!(small_parts(settings).read_all(&key("once"), u64::MAX).await.unwrap() == *bytes);
    assert_eq!(relay.left(), 0, "both have happened");
}

/// Breaks off the third of each of these: before it is carried out, after that, and in the middle of its answer.
async fn breaks(call: Call, turn: usize) -> Answer {
    match turn % 9 {
        2 => Err(Broken),
        5 => {
            call.pass().await?;
            Err(Broken)
        }
        8 => crate::s3_server::broken_off(call.pass().await?).await,
        _ => call.pass().await,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_cut_off_is_done_again() {
    cut().await;
}

pub(super) async fn cut() -> Row {
    static FOUND: Finding = Finding::new();
    FOUND
        .once(async {
            let turns = Arc::new(AtomicUsize::new(0));
            let server = S3Server::with(move |call| {
                let turns = Arc::clone(&turns);
                async move {
                    // A creation that is cut off may meet itself: that has a test of its own.
                    if call.header("if-none-match").is_some() || call.request.method() == "HEAD" {
                        return call.pass().await;
                    }
                    breaks(call, turns.fetch_add(1, Ordering::SeqCst)).await
                }
            })
            .await;
            contract(server.settings()).await;

            // By a reset, with bytes on their way.
            let server = S3Server::start().await;
            let relay = Relay::to(server.address).await;
            let bytes = noise(2 * PART_BYTES + 1);
            let patient = |relay: &Relay| small_parts(settings_at(relay.endpoint()));
            relay.next([Fate::Reset, Fate::CutRequest(MIB), Fate::CutRequest(300), Fate::CutAnswer(20)]);
            let storage = patient(&relay);
            write(&storage, "a", &bytes).await.unwrap();
            relay.next([Fate::Reset, Fate::CutAnswer(MIB), Fate::CutAnswer(300), Fate::CutRequest(20)]);
            let storage = patient(&relay);
            assert!(storage.read_all(&key("a"), u64::MAX).await.unwrap() == bytes);
            assert_eq!(relay.left(), 0);
            relay.next([Fate::CutAnswer(30)]);
            assert_eq!(patient(&relay).create(&key("mine"), "mine".into()).await.unwrap(), Created::Created);

            // For ever.
            relay.connections();
            relay.next([Fate::Reset; 1000]);
            let storage = S3Settings { ..impatient(settings_at(relay.endpoint())) }.connect().unwrap();
            for error in [
                storage.head(&key("a")).await.map(drop).unwrap_err(),
                storage.list_all(&Key::root()).await.map(drop).unwrap_err(),
                storage.read_all(&key("a"), u64::MAX).await.map(drop).unwrap_err(),
                storage.put(&key("b"), "x".into()).await.map(drop).unwrap_err(),
            ] {
                assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
                assert!(error.is_retryable());
            }
            assert!(relay.connections() <= 2 * 4, "a connection that breaks before its first use may be made anew");
            assert_eq!(server.stored("b"), None);
            [
                "breaks connections: at once, in the middle of a request, after it was carried out, in the middle of an answer, by a reset",
                "passes, with a third of the requests broken off",
                "upload and download go on where they broke; for ever: `Unreachable` after as many connections as the settings say, nothing visible",
                "`storage::suite::quirks::wire::what_is_cut_off_is_done_again`",
            ]
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_is_away_for_a_while_is_waited_for() {
    down_for_a_while().await;
}

pub(super) async fn down_for_a_while() -> Row {
    static FOUND: Finding = Finding::new();
    FOUND
        .once(async {
            let server = S3Server::start().await;
            let relay = Relay::to(server.address).await;
            let bytes = noise(6 * PART_BYTES + 1);
            let mut settings = settings_at(relay.endpoint());
            // A request is given up soon, its part is not.
            settings.network.bulk_retries = 1;
            settings.network.quick_retries = 1;
            let patient = small_parts(settings.clone());
            settings.transfer.patience = Duration::ZERO;
            let hasty = small_parts(settings);

            let mut writer = patient.write(&key("large"), &WriteOptions::default()).await.unwrap();
            writer.write(bytes.slice(..2 * PART_BYTES as usize)).await.unwrap();
            relay.set_up(false);
            let (written, ()) = tokio::join!(writer.write(bytes.slice(2 * PART_BYTES as usize..)), comes_back(&relay, 8));
            written.unwrap();
            writer.finish().await.unwrap();

            let mut pieces = patient.read(&key("large"), None).await.unwrap();
            let mut read = Vec::new();
            read.extend_from_slice(&pieces.try_next().await.unwrap().unwrap());
            relay.set_up(false);
            let reading = async {
                while let Some(piece) = pieces.try_next().await.unwrap() {
                    read.extend_from_slice(&piece);
                }
            };
            tokio::join!(reading, comes_back(&relay, 8));
            assert!(bytes == read);

            // Who has no patience says so, and nothing is seen of it, nor afterwards.
            let mut writer = hasty.write(&key("given-up"), &WriteOptions::default()).await.unwrap();
            writer.write(bytes.slice(..2 * PART_BYTES as usize)).await.unwrap();
            relay.set_up(false);
            let written = writer.write(bytes.slice(2 * PART_BYTES as usize..)).await;
            let error = match written {
                Err(error) => error,
                Ok(()) => writer.finish().await.unwrap_err(),
            };
            assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
            assert!(error.is_retryable());
            relay.set_up(true);
            assert_eq!(server.stored("given-up"), None);
            assert!(count(&server.requests(), "POST /bucket/database-backups/app/given-up?uploadId") == 0);
            [
                "cannot be reached for a while in the middle",
                "does not apply",
                "upload and download wait for as long as `patience` says (10 min by default) without any success, and go on; without patience \
                 `Unreachable`, nothing visible. Parts that could not be aborted are swept later",
                "`storage::suite::quirks::wire::a_store_that_is_away_for_a_while_is_waited_for`",
            ]
        })
        .await
}

/// Is up again when so many connections were tried in vain.
async fn comes_back(relay: &Relay, tries: usize) {
    relay.connections();
    let mut tried = 0;
    while tried < tries {
        tokio::time::sleep(Duration::from_millis(20)).await;
        tried += relay.connections();
    }
    relay.set_up(true);
}
