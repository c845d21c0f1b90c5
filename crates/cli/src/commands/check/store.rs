//! A store: list, put, get, ranges, creation, parts, storage classes, encryption, delete; each tried with small objects
//! that are removed again.

use std::collections::BTreeSet;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use futures::StreamExt;
use pgkeep_storage::{Created, Error, Key, ObjectInfo, Result, Storage, StorageExt, Support, WriteOptions};
use url::Url;

use super::findings::Findings;
use super::place::{Act, Place, is_about_keys};
use super::{Scene, bucket, database, local};
use crate::commands::Context;
use crate::failure::Failure;
use crate::hint::Code;
use crate::settings::{LocalDirectory, Sse};

/// What the objects hold that are written for a trial.
const TEXT: &[u8] = b"written by pgkeep check, which removes it again; safe to delete\n";

pub(super) async fn check(scene: Scene<'_>, findings: &mut Findings, url: &Url) {
    let location = pgkeep_storage::Location::new(url.as_str());
    findings.group(format!("store {location}"));
    if let ("file", Ok(path)) = (url.scheme(), url.to_file_path()) {
        local::directory(scene, findings, &LocalDirectory { path, is_default: false, required: true }).await;
        return;
    }
    let storage = match Context::store_of(url, scene.settings).await {
        Ok(storage) => storage,
        Err(failure) => {
            findings.failed("credentials", failure);
            return;
        }
    };
    let place = Place::of(scene, url);
    if !reachable(findings, &place, storage.as_ref()).await {
        return;
    }
    let versioned = bucket::check(findings, &place, storage.as_ref()).await;
    if scene.args.dry_run {
        read_something(findings, &place, storage.as_ref()).await;
        findings.skip("write", "put, create, parts, storage class, encryption and delete are not tried (--dry-run)");
        return;
    }
    Trial { scene, place, storage: storage.as_ref(), url, left: Vec::new(), versioned }.run(findings).await;
}

/// Asks for the beginning of the listing: the bucket is there, and we are who we say.
async fn reachable(findings: &mut Findings, place: &Place, storage: &dyn Storage) -> bool {
    match storage.list(&Key::root()).next().await {
        None => {
            findings.pass("list", "nothing is there yet");
            true
        }
        Some(Ok(_)) => {
            findings.pass("list", "objects are there");
            true
        }
        Some(Err(error)) => {
            let goes_on = place.denied(Act::List, &error).is_some();
            let skewed = error.code() == Some("RequestTimeTooSkewed");
            let credentials = error.code().is_some_and(is_about_keys);
            let name = if skewed {
                "store's clock"
            } else if credentials {
                "credentials"
            } else {
                "list"
            };
            let finding = findings.failed(name, Failure::of_store(&error));
            place.blame(finding, Act::List, &error);
            if skewed {
                finding.hint("this machine's clock is wrong: run chrony or timedatectl set-ntp true");
            }
            // Without the listing the rest can still be told apart; without bucket, network or keys nothing can.
            goes_on
        }
    }
}

/// In a dry run: reads a piece of whatever there is.
async fn read_something(findings: &mut Findings, place: &Place, storage: &dyn Storage) {
    let first = storage.list(&Key::root()).filter_map(|found| async { found.ok() }).boxed().next().await;
    let Some(ObjectInfo { key, bytes, .. }) = first else {
        findings.skip("get", "there is nothing to read yet");
        return;
    };
    let outcome = async {
        let mut stream = storage.read(&key, Some(0..bytes.min(1))).await?;
        while let Some(piece) = stream.next().await {
            piece?;
        }
        Ok::<(), Error>(())
    }
    .await;
    told(findings, place, "get", Act::Get, &outcome, "read a byte of what is there");
}

/// Tells how one act came out; whether it went well.
fn told(findings: &mut Findings, place: &Place, name: &str, act: Act, outcome: &Result<()>, well: &str) -> bool {
    match outcome {
        Ok(()) => {
            findings.pass(name, well);
            true
        }
        Err(error) => {
            let finding = findings.failed(name, Failure::of_store(error));
            place.blame(finding, act, error);
            false
        }
    }
}

/// Objects written for the trial, and what is found with them.
struct Trial<'t> {
    scene: Scene<'t>,
    place: Place,
    storage: &'t dyn Storage,
    url: &'t Url,
    /// What was written and has to go.
    left: Vec<Key>,
    versioned: bool,
}

