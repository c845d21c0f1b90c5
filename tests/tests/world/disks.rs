//! Disks that are full at any page of what is written: the place for backups, the other one, the log, the temporary folder,
//! and the server's own.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use pgkeep_testkit::{PostgresOptions, PostgresServer, saas};

use crate::ground::{backups, ended, nothing_half_made, objects, setup, tiny};
use crate::setup::{Run, Setup};
use crate::table::suffices;

/// What a tmpfs gives out at a time.
const PAGE: u64 = 4096;

/// A filesystem of its own, on which so much is free as is said.
struct SmallDisk(PathBuf);

impl SmallDisk {
    fn mount(path: PathBuf) -> Self {
        std::fs::create_dir_all(&path).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=2m,mode=0755", "tmpfs"])
            .arg(&path)
            .status()
            .unwrap();
        assert!(mounted.success(), "these tests run as root, for they mount a small disk");
        Self(path)
    }

    /// Leaves so many pages free.
    fn leave(&self, pages: u64) {
        let mut filler = std::fs::File::create(self.0.join("filler")).unwrap();
        while filler.write_all(&[0; PAGE as usize]).is_ok() {}
        let length = filler.metadata().unwrap().len() / PAGE * PAGE;
        filler.set_len(length.saturating_sub(pages * PAGE)).unwrap();
    }

    fn free(&self) {
        let _ = std::fs::remove_file(self.0.join("filler"));
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("--lazy").arg(&self.0).status();
    }
}

/// What a failure must not change.
fn without_filler(disk: &SmallDisk) -> Vec<(PathBuf, Vec<u8>)> {
    objects(&disk.0).into_iter().filter(|(path, _)| !path.ends_with("filler")).collect()
}

#[test]
fn a_disk_that_is_full_at_any_page_is_told_and_leaves_the_last_good_backup() {
    let (_source, setup) = tiny("page");
    let disk = SmallDisk::mount(setup.folder().join("disk"));
    let folder = disk.0.join("backups");
    let setup = setup.with("BACKUP_DIR", &folder).with("BACKUP_COMPRESSION", "none");
    setup.pgkeep(&["backup", "--weekly"]);
    let before = without_filler(&disk);
    let mut refused = 0;
    for pages in 0.. {
        disk.leave(pages);
        let run = setup.run("pgkeep", &["backup", "--daily"]);
        let what = format!("{pages} pages");
        nothing_half_made(&folder, &what);
        if run.code == Some(0) {
            break;
        }
        ended(&run, 6, &["space"], &what);
        assert_eq!(without_filler(&disk), before, "{what}: it leaves something\n{run}");
        refused += 1;
    }
    disk.free();
    setup.pgkeep(&["verify", "--all", "--deep"]);
    suffices("disks::a_disk_that_is_full_at_any_page_is_told_and_leaves_the_last_good_backup", refused);
}

#[test]
fn a_full_disk_beside_another_place_costs_that_copy_only() {
    let (_source, mut setup) = tiny("beside");
    let disk = SmallDisk::mount(setup.folder().join("disk"));
    let (small, large) = (disk.0.join("repository"), setup.folder().join("large"));
    std::fs::create_dir_all(&small).unwrap();
    std::fs::create_dir_all(&large).unwrap();
    setup.set("BACKUP_COMPRESSION", "none");
    let url = |folder: &Path| format!("file://{}", folder.display());
    let mut tried = 0;
    // The local copy may fail, the other one may not.
    for (local, store, code) in [(&small, &large, 0), (&large, &small, 6)] {
        setup.set("BACKUP_DIR", local);
        setup.set("BACKUP_STORE", url(store));
        for pages in (0..).step_by(3) {
            disk.leave(pages);
            let run = setup.run("pgkeep", &["backup"]);
            let what = format!("{pages} pages, {code}");
            nothing_half_made(&small, &what);
            nothing_half_made(&large, &what);
            let whole = backups(&small) == 1;
            if !whole {
                tried += 1;
                ended(&run, code, &["space"], &what);
                let made = backups(&large);
                // Where the lock cannot be had, there is no run.
                assert!(made == 1 || (code == 6 && pages < 3), "{what}: the other copy is made all the same\n{run}");
                assert!(code == 6 || run.stderr.contains("[WARN]"), "{what}\n{run}");
            }
            disk.free();
            if !whole && code == 6 && backups(&large) == 1 {
                // The next run makes the missing copy good.
                setup.pgkeep(&["backup", "--weekly"]);
                assert_eq!((backups(&small), backups(&large)), (2, 2), "{what}");
            }
            for folder in [&small, &large] {
                std::fs::remove_dir_all(folder).unwrap();
                std::fs::create_dir(folder).unwrap();
            }
            if whole {
                assert_eq!(run.code, Some(0), "{what}\n{run}");
                break;
            }
        }
    }
    suffices("disks::a_full_disk_beside_another_place_costs_that_copy_only", tried);
}

#[test]
fn a_file_that_may_not_grow_is_a_full_disk() {
    let (_source, mut setup) = tiny("ulimit");
    setup.set("BACKUP_COMPRESSION", "none");
    setup.set("LOG_FILE", "none");
    setup.pgkeep(&["backup", "--weekly"]);
    let before = objects(&setup.backups());
    let mut refused = 0;
    for limit in [0, 100, 1_000, 3_000, 5_000, 8_000, 12_000, 20_000] {
        let mut command = setup.stock("prlimit");
        command.arg(format!("--fsize={limit}")).arg(pgkeep_testkit::program("pgkeep")).args(["backup", "--daily"]);
        let run = Run::of(&command.output().unwrap());
        let what = format!("{limit} bytes");
        if run.code == Some(0) {
            break;
        }
        ended(&run, 6, &["arge"], &what);
        assert_eq!(objects(&setup.backups()), before, "{what}: it leaves something\n{run}");
        refused += 1;
    }
    setup.pgkeep(&["backup", "--daily"]);
    suffices("disks::a_file_that_may_not_grow_is_a_full_disk", refused);
}

