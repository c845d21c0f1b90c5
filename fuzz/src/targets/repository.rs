//! A whole repository that somebody filled.

use std::collections::BTreeMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use pgkeep_core::{
    Catalog, Clock, Destination, Keeper, Layout, Lock, LockOptions, Objectives, Pick, Policy, VerifyDepth,
};
use pgkeep_storage::{Key, ObjectStorage, Storage, StorageExt as _};

/// What lies between two objects of an input.
const BETWEEN: &[u8] = b"\n\0\n";

#[derive(Debug)]
struct Always(DateTime<Utc>);

impl Clock for Always {
    fn now(&self) -> DateTime<Utc> {
        self.0
    }
}

/// Listing, status, retention, sweeping, locking and quick verification of it end, and do not take an object for a backup that
/// is not there.
pub(super) fn repository(input: &[u8]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let storage: Arc<dyn Storage> = Arc::new(ObjectStorage::memory());
        for object in split(input, BETWEEN) {
            let (key, content) = object.split_at(object.iter().position(|&byte| byte == b'\n').unwrap_or(object.len()));
            let Ok(key) = Key::new(String::from_utf8_lossy(key)) else { continue };
            let content = content.strip_prefix(b"\n").unwrap_or(content).to_vec();
            storage.put(&key, content.into()).await.expect("memory takes it");
        }
        let destination = Destination {
            name: "bucket".to_owned(),
            storage,
            layout: Layout::ByClass,
            required: true,
            storage_classes: BTreeMap::new(),
            rank: 1,
        };
        let mut keeper = Keeper::new(vec![destination], "host");
        keeper.clock = Arc::new(Always(DateTime::from_timestamp(1_760_000_000, 0).expect("a time")));
        let _ = keeper.source().await;
        let _ = Lock::inspect(&keeper).await;
        if let Ok(lock) = Lock::acquire(&keeper, &LockOptions::new("fuzz")).await {
            let _ = lock.release().await;
        }
        let Ok(catalog) = Catalog::load(&keeper).await else { return };
        let status = keeper.status_of(&catalog, &Objectives::default(), &Policy::default());
        let _ = serde_json::to_string(&status);
        let _ = keeper.plan_prune(&catalog, &Policy::default());
        let _ = keeper.plan_sweep(&catalog).await;
        let _ =
            catalog.pick(&Pick::Latest { class: None }).map(|entry| assert!(entry.good(), "the latest is a good one"));
        let _ = catalog.pick(&Pick::Name("daily".to_owned()));
        for entry in &catalog.entries {
            let _ = keeper.verify(entry, VerifyDepth::Quick).await;
        }
    });
}

fn split<'i>(mut input: &'i [u8], between: &'i [u8]) -> impl Iterator<Item = &'i [u8]> {
    std::iter::from_fn(move || {
        if input.is_empty() {
            return None;
        }
        let end = input.windows(between.len()).position(|window| window == between);
        let (object, rest) = end.map_or((input, &[][..]), |end| (&input[..end], &input[end + between.len()..]));
        input = rest;
        Some(object)
    })
}
