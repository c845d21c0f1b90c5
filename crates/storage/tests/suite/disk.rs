//! The local directory: what it leaves on the disk, and what it refuses.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use pgkeep_storage::{Created, DiskStorage, Error, ErrorKind, Key, Storage, StorageExt, WriteOptions, conformance};

fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

fn files(directory: &Path) -> Vec<String> {
    let mut names: Vec<String> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    let directory = tempfile::tempdir().unwrap();
    let storage = DiskStorage::open(directory.path().join("made/when/needed")).unwrap();
    conformance::run(&storage).await;
    assert_eq!(files(storage.root()), [""; 0], "neither files nor emptied directories stay");
}

#[tokio::test]
async fn a_directory_that_is_not_there_yet_is_empty() {
    let directory = tempfile::tempdir().unwrap();
    let storage = DiskStorage::open(directory.path().join("later")).unwrap();
    assert!(storage.list_all(&Key::root()).await.unwrap().is_empty());
    assert!(!storage.exists(&key("a")).await.unwrap());
    storage.delete(&key("a")).await.unwrap();
    assert!(storage.free_bytes().await.unwrap().unwrap() > 0);
    assert!(!storage.root().exists(), "looking makes nothing");
}

#[tokio::test]
async fn files_are_private() {
    let directory = tempfile::tempdir().unwrap();
    let storage = DiskStorage::open(directory.path().join("root")).unwrap();
    storage.put(&key("daily/a"), "x".into()).await.unwrap();
    assert_eq!(storage.create(&key("daily/b"), "x".into()).await.unwrap(), Created::Created);
    let mode = |path: &str| fs::metadata(storage.root().join(path)).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(""), mode("daily"), mode("daily/a"), mode("daily/b")), (0o700, 0o700, 0o600, 0o600));
}

#[tokio::test]
async fn a_big_file_is_flushed_while_it_is_written_and_whole() {
    const MEBIBYTE: usize = 1 << 20;
    let directory = tempfile::tempdir().unwrap();
    let storage = DiskStorage::open(directory.path()).unwrap();
    let mut writer = storage.write(&key("big"), &WriteOptions::default()).await.unwrap();
    for piece in 0..140_u8 {
        writer.write(vec![piece; MEBIBYTE].into()).await.unwrap();
    }
    assert_eq!(writer.finish().await.unwrap().bytes, 140 * MEBIBYTE as u64);
    let found = fs::read(directory.path().join("big")).unwrap();
    assert_eq!(found.len(), 140 * MEBIBYTE);
    assert!(found.chunks(MEBIBYTE).zip(0..).all(|(piece, number)| piece.iter().all(|&byte| byte == number)));

    let mut given_up = storage.write(&key("given-up"), &WriteOptions::default()).await.unwrap();
    for _ in 0..70 {
        given_up.write(vec![1; MEBIBYTE].into()).await.unwrap();
    }
    given_up.abort().await.unwrap();
    assert_eq!(files(directory.path()), ["big"]);
}

#[tokio::test]
async fn an_unfinished_file_is_hidden_found_and_swept() {
    let directory = tempfile::tempdir().unwrap();
    let storage = DiskStorage::open(directory.path()).unwrap();
    let mut writer = storage.write(&key("daily/a.dump"), &WriteOptions::default()).await.unwrap();
    writer.write(vec![7; 3_000_000].into()).await.unwrap();
    let name = files(&directory.path().join("daily")).remove(0);
    assert!(name.starts_with(".a.dump.partial-"), "{name}");
    assert!(storage.list_all(&Key::root()).await.unwrap().is_empty());
    assert!(!storage.exists(&key(&format!("daily/{name}"))).await.unwrap());

    let found = storage.unfinished(i64::MAX).await.unwrap().unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].key.as_str(), format!("daily/{name}"));
    let hour_ago = (SystemTime::now() - Duration::from_hours(1)).duration_since(SystemTime::UNIX_EPOCH).unwrap();
    assert_eq!(storage.sweep_unfinished(hour_ago.as_millis() as i64).await.unwrap(), 0, "too young");

    // As after a SIGKILL: nobody is left to tidy up.
    std::mem::forget(writer);
    assert_eq!(storage.sweep_unfinished(i64::MAX).await.unwrap(), 1);
    assert_eq!(files(directory.path()), [""; 0]);
    storage.discard(&found[0]).await.unwrap();
}

#[tokio::test]
async fn only_unfinished_files_can_be_discarded() {
    let directory = tempfile::tempdir().unwrap();
    let storage = DiskStorage::open(directory.path()).unwrap();
    storage.put(&key("a"), "x".into()).await.unwrap();
    let mut finished = pgkeep_storage::Unfinished { key: key("a"), begun_ms: 0, upload: String::new() };
    assert_eq!(storage.discard(&finished).await.unwrap_err().kind(), ErrorKind::Invalid);
    finished.key = key(".a.partial-0123456789abcdef");
    assert_eq!(storage.put(&finished.key, "x".into()).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert!(storage.exists(&key("a")).await.unwrap());
}

#[tokio::test]
async fn links_lead_nowhere() {
    let directory = tempfile::tempdir().unwrap();
    let outside = directory.path().join("outside");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("secret"), "secret").unwrap();
    let root = directory.path().join("root");
    fs::create_dir(&root).unwrap();
    symlink(&outside, root.join("link")).unwrap();
    symlink(outside.join("secret"), root.join("file")).unwrap();

    let storage = DiskStorage::open(&root).unwrap();
    assert!(storage.list_all(&Key::root()).await.unwrap().is_empty());
    assert!(storage.list_all(&key("link")).await.unwrap().is_empty());
    for name in ["link/secret", "file"] {
        assert!(storage.read(&key(name), None).await.is_err(), "{name}");
        assert!(!storage.exists(&key(name)).await.unwrap(), "{name}");
    }
    assert!(storage.put(&key("link/new"), "x".into()).await.is_err());
    storage.delete(&key("link/secret")).await.unwrap();
    assert_eq!(files(&outside), ["secret"], "nothing outside was touched");
    // An object of that name takes the link's place, not its target's.
    storage.put(&key("file"), "mine".into()).await.unwrap();
    assert_eq!(fs::read_to_string(outside.join("secret")).unwrap(), "secret");

    // The root itself may be a link: that is how big disks are mounted.
    symlink(&root, directory.path().join("big")).unwrap();
    let linked = DiskStorage::open(directory.path().join("big")).unwrap();
    assert_eq!(linked.read_all(&key("file"), 100).await.unwrap(), "mine");
}

