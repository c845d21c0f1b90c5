//! A backup's meta while it is being made.

use chrono::{DateTime, Utc};
use pgkeep_dump::{Dump, ServerFacts};

use crate::backup::BackupOptions;
use crate::inventory::{self, human_bytes};
use crate::make::Archive;
use crate::meta::FORMAT_VERSION;
use crate::{
    BackupId, DatabaseMeta, EncryptionMeta, FingerprintKey, FrameIndex, Keeper, LargeObjectsMeta, Meta, PlainDigest,
    StoredDigest,
};

/// What stands in every meta in place of a URL that has a password in it.
pub(crate) const REDACTED: &str = "***REDACTED***";

/// What encrypted objects' names end with.
const ENCRYPTED_EXTENSION: &str = ".age";

/// The names of a backup and its objects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Name {
    pub(crate) id: BackupId,
    /// The archive's file name.
    pub(crate) file: String,
    /// The globals object's file name.
    pub(crate) globals: String,
    pub(crate) begun: DateTime<Utc>,
}

impl Name {
    pub(crate) fn new(options: &BackupOptions, begun: DateTime<Utc>, attempt: u32) -> Self {
        let id = BackupId::new(options.class, begun, attempt);
        let encrypted = if options.encryption.is_some() { ENCRYPTED_EXTENSION } else { "" };
        let extension = format!("{}{encrypted}", options.codec.extension());
        Self { file: format!("{id}.dump{extension}"), globals: format!("{id}.globals.sql{extension}"), id, begun }
    }
}

/// What is known of a backup before it is dumped.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Draft<'d> {
    pub(crate) keeper: &'d Keeper,
    pub(crate) engine: &'d dyn Dump,
    pub(crate) options: &'d BackupOptions,
    pub(crate) facts: &'d ServerFacts,
    /// The source's name.
    pub(crate) source: &'d str,
}

impl Draft<'_> {
    /// The meta with everything that only the dump can tell left empty.
    pub(crate) fn meta(&self, name: &Name) -> Meta {
        let Self { keeper, engine, options, facts, source } = self;
        Meta {
            backup_file: name.file.clone(),
            backup_type: options.class,
            timestamp: BackupId::stamp(options.class, name.begun),
            date: name.begun,
            hostname: keeper.host.clone(),
            database_url: REDACTED.to_owned(),
            size: human_bytes(0),
            duration_seconds: 0,
            compression: options.codec.label(),
            pg_dump_version: String::new(),
            format_version: FORMAT_VERSION,
            id: name.id.clone(),
            source: (*source).to_owned(),
            tool_version: keeper.tool_version.clone(),
            engine: engine.name().to_owned(),
            snapshot_time: facts.server_time,
            wal_position: facts.wal_position.clone(),
            database: DatabaseMeta {
                name: facts.identity.database.clone(),
                system_identifier: facts.identity.system_identifier.clone(),
                server: facts.identity.server.clone(),
                server_version_num: facts.version_num,
                server_version: facts.version.clone(),
                size_bytes: facts.size_bytes,
                encoding: facts.encoding.clone(),
                locale_provider: facts.locale_provider.clone(),
                collate: facts.collate.clone(),
                ctype: facts.ctype.clone(),
                locale: facts.locale.clone(),
                icu_rules: facts.icu_rules.clone(),
                owner: facts.owner.clone(),
                tablespace: facts.tablespace.clone(),
                comment: facts.comment.clone(),
                connection_limit: facts.connection_limit,
                lc_monetary: facts.lc_monetary.clone(),
            },
            selection: options.selection.arguments.clone(),
            lowest_pg_restore: 0,
            stored: StoredDigest { bytes: 0, sha256: String::new() },
            plain: PlainDigest { bytes: 0, blake3: String::new() },
            globals: None,
            encryption: options.encryption.as_ref().map(EncryptionMeta::of),
            archive_encoding: facts.encoding.clone(),
            fingerprint_key: FingerprintKey([0; 32]),
            schema_sha256: String::new(),
            toc_entries: 0,
            toc_bytes: 0,
            entries: Vec::new(),
            large_objects: LargeObjectsMeta::default(),
            sequences: Vec::new(),
            frames: FrameIndex::default(),
            extensions: facts.extensions.clone(),
            warnings: Vec::new(),
        }
    }

    /// The meta of a backup whose archive is written. Its duration and warnings are set when it is published.
    pub(crate) fn finish(&self, name: &Name, archive: &Archive) -> Meta {
        let Archive { toc, engine, sequenced, key, outcome, globals } = archive;
        let draft = self.meta(name);
        Meta {
            size: human_bytes(sequenced.stored.bytes),
            engine: (*engine).to_owned(),
            pg_dump_version: outcome.pg_dump_version.clone(),
            snapshot_time: outcome.snapshot_time,
            lowest_pg_restore: toc.lowest_pg_restore(),
            stored: sequenced.stored.clone(),
            plain: sequenced.plain.clone(),
            globals: globals.as_ref().map(|globals| globals.meta.clone()),
            archive_encoding: toc.encoding().unwrap_or(draft.archive_encoding),
            fingerprint_key: *key,
            schema_sha256: inventory::schema_sha256(toc),
            toc_entries: toc.entries.len() as u64,
            toc_bytes: toc.raw.len() as u64,
            entries: inventory::entries(toc, &sequenced.placed),
            large_objects: inventory::large_objects(toc, &sequenced.placed, sequenced.large_objects),
            sequences: inventory::sequences(toc),
            frames: sequenced.frames.clone(),
            ..draft
        }
    }
}
