//! Encrypted backups: nothing readable at rest, opened by any of the keys and by age's own program, and by nothing else.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use pgkeep_testkit::{Ceph, PostgresServer, client_tools, contents, dump_text, large_objects, saas, unique};

use crate::setup::Setup;

/// A new key: its file, and its public half.
fn keygen(setup: &Setup, name: &str) -> (PathBuf, String) {
    let made = setup.pgkeep(&["keygen", "--to", name]);
    let recipient = made.stdout.trim().strip_prefix("Public key: ").expect("the public key").to_owned();
    assert!(recipient.starts_with("age1"), "{made}");
    (setup.folder().join(name), recipient)
}

/// What runs when a key file is given to age's own program, the stock decompressor and pg_restore.
fn plain_by_stock_tools(archive: &Path, key: &Path) -> Vec<u8> {
    let mut age = Command::new("age")
        .args(["--decrypt", "--identity"])
        .arg(key)
        .arg(archive)
        .stdout(Stdio::piped())
        .spawn()
        .expect("age is installed (cargo xtask test does that)");
    let plain =
        Command::new("zstd").arg("-dc").stdin(age.stdout.take().expect("piped")).output().expect("zstd is installed");
    assert!(age.wait().expect("ends").success(), "age refused {}", archive.display());
    assert!(plain.status.success(), "{}", String::from_utf8_lossy(&plain.stderr));
    plain.stdout
}

/// A database whose every name and value holds a word that occurs nowhere else.
fn marked<'s>(server: &'s PostgresServer, marker: &str) -> pgkeep_testkit::ScratchDatabase<'s> {
    let source = server.create_database("sealed");
    let role = format!("{marker}_role");
    source.psql(&format!(
        "CREATE ROLE {role} LOGIN PASSWORD '{marker}_password';
         CREATE SCHEMA {marker}_schema AUTHORIZATION {role};
         CREATE TABLE {marker}_schema.{marker}_table ({marker}_column int PRIMARY KEY, value text);
         INSERT INTO {marker}_schema.{marker}_table SELECT n, '{marker}_value' || n FROM generate_series(1, 20000) n;
         CREATE TABLE {marker}_schema.{marker}_other AS SELECT n, '{marker}_other' || n AS v FROM generate_series(1, 1000) n;
         CREATE SEQUENCE {marker}_schema.{marker}_sequence;
         COMMENT ON DATABASE {name} IS '{marker}_comment';
         ALTER DATABASE {name} SET app.{marker}_setting = '{marker}_secret';
         SELECT lo_from_bytea(0, '{marker}_large_object');",
        name = source.name(),
    ));
    source
}

fn drop_marked(source: &pgkeep_testkit::ScratchDatabase<'_>, marker: &str) {
    source.psql(&format!("DROP OWNED BY {marker}_role CASCADE; DROP ROLE {marker}_role"));
}

fn assert_marker_nowhere<'o>(objects: impl IntoIterator<Item = (String, &'o [u8])>, marker: &str) {
    let mut looked_at = 0;
    for (name, bytes) in objects {
        assert!(!name.contains(marker), "{name}");
        let found = bytes.windows(marker.len()).position(|window| window.eq_ignore_ascii_case(marker.as_bytes()));
        assert_eq!(found, None, "{marker} is readable in {name}");
        looked_at += 1;
    }
    assert!(looked_at >= 4, "source.json, archive, globals and meta: {looked_at}");
}

