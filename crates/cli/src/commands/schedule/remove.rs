//! `pgkeep schedule remove`: exactly the block, exactly the units.

use std::fmt::Write as _;

use serde_json::json;

use super::install::{of_user, texts};
use super::{Context, Done, Installed, block, name};
use crate::args::ScheduleRemoveArgs;
use crate::failure::Result;

pub(super) async fn run(context: &Context, args: &ScheduleRemoveArgs) -> Result<Done> {
    let name = name(context, &args.place)?;
    let name = name.as_deref();
    let installed = Installed::find(context, &args.place, name).await?;
    if installed.is_nothing() {
        return Ok(Done::new("nothing of it is scheduled\n", "removed", json!([])));
    }
    let verb = if args.dry_run { "would remove" } else { "removed" };
    let mut text = String::new();
    let mut removed = Vec::new();
    if let Some((crontab, before)) = &installed.crontab
        && let Some(after) = block::without(before, name)?
    {
        if !args.dry_run {
            crontab.write(&after).await?;
        }
        text.push_str(installed.block.as_deref().unwrap_or_default());
        let _ = writeln!(text, "\n{verb} this block from the crontab{}", of_user(args.place.user.as_deref()));
        removed.push(json!({"scheduler": "cron", "text": installed.block}));
    }
    if !installed.units.is_empty() {
        if !args.dry_run {
            installed.systemd.remove_if_any(&installed.units).await?;
        }
        if args.dry_run {
            text.push_str(&texts(&installed.units));
        }
        let files: Vec<_> = installed.units.iter().map(|unit| unit.file.as_str()).collect();
        let _ = writeln!(text, "{verb} {} from {}", files.join(", "), installed.systemd.folder.display());
        removed.push(json!({"scheduler": "systemd", "units": files}));
    }
    Ok(Done::new(text, "removed", json!(removed)).with("dry_run", json!(args.dry_run)))
}