impl Trial<'_> {
    async fn run(mut self, findings: &mut Findings) {
        let stem = stem();
        let first = name(&format!(".pgkeep/{stem}"));
        if self.put(findings, &first).await {
            reading(findings, &self.place, self.storage, &first).await;
            creating(findings, &self.place, self.storage, &first).await;
            self.parts(findings, &stem).await;
            self.classes(findings, &stem).await;
        }
        // Archives lie elsewhere than locks, and rules can tell them apart.
        let archive = name(&format!("daily/{stem}"));
        if self.scene.settings.prune {
            // What comes of it, put has told already.
            let _ = self.write(&archive, &WriteOptions::default()).await;
            self.left.push(archive);
        }
        self.tidy(findings).await;
        if self.scene.args.restore && self.url.scheme() == "s3" {
            findings
                .skip("thaw", "can't be tried without an archived object")
                .hint("a restore from GLACIER takes s3:RestoreObject; `pgkeep check --iam-policy restorer` has it");
        }
    }

    async fn write(&self, key: &Key, options: &WriteOptions) -> Result<ObjectInfo> {
        let options = WriteOptions { expected_bytes: TEXT.len() as u64, ..options.clone() };
        let mut writer = self.storage.write(key, &options).await?;
        writer.write(Bytes::from_static(TEXT)).await?;
        writer.finish().await
    }

    async fn put(&mut self, findings: &mut Findings, key: &Key) -> bool {
        let before = Utc::now();
        self.left.push(key.clone());
        let error = match self.write(key, &WriteOptions::default()).await {
            Ok(info) => {
                let after = Utc::now();
                findings.pass("put", "wrote a small object");
                if let Some(encryption) = self.encryption() {
                    findings.pass("encryption", format!("the store takes {encryption}"));
                }
                if let Some(at) = DateTime::from_timestamp_millis(info.modified_ms) {
                    // Stores tell whole seconds.
                    let ours = if at < before { before } else { after.min(at) };
                    database::clock(findings, "store's clock", at, ours);
                }
                return true;
            }
            Err(error) => error,
        };
        // The write itself, or its encryption?
        if self.encryption().is_some()
            && let Ok(plain) = Context::store_without_encryption(self.url, self.scene.settings).await
            && plain.put(key, Bytes::from_static(TEXT)).await.is_ok()
        {
            findings.pass("put", "wrote a small object, without asking for encryption");
            let encryption = self.encryption().unwrap_or_default();
            let message = format!("the store does not take {encryption}: {}", Failure::of_store(&error).message);
            let finding = findings.fail("encryption", message).code(Code::StoreRefused);
            match self.place.kms_key() {
                Some(key) => finding
                    .missing(format!("kms:GenerateDataKey and kms:Decrypt on KMS key {key}"))
                    .hint("the key's own policy must let this identity use it, and it must be in the bucket's region"),
                None => finding.hint("set BACKUP_SSE=none to leave encryption to the store's default"),
            };
            return false;
        }
        told(findings, &self.place, "put", Act::Put, &Err(error), "")
    }

    fn encryption(&self) -> Option<String> {
        let settings = self.scene.settings;
        match &settings.sse {
            _ if self.url.scheme() != "s3" => None,
            Sse::Kms(key) => Some(format!("aws:kms with key {key}")),
            Sse::Aes256 => Some("AES256".to_owned()),
            Sse::Auto if settings.on_aws() => Some("AES256".to_owned()),
            Sse::Auto | Sse::Off => None,
        }
    }

    async fn parts(&mut self, findings: &mut Findings, stem: &str) {
        let key = name(&format!(".pgkeep/{stem}-parts"));
        self.left.push(key.clone());
        let whole = self.storage.probe_parts(&key, Bytes::from_static(TEXT), &WriteOptions::default()).await;
        told(findings, &self.place, "multipart", Act::Put, &whole, "wrote an object in parts");
        let key = name(&format!(".pgkeep/{stem}-abort"));
        let given_up = self.storage.probe_abort(&key).await;
        told(findings, &self.place, "multipart abort", Act::Abort, &given_up, "began one and gave it up");
        match self.storage.unfinished(i64::MAX).await {
            Ok(Some(uploads)) => {
                let ours = uploads.iter().filter(|upload| upload.key == key);
                let mut stuck = false;
                for upload in ours {
                    stuck |= self.storage.discard(upload).await.is_err();
                }
                if stuck {
                    findings.warn("multipart list", format!("an unfinished upload of {key} stays behind"));
                } else {
                    findings.pass("multipart list", "unfinished uploads can be found and swept");
                }
            }
            Ok(None) => {}
            Err(error) => {
                let finding = findings.warn(
                    "multipart list",
                    format!("what failed uploads leave behind can't be found: {}", Failure::of_store(&error).message),
                );
                self.place.blame(finding, Act::ListUploads, &error);
            }
        }
    }

    /// Each storage class that backups will ask for.
    async fn classes(&mut self, findings: &mut Findings, stem: &str) {
        let classes: BTreeSet<String> = Context::storage_classes(self.scene.settings).into_values().collect();
        if classes.is_empty() {
            findings.skip("storage class", "none is asked for: the store's default");
        }
        for class in classes {
            let key = name(&format!(
                ".pgkeep/{stem}-{}",
                class.to_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "-")
            ));
            self.left.push(key.clone());
            let options = WriteOptions { storage_class: Some(class.clone()), ..WriteOptions::default() };
            let kept = match self.write(&key, &options).await {
                Ok(ObjectInfo { storage_class: Some(kept), .. }) if kept != class => {
                    findings.warn("storage class", format!("{class} was asked for, the store took {kept}"));
                    continue;
                }
                other => other.map(drop),
            };
            told(findings, &self.place, "storage class", Act::Put, &kept, &format!("{class} is taken"));
        }
    }

    /// Removes everything, and says what could not be removed.
    async fn tidy(&mut self, findings: &mut Findings) {
        let keys = std::mem::take(&mut self.left);
        let mut refused: Option<(Key, Error)> = None;
        let mut forgotten = Ok(0);
        for key in &keys {
            match self.storage.delete(key).await {
                Ok(()) if self.versioned && forgotten.is_ok() => forgotten = self.storage.forget_versions(key).await,
                Ok(()) => {}
                Err(error) => refused = refused.or(Some((key.clone(), error))),
            }
        }
        match refused {
            None => {
                findings.pass("delete", "everything written for this check is gone again");
            }
            Some((key, error)) => {
                let message = format!("{key} stays behind: {}", Failure::of_store(&error).message);
                let finding = if self.scene.settings.prune {
                    findings.fail("delete", message).code(Failure::of_store(&error).code)
                } else {
                    findings.warn("delete", message)
                };
                self.place.blame(finding, Act::Delete, &error);
                if !self.scene.settings.prune {
                    finding.hint("backups go on without it (BACKUP_PRUNE=false); locks stay until their lease ends");
                }
            }
        }
        if let Err(error) = forgotten {
            let message = format!(
                "versions of what was written for this check stay behind in the versioned bucket: {}",
                Failure::of_store(&error).message
            );
            let finding = findings.warn("delete versions", message);
            self.place.blame(finding, Act::DeleteVersions, &error);
        }
    }
}

