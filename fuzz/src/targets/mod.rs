//! The targets, by who may have written their bytes.

mod archives;
mod frames;
mod objects;
mod repository;
mod server;
mod settings;
mod tools;

use crate::Target;

/// Longest inputs: small ones are mutated faster, and nothing reads a long one otherwise.
const SMALL: usize = 1 << 10;
const MIDDLE: usize = 8 << 10;
const LARGE: usize = 64 << 10;

const JSON: &[&[u8]] = &[
    b"null",
    b"true",
    b"[]",
    b"{}",
    b"\"\"",
    b"-1",
    b"1e308",
    b"\"+262142-12-31T23:59:59Z\"",
    b"\"-262143-01-01T00:00:00Z\"",
    b"\"\\u0000\"",
    b"18446744073709551615",
    b"\"format_version\":1",
    b"[[[[[[[[",
    b"\"frames\":{\"stored\":[1],\"plain\":[1]}",
];
const TOC: &[&[u8]] = &[
    b"PGDMP",
    b"COPY public.t (a) FROM stdin;\n",
    b"TABLE DATA",
    b"BLOBS",
    b"BLOB METADATA",
    b"SEQUENCE SET",
    b"TABLE ATTACH",
    b"\x01\x00\x00\x00\x00",
    b"\x00\xff\xff\xff\x7f",
    b"\x01\x01\x00\x00\x00",
    b"\\.\n\n\n",
    b"FROM PROGRAM 'id'",
    b"/*",
    b"--",
    b"\"",
];
const LIBPQ: &[&[u8]] = &[
    b"postgresql://",
    b"postgres://",
    b"host=",
    b"port=",
    b"password=",
    b"sslmode=verify-full",
    b"sslmode=",
    b"options=",
    b"%00",
    b"%",
    b"@",
    b":",
    b"[::1]",
    b",",
    b"?",
    b"&",
    b"'",
    b"\\",
    b"hostaddr=",
    b"service=x",
    b"target_session_attrs=",
];
const MAGIC: &[&[u8]] = &[b"\x1f\x8b\x08", b"\x28\xb5\x2f\xfd", b"\x04\x22\x4d\x18", b"\x50\x2a\x4d\x18"];
const SQL: &[&[u8]] = &[
    b";",
    b"'",
    b"\"",
    b"--",
    b"/*",
    b"*/",
    b"$$",
    b"E'",
    b"\\",
    b"CREATE ROLE a;",
    b"ALTER ROLE a ",
    b"GRANT a TO b",
    b"PASSWORD ",
    b"\n",
    b"-- pgkeep-facts: {\"database_settings\":[]}",
    b"COMMENT ON ROLE a IS ",
    b"GRANTED BY ",
];
const WIRE: &[&[u8]] = &[
    b"R\0\0\0\x08\0\0\0\0",
    b"R\0\0\0\x08\0\0\0\x03",
    b"R\0\0\0\x0c\0\0\0\x05salt",
    b"R\0\0\0\x17\0\0\0\x0aSCRAM-SHA-256\0\0",
    b"Z\0\0\0\x05I",
    b"C\0\0\0\x0bSELECT\0",
    b"H\0\0\0\x07\0\0\0",
    b"d\0\0\0\x06a\n",
    b"d\x7f\xff\xff\xff",
    b"c\0\0\0\x04",
    b"N\0\0\0\x0fSWARNING\0\0\0",
    b"E\0\0\0\x0dC57014\0\0\0",
    b"S\0\0\0\x0ea\0b\0\0\0\0\0",
    b"D\0\0\0\x0b\0\x01\0\0\0\x01x",
    b"T\0\0\0\x06\0\0",
    b"G\0\0\0\x07\0\0\0",
    b"i=4294967295",
    b"i=4096",
];
const SETTINGS: &[&[u8]] = &[
    b"BACKUP_STORE=s3://",
    b"BACKUP_STORE=gs://b/p",
    b"BACKUP_STORE=az://",
    b"BACKUP_STORE=file:///",
    b"AWS_S3_BACKUP_BUCKET=",
    b"AWS_ENDPOINT_URL=http://",
    b"BACKUP_SCHEDULE=",
    b"BACKUP_TIMEOUT=",
    b"BACKUP_RETENTION_DAILY_DAYS=",
    b"BACKUP_JOBS=",
    b"BACKUP_SSE=",
    b"DATABASE_URL=postgresql://",
    b"BACKUP_COMPRESSION=zstd:",
    b"[[database]]\n",
    b"[[destination]]\n",
    b"name = \"a\"\n",
    b"[hooks]\n",
    b"\"\"\"",
    b"'",
    b"${",
    b"$",
    b"#",
    b"\n",
    b"=",
    b"1h30m",
    b"forever",
    b"../",
];
const CRON: &[&[u8]] = &[
    b"*",
    b"*/",
    b"-",
    b",",
    b"@daily",
    b"@reboot",
    b"L",
    b"#",
    b"MON",
    b"JAN",
    b"?",
    b"0 3 * * *",
    b"29 2",
    b"31 2 *",
    b"7",
    b"60",
    b"~",
];
const TOOL: &[&[u8]] = &[
    b"pg_dump: error: ",
    b"pg_dump: warning: ",
    b"pg_dump: detail: ",
    b"pg_dump: hint: ",
    b"pg_restore: error: could not execute query: ERROR:  ",
    b"Command was: ",
    b"DETAIL:  ",
    b"CONTEXT:  ",
    b"\n",
    b"pg_restore: from TOC entry 1; 2 3 TABLE a b c\n",
    b"pg_restore: warning: errors ignored on restore: ",
    b"pg_restore: while PROCESSING TOC:\n",
    b"\r",
    b"\xff",
];