#[test]
fn nothing_is_readable_at_rest_on_disk_or_in_a_bucket() {
    let server = PostgresServer::shared(17);
    let marker = unique("mark").replace('_', "");
    let source = marked(server, &marker);
    let ceph = Ceph::shared();
    let bucket = ceph.create_bucket("sealed");
    let mut setup = Setup::new(&source.url()).with("AWS_S3_BACKUP_BUCKET", &bucket);
    for (name, value) in ceph.environment() {
        setup.set(name, value);
    }
    let (key, recipient) = keygen(&setup, "backup.key");
    setup.set("BACKUP_ENCRYPT_TO", &recipient);
    setup.pgkeep(&["backup", "--jobs", "3"]);
    setup.pgkeep(&["backup", "--weekly", "--table", &format!("{marker}_schema.{marker}_table")]);
    // Neither of these needs a key, and their proofs tell nothing either.
    setup.pgkeep(&["verify", "--all", "--stored"]);
    setup.pgkeep(&["verify", "--all", "--deep", "--identity", "backup.key"]);
    let listed = setup.pgkeep(&["list"]);
    assert!(listed.stdout.contains("daily_") && listed.stdout.contains("weekly_"), "{listed}");
    let shown = setup.pgkeep(&["show", "daily"]);
    assert!(shown.stdout.contains(&recipient) && !shown.stdout.contains(&marker), "{shown}");
    let shown = setup.pgkeep(&["show", "daily", "--identity", "backup.key"]);
    assert!(shown.stdout.contains(&format!("{marker}_table")), "{shown}");

    let written = setup.everything_written();
    let stored = written.iter().filter(|(path, _)| path.starts_with(setup.backups()));
    assert_marker_nowhere(stored.map(|(path, bytes)| (path.display().to_string(), bytes.as_slice())), &marker);
    let objects: Vec<(String, Vec<u8>)> = ceph
        .keys(&bucket)
        .into_iter()
        .map(|key| {
            let bytes = ceph.s3("GET", &format!("/{bucket}/{key}"), "").into_bytes();
            (key, bytes)
        })
        .collect();
    assert_marker_nowhere(objects.iter().map(|(key, bytes)| (key.clone(), bytes.as_slice())), &marker);

    // The role's password came along, because nobody reads it there.
    let globals = setup.files().into_iter().find(|file| file.starts_with("daily_") && file.contains(".globals."));
    let globals = plain_by_stock_tools(&setup.backups().join(globals.expect("globals")), &key);
    let globals = String::from_utf8_lossy(&globals).into_owned();
    assert!(globals.contains(&format!("{marker}_role")) && globals.contains("SCRAM-SHA-256"), "{globals}");
    drop_marked(&source, &marker);
}

#[test]
fn either_key_restores_and_so_do_stock_tools() {
    let server = PostgresServer::shared(17);
    let source = server.create_database("keys");
    saas::load(server, &source, 0.1);
    let mut setup = Setup::new(&source.url());
    let (one, first) = keygen(&setup, "one.key");
    let (_, second) = keygen(&setup, "two.key");
    keygen(&setup, "other.key");
    setup.set("BACKUP_ENCRYPT_TO", format!("{first},{second}"));
    setup.pgkeep(&["backup"]);

    let stock = server.create_database_with("stock", "TEMPLATE template0");
    let plain = setup.folder().join("stock.dump");
    std::fs::write(&plain, plain_by_stock_tools(&setup.archive(), &one)).expect("written");
    let restored = Command::new(client_tools(17).join("pg_restore"))
        .args(["--exit-on-error", "-d", &stock.url()])
        .arg(&plain)
        .output()
        .expect("pg_restore can be run");
    assert!(restored.status.success(), "{}", String::from_utf8_lossy(&restored.stderr));
    let wanted = dump_text(server, &source);
    assert_eq!(wanted, dump_text(server, &stock));

    let target = format!("{}_restored", source.name());
    let restore = ["restore", "--latest", "--target-db", &target, "--yes"];
    setup.run("pgkeep", &restore).failed_with(2, &["encrypted", &first, &second]);
    let wrong = setup.run("pgkeep", &[&restore[..], &["--identity", "other.key"]].concat());
    wrong.failed_with(2, &["no key that was given opens it"]);
    setup.pgkeep(&[&restore[..], &["--jobs", "3", "--identity", "other.key", "--identity", "two.key"]].concat());
    assert_eq!(contents(server, &source), contents(server, &target));
    assert_eq!(large_objects(server, &source), large_objects(server, &target));
    server.psql("postgres", &format!("DROP DATABASE \"{target}\" WITH (FORCE)"));

    // Over the live database, with the drop-in: its own snapshot beforehand is encrypted too.
    setup.set("BACKUP_IDENTITY_FILE", &one);
    source.psql("DROP SCHEMA app CASCADE");
    let restore = setup.run("restore-database", &["--latest", "--force"]);
    assert_eq!(restore.code, Some(0), "{restore}");
    assert_eq!(wanted, dump_text(server, &source));
    let archives = setup.files().into_iter().filter(|file| file.contains(".dump") && !file.ends_with(".meta"));
    assert!(archives.clone().count() == 2 && archives.clone().all(|file| file.ends_with(".zst.age")));
}