#[tokio::test]
async fn the_longest_names_fit() {
    let directory = tempfile::tempdir().unwrap();
    let storage = DiskStorage::open(directory.path()).unwrap();
    let long = key(&format!("{0}/{0}", "ü".repeat(127)));
    storage.put(&long, "x".into()).await.unwrap();
    assert_eq!(storage.create(&long, "y".into()).await.unwrap(), Created::Exists);
    assert_eq!(storage.list_all(&Key::root()).await.unwrap()[0].key, long);
}

#[tokio::test]
async fn pipes_and_directories_are_no_objects() {
    let directory = tempfile::tempdir().unwrap();
    let storage = DiskStorage::open(directory.path()).unwrap();
    let made = Command::new("mkfifo").arg(directory.path().join("pipe")).status().unwrap();
    assert!(made.success());
    storage.put(&key("a/b"), "x".into()).await.unwrap();
    for name in ["pipe", "a"] {
        let error = storage.read(&key(name), None).await.err().unwrap();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{name}");
    }
    // A name is a file or a directory, never both.
    assert_eq!(storage.put(&key("a"), "x".into()).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(storage.put(&key("a/b/c"), "x".into()).await.unwrap_err().kind(), ErrorKind::Invalid);
    assert_eq!(storage.read_all(&key("a/b"), 10).await.unwrap(), "x");
    assert_eq!(files(&directory.path().join("a")), ["b"], "failing leaves nothing");
}

#[tokio::test]
async fn foreign_directories_are_left_out() {
    let directory = tempfile::tempdir().unwrap();
    fs::create_dir_all(directory.path().join(".snapshot/hourly")).unwrap();
    fs::write(directory.path().join(".snapshot/hourly/a.meta"), "old").unwrap();
    let storage = DiskStorage::open(directory.path()).unwrap();
    storage.put(&key(".pgkeep/lock-1"), "x".into()).await.unwrap();
    let listed = storage.list_all(&Key::root()).await.unwrap();
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].key.as_str(), ".pgkeep/lock-1");
}

#[tokio::test]
async fn a_full_disk_is_told_apart_and_leaves_nothing() {
    // A file system of 1 MiB, which really fills up. Whoever may not mount one may in a user namespace.
    let directory = tempfile::tempdir().unwrap();
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m,mode=0700", "tmpfs"])
        .arg(directory.path())
        .output()
        .unwrap();
    if !mounted.status.success() {
        assert!(std::env::var_os("IN_NAMESPACE").is_none(), "no file system can be mounted: {mounted:?}");
        let again = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", "disk::a_full_disk_is_told_apart_and_leaves_nothing"])
            .env("IN_NAMESPACE", "yes")
            .status();
        assert!(again.unwrap().success());
        return;
    }
    let storage = DiskStorage::open(directory.path()).unwrap();
    storage.put(&key("kept"), "x".into()).await.unwrap();
    let outcome = async {
        let mut writer = storage.write(&key("big"), &WriteOptions::default()).await?;
        for _ in 0..8 {
            writer.write(vec![1; 1 << 20].into()).await?;
        }
        writer.finish().await.map(drop)
    }
    .await;
    let (left, listed) = (files(directory.path()), storage.list_all(&Key::root()).await);
    let unmounted = Command::new("umount").arg(directory.path()).status().unwrap();
    assert!(unmounted.success());
    match outcome.unwrap_err() {
        Error::Full { free_bytes: Some(_), .. } => {}
        error => panic!("{error:?}"),
    }
    assert_eq!(left, ["kept"]);
    assert_eq!(listed.unwrap().len(), 1);
}

#[tokio::test]
async fn a_directory_without_permission_is_denied() {
    // Not even root may write to a procfs.
    let storage = DiskStorage::open("/proc/sys/kernel").unwrap();
    let error = storage.put(&key("pgkeep"), "x".into()).await.unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::Denied | ErrorKind::NoStore), "{error:?}");
}

#[tokio::test]
async fn racing_writers_and_deletions_never_fail() {
    let directory = tempfile::tempdir().unwrap();
    let storage = DiskStorage::open(directory.path()).unwrap();
    let (a, b) = (key("deep/er/a"), key("deep/er/b"));
    for _ in 0..200 {
        storage.put(&a, "a".into()).await.unwrap();
        let (deleted, written) = tokio::join!(storage.delete(&a), storage.put(&b, "b".into()));
        deleted.unwrap();
        written.unwrap();
        assert!(storage.exists(&b).await.unwrap());
        storage.delete(&b).await.unwrap();
    }
}
