//! The formats' own tools take what we write, and we take what they write. Needs gzip, zstd and lz4 on the path.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::process::{Command, Stdio};

use pgkeep_compress::Compression;

const TOOLS: [(&str, &[&str]); 3] =
    [("gzip", &["gzip:1", "gzip:6", "gzip:9"]), ("zstd", &["zstd:1", "zstd:3", "zstd:19"]), ("lz4", &["lz4"])];

fn blocks() -> Vec<Vec<u8>> {
    let row = |number: usize| format!("{number}\tname of {number}\t{}\n", number * 7919 % 10_007).into_bytes();
    vec![(0..90_000).flat_map(row).collect(), b"a small block\n".to_vec(), (0..200).flat_map(row).collect()]
}

/// What a tool makes of its input.
fn run(tool: &str, arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new(tool)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{tool} must be installed for this test: {error}"));
    let mut stdin = child.stdin.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || stdin.write_all(input).unwrap());
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{tool} {arguments:?}: {}", output.status);
        output.stdout
    })
}

#[test]
fn the_tools_test_and_read_our_frames() {
    for (tool, settings) in TOOLS {
        for setting in settings {
            let codec = setting.parse::<Compression>().unwrap().codec();
            let mut stored = Vec::new();
            for block in blocks() {
                codec.encode(&block, &mut stored).unwrap();
            }
            let file = tempfile::Builder::new().suffix(codec.extension()).tempfile().unwrap();
            std::fs::write(file.path(), &stored).unwrap();
            run(tool, &["-t", "-q", file.path().to_str().unwrap()], b"");
            assert!(run(tool, &["-dc"], &stored) == blocks().concat(), "{setting}");
        }
    }
}

#[test]
fn we_read_the_tools_streams() {
    let options: [(&str, &[&[&str]]); 3] = [
        ("gzip", &[&["-1c"], &["-9c"]]),
        ("zstd", &[&["-1c"], &["-c", "--no-check"], &["-c", "--long=27", "-T2"]]),
        (
            "lz4",
            &[&["-1c"], &["-9c"], &["-c", "-B4", "-BD"], &["-c", "-BX", "--content-size"], &["-c", "--no-frame-crc"]],
        ),
    ];
    for (tool, options) in options {
        let codec = tool.parse::<Compression>().unwrap().codec();
        for options in options {
            let whole = blocks().concat();
            let stored = [run(tool, options, &whole), run(tool, options, b"more")].concat();
            let mut plain = Vec::new();
            codec.reader(Box::new(stored.as_slice())).unwrap().read_to_end(&mut plain).unwrap();
            assert!(plain == [&whole, &b"more"[..]].concat(), "{tool} {options:?}");

            let mut block = Vec::new();
            codec.decode(&run(tool, options, &whole), &mut block, whole.len()).unwrap();
            assert!(block == whole, "{tool} {options:?}");
        }
    }
}