#[test]
fn one_table_comes_back_from_an_encrypted_archive_in_a_bucket() {
    let server = PostgresServer::shared(17);
    let source = server.create_database("ranges");
    saas::load(server, &source, 0.1);
    let ceph = Ceph::shared();
    let bucket = ceph.create_bucket("ranges");
    let mut setup = Setup::new(&source.url()).with("AWS_S3_BACKUP_BUCKET", &bucket).with("BACKUP_DIR", "none");
    for (name, value) in ceph.environment() {
        setup.set(name, value);
    }
    let (key, recipient) = keygen(&setup, "backup.key");
    setup.set("BACKUP_ENCRYPT_TO", recipient);
    setup.set("BACKUP_IDENTITY_FILE", key);
    setup.pgkeep(&["backup"]);
    let target = format!("{}_table", source.name());
    setup.pgkeep(&["restore", "--latest", "--target-db", &target, "--table", "app.customers", "--yes"]);
    let sum = "SELECT count(*), sum(hashtext(c::text)) FROM app.customers c";
    assert_eq!(source.psql(sum), server.psql(&target, sum));
    server.psql("postgres", &format!("DROP DATABASE \"{target}\" WITH (FORCE)"));

    setup.pgkeep(&["export", "--latest", "--table", "app.customers", "--to", "customers.dump"]);
    let listed = Command::new(client_tools(17).join("pg_restore"))
        .args(["--data-only", "--table=customers", "--file=-"])
        .arg(setup.folder().join("customers.dump"))
        .output()
        .expect("pg_restore can be run");
    assert!(listed.status.success(), "{}", String::from_utf8_lossy(&listed.stderr));
    assert!(String::from_utf8_lossy(&listed.stdout).contains("COPY app.customers"));
}

#[test]
fn nobody_to_encrypt_to_is_never_a_plain_backup() {
    let source = PostgresServer::shared(17).create_database("nobody");
    source.psql("CREATE TABLE t AS SELECT generate_series(1, 10) n");
    let mut setup = Setup::new(&source.url());
    let (_, recipient) = keygen(&setup, "backup.key");
    setup.set("BACKUP_ENCRYPT_TO", &recipient);
    setup.run("pgkeep", &["backup", "--encrypt-to", ""]).failed_with(2, &["names nobody"]);
    setup.set("BACKUP_ENCRYPT_TO", ",");
    setup.run("pgkeep", &["backup"]).failed_with(2, &["names nobody"]);
    assert_eq!(setup.files(), Vec::<String>::new());

    // Plain ones from before stay where they are when a second place comes with encryption.
    setup.set("BACKUP_ENCRYPT_TO", "none");
    setup.pgkeep(&["backup", "--weekly"]);
    let store = setup.folder().join("store");
    std::fs::create_dir(&store).expect("a folder");
    setup.set("BACKUP_STORE", format!("file://{}", store.display()));
    setup.set("BACKUP_ENCRYPT_TO", &recipient);
    let run = setup.pgkeep(&["backup", "--daily"]);
    assert!(run.stderr.contains("from before encryption are not copied"), "{run}");
    let there = Command::new("find").arg(&store).output().expect("find can be run").stdout;
    let there = String::from_utf8_lossy(&there);
    assert!(there.contains("/daily_") && !there.contains("/weekly_"), "{there}\n{run}");
}

#[test]
fn what_was_altered_or_cut_off_is_damage() {
    let server = PostgresServer::shared(17);
    let source = server.create_database("altered");
    saas::load(server, &source, 0.03);
    let mut setup = Setup::new(&source.url());
    let (key, recipient) = keygen(&setup, "backup.key");
    setup.set("BACKUP_ENCRYPT_TO", recipient);
    setup.set("BACKUP_IDENTITY_FILE", key);
    setup.pgkeep(&["backup"]);
    let archive = setup.archive();
    let sound = std::fs::read(&archive).expect("read");
    let target = format!("{}_never", source.name());
    for (what, bytes) in [
        ("flipped", {
            let mut bytes = sound.clone();
            let middle = bytes.len() / 2;
            bytes[middle] ^= 1;
            bytes
        }),
        ("cut", sound[..sound.len() - 1000].to_vec()),
    ] {
        std::fs::write(&archive, bytes).expect("written");
        let name = archive.file_name().and_then(|name| name.to_str()).expect("UTF-8");
        setup.run("pgkeep", &["verify", name, "--stored"]).failed_with(4, &["damaged"]);
        let restored = setup.run("pgkeep", &["restore", name, "--target-db", &target, "--yes"]);
        restored.failed_with(4, &[]);
        let there = format!("SELECT count(*) FROM pg_database WHERE datname = '{target}'");
        assert_eq!(server.psql("postgres", &there).trim(), "0", "{what}");
    }
}

