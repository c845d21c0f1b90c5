//! How fast the pipeline is by itself: a synthetic dump into a folder, and a deep verification of it.
//!
//! `cargo run --release --example throughput -- FOLDER [MEGABYTES] [JOBS] [COMPRESSION] [ROW_BYTES]`
#![expect(clippy::print_stdout, reason = "it reports")]

use std::env;
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use pgkeep_archive::{Block, BlockWriter, Decoder, Event, InnerCompression, SyntheticArchive};
use pgkeep_compress::Compression;
use pgkeep_core::{BackupClass, BackupOptions, Catalog, Keeper, Layout, VerifyDepth};
use pgkeep_dump::{Dump, DumpOutcome, DumpStream, PrivateFacts, Result, ServerFacts, SourceIdentity, StreamSegment};
use pgkeep_storage::DiskStorage;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

/// Yields rows of one table, made beforehand and repeated.
#[derive(Debug)]
struct Rows {
    text: Bytes,
    repeats: usize,
}

impl Rows {
    fn new(megabytes: usize, row_bytes: usize) -> Self {
        let words = [
            "booking",
            "confirmed",
            "customer",
            "2025-10-17 03:00:01.123456+00",
            "{\"kind\": \"message\", \"read\": true}",
            "pending",
        ];
        let (mut text, mut seed) = (Vec::new(), 1_u64);
        let mut id = 0_u64;
        while text.len() < 16 << 20 {
            let begin = text.len();
            id += 1;
            text.extend_from_slice(id.to_string().as_bytes());
            while text.len() - begin < row_bytes.saturating_sub(10) {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                text.push(b'\t');
                match (seed >> 33) % 4 {
                    0 => text.extend_from_slice(format!("{:x}", seed >> 20).as_bytes()),
                    _ => text.extend_from_slice(words[(seed >> 40) as usize % words.len()].as_bytes()),
                }
            }
            text.push(b'\n');
        }
        Self { repeats: (megabytes << 20) / text.len(), text: text.into() }
    }
}

#[async_trait]
impl Dump for Rows {
    fn name(&self) -> &'static str {
        "synthetic"
    }
    async fn facts(&self) -> Result<ServerFacts> {
        Ok(ServerFacts {
            identity: SourceIdentity { system_identifier: None, database: "synthetic".into(), server: "none:0".into() },
            version_num: 170_000,
            version: "17.0".into(),
            size_bytes: (self.text.len() * self.repeats) as u64,
            encoding: "UTF8".into(),
            locale_provider: "libc".into(),
            collate: "C".into(),
            ctype: "C".into(),
            locale: None,
            icu_rules: None,
            owner: "nobody".into(),
            tablespace: "pg_default".into(),
            comment: None,
            connection_limit: -1,
            standby: false,
            lc_monetary: "C".into(),
            extensions: Vec::new(),
            wal_position: None,
            server_time: chrono::Utc::now(),
            private: PrivateFacts::default(),
            warnings: Vec::new(),
        })
    }
    async fn start(&self, _cancel: CancellationToken) -> Result<DumpStream> {
        let mut archive = SyntheticArchive::new(16, InnerCompression::None);
        archive.table(1, "rows", "a", &[]);
        let mut decoder = Decoder::new();
        decoder.push(&archive.toc_bytes());
        let Some(Event::Toc(toc)) = decoder.next_event()? else { unreachable!("a TOC was pushed") };
        let (segment, segments) = mpsc::channel(1);
        let (text, repeats, own) = (self.text.clone(), self.repeats, Arc::clone(&toc));
        let outcome = tokio::task::spawn_blocking(move || {
            let (sender, blocks) = mpsc::channel::<Result<Block>>(2);
            let _ = segment.blocking_send(StreamSegment { blocks });
            let mut writer = BlockWriter::new(4 << 20);
            writer.toc(&own)?;
            writer.start(1)?;
            for _ in 0..repeats {
                for piece in text.chunks(1 << 20) {
                    writer.data_slice(piece)?;
                    while let Some(block) = writer.take() {
                        let _ = sender.blocking_send(Ok(block));
                    }
                }
            }
            writer.finish_entry()?;
            writer.finish()?;
            while let Some(block) = writer.take() {
                let _ = sender.blocking_send(Ok(block));
            }
            Ok(DumpOutcome { pg_dump_version: "none".into(), snapshot_time: chrono::Utc::now(), warnings: Vec::new() })
        });
        let (_, notes) = mpsc::unbounded_channel();
        Ok(DumpStream { toc, engine: self.name(), segments, notes, outcome })
    }
    async fn globals(&self, _cancel: CancellationToken) -> Result<Bytes> {
        Ok(Bytes::from_static(b"-- none\n"))
    }
}

#[tokio::main]
async fn main() -> std::result::Result<(), Box<dyn std::error::Error>> {
    let mut arguments = env::args().skip(1);
    let folder = arguments.next().ok_or("usage: throughput FOLDER [MEGABYTES] [JOBS] [COMPRESSION] [ROW_BYTES]")?;
    let mut next = |default: &str| arguments.next().unwrap_or_else(|| default.to_owned());
    let (megabytes, jobs, compression, row_bytes) = (next("1024"), next("2"), next("zstd:3"), next("200"));

    let engine = Rows::new(megabytes.parse()?, row_bytes.parse()?);
    let keeper = Keeper::of(Arc::new(DiskStorage::open(folder)?), Layout::Flat, "throughput");
    let codec = compression.parse::<Compression>()?.codec();
    let options = BackupOptions { jobs: jobs.parse()?, ..BackupOptions::new(BackupClass::Daily, codec) };
    let (used, began) = (cpu_seconds(), Instant::now());
    let report = keeper.backup(&engine, &options).await?;
    tell("backup", report.meta.plain.bytes, used, began);
    println!(
        "{} bytes stored, {} frames, {} rows",
        report.meta.stored.bytes,
        report.meta.frames.len(),
        report.meta.entries[0].rows
    );

    let catalog = Catalog::load(&keeper).await?;
    let (used, began) = (cpu_seconds(), Instant::now());
    let reports = keeper.verify(&catalog.entries[0], VerifyDepth::Deep).await?;
    tell("verify", report.meta.plain.bytes, used, began);
    println!("{} findings", reports[0].findings.len());
    Ok(())
}

fn tell(what: &str, plain_bytes: u64, used_before: f64, began: Instant) {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    println!("{}", status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default());
    let (wall, used) = (began.elapsed().as_secs_f64(), cpu_seconds() - used_before);
    let megabytes = plain_bytes as f64 / 1e6;
    println!(
        "{what}: {wall:.2} s, {used:.2} s of CPU; {:.0} MB/s, {:.0} MB/s per core",
        megabytes / wall,
        megabytes / used
    );
}

/// Time that this process has spent on CPUs, user and system (Linux).
fn cpu_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let ticks = |field: usize| fields.get(field).and_then(|ticks| ticks.parse::<f64>().ok()).unwrap_or_default();
    (ticks(11) + ticks(12)) / 100.0
}
