//! An object is visible whole or not at all.

use bytes::Bytes;
use futures::future::join_all;

use super::{Suite, options, told};
use crate::{Created, ErrorKind, StorageExt, Support};

/// How many creations race.
const RACERS: usize = 12;

impl Suite<'_> {
    pub(super) async fn whole_or_nothing(&self) {
        let key = self.key("whole/a");
        let mut writer = self.storage.write(&key, &options()).await.expect("a writer");
        for piece in ["one ", "two ", "", "three"] {
            writer.write(piece.into()).await.expect("a write");
            self.assert_missing(&key, "before it is finished").await;
        }
        let info = writer.finish().await.expect("finishing");
        assert_eq!((info.key.clone(), info.bytes), (key.clone(), 13), "what finish tells");
        assert_eq!(self.text(&key).await, "one two three");
        let seen = self.storage.head(&key).await.expect("head");
        assert_eq!(
            (seen.key.clone(), seen.bytes, seen.e_tag.clone()),
            (key.clone(), 13, info.e_tag),
            "what head tells"
        );
        assert!(seen.modified_ms > 1_600_000_000_000, "the store's clock tells a time: {}", seen.modified_ms);
        let listed = self.storage.list_all(&self.key("whole")).await.expect("a listing");
        assert_eq!(listed.len(), 1);
        assert_eq!((listed[0].key.clone(), listed[0].bytes), (key, 13), "what a listing tells");
    }

    pub(super) async fn replacing(&self) {
        let key = self.key("replacing/a");
        self.put(&key, "old").await;
        let mut writer = self.storage.write(&key, &options()).await.expect("a writer");
        writer.write("brand new".into()).await.expect("a write");
        assert_eq!(self.text(&key).await, "old", "the old object stays until the new one is finished");
        writer.finish().await.expect("finishing");
        assert_eq!(self.text(&key).await, "brand new");
        self.put(&key, "").await;
        assert_eq!(self.text(&key).await, "");
    }

    pub(super) async fn empty_objects(&self) {
        let key = self.key("empty/a");
        let writer = self.storage.write(&key, &options()).await.expect("a writer");
        assert_eq!(writer.finish().await.expect("finishing").bytes, 0);
        assert_eq!(self.storage.head(&key).await.expect("head").bytes, 0);
        assert_eq!(self.text(&key).await, "");
        let none = self.storage.read(&key, Some(0..0)).await.map(|_| ());
        none.expect("no bytes of an empty object");
        let error = self.storage.read(&key, Some(0..1)).await.err().expect("an empty object has no first byte");
        assert_eq!(error.kind(), ErrorKind::Damaged, "{}", told(&error));
    }

    pub(super) async fn creating(&self) {
        let key = self.key("creating/a");
        assert_eq!(self.storage.create(&key, "first".into()).await.expect("creating"), Created::Created);
        assert_eq!(self.storage.create(&key, "second".into()).await.expect("creating again"), Created::Exists);
        assert_eq!(self.storage.create(&key, "first".into()).await.expect("creating the same"), Created::Exists);
        assert_eq!(self.text(&key).await, "first", "the first stays");
        self.storage.delete(&key).await.expect("deleting");
        assert_eq!(self.storage.create(&key, "third".into()).await.expect("creating anew"), Created::Created);
        assert_eq!(self.text(&key).await, "third");
        let scratch = self.key("creating");
        let probed = self.storage.probe_conditional_writes(&scratch).await.expect("a probe");
        let known = self.storage.conditional_writes();
        assert!(known == Support::Unknown || known == probed, "known as {known:?}, but found {probed:?}");
        assert_eq!(self.storage.list_all(&scratch).await.expect("a listing").len(), 1, "a probe leaves nothing");
    }

    pub(super) async fn racing_creations(&self) {
        if self.storage.conditional_writes() == Support::No {
            return;
        }
        for round in 0..5 {
            let key = self.key(&format!("racing/{round}"));
            let bodies: Vec<String> = (0..RACERS).map(|racer| format!("written by {racer}")).collect();
            let racers = bodies.iter().map(|body| self.storage.create(&key, Bytes::from(body.clone())));
            let outcomes = join_all(racers).await;
            let winners: Vec<&String> = bodies
                .iter()
                .zip(outcomes)
                .filter(|(_, outcome)| match outcome {
                    Ok(created) => *created == Created::Created,
                    Err(error) => panic!("losing a race is no error: {}", told(error)),
                })
                .map(|(body, _)| body)
                .collect();
            assert_eq!(winners.len(), 1, "exactly one wins: {winners:?}");
            assert_eq!(&self.text(&key).await, winners[0], "the winner's object is there");
        }
    }

    pub(super) async fn small_ones_given_up(&self) {
        for name in ["given-up/aborted", "given-up/dropped"] {
            let key = self.key(name);
            let mut writer = self.storage.write(&key, &options()).await.expect("a writer");
            writer.write("never to be seen".into()).await.expect("a write");
            if name.ends_with("aborted") {
                writer.abort().await.expect("aborting");
            } else {
                drop(writer);
            }
            self.assert_missing(&key, "after it was given up").await;
        }
        let key = self.key("given-up/replaced");
        self.put(&key, "kept").await;
        let mut writer = self.storage.write(&key, &options()).await.expect("a writer");
        writer.write("never to be seen".into()).await.expect("a write");
        writer.abort().await.expect("aborting");
        assert_eq!(self.text(&key).await, "kept", "giving up leaves the old object");
    }
}
