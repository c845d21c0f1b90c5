//! S3 over HTTP against a server in this process: conformance, the number of requests, and everything that goes wrong on the way.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::TryStreamExt;
use pgkeep_storage::{
    Created, Encryption, ErrorKind, Key, ObjectStorage, PartRules, Readiness, Result, S3Settings, Storage, StorageExt,
    Support, WriteOptions, conformance, fixed_credentials,
};

use crate::s3_server::{Fault, S3Server, SECRET};

const MIB: usize = 1024 * 1024;

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

/// Bytes that differ everywhere.
fn large(bytes: usize) -> Bytes {
    (0..=bytes / 4).flat_map(|word| (word as u32).wrapping_mul(0x9e37_79b9).to_le_bytes()).take(bytes).collect()
}

async fn write(storage: &ObjectStorage, name: &str, bytes: &Bytes) -> Result<()> {
    let mut writer = storage.write(&key(name), &WriteOptions::default()).await?;
    for start in (0..bytes.len()).step_by(MIB) {
        writer.write(bytes.slice(start..bytes.len().min(start + MIB))).await?;
    }
    writer.finish().await.map(drop)
}

/// Small reads, so that a few MiB take several requests.
fn small_steps(mut settings: S3Settings) -> ObjectStorage {
    settings.transfer.read_bytes = MIB as u64;
    settings.part_rules = Some(PartRules { max_part_bytes: 5 * MIB as u64, ..PartRules::S3_COMPATIBLE });
    settings.connect().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    let server = S3Server::start().await;
    let storage = server.storage();
    assert_eq!(storage.location().as_str(), "s3://bucket/database-backups/app");
    conformance::run(&storage).await;
    assert_eq!(storage.conditional_writes(), Support::Yes, "the suite has probed it");
    assert_eq!(server.parts(), [""; 0], "what was given up leaves no parts");
}

#[tokio::test]
async fn small_objects_take_few_requests() {
    let server = S3Server::start().await;
    let storage = server.storage();
    storage.put(&key("a"), "x".into()).await.unwrap();
    let lines = server.requests();
    assert_eq!(lines, ["PUT /bucket/database-backups/app/a", "HEAD /bucket/database-backups/app/a"]);
    storage.read_all(&key("a"), 10).await.unwrap();
    assert_eq!(server.requests().len(), 1, "one GET tells size and content");
    storage.create(&key("b"), "x".into()).await.unwrap();
    storage.delete(&key("b")).await.unwrap();
    assert_eq!(server.requests().len(), 2);
    storage.list_all(&Key::root()).await.unwrap();
    assert_eq!(server.requests().len(), 1);
}

#[tokio::test]
async fn large_objects_are_cut_as_planned() {
    let server = S3Server::start().await;
    let storage = small_steps(server.settings());
    let bytes = large(12 * MIB + 1);
    write(&storage, "a", &bytes).await.unwrap();
    let parts = server.requests().iter().filter(|line| line.contains("partNumber")).count();
    assert_eq!(parts, 3, "two of 5 MiB and the rest");
    assert_eq!(storage.read_all(&key("a"), u64::MAX).await.unwrap(), bytes);
    assert_eq!(server.requests().len(), 13, "ranges of 1 MiB");
    // Exactly as much as fits one part needs no parts.
    write(&storage, "b", &bytes.slice(..5 * MIB)).await.unwrap();
    assert_eq!(server.requests().len(), 2);
}

#[tokio::test]
async fn too_many_parts_are_refused_with_the_limit() {
    let server = S3Server::start().await;
    let rules = PartRules { max_parts: 2, max_part_bytes: 5 * MIB as u64, ..PartRules::S3_COMPATIBLE };
    let storage = S3Settings { part_rules: Some(rules), ..server.settings() }.connect().unwrap();
    write(&storage, "fits", &large(10 * MIB)).await.unwrap();
    let error = write(&storage, "a", &large(11 * MIB)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert!(error.to_string().contains("larger than 10485760 bytes"), "{error}");
    assert!(!storage.exists(&key("a")).await.unwrap());
}

#[tokio::test]
async fn a_part_is_stored_again_and_again() {
    let server = S3Server::start().await;
    let mut settings = server.impatient();
    settings.network.stall_timeout = Duration::from_secs(20);
    settings.transfer.patience = Duration::from_mins(1);
    let storage = small_steps(settings);
    server.fail("partNumber=2", 1, Fault::Status(503));
    server.fail("partNumber=1", 1, Fault::LoseAnswer);
    server.fail("partNumber=3", 1, Fault::Status(429));
    let bytes = large(12 * MIB);
    write(&storage, "a", &bytes).await.unwrap();
    assert_eq!(storage.read_all(&key("a"), u64::MAX).await.unwrap(), bytes);
    // A refusal is none of the things that pass.
    server.requests();
    server.fail("partNumber=1", 9, Fault::Status(403));
    let error = write(&storage, "b", &bytes).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied);
    assert_eq!(server.requests().iter().filter(|line| line.contains("partNumber=1&")).count(), 1);
}