/// The trials of a local directory: the same, where they mean something.
pub(super) async fn disk(findings: &mut Findings, storage: &dyn Storage) {
    let place = Place::directory();
    let folder = name(".pgkeep");
    let root = storage.location().as_str().trim_start_matches("file://").to_owned();
    let had_folder = std::path::Path::new(&root).join(".pgkeep").exists();
    let key = name(&format!(".pgkeep/{}", stem()));
    let put = storage.put(&key, Bytes::from_static(TEXT)).await.map(drop);
    if told(findings, &place, "write", Act::Put, &put, "wrote a small file, synced and renamed into place") {
        reading(findings, &place, storage, &key).await;
        creating(findings, &place, storage, &key).await;
        let gone = storage.delete(&key).await;
        told(findings, &place, "delete", Act::Delete, &gone, "and removed it again");
    }
    if !had_folder {
        let _ = std::fs::remove_dir(std::path::Path::new(&root).join(folder.as_str()));
    }
}

async fn reading(findings: &mut Findings, place: &Place, storage: &dyn Storage, key: &Key) {
    let read = storage.read_all(key, 1024).await;
    let same = read.as_ref().is_ok_and(|bytes| bytes == TEXT);
    if read.is_ok() && !same {
        findings.fail("get", "what came back is not what was written").code(Code::StoreFailed);
        return;
    }
    told(findings, place, "get", Act::Get, &read.map(drop), "read it back");
    let range = async {
        let mut stream = storage.read(key, Some(11..17)).await?;
        let mut found = Vec::new();
        while let Some(piece) = stream.next().await {
            found.extend_from_slice(&piece?);
        }
        Ok::<Vec<u8>, Error>(found)
    };
    match range.await {
        Ok(found) if found != TEXT[11..17] => {
            findings.fail("ranged get", "another range came back than was asked for").code(Code::StoreFailed);
        }
        outcome => {
            told(findings, place, "ranged get", Act::Get, &outcome.map(drop), "read a piece from its middle");
        }
    }
}

/// Creates where there is something already: it must be refused.
async fn creating(findings: &mut Findings, place: &Place, storage: &dyn Storage, key: &Key) {
    match storage.create(key, Bytes::from_static(b"another\n")).await {
        Ok(Created::Exists) if storage.conditional_writes() != Support::No => {
            findings.pass("create if absent", "the second of two creations is refused");
        }
        Ok(_) => {
            findings
                .warn("create if absent", "the store does not do it: two runs at once could both hold the lock")
                .hint("no backup is lost by it; see that only one machine runs backups of this database");
        }
        Err(error) => {
            told(findings, place, "create if absent", Act::Put, &Err(error), "");
        }
    }
}

/// What the names of this trial's objects begin with.
fn stem() -> String {
    use std::hash::{BuildHasher as _, Hasher as _};
    let number = std::collections::hash_map::RandomState::new().build_hasher().finish();
    format!("check-{number:016x}")
}

fn name(text: &str) -> Key {
    Key::new(text).expect("a plain name is a key")
}
