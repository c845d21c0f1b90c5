//! The steps that make a backup and look at what was stored.

use pgkeep_core::{BackupClass, Catalog, CatalogEntry, Pick, VerifyDepth, VerifyReport};

use super::steps::{Passed, Steps};
use super::{Aside, Drill, Found};
use crate::args::BackupArgs;
use crate::commands::backup;
use crate::commands::pick::{Backup, Chosen};
use crate::failure::{Failure, Result};
use crate::hint::Code;
use crate::render::{count, elapsed, short_size, size};
use crate::settings::LOCAL;
use crate::wire::Access;

impl Drill<'_> {
    /// `backup_creation`: a daily backup like any other, only that nothing old is removed after it.
    pub(super) async fn creation(&self, steps: &mut Steps<'_>, found: &mut Found) -> Result<Option<Chosen>> {
        steps.run("backup_creation", Box::pin(self.create(found))).await
    }

    async fn create(&self, found: &mut Found) -> Result<Passed<Chosen>> {
        let (context, args) = (self.context, BackupArgs::default());
        let dump = backup::what(context, &args)?;
        let mut options = backup::options(context, &args, BackupClass::Daily, &dump).await?;
        options.policy = None;
        let connection = context.connect_settings()?;
        let mut keeper = context.keeper(Access::Write).await?;
        keeper.observer = std::sync::Arc::new(Aside(std::sync::Arc::clone(&context.reporter)));
        let engine = context.engine(connection, dump.selection, options.jobs).await?;
        let report = keeper.backup(engine.as_ref(), &options).await?;
        found.making = Some((report.elapsed, report.meta.plain.bytes));
        found.backup = Some(report.meta.id.to_string());
        let catalog = Catalog::load(&keeper).await?;
        let entry = catalog.pick(&Pick::Name(report.meta.id.to_string()))?.clone();
        let meta = &report.meta;
        let mut details = vec![format!(
            "{}: database of {}, {} stored in {}",
            meta.id,
            size(meta.database.size_bytes),
            short_size(meta.stored.bytes),
            elapsed(report.elapsed)
        )];
        details.extend(report.warnings);
        let chosen = Chosen { keeper, backup: Backup::Catalogued(entry) }.with_keys(context).await?;
        Ok((chosen, details))
    }

    /// `backup_compression`, `backup_integrity` and `s3_upload`.
    pub(super) async fn look_at_backup(&self, steps: &mut Steps<'_>, made: Option<&Chosen>) -> Result<()> {
        let Some((made, entry)) = made.and_then(|made| Some((made, made.entry()?))) else {
            for name in ["backup_compression", "backup_integrity", "s3_upload"] {
                steps.skip(name, "no backup was made");
            }
            return Ok(());
        };
        steps.run("backup_compression", Box::pin(self.decompress(made, entry))).await?;
        steps.run("backup_integrity", Box::pin(self.verify(made, entry, LOCAL))).await?;
        if self.context.settings.remote.is_some() {
            steps.run("s3_upload", Box::pin(self.uploaded(made, entry))).await?;
        } else {
            steps.skip("s3_upload", "no bucket is set: backups are kept in BACKUP_DIR only");
        }
        Ok(())
    }

    /// Every frame is decompressed again.
    async fn decompress(&self, made: &Chosen, entry: &CatalogEntry) -> Result<Passed<()>> {
        let meta = &entry.meta;
        let read = async {
            let mut archive = made.source()?.open(self.context.settings.jobs).await?;
            let mut plain = 0_u64;
            while let Some(piece) = archive.next().await? {
                plain += piece.len() as u64;
            }
            Ok::<_, Failure>(plain)
        };
        let plain = tokio::select! {
            plain = read => plain?,
            () = self.context.cancel.cancelled() => return Err(Failure::new(Code::Interrupted, "interrupted")),
        };
        if plain != meta.plain.bytes {
            let message = format!("it decompresses to {plain} bytes instead of {}", meta.plain.bytes);
            return Err(Failure::new(Code::Damaged, message));
        }
        let ratio = plain as f64 / meta.stored.bytes.max(1) as f64;
        let detail = format!("{}: {} to {}, ratio {ratio:.1}", meta.compression, size(plain), size(meta.stored.bytes));
        Ok(((), vec![detail]))
    }

    /// The copy at `place`, else the only one, read to its end and recounted.
    async fn verify(&self, made: &Chosen, entry: &CatalogEntry, place: &str) -> Result<Passed<()>> {
        let mut one = entry.clone();
        if one.copies.iter().any(|copy| copy.name == place) {
            one.copies.retain(|copy| copy.name == place);
        }
        let reports = made.keeper.verify(&one, VerifyDepth::Deep).await?;
        Ok(((), judged(&reports)?))
    }

    /// The bucket's copy, every stored byte read back.
    async fn uploaded(&self, made: &Chosen, entry: &CatalogEntry) -> Result<Passed<()>> {
        let mut remote = entry.clone();
        remote.copies.retain(|copy| copy.name != LOCAL);
        let Some(copy) = remote.copies.first() else {
            return Err(Failure::new(Code::DestinationFailed, format!("{} is not in the bucket", entry.meta.id)));
        };
        let object = format!("{}/{}", made.keeper.destinations[copy.destination].storage.location(), copy.key);
        let reports = made.keeper.verify(&remote, VerifyDepth::Stored).await?;
        let mut details = vec![object];
        details.extend(judged(&reports)?);
        Ok(((), details))
    }

    /// The monthly test's backup, every byte of the copy that will be restored read.
    pub(super) async fn choose_and_verify(&self) -> Result<Passed<Chosen>> {
        let mut details = Vec::new();
        let chosen = self.choose(&mut details).await?;
        let Some(entry) = chosen.entry() else {
            details.push("it has no meta: its restore shows what it is worth".to_owned());
            return Ok((chosen, details));
        };
        details.push(format!("{} of {}", entry.meta.id, entry.meta.snapshot_time.format("%Y-%m-%d %H:%M UTC")));
        let place = chosen.source()?.place;
        let mut one = entry.clone();
        one.copies.retain(|copy| copy.name == place);
        let reports = chosen.keeper.verify(&one, VerifyDepth::Stored).await?;
        details.extend(judged(&reports)?);
        Ok((chosen, details))
    }
}

/// What verifications found, unless it is damage.
fn judged(reports: &[VerifyReport]) -> Result<Vec<String>> {
    let findings = reports.iter().flat_map(|report| {
        report
            .findings
            .iter()
            .map(move |finding| format!("{}: {} ({})", finding.subject, finding.problem, report.destination))
    });
    let findings: Vec<_> = findings.collect();
    if !findings.is_empty() {
        return Err(Failure::new(Code::Damaged, findings.join("; ")));
    }
    if let Some(report) = reports.iter().find(|report| report.archived) {
        let message = format!("the copy at {} lies in an archive tier: nothing of it was read", report.destination);
        return Err(Failure::new(Code::Archived, message)
            .hint("--thaw, or another BACKUP_STORAGE_CLASS for this class of backup"));
    }
    let told = |report: &VerifyReport| match report.depth {
        VerifyDepth::Deep => format!(
            "{}: {} and {} recounted, all as when it was made",
            report.destination,
            count(report.tables, "table"),
            count(report.rows, "row")
        ),
        _ => format!("{}: {} read back, digest equal", report.destination, size(report.stored_bytes)),
    };
    Ok(reports.iter().map(told).collect())
}
