//! Many backups in a bucket.

use std::sync::Arc;
use std::time::Instant;

use futures::{StreamExt, stream};
use pgkeep_core::{Catalog, Keeper, Layout};
use pgkeep_storage::{Key, ObjectStorage, S3Settings, Storage, StorageExt, fixed_credentials};
use pgkeep_testkit::Ceph;

use crate::metas::meta;
use crate::scaled;
use crate::setup::Setup;

fn storage(ceph: &Ceph, bucket: &str) -> ObjectStorage {
    let settings = S3Settings {
        endpoint: Some(ceph.endpoint()),
        region: ceph.region().to_owned(),
        credentials: Some(fixed_credentials(ceph.access_key().to_owned(), ceph.secret_key().to_owned(), None)),
        prefix: Key::new("database-backups").unwrap(),
        ..S3Settings::new(bucket)
    };
    settings.connect().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn measure() {
    let backups = scaled(400, 10_000);
    let ceph = Ceph::shared();
    let bucket = ceph.create_bucket("many");
    let storage: Arc<dyn Storage> = Arc::new(storage(ceph, &bucket));
    let keeper = Keeper::of(Arc::clone(&storage), Layout::ByClass, "test");
    let begun = Instant::now();
    let puts = (0..backups).map(|number| {
        let meta = meta(number);
        let key = keeper.destinations[0].key(&meta.id, &meta.backup_file).unwrap();
        let storage = &storage;
        async move {
            storage.put(&key, "archive".into()).await.unwrap();
            let json = meta.to_json().unwrap();
            let bytes = json.len();
            storage.put(&Key::new(format!("{key}.meta")).unwrap(), json.into()).await.unwrap();
            bytes
        }
    });
    let bytes: Vec<usize> = stream::iter(puts).buffer_unordered(32).collect().await;
    println!("stored {} of {} bytes in {:?}", bytes.len(), bytes.iter().sum::<usize>() / bytes.len(), begun.elapsed());
    for _ in 0..2 {
        let begun = Instant::now();
        let catalog = Catalog::load(&keeper).await.unwrap();
        println!("library: {} in {:?}", catalog.entries.len(), begun.elapsed());
    }
    let mut setup = Setup::new("postgresql://nobody@127.0.0.1:1/none")
        .with("BACKUP_DIR", "none")
        .with("AWS_S3_BACKUP_BUCKET", &bucket);
    for (name, value) in ceph.environment() {
        setup.set(name, value);
    }
    for _ in 0..2 {
        let begun = Instant::now();
        let listed = setup.pgkeep(&["list"]);
        println!("program: {} lines in {:?}", listed.stdout.lines().count(), begun.elapsed());
    }
    while std::env::var_os("PGKEEP_WAIT").is_some_and(|file| std::path::Path::new(&file).exists()) {
        tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    }
}