#[test]
fn a_log_that_cannot_be_written_costs_nothing_but_lines() {
    let (_source, setup) = tiny("log");
    let disk = SmallDisk::mount(setup.folder().join("disk"));
    let setup = setup.with("LOG_FILE", disk.0.join("backups.log"));
    disk.leave(0);
    let run = setup.run("pgkeep", &["backup"]);
    assert_eq!(run.code, Some(0), "{run}");
    setup.pgkeep(&["verify", "--latest", "--deep"]);
    let target = format!("{}_restored", _source.name());
    setup.pgkeep(&["restore", "--latest", "--target-db", &target, "--yes"]);
}

#[test]
fn a_proof_that_cannot_be_kept_is_a_warning() {
    let (source, setup) = tiny("proof");
    let disk = SmallDisk::mount(setup.folder().join("disk"));
    let setup = setup.with("BACKUP_DIR", disk.0.join("backups"));
    setup.pgkeep(&["backup"]);
    disk.leave(0);
    let run = setup.run("pgkeep", &["verify", "--latest", "--deep"]);
    assert!(run.stderr.contains("proof"), "{run}");
    let target = format!("{}_restored", source.name());
    let run = setup.run("pgkeep", &["restore", "--latest", "--target-db", &target, "--yes"]);
    ended(&run, 0, &["proof"], "restored");
    assert_eq!(source.server().psql(&target, "SELECT count(*) FROM t"), "200");
}

#[test]
fn a_temporary_folder_that_is_full_or_closed_is_named() {
    let (_source, setup) = tiny("temporary");
    let disk = SmallDisk::mount(setup.folder().join("disk"));
    let mut setup = setup;
    disk.leave(0);
    let folders = [disk.0.clone(), PathBuf::from("/proc"), setup.folder().join("nowhere")];
    for (folder, word) in folders.iter().zip(["space", "/proc", "nowhere"]) {
        setup.set("TMPDIR", folder);
        let run = setup.run("pgkeep", &["backup"]);
        assert!(matches!(run.code, Some(1 | 2 | 6)), "{}\n{run}", folder.display());
        ended(&run, run.code.unwrap(), &[word], word);
        assert_eq!(backups(&setup.backups()), 0, "{word}");
    }
    setup.set("TMPDIR", setup.folder().to_owned());
    setup.pgkeep(&["backup"]);
}

#[test]
fn a_report_that_cannot_be_written_is_told() {
    let (source, setup) = tiny("report");
    let disk = SmallDisk::mount(setup.folder().join("disk"));
    setup.pgkeep(&["backup"]);
    disk.leave(0);
    let setup = setup.with("BACKUP_DRILL_RESULTS", disk.0.join("results"));
    let run = setup.run("pgkeep", &["drill", "--restore-only"]);
    assert!(run.stderr.contains("report") || run.stderr.contains("space"), "{run}");
    assert_eq!(source.relatives(), [source.name()]);
}

/// Megabytes that are free in the server's memory disk, made so by a file that takes the rest.
fn leave_on_server(server: &PostgresServer, megabytes: u64) {
    let fill = format!(
        "rm -f /dev/shm/filler; free=$(df --output=avail -B1M /dev/shm | tail -1); fallocate -l $((free - {megabytes}))M /dev/shm/filler"
    );
    let output = server.exec(&["sh", "-c", &fill]);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn a_server_without_room_for_the_new_database_keeps_the_old_one() {
    let server = PostgresServer::start(17, &PostgresOptions::default());
    assert!(server.exec(&["mkdir", "-p", "/dev/shm/small"]).status.success());
    server.psql("postgres", "CREATE TABLESPACE small LOCATION '/dev/shm/small'");
    server.psql("postgres", "CREATE DATABASE app TABLESPACE small");
    saas::load(&server, "app", 0.05);
    let setup: Setup = setup(&server.url("app"));
    setup.pgkeep(&["backup"]);
    server.psql("app", "CREATE TABLE since AS SELECT 1 AS id");
    let look = || server.psql("app", "SELECT oid FROM pg_database WHERE datname = 'app'; SELECT count(*) FROM since");
    let before = look();
    let mut refused = 0;
    // Not enough for an empty database, for some of the rows, for all of them.
    for megabytes in [2, 10, 16, 200] {
        leave_on_server(&server, megabytes);
        let run = setup.run("pgkeep", &["restore", "--latest", "--yes", "--skip-snapshot"]);
        let what = format!("{megabytes} MB");
        if run.code == Some(0) {
            assert_eq!(server.psql("app", "SELECT to_regclass('since') IS NULL"), "t", "{what}");
            break;
        }
        ended(&run, 5, &["No space left on device"], &what);
        assert_eq!(look(), before, "{what}: the live database was touched\n{run}");
        let databases =
            server.psql("postgres", "SELECT string_agg(datname, ',') FROM pg_database WHERE datname ~ '^app'");
        assert_eq!(databases, "app", "{what}: a database is left\n{run}");
        refused += 1;
    }
    suffices("disks::a_server_without_room_for_the_new_database_keeps_the_old_one", refused);
}
