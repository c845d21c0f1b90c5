//! The suite every implementation of [`Storage`] passes: what the trait promises, tried for real.
//!
//! It works below a random key of its own and leaves nothing behind, so it can be pointed at a store in use.
//! A promise that is broken panics, saying which.

mod bulk;
mod names;
mod visibility;

use bytes::Bytes;

use crate::{Error, ErrorKind, Key, ObjectInfo, Storage, StorageExt, WriteOptions};

/// Runs every check against `storage`.
pub async fn run(storage: &dyn Storage) {
    let scratch = Key::new(format!("conformance-{:016x}", rand::random::<u64>())).expect("a plain word");
    let suite = Suite { storage, scratch };
    suite.location();
    suite.missing().await;
    suite.whole_or_nothing().await;
    suite.replacing().await;
    suite.empty_objects().await;
    suite.creating().await;
    suite.racing_creations().await;
    suite.ranges().await;
    suite.listing().await;
    suite.names().await;
    suite.deleting().await;
    suite.small_ones_given_up().await;
    suite.large().await;
    suite.large_ones_given_up().await;
    suite.nothing_left().await;
}

/// The store, and the place in it to work at.
struct Suite<'s> {
    storage: &'s dyn Storage,
    scratch: Key,
}

impl Suite<'_> {
    fn key(&self, name: &str) -> Key {
        self.scratch.join(name).expect("the suite's names are keys")
    }

    fn location(&self) {
        let location = self.storage.location().as_str();
        assert!(!location.is_empty(), "a store says where it is");
        assert!(!location.contains(['@', '?']), "a location has no place for secrets: {location}");
    }

    async fn put(&self, key: &Key, text: &'static str) -> ObjectInfo {
        let info = self.storage.put(key, Bytes::from_static(text.as_bytes())).await;
        info.unwrap_or_else(|error| panic!("{key:?} is written: {}", told(&error)))
    }

    async fn text(&self, key: &Key) -> String {
        let bytes = self.storage.read_all(key, 1 << 20).await;
        let bytes = bytes.unwrap_or_else(|error| panic!("{key:?} is read: {}", told(&error)));
        String::from_utf8(bytes.to_vec()).expect("the suite wrote text")
    }

    async fn assert_missing(&self, key: &Key, when: &str) {
        let error = self.storage.head(key).await.err().unwrap_or_else(|| panic!("{key} is seen {when}"));
        assert_eq!(error.kind(), ErrorKind::NotFound, "head {when}: {}", told(&error));
        let error = self.storage.read(key, None).await.err().unwrap_or_else(|| panic!("{key} can be read {when}"));
        assert_eq!(error.kind(), ErrorKind::NotFound, "read {when}: {}", told(&error));
        let error =
            self.storage.read(key, Some(0..1)).await.err().unwrap_or_else(|| panic!("{key} can be read {when}"));
        assert_eq!(error.kind(), ErrorKind::NotFound, "ranged read {when}: {}", told(&error));
        assert!(!self.storage.exists(key).await.expect("a missing object is no error"), "{key} exists {when}");
        let parent = key.parent().expect("the suite's keys have parents");
        let listed = self.storage.list_all(&parent).await.expect("a listing");
        assert!(listed.iter().all(|info| info.key != *key), "{key} is listed {when}");
    }

    async fn missing(&self) {
        self.assert_missing(&self.key("never/written"), "without ever being written").await;
        let listed = self.storage.list_all(&self.key("never")).await.expect("listing nothing is no error");
        assert!(listed.is_empty(), "nothing is listed where nothing is");
    }

    async fn deleting(&self) {
        let key = self.key("deleting/a");
        self.put(&key, "a").await;
        self.storage.delete(&key).await.expect("deleting");
        self.assert_missing(&key, "after its deletion").await;
        self.storage.delete(&key).await.expect("deleting what is gone");
        self.storage.delete(&self.key("never/written")).await.expect("deleting what never was");

        let keys: Vec<Key> = (0..12).map(|index| self.key(&format!("deleting/many/{index}"))).collect();
        for key in &keys {
            self.put(key, "x").await;
        }
        for outcome in self.storage.delete_many(&keys).await {
            outcome.expect("deleting many");
        }
        assert!(self.storage.list_all(&self.key("deleting")).await.expect("a listing").is_empty());
    }

    async fn nothing_left(&self) {
        let left = self.storage.list_all(&self.scratch).await.expect("a listing");
        let keys: Vec<Key> = left.into_iter().map(|info| info.key).collect();
        for outcome in self.storage.delete_many(&keys).await {
            outcome.expect("cleaning up");
        }
        let left = self.storage.list_all(&self.scratch).await.expect("a listing");
        assert!(left.is_empty(), "everything could be deleted: {left:?}");
    }
}

/// An error with its cause.
fn told(error: &Error) -> String {
    match error.cause() {
        Some(cause) => format!("{error}: {cause}"),
        None => error.to_string(),
    }
}

fn options() -> WriteOptions {
    WriteOptions::default()
}
