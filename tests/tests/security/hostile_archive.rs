//! Archives of somebody who means harm: they run no SQL of ours, and cost no more memory than there is.

use pgkeep_archive::{InnerCompression, SyntheticArchive, TocEntry, synthetic_entry};
use pgkeep_testkit::PostgresServer;

use crate::world::{World, compressed};

/// Bytes of text that are repeated.
const PIECE: usize = 16 << 20;

/// An archive with one table, whose rows are loaded by this statement.
fn loaded_by(copy: &str) -> Vec<u8> {
    let mut archive = SyntheticArchive::new(16, InnerCompression::None);
    let mut table = synthetic_entry(1, "TABLE", "t");
    table.definition = "CREATE TABLE public.t (id integer);\n".into();
    archive.entry(table);
    archive.table(2, "t", "id", &[b"1\n"]);
    let honest = archive.bytes();
    let (was, is) = (b"COPY public.t (id) FROM stdin;\n", format!("{copy}\n"));
    let at = honest.windows(was.len()).position(|window| window == was).unwrap();
    let length = |bytes: usize| [&[0][..], &u32::try_from(bytes).unwrap().to_le_bytes()].concat();
    [&honest[..at - 5], &length(is.len()), is.as_bytes(), &honest[at + was.len()..]].concat()
}

#[test]
fn a_copy_statement_with_more_than_names_in_it_is_refused_before_anything_is_made() {
    let server = PostgresServer::shared(17);
    let source = server.create_database("injected");
    source.psql("CREATE TABLE victim ()");
    let world = World::of(&source.url());
    let restore = |copy: &str| {
        std::fs::write(world.path("hostile.dump"), loaded_by(copy)).unwrap();
        world.run(&["restore", "hostile.dump", "--target-db", "injected_back", "--yes", "--no-owner"])
    };
    let there = || server.psql("postgres", "SELECT count(*) FROM pg_database WHERE datname = 'injected_back'");
    for hostile in [
        "COPY public.t (id) FROM PROGRAM 'touch /tmp/pgkeep-was-here';",
        "COPY public.t (id) FROM stdin; DROP TABLE victim;",
        "COPY public.t (id) FROM '/etc/passwd';",
        "COPY public.t (id /*\"*/) TO PROGRAM 'touch /tmp/pgkeep-was-here' /*\"*/) FROM stdin;",
        "COPY public.t (id; DROP TABLE victim; --) FROM stdin;",
    ] {
        let gave = restore(hostile);
        assert_ne!(gave.code, Some(0), "{hostile}\n{gave:?}");
        assert!(gave.stderr.contains("COPY … FROM stdin"), "{hostile}\n{gave:?}");
        assert_eq!(there().trim(), "0", "{hostile}");
    }
    assert!(!server.exec(&["test", "-e", "/tmp/pgkeep-was-here"]).status.success());
    source.psql("SELECT FROM victim");
    // The same archive with an honest statement is restored.
    let gave = restore("COPY public.t (id) FROM stdin;");
    assert_eq!(gave.code, Some(0), "{gave:?}");
    assert_eq!(server.psql("injected_back", "SELECT sum(id) FROM t").trim(), "1");
    server.psql("postgres", "DROP DATABASE injected_back");
}

#[test]
fn a_table_of_contents_larger_than_memory_is_refused_and_not_held() {
    let world = World::new();
    let text = vec![b' '; PIECE];
    let number = |value: usize| [&[0][..], &u32::try_from(value).unwrap().to_le_bytes()].concat();
    let mut entry: TocEntry = synthetic_entry(1, "TABLE", "t");
    entry.definition = "?".into();
    let mut archive = SyntheticArchive::new(16, InnerCompression::None);
    let toc = archive.entry(entry).toc_bytes();
    let at = toc.windows(6).position(|window| window == [0, 1, 0, 0, 0, b'?']).unwrap();
    // Texts of 256 MiB each, in a file of some kilobytes.
    let long = number(256 << 20);
    let mut pieces: Vec<(&[u8], usize)> = vec![(&toc[..at], 1)];
    for _ in 0..4 {
        pieces.push((&long, 1));
        pieces.push((&text, (256 << 20) / PIECE));
    }
    let bomb = compressed(pieces);
    assert!(bomb.len() < 1 << 20);
    std::fs::write(world.path("bomb.dump.zst"), bomb).unwrap();
    let gave = world.run_after("ulimit -v 1000000", &["export", "bomb.dump.zst", "--to", "out.dump"]);
    assert!(gave.code.is_some_and(|code| code > 0 && code < 128), "{gave:?}");
    assert!(gave.stderr.contains("of memory"), "{gave:?}");
    assert!(gave.peak_kib < 700 << 10, "{} KiB", gave.peak_kib);
    assert!(!world.path("out.dump").exists());

    // Two thousand million entries are promised, and none is there.
    let count = toc.len() - entry_bytes(&toc);
    let promised = [&toc[..count - 5], &number(i32::MAX as usize)].concat();
    std::fs::write(world.path("bomb.dump.zst"), compressed([(&promised[..], 1)])).unwrap();
    let gave = world.run_after("ulimit -v 1000000", &["export", "bomb.dump.zst", "--to", "out.dump"]);
    assert!(gave.code.is_some_and(|code| code > 0 && code < 128), "{gave:?}");
    assert!(gave.stderr.contains("ends inside its table of contents"), "{gave:?}");
    assert!(gave.peak_kib < 100 << 10, "{} KiB", gave.peak_kib);
}

/// Length of the only entry of a table of contents, which begins with its number, 1.
fn entry_bytes(toc: &[u8]) -> usize {
    let empty = SyntheticArchive::new(16, InnerCompression::None).toc_bytes();
    toc.len() - empty.len()
}

#[test]
fn a_row_of_half_a_gigabyte_out_of_a_file_of_kilobytes_goes_through_in_pieces() {
    let world = World::new();
    let mut archive = SyntheticArchive::new(16, InnerCompression::None);
    let honest = archive.table(1, "t", "id", &[b"?\n"]).bytes();
    let chunk = [0, 2, 0, 0, 0, b'?', b'\n'];
    let at = honest.windows(chunk.len()).position(|window| window == chunk).unwrap();
    let mut piece = [&[0][..], &u32::try_from(PIECE).unwrap().to_le_bytes()].concat();
    piece.resize(piece.len() + PIECE, b'x');
    let bomb = compressed([(&honest[..at], 1), (&piece, 32), (&honest[at..], 1)]);
    std::fs::create_dir(world.path("backups")).unwrap();
    std::fs::write(world.path("backups/daily_20251017_030001.dump.zst"), bomb).unwrap();
    let gave = world.run_after("ulimit -v 2000000", &["adopt", "backups/daily_20251017_030001.dump.zst"]);
    assert_eq!(gave.code, Some(0), "{gave:?}");
    assert!(gave.peak_kib < 200 << 10, "{} KiB", gave.peak_kib);
    let verified = world.run(&["verify", "--latest", "--deep"]);
    assert_eq!(verified.code, Some(0), "{verified:?}");
    assert!(verified.peak_kib < 200 << 10, "{} KiB", verified.peak_kib);
}
