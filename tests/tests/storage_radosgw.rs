//! The store over Ceph's S3 gateway: conformance, and what only a real server can refuse.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use futures::{StreamExt, TryStreamExt, stream};
use pgkeep_storage::{
    Created, Encryption, ErrorKind, Key, ObjectStorage, S3Settings, Storage, StorageExt, Support, WriteOptions,
    conformance, fixed_credentials,
};
use pgkeep_testkit::Ceph;

const MIB: usize = 1024 * 1024;

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn settings(ceph: &Ceph, bucket: &str) -> S3Settings {
    S3Settings {
        endpoint: Some(ceph.endpoint()),
        region: ceph.region().to_owned(),
        credentials: Some(fixed_credentials(ceph.access_key().to_owned(), ceph.secret_key().to_owned(), None)),
        prefix: key("database-backups/app"),
        ..S3Settings::new(bucket)
    }
}

fn storage(ceph: &Ceph, label: &str) -> (String, ObjectStorage) {
    let bucket = ceph.create_bucket(label);
    let storage = settings(ceph, &bucket).connect().unwrap();
    (bucket, storage)
}

async fn write_large(storage: &ObjectStorage, name: &str, class: Option<&str>) -> pgkeep_storage::Result<()> {
    let options = WriteOptions { storage_class: class.map(str::to_owned), expected_bytes: 20 * MIB as u64 };
    let mut writer = storage.write(&key(name), &options).await?;
    for byte in 0..20 {
        writer.write(vec![byte; MIB].into()).await?;
    }
    writer.finish().await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    let ceph = Ceph::shared();
    let (bucket, storage) = storage(ceph, "conforms");
    conformance::run(&storage).await;
    assert_eq!(storage.conditional_writes(), Support::Yes);
    assert_eq!(ceph.keys(&bucket), [""; 0]);
    assert_eq!(ceph.unfinished_uploads(&bucket), [""; 0]);
}

