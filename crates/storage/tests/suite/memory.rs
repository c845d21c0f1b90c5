//! The store in memory.

use pgkeep_storage::{Key, ObjectStorage, Storage, StorageExt, Support, conformance};

#[tokio::test(flavor = "multi_thread")]
async fn conforms() {
    conformance::run(&ObjectStorage::memory()).await;
}

#[tokio::test]
async fn below_a_prefix_it_conforms_too_and_shows_nothing_else() {
    let whole = ObjectStorage::memory();
    let inner = whole.below(&Key::new("a/b").unwrap()).unwrap();
    assert_eq!(inner.location().as_str(), "memory/a/b");
    assert_eq!(inner.conditional_writes(), Support::Yes);
    conformance::run(&inner).await;

    let key = Key::new("x").unwrap();
    inner.put(&key, "inside".into()).await.unwrap();
    whole.put(&Key::new("a/bc").unwrap(), "outside".into()).await.unwrap();
    let inside: Vec<_> = inner.list_all(&Key::root()).await.unwrap().into_iter().map(|info| info.key).collect();
    assert_eq!(inside, [key]);
    assert_eq!(whole.read_all(&Key::new("a/b/x").unwrap(), 100).await.unwrap(), "inside");
}
