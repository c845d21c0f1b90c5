//! Listings as they should not be.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use hyper::Response;
use pgkeep_storage::{Created, ErrorKind, Key, Storage, StorageExt};

use super::{Finding, Row, contract, count, key, small_parts};
use crate::s3_server::{Answer, Call, S3Server, altered, broken_off};

fn lists(call: &Call) -> bool {
    call.is("GET", "list-type=2")
}

fn document(inside: &str) -> Answer {
    let body = format!("<?xml version=\"1.0\"?><ListBucketResult><Name>bucket</Name>{inside}</ListBucketResult>");
    Ok(Response::builder().status(200).body(s3s::Body::from(body)).unwrap())
}

/// What the server has to list, object by object.
async fn contents(call: Call) -> Vec<String> {
    let answer = call.pass().await.unwrap_or_else(|_| panic!("a listing"));
    let body = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
    let text = String::from_utf8(body.to_vec()).unwrap();
    text.split("<Contents>").skip(1).map(|rest| rest.split("</Contents>").next().unwrap().to_owned()).collect()
}

/// Pages of one object, and after each an empty one.
async fn in_drops() -> S3Server {
    let pages: Arc<Mutex<BTreeMap<String, Vec<String>>>> = Arc::default();
    let next = Arc::new(AtomicUsize::new(0));
    S3Server::with(move |call| {
        let (pages, next) = (Arc::clone(&pages), Arc::clone(&next));
        async move {
            if !lists(&call) {
                return call.pass().await;
            }
            let mut left = match call.query("continuation-token") {
                Some(token) => {
                    pages.lock().unwrap().remove(token).unwrap_or_else(|| panic!("{token} was not given, or twice"))
                }
                // An empty text stands for an empty page.
                None => contents(call).await.into_iter().flat_map(|object| [object, String::new()]).collect(),
            };
            if left.is_empty() {
                return document("<KeyCount>0</KeyCount><IsTruncated>false</IsTruncated>");
            }
            let object = left.remove(0);
            let token = format!("token-{}", next.fetch_add(1, Ordering::SeqCst));
            pages.lock().unwrap().insert(token.clone(), left);
            let object = if object.is_empty() { object } else { format!("<Contents>{object}</Contents>") };
            document(&format!(
                "<IsTruncated>true</IsTruncated><NextContinuationToken>{token}</NextContinuationToken>{object}"
            ))
        }
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_in_tiny_pages_is_whole() {
    in_tiny_pages().await;
}

pub(super) async fn in_tiny_pages() -> Row {
    static FOUND: Finding = Finding::new();
    FOUND
        .once(async {
            let server = in_drops().await;
            let storage = contract(server.settings()).await;
            for name in ["a", "b", "c"] {
                storage.put(&key(name), "x".into()).await.unwrap();
            }
            server.requests();
            assert_eq!(storage.list_all(&Key::root()).await.unwrap().len(), 3);
            assert_eq!(count(&server.requests(), "list-type"), 7, "three pages of one, three of none, and the end");
            [
                "lists in pages of one object, with empty pages between them",
                "passes",
                "every page is asked for once",
                "`storage::suite::quirks::listings::a_listing_in_tiny_pages_is_whole`",
            ]
        })
        .await
}

/// As `encoding-type=url` has it.
fn url_encoded(key: &str) -> String {
    let byte = |byte: u8| match byte {
        b' ' => "+".to_owned(),
        b'/' | b'.' | b'-' | b'_' => char::from(byte).to_string(),
        byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
        byte => format!("%{byte:02x}"),
    };
    key.bytes().map(byte).collect()
}

fn unescaped(key: &str) -> String {
    [("&lt;", "<"), ("&gt;", ">"), ("&quot;", "\""), ("&apos;", "'"), ("&#39;", "'"), ("&#34;", "\""), ("&amp;", "&")]
        .iter()
        .fold(key.to_owned(), |text, (escaped, plain)| text.replace(escaped, plain))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listing_with_names_of_any_kind_is_read() {
    of_strange_names().await;
}

pub(super) async fn of_strange_names() -> Row {
    static FOUND: Finding = Finding::new();
    FOUND
        .once(async {
            // What no key of ours is, and no path of object_store's.
            const FOREIGN: [&str; 7] = ["//daily/x", "/a//b", "/./c", "/../d", "/folder/", "/\u{8}bell", "lication/e"];
            let encoding = Arc::new(AtomicBool::new(true));
            let encodes = Arc::clone(&encoding);
            let server = S3Server::with(move |call| {
                let encodes = encodes.load(Ordering::SeqCst);
                async move {
                    if !lists(&call) {
                        return call.pass().await;
                    }
                    let time = "<LastModified>2026-11-22T12:00:00.000Z</LastModified>";
                    let foreign = FOREIGN.map(|name| format!("<Key>database-backups/app{}</Key>{time}<Size>1</Size>", name.replace('\u{8}', "&#x8;")));
                    let mut objects = contents(call).await;
                    objects.extend(foreign);
                    let objects = objects.into_iter().map(|object| {
                        if !encodes {
                            return format!("<Contents>{object}</Contents>");
                        }
                        let (before, rest) = object.split_once("<Key>").unwrap();
                        let (name, after) = rest.split_once("</Key>").unwrap();
                        let name = url_encoded(&unescaped(name).replace("&#x8;", "\u{8}"));
                        format!("<Contents>{before}<Key>{name}</Key>{after}</Contents>")
                    });
                    let objects: String = objects.collect();
                    let encoded = if encodes { "<EncodingType>url</EncodingType>" } else { "" };
                    document(&format!("{encoded}<IsTruncated>false</IsTruncated>{objects}"))
                }
            })
            .await;
            let storage = contract(server.settings()).await;
            encoding.store(false, Ordering::SeqCst);
            storage.put(&key("50% größer + + %2B"), "x".into()).await.unwrap();
            for _ in 0..2 {
                let listed: BTreeSet<String> =
                    storage.list_all(&Key::root()).await.unwrap().into_iter().map(|info| info.key.to_string()).collect();
                assert_eq!(listed, ["50% größer + + %2B".to_owned()].into());
                encoding.store(true, Ordering::SeqCst);
            }
            [
                "lists names of others (`a//b`, `.`, `..`, a folder's, control characters), and encodes names without being asked to",
                "passes",
                "others' names are left out, ours are read as they were given, encoded or not",
                "`storage::suite::quirks::listings::a_listing_with_names_of_any_kind_is_read`",
            ]
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_listing_does_not_show_yet_is_there_all_the_same() {
    that_come_late().await;
}

pub(super) async fn that_come_late() -> Row {
    static FOUND: Finding = Finding::new();
    FOUND
        .once(async {
            let late: Arc<Mutex<Vec<String>>> = Arc::default();
            let shown = Arc::clone(&late);
            // A listing shows what there was when the one before it was asked for.
            let server = S3Server::with(move |call| {
                let shown = Arc::clone(&shown);
                async move {
                    if !lists(&call) {
                        return call.pass().await;
                    }
                    let now = contents(call).await;
                    let before = std::mem::replace(&mut *shown.lock().unwrap(), now);
                    let objects: Vec<String> =
                        before.iter().map(|object| format!("<Contents>{object}</Contents>")).collect();
                    document(&format!("<IsTruncated>false</IsTruncated>{}", objects.concat()))
                }
            })
            .await;
            let storage = small_parts(server.settings());
            assert_eq!(storage.create(&key("a"), "x".into()).await.unwrap(), Created::Created);
            assert!(storage.list_all(&Key::root()).await.unwrap().is_empty());
            assert!(storage.exists(&key("a")).await.unwrap());
            assert_eq!(storage.create(&key("a"), "y".into()).await.unwrap(), Created::Exists);
            storage.delete(&key("a")).await.unwrap();
            assert_eq!(storage.list_all(&Key::root()).await.unwrap().len(), 1, "deleted, and listed still");
            assert_eq!(storage.read_all(&key("a"), 10).await.unwrap_err().kind(), ErrorKind::NotFound);
            assert!(storage.list_all(&Key::root()).await.unwrap().is_empty());
            [
                "lists late: new objects not yet, deleted ones still",
                "cannot pass: a listing has to show what was written before (docs/STORES.md)",
                "names are taken and given up by requests for the object itself, so nothing is written over; what is listed and gone is `NotFound`",
                "`storage::suite::quirks::listings::what_a_listing_does_not_show_yet_is_there_all_the_same`",
            ]
        })
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_whole_listing_is_an_error() {
    that_are_none().await;
}

pub(super) async fn that_are_none() -> Row {
    static FOUND: Finding = Finding::new();
    FOUND
        .once(async {
            for (answer, requests, text) in [
                ("<html>log in first</html>", 1, "what was answered is no listing"),
                ("<?xml version=\"1.0\"?><ListBucketResult><Contents>", 1, "what was answered is no listing"),
                ("<ListBucketResult><IsTruncated>true</IsTruncated></ListBucketResult>", 1, "a listing ends before its end"),
                (
                    "<ListBucketResult><IsTruncated>true</IsTruncated><NextContinuationToken>again</NextContinuationToken></ListBucketResult>",
                    2,
                    "its listing goes round in circles",
                ),
            ] {
                let server = S3Server::with(move |_| async move {
                    Ok(Response::builder().status(200).body(s3s::Body::from(answer.to_owned())).unwrap())
                })
                .await;
                let error = server.storage().list_all(&Key::root()).await.unwrap_err();
                assert_eq!((error.kind(), error.cause().unwrap().text.as_str()), (ErrorKind::Other, text));
                assert_eq!(server.requests().len(), requests, "{text}");
            }
            // A page that breaks off is asked for again; one that always does is an error.
            for (times, works) in [(3, true), (usize::MAX, false)] {
                let left = Arc::new(AtomicUsize::new(times));
                let server = S3Server::with(move |call| {
                    let left = Arc::clone(&left);
                    async move {
                        let breaks = lists(&call)
                            && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok();
                        let answer = call.pass().await?;
                        if breaks { broken_off(altered(answer, |body| body).await).await } else { Ok(answer) }
                    }
                })
                .await;
                let storage = server.storage();
                storage.put(&key("a"), "x".into()).await.unwrap();
                server.requests();
                let listed = storage.list_all(&Key::root()).await;
                assert_eq!(listed.is_ok(), works, "{listed:?}");
                assert_eq!(server.requests().len(), 4);
                if let Err(error) = listed {
                    assert_eq!(error.kind(), ErrorKind::Unreachable);
                }
            }
            [
                "answers a listing with a login page, half of one, one that ends too early, one that goes round in circles, one that breaks off",
                "does not apply",
                "an error, never a short listing: `Other` after one request (circles: two); one that breaks off is asked for 3 more times, then `Unreachable`",
                "`storage::suite::quirks::listings::what_is_no_whole_listing_is_an_error`",
            ]
        })
        .await
}