#[tokio::test]
async fn reading_goes_on_where_it_broke() {
    let server = S3Server::start().await;
    let mut settings = server.impatient();
    settings.network.stall_timeout = Duration::from_secs(20);
    settings.transfer.patience = Duration::from_mins(1);
    let storage = small_steps(settings);
    let bytes = large(3 * MIB + 5);
    write(&storage, "a", &bytes).await.unwrap();
    server.requests();
    server.fail("bytes=1048576-2097151", 1, Fault::BreakAfter(600_000));
    server.fail("bytes=2097152-", 1, Fault::Status(500));
    server.fail("bytes=3145728-", 1, Fault::LoseAnswer);
    assert_eq!(storage.read_all(&key("a"), u64::MAX).await.unwrap(), bytes);
    let lines = server.requests();
    assert_eq!(lines.len(), 7, "four ranges, three of them twice: {lines:?}");
    let resumed = lines.iter().filter(|line| line.ends_with("-2097151")).nth(1).unwrap();
    let start: u64 = resumed.split_once("bytes=").unwrap().1.split_once('-').unwrap().0.parse().unwrap();
    assert!(start > 1_048_576 && start <= 1_048_576 + 600_000, "what came is not asked for again: {resumed}");
}

#[tokio::test]
async fn silence_is_a_timeout() {
    let server = S3Server::start().await;
    write(&server.storage(), "a", &large(2 * MIB)).await.unwrap();
    let storage = small_steps(server.impatient());
    let begun = Instant::now();
    server.fail("GET ", 1, Fault::StallAfter(1000));
    let error = storage.read_all(&key("a"), u64::MAX).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    assert!(error.is_retryable());
    server.fail("PUT ", 1, Fault::Silence);
    let error = storage.put(&key("b"), "x".into()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout, "{error:?}");
    server.fail("HEAD ", 1, Fault::Silence);
    assert_eq!(storage.head(&key("a")).await.unwrap_err().kind(), ErrorKind::Timeout);
    assert!(begun.elapsed() < Duration::from_mins(1), "it does not wait for ever");
}

#[tokio::test]
async fn a_slow_reader_is_no_stall() {
    let server = S3Server::start().await;
    let bytes = large(5 * MIB);
    write(&server.storage(), "a", &bytes).await.unwrap();
    let mut pieces = small_steps(server.impatient()).read(&key("a"), None).await.unwrap();
    let mut read = Vec::new();
    while let Some(piece) = pieces.try_next().await.unwrap() {
        read.extend_from_slice(&piece);
        if read.len() == 2 * MIB {
            // Longer than the server may be silent, with requests under way.
            tokio::time::sleep(Duration::from_secs(3)).await;
        }
    }
    assert!(bytes == read);
}

#[tokio::test]
async fn an_object_that_is_replaced_while_it_is_read_is_noticed() {
    let server = S3Server::start().await;
    let storage = small_steps(server.settings());
    write(&storage, "a", &large(6 * MIB)).await.unwrap();
    let mut pieces = storage.read(&key("a"), None).await.unwrap();
    pieces.try_next().await.unwrap();
    let mut other = large(6 * MIB).to_vec();
    other.reverse();
    write(&storage, "a", &other.into()).await.unwrap();
    let error = pieces.try_for_each(|_| async { Ok(()) }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Damaged);
    assert!(error.to_string().contains("was replaced"), "{error}");
}

#[tokio::test]
async fn a_lost_answer_to_a_creation_is_cleared_up() {
    let server = S3Server::start().await;
    let storage = server.storage();
    server.fail("PUT ", 1, Fault::LoseAnswer);
    assert_eq!(storage.create(&key("mine"), "mine".into()).await.unwrap(), Created::Created);
    storage.put(&key("theirs"), "theirs".into()).await.unwrap();
    server.fail("PUT ", 1, Fault::LoseAnswer);
    assert_eq!(storage.create(&key("theirs"), "mine".into()).await.unwrap(), Created::Exists);
    assert_eq!(storage.read_all(&key("theirs"), 10).await.unwrap(), "theirs");
    // A conflict with another request under way is no answer yet.
    server.fail("PUT ", 2, Fault::Status(409));
    assert_eq!(storage.create(&key("new"), "new".into()).await.unwrap(), Created::Created);
}

#[tokio::test]
async fn a_lost_answer_to_a_completion_is_cleared_up() {
    let server = S3Server::start().await;
    let mut settings = server.impatient();
    settings.network.stall_timeout = Duration::from_secs(20);
    let storage = small_steps(settings);
    server.fail("POST /bucket/database-backups/app/a?uploadId", 1, Fault::LoseAnswer);
    let bytes = large(6 * MIB);
    write(&storage, "a", &bytes).await.unwrap();
    assert_eq!(storage.read_all(&key("a"), u64::MAX).await.unwrap(), bytes);
}

