//! What lies beside the backups and is none of ours, or pretends to be.

use std::collections::BTreeMap;
use std::path::Path;

use crate::alteration::Object;
use crate::ground::{Ground, Kind};

fn put(store: &Path, key: &str, bytes: impl AsRef<[u8]>) {
    let file = store.join(key);
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(file, bytes).unwrap();
}

fn ground() -> Ground {
    Ground::new("junk", Kind { compression: "zstd:1", encrypted: false })
}

#[test]
fn what_is_none_of_ours_is_left_alone_and_in_nobodys_way() {
    let ground = ground();
    let repository = ground.copy();
    let listed = repository.well(&["list", "--output", "json"]).stdout;
    let ids = |json: &str| -> Vec<String> {
        let document: serde_json::Value = serde_json::from_str(json).unwrap();
        document["backups"].as_array().unwrap().iter().map(|backup| backup["id"].as_str().unwrap().to_owned()).collect()
    };
    let ours = repository.all();
    let store = &repository.store;
    for name in [
        "notes.txt",
        " ",
        "  leading and trailing ",
        "quote\"s and 'such",
        "new\nline.meta.txt",
        "tab\t.dump",
        "naïve ☃ 客户.dump.gz",
        "percent %2F %00.dump",
        "back\\slash.dump.zst",
        "-rf",
        "--help",
        "daily_report.dump",
        "daily_20251301_999999.dump.gz",
        ".hidden",
        "..dots",
        "semi;colon && true.dump",
        "sub/folder/deep/er/x.dump.lz4",
        "a.dump.proofs/lonely.json",
        "daily",
        ".pgkeep/junk",
        ".pgkeep/lock-7",
        ".pgkeep/lock-99999999999999999999",
        ".pgkeep/lock-",
        ".pgkeep/unpublished-",
        ".pgkeep/unpublished-daily_20240101_000000-0123456789abcdef",
        ".pgkeep/monitoring.json",
        ".pgkeep/restore/junk",
        "%",
        "meta",
        ".meta.",
    ] {
        put(store, name, format!("junk of {name}"));
    }
    put(store, &"long".repeat(60), "x");
    put(store, "scripts.dump.gz.meta", r#"{"backup_file": "scripts.dump.gz", "size": "1K"}"#);
    put(store, "empty-object.meta", "{}");
    std::fs::create_dir(store.join("folder.meta")).unwrap();
    std::os::unix::fs::symlink("/etc/passwd", store.join("link.dump")).unwrap();
    std::os::unix::fs::symlink(store, store.join("round and round")).unwrap();
    std::os::unix::fs::symlink("nowhere", store.join("dangling.meta")).unwrap();
    let made = std::process::Command::new("mkfifo").arg(store.join("pipe.meta")).status().unwrap();
    assert!(made.success());

    let junk: BTreeMap<_, _> = {
        let mut all = BTreeMap::new();
        collect(store, store, &mut all);
        all.into_iter().filter(|(key, _)| !ours.contains_key(key)).collect()
    };
    let now = repository.well(&["list", "--output", "json"]);
    assert_eq!(ids(&now.stdout), ids(&listed), "{now}");
    for arguments in
        [&["status"][..], &["show", &ground.newest], &["verify", "--all", "--deep"], &["prune", "--dry-run"]]
    {
        let run = repository.pgkeep(arguments);
        assert!(matches!(run.code, Some(0 | 10)) && !run.says("can't be read"), "{run}");
    }
    repository.well(&["backup", "--no-prune"]);
    let pruned = repository.well(&["prune"]);
    assert!(pruned.says("Deleted 1 old backup(s)"), "{pruned}");
    let mut left = BTreeMap::new();
    collect(store, store, &mut left);
    for (key, bytes) in &junk {
        assert_eq!(left.get(key), Some(bytes), "{key:?} is none of ours");
    }
}

/// Regular files below a folder; links and pipes are looked at from outside.
fn collect(root: &Path, folder: &Path, found: &mut BTreeMap<String, Vec<u8>>) {
    for entry in std::fs::read_dir(folder).unwrap().flatten() {
        let (kind, path) = (entry.file_type().unwrap(), entry.path());
        let key = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        if kind.is_dir() {
            collect(root, &path, found);
        } else if kind.is_file() {
            found.insert(key, std::fs::read(&path).unwrap());
        } else {
            found.insert(key, format!("{kind:?}").into_bytes());
        }
    }
}

#[test]
fn what_pretends_to_be_a_meta_is_told_of_and_stops_removal_only() {
    let ground = ground();
    let sound = ground.copy();
    let meta = std::fs::read(sound.files(Object::Meta).0).unwrap();
    let text = String::from_utf8(meta.clone()).unwrap();
    let without_digest = format!("{}\n}}\n", text.split_once(",\n  \"self_sha256\"").expect("a digest").0);
    let huge = format!("{{\"format_version\": 1, \"source\": \"{}\"}}", "x".repeat(20 << 20));
    let absurd = |from: &str, to: &str| {
        assert!(without_digest.contains(from), "{from}");
        without_digest.replacen(from, to, 1).into_bytes()
    };
    let stored = without_digest.split_once("\"stored\": {\n    \"bytes\": ").unwrap().1.split_once(',').unwrap().0;
    let pretenders: Vec<(&str, Vec<u8>)> = vec![
        ("empty", Vec::new()),
        ("a list", b"[]".to_vec()),
        ("null", b"null".to_vec()),
        ("no JSON", b"backup_file: x".to_vec()),
        ("no UTF-8", b"{\"format_version\": 1, \"id\": \"\xff\xfe\"}".to_vec()),
        ("a newer format", b"{\"format_version\": 2}".to_vec()),
        ("a much newer format", b"{\"format_version\": 18446744073709551615, \"id\": 7}".to_vec()),
        ("a format of another kind", b"{\"format_version\": \"one\"}".to_vec()),
        ("deeply nested", "[".repeat(200_000).into_bytes()),
        (
            "deeply nested in a key",
            format!("{{\"format_version\": 1, \"x\": {}", "{\"x\":".repeat(200_000)).into_bytes(),
        ),
        ("huge", huge.into_bytes()),
        ("another backup's", meta.clone()),
        ("a path for a name", absurd("\"backup_file\": \"", "\"backup_file\": \"../../")),
        ("more bytes than there are", absurd(&format!("\"bytes\": {stored}"), "\"bytes\": 18446744073709551615")),
    ];
    let before = ground.before.clone();
    for (what, bytes) in &pretenders {
        let repository = ground.copy();
        put(&repository.store, "daily_20240102_030405.dump.zst.meta", bytes);
        put(&repository.store, "daily_20240102_030405.dump.zst", "not much of an archive");
        let list = repository.well(&["list"]);
        assert!(list.says("daily_20240102_030405") && list.says("can't be read"), "{what}: {list}");
        assert!(list.says(&ground.newest) && list.says(&before), "{what}: {list}");
        let status = repository.pgkeep(&["status"]);
        assert!(status.says("daily_20240102_030405") && matches!(status.code, Some(0 | 10)), "{what}: {status}");
        let newer = what.contains("newer format");
        let named = repository.pgkeep(&["verify", "daily_20240102", "--quick"]);
        assert_eq!(named.code, Some(if newer { 2 } else { 4 }), "{what}: {named}");
        let all = repository.pgkeep(&["verify", "--all", "--quick"]);
        assert_eq!(all.code, Some(if newer { 2 } else { 4 }), "{what}: {all}");
        let pruned = repository.well(&["prune"]);
        assert!(pruned.says("nothing is removed there"), "{what}: {pruned}");
        assert!(repository.all().contains_key(&format!("{before}.dump.zst.meta")), "{what}");
        let path = repository.store.join("daily_20240102_030405.dump.zst");
        let restore = repository.pgkeep(&["restore", path.to_str().unwrap(), "--target-db", &ground.target(), "--yes"]);
        assert_eq!(restore.code, Some(if newer { 2 } else { 4 }), "{what}, by its path: {restore}");
    }
    let repository = ground.copy();
    for (number, (_, bytes)) in pretenders.iter().enumerate() {
        put(&repository.store, &format!("daily_20240102_0304{number:02}.dump.zst.meta"), bytes);
    }
    repository.well(&["backup"]);
    repository.well(&["restore", "--latest", "--target-db", &ground.target(), "--yes"]);
}

/// Metas that say what cannot be, with a digest that fits: nothing adds them up to a panic or reads by them beyond the archive.
#[test]
fn absurd_numbers_in_a_meta_are_refused_or_shown_and_nothing_panics() {
    let ground = ground();
    let sound = ground.copy();
    let json = std::fs::read(sound.files(Object::Meta).0).unwrap();
    let mut meta: serde_json::Value = serde_json::from_slice(&json).unwrap();
    meta.as_object_mut().unwrap().remove("self_sha256");
    let mut pointers = Vec::new();
    numbers(&meta, String::new(), &mut pointers);
    // That one is not about this format.
    pointers.retain(|pointer| pointer != "/format_version");
    assert!(pointers.len() > 30, "{pointers:?}");
    let repository = ground.copy();
    let (file, _) = repository.files(Object::Meta);
    let write = |meta: &serde_json::Value| std::fs::write(&file, serde_json::to_vec(meta).unwrap()).unwrap();
    for absurd in [u64::MAX, i64::MAX as u64, 0] {
        // One by one by what reads them, and all at once by every command.
        let mut all = meta.clone();
        for pointer in pointers.iter().filter(|pointer| !pointer.starts_with("/frames") && !pointer.ends_with("/bytes"))
        {
            let number = all.pointer_mut(pointer).unwrap();
            let small = pointer.ends_with("dump_id")
                || pointer.contains("version")
                || pointer.contains("limit")
                || pointer.contains("lowest");
            *number = if small { (absurd as i32 & i32::MAX).into() } else { absurd.into() };
            if pointer.ends_with("last_value") {
                *number = (absurd as i64).into();
            }
        }
        let one_by_one = pointers.iter().step_by(3).map(|pointer| {
            let mut one = meta.clone();
            *one.pointer_mut(pointer).unwrap() = absurd.into();
            (pointer.as_str(), one)
        });
        for (what, meta) in [("all", all)].into_iter().chain(one_by_one) {
            write(&meta);
            let commands: &[&[&str]] = if what == "all" {
                &[
                    &["list"],
                    &["status"],
                    &["show"],
                    &["verify", "--deep"],
                    &["export", "--to", "x.dump"],
                    &["prune", "--dry-run"],
                ]
            } else {
                &[&["verify", "--deep"]]
            };
            for command in commands {
                let mut arguments = command.to_vec();
                if matches!(command[0], "show" | "verify" | "export") {
                    arguments.insert(1, &ground.newest);
                }
                let run = repository.pgkeep(&arguments);
                assert!(matches!(run.code, Some(0 | 4 | 10)), "{what} = {absurd}: {run}");
            }
            if what == "all" {
                let target = ground.target();
                let run = repository.pgkeep(&["restore", &ground.newest, "--target-db", &target, "--yes"]);
                assert_eq!(run.code, Some(4), "{absurd}: {run}");
                assert!(!ground.source.relatives().contains(&target));
            }
        }
    }
}

fn numbers(value: &serde_json::Value, pointer: String, found: &mut Vec<String>) {
    match value {
        serde_json::Value::Object(object) => {
            object.iter().for_each(|(key, value)| numbers(value, format!("{pointer}/{key}"), found));
        }
        serde_json::Value::Array(list) => {
            list.iter().enumerate().for_each(|(at, value)| numbers(value, format!("{pointer}/{at}"), found));
        }
        serde_json::Value::Number(_) => found.push(pointer),
        _ => {}
    }
}