#[test]
fn keys_and_backups_are_their_owners_alone() {
    let source = PostgresServer::shared(17).create_database("private");
    source.psql("CREATE TABLE t AS SELECT generate_series(1, 10) n");
    let mut setup = Setup::new(&source.url());
    let (key, recipient) = keygen(&setup, "backup.key");
    let mode = |path: &Path| std::fs::metadata(path).expect("there").permissions().mode() & 0o777;
    assert_eq!(mode(&key), 0o600);
    let before = std::fs::read(&key).expect("read");
    setup.run("pgkeep", &["keygen", "--to", "backup.key"]).failed_with(2, &["exists"]);
    assert_eq!(before, std::fs::read(&key).expect("read"), "a key is never overwritten");

    setup.set("BACKUP_ENCRYPT_TO", &recipient);
    setup.pgkeep(&["backup"]);
    setup.pgkeep(&["verify", "--latest", "--deep", "--identity", "backup.key"]);
    let mut folders = vec![setup.backups()];
    let mut files = 0;
    while let Some(folder) = folders.pop() {
        assert_eq!(mode(&folder), 0o700, "{}", folder.display());
        for entry in std::fs::read_dir(folder).expect("listed").flatten() {
            if entry.path().is_dir() {
                folders.push(entry.path());
            } else {
                files += 1;
                assert_eq!(mode(&entry.path()), 0o600, "{}", entry.path().display());
            }
        }
    }
    assert!(files >= 5, "source.json, archive, globals, meta, proof: {files}");

    std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o644)).expect("changed");
    let warned = setup.pgkeep(&["verify", "--latest", "--deep", "--identity", "backup.key"]);
    assert!(warned.stderr.contains("others may read it"), "{warned}");

    // age's own keys are as good, and ours are to age.
    let made = Command::new("age-keygen").arg("-o").arg(setup.folder().join("age.key")).output().expect("installed");
    assert!(made.status.success());
    let public = Command::new("age-keygen").arg("-y").arg(&key).output().expect("installed");
    assert_eq!(String::from_utf8_lossy(&public.stdout).trim(), recipient);
    let age_key = std::fs::read_to_string(setup.folder().join("age.key")).expect("read");
    let public = age_key.lines().find_map(|line| line.strip_prefix("# public key: ")).expect("its public half");
    setup.set("BACKUP_ENCRYPT_TO", public);
    setup.pgkeep(&["backup", "--weekly"]);
    setup.pgkeep(&["verify", "weekly", "--deep", "--identity", "age.key"]);
}

#[test]
fn a_passphrase_from_a_file_seals_and_opens() {
    let server = PostgresServer::shared(17);
    let source = server.create_database("phrase");
    saas::load(server, &source, 0.03);
    let mut setup = Setup::new(&source.url()).with("BACKUP_ENCRYPT_TO", "passphrase");
    setup.run("pgkeep", &["backup"]).failed_with(2, &["passphrase"]);
    std::fs::write(setup.folder().join("phrase"), "correct horse battery staple\n").expect("written");
    setup.set("BACKUP_PASSPHRASE_FILE", "phrase");
    setup.pgkeep(&["backup"]);
    setup.pgkeep(&["verify", "--latest", "--deep"]);
    let target = format!("{}_restored", source.name());
    setup.pgkeep(&["restore", "--latest", "--target-db", &target, "--yes"]);
    assert_eq!(contents(server, &source), contents(server, &target));
    server.psql("postgres", &format!("DROP DATABASE \"{target}\" WITH (FORCE)"));
    setup.set("BACKUP_PASSPHRASE", "another");
    setup.run("pgkeep", &["verify", "--latest", "--deep"]).failed_with(2, &["no key that was given opens it"]);
    let written = setup.everything_written();
    assert!(
        written
            .iter()
            .filter(|(path, _)| !path.ends_with("phrase"))
            .all(|(_, bytes)| { !String::from_utf8_lossy(bytes).contains("correct horse") })
    );
}
