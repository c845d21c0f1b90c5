//! `pgkeep export`: a backup, or tables of it, as a plain archive for stock tools.

use std::path::Path;

use pgkeep_core::{ExportOptions, ExportReport};
use serde_json::json;
use tokio::io::AsyncWriteExt;

use super::pick::Chosen;
use super::{Context, Done, thaw};
use crate::args::{ExportArgs, OutputFormat};
use crate::failure::{Failure, Result};
use crate::hint::Code;
use crate::render::{count, size};
use crate::wire::Access;

pub(super) async fn run(context: &Context, args: &ExportArgs) -> Result<Done> {
    let to_stdout = args.to.as_os_str() == "-";
    if to_stdout && (context.surroundings.stdout_is_terminal || context.globals.output == OutputFormat::Json) {
        let message = "an archive is binary: it goes to a file or a pipe, without --output json";
        return Err(Failure::new(Code::Usage, message).hint("pass --to FILE"));
    }
    let chosen = context.choose(args.backup.as_deref(), None, None, Access::Read).await?;
    let chosen = chosen.with_keys(context).await?;
    thaw::ensure_readable(context, &chosen.keeper, &chosen.source()?, None).await?;
    let options =
        ExportOptions { tables: (!args.table.is_empty()).then(|| args.table.clone()), jobs: context.settings.jobs };
    let report = if to_stdout {
        to_pipe(&chosen, &options).await?
    } else {
        to_file(&chosen, &options, &context.surroundings.directory.join(&args.to)).await?
    };
    context.reporter.info(format!(
        "Exported {}: data of {}, {}",
        chosen.source()?.key,
        count(report.tables, "table"),
        size(report.plain_bytes)
    ));
    if to_stdout {
        return Ok(Done::raw(""));
    }
    let text = format!("{}\n", args.to.display());
    Ok(Done::new(text, "export", json!(report)).with("file", json!(args.to)))
}

async fn to_pipe(chosen: &Chosen, options: &ExportOptions) -> Result<ExportReport> {
    let mut stdout = tokio::io::stdout();
    Ok(chosen.keeper.export(&chosen.source()?, options, &mut stdout).await?)
}

/// The file appears under its name when it is whole.
async fn to_file(chosen: &Chosen, options: &ExportOptions, path: &Path) -> Result<ExportReport> {
    let failed = |error: std::io::Error| Failure::io(format_args!("write {}", path.display()), &error);
    let folder = path.parent().unwrap_or(Path::new("/"));
    let partial = tempfile::NamedTempFile::new_in(folder).map_err(failed)?;
    let mut file = tokio::fs::File::from_std(partial.reopen().map_err(failed)?);
    let report = chosen.keeper.export(&chosen.source()?, options, &mut file).await?;
    file.flush().await.map_err(failed)?;
    file.sync_all().await.map_err(failed)?;
    partial.persist(path).map_err(|error| failed(error.error))?;
    Ok(report)
}