const STORE: &str = "who may write to the store";
const SERVER: &str = "the server, or who is between it and us";
const CHILD: &str = "client tools, in a server's words";
const USER: &str = "the user, or who may write a file of theirs";

macro_rules! target {
    ($name:literal, $reads:literal, $from:expr, $run:expr, $words:expr, $longest:expr, $mutations:literal) => {
        Target {
            name: $name,
            reads: $reads,
            from: $from,
            run: $run,
            words: $words,
            longest: $longest,
            mutations: $mutations,
        }
    };
}

pub(crate) const ALL: &[Target] = &[
    target!("archive", "an archive, written anew", STORE, archives::archive, TOC, LARGE, 20_000),
    target!("archive_split", "an archive, in any pieces", STORE, archives::split, TOC, LARGE, 3_000),
    target!("toc", "a table of contents, and the SQL made of it", STORE, archives::toc, TOC, LARGE, 20_000),
    target!(
        "copy_text",
        "rows of COPY text",
        STORE,
        archives::copy_text,
        &[b"\\N", b"\t", b"\n", b"\\.", b"\\\\"],
        MIDDLE,
        20_000
    ),
    target!("frame", "a frame of each codec", STORE, frames::frame, MAGIC, MIDDLE, 20_000),
    target!("stream", "a compressed stream of anybody's", STORE, frames::stream, MAGIC, MIDDLE, 10_000),
    target!("meta", "a meta", STORE, objects::meta, JSON, LARGE, 15_000),
    target!(
        "objects",
        "proofs, `source.json`, locks, marks, notes, monitoring",
        STORE,
        objects::small,
        JSON,
        MIDDLE,
        50_000
    ),
    target!(
        "names",
        "keys, locations, names of backups",
        STORE,
        objects::names,
        &[b"..", b"/", b"\\", b"\0", b"daily_", b"\xc2\x80", b".meta", b"s3://"],
        SMALL,
        100_000
    ),
    target!(
        "age",
        "encrypted objects, files of keys",
        STORE,
        objects::age,
        &[b"age-encryption.org/v1\n", b"-> X25519 ", b"-> scrypt ", b"---", b"AGE-SECRET-KEY-1", b"age1"],
        MIDDLE,
        8_000
    ),
    target!("globals", "globals, and the SQL made of them", STORE, objects::globals, SQL, MIDDLE, 30_000),
    target!("repository", "a whole repository", STORE, repository::repository, JSON, LARGE, 400),
    target!("server", "messages of the wire protocol", SERVER, server::session, WIRE, MIDDLE, 5_000),
    target!(
        "large_objects",
        "pages of large objects, binary",
        SERVER,
        server::large_objects,
        &[b"\xff\xff", b"\x00\x03\x00\x00\x00\x04", b"PGCOPY\n\xff\r\n\0"],
        MIDDLE,
        5_000
    ),
    target!(
        "certificate",
        "a certificate",
        SERVER,
        server::certificate,
        &[b"\x30\x82", b"\x06\x03\x55\x1d\x11", b"\x02\x01", b"\x17\x0d", b"\x30\x80"],
        MIDDLE,
        50_000
    ),
    target!("stderr", "messages of pg_dump and pg_restore", CHILD, tools::stderr, TOOL, MIDDLE, 20_000),
    target!("connection", "connection strings and URLs", USER, settings::connection, LIBPQ, SMALL, 15_000),
    target!(
        "pgpass",
        "a password file",
        USER,
        settings::pgpass,
        &[b":", b"\\", b"*", b"#", b"\n", b"localhost:5432:"],
        SMALL,
        50_000
    ),
    target!(
        "service",
        "a service file",
        USER,
        settings::service,
        &[b"[x]\n", b"host=", b"[", b"]", b"#", b"ldap://", b"service=", b"\n"],
        SMALL,
        20_000
    ),
    target!("cron", "cron expressions", USER, settings::cron, CRON, 100, 1_500),
    target!(
        "settings",
        "settings, URLs of stores, durations, retention",
        USER,
        settings::settings,
        SETTINGS,
        SMALL,
        3_000
    ),
    target!("files", "env-files and config files", USER, settings::files, SETTINGS, MIDDLE, 8_000),
    target!(
        "dump_options",
        "`PGDUMP_OPTIONS`, and patterns of names",
        USER,
        settings::dump_options,
        &[b"--table=", b"-t", b"--", b"--exclude-table-data=", b"'", b"\"", b"--format=", b"-Z", b"--filter="],
        SMALL,
        40_000
    ),
];
