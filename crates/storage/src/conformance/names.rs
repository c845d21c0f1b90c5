//! Ranges, listings and names.

use std::collections::BTreeSet;

use futures::TryStreamExt;

use super::{Suite, told};
use crate::{ErrorKind, Key, StorageExt};

impl Suite<'_> {
    pub(super) async fn ranges(&self) {
        let key = self.key("ranges/a");
        let text = "0123456789abcdef";
        self.put(&key, text).await;
        for (start, end) in [(0, 1), (0, 16), (3, 3), (5, 9), (15, 16), (16, 16), (0, 0)] {
            let pieces = self.storage.read(&key, Some(start..end)).await;
            let pieces = pieces.unwrap_or_else(|error| panic!("bytes {start}..{end}: {}", told(&error)));
            let pieces: Vec<_> = pieces.try_collect().await.expect("the bytes");
            assert_eq!(pieces.concat(), &text.as_bytes()[start as usize..end as usize], "bytes {start}..{end}");
        }
        for (start, end) in [(0, 17), (15, 17), (16, 17), (17, 17), (100, 200), (0, u64::MAX)] {
            let error = self.storage.read(&key, Some(start..end)).await.err();
            let error = error.unwrap_or_else(|| panic!("bytes {start}..{end} are not all there"));
            assert_eq!(error.kind(), ErrorKind::Damaged, "bytes {start}..{end}: {}", told(&error));
        }
    }

    pub(super) async fn listing(&self) {
        let names = [
            "listing/a/b/1",
            "listing/a/b/c/2",
            "listing/a/bc/3",
            "listing/a/b-c",
            "listing/a/b.meta",
            "listing/a b/4",
        ];
        for name in names {
            self.put(&self.key(name), "listed").await;
        }
        for (prefix, expected) in [
            ("listing/a/b", &["listing/a/b/1", "listing/a/b/c/2"][..]),
            ("listing/a/b/c", &["listing/a/b/c/2"]),
            ("listing/a/bc", &["listing/a/bc/3"]),
            ("listing/a b", &["listing/a b/4"]),
            ("listing/a/b/1", &[]),
            ("listing/a/b-c", &[]),
            ("listing/a/x", &[]),
            ("listing", &names),
        ] {
            let expected: BTreeSet<Key> = expected.iter().map(|name| self.key(name)).collect();
            assert_eq!(self.listed(&self.key(prefix)).await, expected, "below {prefix}");
        }
        let everything = self.listed(&Key::root()).await;
        for name in names {
            assert!(everything.contains(&self.key(name)), "the root's listing has {name}");
        }
    }

    async fn listed(&self, prefix: &Key) -> BTreeSet<Key> {
        let all = self.storage.list_all(prefix).await;
        let all = all.unwrap_or_else(|error| panic!("{prefix:?} is listed: {}", told(&error)));
        let keys: BTreeSet<Key> = all.iter().map(|info| info.key.clone()).collect();
        assert_eq!(keys.len(), all.len(), "nothing is listed twice");
        keys
    }

    pub(super) async fn names(&self) {
        let long = format!("names/{}", "x".repeat(90));
        let names = [
            "names/with space",
            "names/ leading and trailing ",
            "names/täglich/Größe ✓ 日本語 🐘",
            "names/percent%20encoded%2Fslash%",
            "names/plus+and&equals=question?hash#",
            "names/quote\"s and 'apostrophes' and `ticks`",
            "names/(brackets)[and]{braces}<and>|pipes|^~",
            "names/star*colon:semi;comma,at@dollar$bang!",
            "names/.hidden/..file../...",
            "names/daily_20251017_030001.dump.zst.meta",
            long.as_str(),
        ];
        for name in names {
            let key = self.key(name);
            self.storage
                .put(&key, name.to_owned().into())
                .await
                .unwrap_or_else(|error| panic!("{name:?}: {}", told(&error)));
            assert_eq!(self.text(&key).await, name, "it is read by its name");
            assert_eq!(self.storage.head(&key).await.expect("head").bytes, name.len() as u64, "{name:?}");
        }
        let expected: BTreeSet<Key> = names.iter().map(|name| self.key(name)).collect();
        assert_eq!(self.listed(&self.key("names")).await, expected, "names are listed as they were given");
        for name in names {
            self.storage.delete(&self.key(name)).await.unwrap_or_else(|error| panic!("{name:?}: {}", told(&error)));
        }
        assert!(self.listed(&self.key("names")).await.is_empty(), "each was deleted by its name");
    }
}