#[tokio::test]
async fn stores_without_conditional_writes_are_found_out() {
    let server = S3Server::start().await;
    let storage = server.storage();
    assert_eq!(storage.conditional_writes(), Support::Unknown);
    server.fail("PUT ", 1, Fault::Status(501));
    assert_eq!(storage.create(&key("a"), "one".into()).await.unwrap(), Created::Created);
    assert_eq!(storage.conditional_writes(), Support::No);
    assert_eq!(storage.create(&key("a"), "two".into()).await.unwrap(), Created::Exists);
    assert_eq!(storage.read_all(&key("a"), 10).await.unwrap(), "one");

    // Worse: taken without a word, and written over.
    let storage = server.storage();
    server.fail("PUT ", 2, Fault::Unconditional);
    assert_eq!(storage.probe_conditional_writes(&key(".pgkeep")).await.unwrap(), Support::No);
    assert_eq!(
        storage.create(&key("a"), "two".into()).await.unwrap(),
        Created::Exists,
        "it looks before it writes now"
    );
    assert_eq!(server.storage().probe_conditional_writes(&key(".pgkeep")).await.unwrap(), Support::Yes);
    assert_eq!(storage.list_all(&Key::root()).await.unwrap().len(), 1, "probes leave nothing");
}

#[tokio::test]
async fn refusals_say_what_is_wrong_and_nothing_secret() {
    let server = S3Server::start().await;
    let token = Some("a-session-token".to_owned());
    let wrong = fixed_credentials("key-id".to_owned(), format!("not-{SECRET}"), token);
    let storage = S3Settings { credentials: Some(wrong), ..server.settings() }.connect().unwrap();
    let error = storage.put(&key("a"), "x".into()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
    assert_eq!(error.code(), Some("SignatureDoesNotMatch"));
    assert!(!error.is_retryable());
    let shown = format!("{error} {error:?} {} {storage:?}", error.cause().unwrap());
    assert!(!shown.contains(SECRET) && !shown.contains("a-session-token"), "{shown}");
    assert_eq!(storage.head(&key("a")).await.unwrap_err().kind(), ErrorKind::Denied);
    assert_eq!(storage.list_all(&Key::root()).await.unwrap_err().kind(), ErrorKind::Denied);

    let missing = S3Settings { bucket: "no-such-bucket".to_owned(), ..server.settings() }.connect().unwrap();
    let error = missing.list_all(&Key::root()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NoStore, "{error:?}");
    assert_eq!(error.to_string(), "s3://no-such-bucket/database-backups/app does not exist");
}

#[tokio::test]
async fn nobody_there_is_unreachable_and_told_soon() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let credentials = Some(fixed_credentials("key-id".to_owned(), SECRET.to_owned(), None));
    let storage = S3Settings { endpoint: Some(endpoint), credentials, ..S3Settings::new("bucket") }.connect().unwrap();
    let begun = Instant::now();
    let errors = [
        storage.list_all(&Key::root()).await.map(drop).unwrap_err(),
        storage.read_all(&key("a"), 10).await.map(drop).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::Unreachable, "{error:?}");
        assert!(error.is_retryable());
    }
    assert!(begun.elapsed() < Duration::from_secs(15), "retries of small requests are short");
}

#[tokio::test]
async fn what_the_server_cannot_tell_is_not_known() {
    let server = S3Server::start().await;
    assert_eq!(server.storage().unfinished(i64::MAX).await.unwrap(), None, "it has no listing of uploads");
    assert_eq!(server.storage().free_bytes().await.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_is_asked_to_encrypt_as_set() {
    let server = S3Server::start().await;
    let amazon = S3Settings { endpoint: None, ..server.settings() };
    assert_eq!(amazon.asked_encryption(), Encryption::Aes256, "by default on Amazon");
    assert_eq!(server.settings().asked_encryption(), Encryption::BucketDefault, "and not elsewhere");
    let told = async |encryption: Encryption| {
        let storage = small_steps(S3Settings { encryption, ..server.settings() });
        storage.put(&key("small"), "x".into()).await.unwrap();
        write(&storage, "large", &large(6 * MIB)).await.unwrap();
        storage.read_all(&key("small"), 10).await.unwrap();
        server.encryption()
    };
    let each = |algorithm: &str, key: &str| {
        // The small object, and the beginning of the large one; what is read or joined needs no telling.
        ["PUT", "POST"].map(|method| (method.to_owned(), algorithm.to_owned(), key.to_owned()))
    };
    assert_eq!(told(Encryption::Aes256).await, each("AES256", ""));
    assert_eq!(told(Encryption::Kms("arn:aws:kms:key/1".to_owned())).await, each("aws:kms", "arn:aws:kms:key/1"));
    assert_eq!(told(Encryption::BucketDefault).await, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_in_no_archive_tier_is_ready() {
    let server = S3Server::start().await;
    server.storage().put(&key("a"), "x".into()).await.unwrap();
    assert_eq!(server.storage().readiness(&key("a")).await.unwrap(), Readiness::Ready);
    assert_eq!(server.storage().readiness(&key("b")).await.unwrap_err().kind(), ErrorKind::NotFound);
}
