//! The same in a bucket, where it matters most: cuts, flips and losses on a real S3 server.

use pgkeep_storage::{Key, ObjectStorage, S3Settings, StorageExt, fixed_credentials};
use pgkeep_testkit::{Ceph, contents};

use crate::alteration::{Alteration, Object};
use crate::ground::{Ground, Kind};

fn storage(bucket: &str, prefix: &str) -> ObjectStorage {
    let ceph = Ceph::shared();
    let settings = S3Settings {
        endpoint: Some(ceph.endpoint()),
        region: ceph.region().to_owned(),
        credentials: Some(fixed_credentials(ceph.access_key().to_owned(), ceph.secret_key().to_owned(), None)),
        prefix: Key::new(prefix).unwrap(),
        ..S3Settings::new(bucket)
    };
    settings.connect().unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_a_bucket_damage_is_told_and_refused_as_on_a_disk() {
    let ground = Ground::new("bucket", Kind { compression: "zstd:1", encrypted: false });
    let bucket = Ceph::shared().create_bucket("damage");
    let server = ground.source.server();
    let live = contents(server, &ground.source);
    for (number, (object, alteration)) in [
        (Object::Archive, Alteration::Deleted),
        (Object::Archive, Alteration::CutInTheMiddle),
        (Object::Archive, Alteration::FlippedInTheMiddle),
        (Object::Meta, Alteration::FlippedInTheMiddle),
        (Object::Globals, Alteration::FlippedInTheMiddle),
        (Object::Proof, Alteration::FlippedInTheMiddle),
        (Object::Source, Alteration::FlippedInTheMiddle),
    ]
    .into_iter()
    .enumerate()
    {
        let what = format!("{object} {alteration}");
        let repository = ground.in_bucket(&bucket, &format!("row{number}"));
        let (file, other) = repository.files(object);
        alteration.apply(&file, &other);
        let storage = storage(&bucket, &format!("row{number}"));
        for (key, bytes) in repository.all() {
            storage.put(&Key::new(key).unwrap(), bytes.into()).await.unwrap();
        }
        let name = ground.newest.as_str();
        let [quick, stored, deep] =
            ["--quick", "--stored", "--deep"].map(|depth| repository.pgkeep(&["verify", name, depth]));
        let target = ground.target();
        let restore = repository.pgkeep(&["restore", name, "--target-db", &target, "--yes"]);
        let left = ground.source.relatives().contains(&target);
        if object.is_the_backup() {
            assert_eq!([stored.code, deep.code, restore.code], [Some(4); 3], "{what}: {deep}\n{restore}");
            assert!(quick.code == Some(4) || !alteration.is_of_another_size(), "{what}: {quick}");
            assert!(!left, "{what}");
        } else {
            assert_eq!([quick.code, stored.code, deep.code, restore.code], [Some(0); 4], "{what}: {restore}");
            assert_eq!(contents(server, &target), live, "{what}");
            server.psql("postgres", &format!("DROP DATABASE {target}"));
        }
        let list = repository.well(&["list"]);
        assert!(["damaged", "can't be read"].iter().any(|word| list.says(word)), "{what}: {list}");
        repository.well(&["prune"]);
        let before = Key::new(format!("{}.dump.zst.meta", ground.before)).unwrap();
        let kept = storage.read_all(&before, 1 << 20).await.is_ok();
        assert!(kept, "{what}: the one before may be the newest that is good");
        let next = repository.pgkeep(&["backup"]);
        assert_eq!(next.code, Some(0), "{what}: {next}");
    }
    assert_eq!(contents(server, &ground.source), live, "the live database");
}