#[tokio::test(flavor = "multi_thread")]
async fn storage_classes_are_kept_and_told() {
    let ceph = Ceph::shared();
    let (_, storage) = storage(ceph, "classes");
    write_large(&storage, "large", Some("GLACIER")).await.unwrap();
    let options = WriteOptions { storage_class: Some("STANDARD_IA".to_owned()), ..WriteOptions::default() };
    let mut writer = storage.write(&key("small"), &options).await.unwrap();
    writer.write("x".into()).await.unwrap();
    let told = writer.finish().await.unwrap();
    assert_eq!(told.storage_class.as_deref(), Some("STANDARD_IA"));
    assert_eq!(storage.head(&key("large")).await.unwrap().storage_class.as_deref(), Some("GLACIER"));
    storage.put(&key("plain"), "x".into()).await.unwrap();
    let plain = storage.head(&key("plain")).await.unwrap().storage_class;
    assert!(plain.is_none_or(|class| class == "STANDARD"));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_many_creations_wins() {
    let ceph = Ceph::shared();
    let (_, storage) = storage(ceph, "creations");
    let lock = key("lock");
    let racers = (0..40).map(|racer| storage.create(&lock, Bytes::from(format!("{racer}"))));
    let outcomes = join_all(racers).await;
    let created = outcomes.into_iter().filter(|outcome| *outcome.as_ref().unwrap() == Created::Created).count();
    assert_eq!(created, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn long_listings_are_whole() {
    let ceph = Ceph::shared();
    let (_, storage) = storage(ceph, "listing");
    let keys: Vec<Key> = (0..1_100).map(|index| key(&format!("many/{index:04}"))).collect();
    let puts: Vec<_> = keys.iter().map(|key| storage.put(key, "x".into())).collect();
    let stored: Vec<_> = stream::iter(puts).buffer_unordered(16).try_collect().await.unwrap();
    assert_eq!(stored.len(), 1_100);
    let listed: Vec<Key> = storage.list_all(&key("many")).await.unwrap().into_iter().map(|info| info.key).collect();
    assert!(listed == keys, "{} of 1100", listed.len());
    assert!(storage.delete_many(&keys).await.into_iter().all(|outcome| outcome.is_ok()));
    assert!(storage.list_all(&Key::root()).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn unfinished_uploads_are_found_and_swept() {
    let ceph = Ceph::shared();
    let (bucket, storage) = storage(ceph, "unfinished");
    let mut writer = storage.write(&key("daily/a & b <ü>"), &WriteOptions::default()).await.unwrap();
    // More than the part of an object of unknown size.
    for _ in 0..9 {
        writer.write(vec![1; 8 * MIB].into()).await.unwrap();
    }
    // As after a SIGKILL: nobody tidies up.
    std::mem::forget(writer);
    let elsewhere =
        S3Settings { prefix: key("database-backups/application"), ..settings(ceph, &bucket) }.connect().unwrap();
    assert_eq!(elsewhere.unfinished(i64::MAX).await.unwrap().unwrap(), [], "another prefix, another owner");
    let found = storage.unfinished(i64::MAX).await.unwrap().unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].key.as_str(), "daily/a & b <ü>");
    assert_eq!(storage.sweep_unfinished(found[0].begun_ms).await.unwrap(), 0, "too young");
    assert_eq!(storage.sweep_unfinished(i64::MAX).await.unwrap(), 1);
    assert_eq!(ceph.unfinished_uploads(&bucket), [""; 0]);
    storage.discard(&found[0]).await.expect("gone is gone");
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_told_apart() {
    let ceph = Ceph::shared();
    let (bucket, storage) = storage(ceph, "refusals");
    storage.put(&key("there"), "x".into()).await.unwrap();

    let wrong_secret = fixed_credentials(ceph.access_key().to_owned(), "wrong".to_owned(), Some("a-token".to_owned()));
    let wrong_key = fixed_credentials("NOBODY".to_owned(), ceph.secret_key().to_owned(), None);
    for (credentials, code) in [(wrong_secret, None), (wrong_key, Some("InvalidAccessKeyId"))] {
        let storage = S3Settings { credentials: Some(credentials), ..settings(ceph, &bucket) }.connect().unwrap();
        let errors = [
            storage.put(&key("a"), "x".into()).await.map(drop).unwrap_err(),
            write_large(&storage, "large", None).await.unwrap_err(),
            storage.create(&key("a"), "x".into()).await.map(drop).unwrap_err(),
            storage.read_all(&key("there"), 10).await.map(drop).unwrap_err(),
            storage.list_all(&Key::root()).await.map(drop).unwrap_err(),
            storage.head(&key("there")).await.map(drop).unwrap_err(),
            storage.delete(&key("there")).await.unwrap_err(),
        ];
        for error in errors {
            assert_eq!(error.kind(), ErrorKind::Denied, "{error:?}");
            let shown = format!("{error:?}");
            assert!(!shown.contains(ceph.secret_key()) && !shown.contains("a-token"), "{shown}");
            if let (Some(code), Some(told)) = (code, error.code()) {
                assert_eq!(told, code);
            }
        }
    }

    let missing = settings(ceph, "no-such-bucket").connect().unwrap();
    let errors = [
        missing.put(&key("a"), "x".into()).await.map(drop).unwrap_err(),
        write_large(&missing, "large", None).await.unwrap_err(),
        missing.create(&key("a"), "x".into()).await.map(drop).unwrap_err(),
        missing.read_all(&key("there"), 10).await.map(drop).unwrap_err(),
        missing.list_all(&Key::root()).await.map(drop).unwrap_err(),
    ];
    for error in errors {
        assert_eq!(error.kind(), ErrorKind::NoStore, "{error:?}");
        assert_eq!(error.to_string(), "s3://no-such-bucket/database-backups/app does not exist");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn encryption_by_the_server() {
    let ceph = Ceph::shared();
    let bucket = ceph.create_bucket("encryption");
    let with = |encryption| S3Settings { encryption, ..settings(ceph, &bucket) }.connect().unwrap();
    let kms = with(Encryption::Kms("testkey".to_owned()));
    write_large(&kms, "large", None).await.unwrap();
    kms.put(&key("small"), "x".into()).await.unwrap();
    assert_eq!(kms.read_all(&key("small"), 10).await.unwrap(), "x");
    let head =
        ceph.exec(&["radosgw-admin", "object", "stat", "--bucket", &bucket, "--object", "database-backups/app/small"]);
    assert!(String::from_utf8_lossy(&head.stdout).contains("SSE-KMS"), "it is stored encrypted");
    // Without a vault this server cannot do SSE-S3, which is why it is asked for on Amazon alone.
    assert!(with(Encryption::Aes256).put(&key("refused"), "x".into()).await.is_err());
    with(Encryption::Auto).put(&key("plain"), "x".into()).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_server_is_a_timeout_and_a_thawed_one_goes_on() {
    let ceph = Ceph::start();
    let bucket = ceph.create_bucket("frozen");
    let mut impatient = settings(&ceph, &bucket);
    impatient.network.stall_timeout = Duration::from_secs(2);
    impatient.network.connect_timeout = Duration::from_secs(2);
    impatient.network.quick_retries = 0;
    impatient.network.bulk_retries = 0;
    let mut patient = impatient.clone();
    impatient.transfer.patience = Duration::ZERO;
    patient.transfer.patience = Duration::from_mins(2);
    patient.transfer.read_bytes = MIB as u64;
    let (impatient, patient) = (impatient.connect().unwrap(), patient.connect().unwrap());
    write_large(&patient, "a", None).await.unwrap();

    let mut pieces = patient.read(&key("a"), None).await.unwrap();
    let mut read = pieces.try_next().await.unwrap().unwrap().len();
    ceph.pause();
    let begun = Instant::now();
    for error in [
        impatient.read_all(&key("a"), u64::MAX).await.map(drop).unwrap_err(),
        impatient.put(&key("b"), "x".into()).await.map(drop).unwrap_err(),
    ] {
        assert!(matches!(error.kind(), ErrorKind::Timeout | ErrorKind::Unreachable), "{error:?}");
        assert!(error.is_retryable());
    }
    assert!(begun.elapsed() < Duration::from_mins(1));
    let thawing = async {
        tokio::time::sleep(Duration::from_secs(5)).await;
        ceph.unpause();
    };
    let reading = async {
        while let Some(piece) = pieces.try_next().await.unwrap() {
            read += piece.len();
        }
    };
    tokio::join!(thawing, reading);
    assert_eq!(read, 20 * MIB);

    ceph.kill();
    assert_eq!(impatient.list_all(&Key::root()).await.unwrap_err().kind(), ErrorKind::Unreachable);
}
