//! A backup from inside a tokio service, with progress and cancellation: `embed postgresql://… /var/backups/shop [JOBS]`.
#![expect(clippy::print_stdout, reason = "an example's only way to speak")]

use std::{collections::BTreeMap, env, sync::Arc};

use pgkeep_compress::Compression;
use pgkeep_core::{BackupClass, BackupOptions, Keeper, Layout};
use pgkeep_dump::{ClientTools, ConnectSettings, DumpOptions, ParallelEngine};
use pgkeep_metrics::{Event, Observer};
use pgkeep_storage::DiskStorage;

#[derive(Debug)]
struct Log;

impl Observer for Log {
    fn notice(&self, event: &Event) {
        println!("{event:?}");
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let (url, folder) = env::args().nth(1).zip(env::args().nth(2)).ok_or("usage: embed URL FOLDER [JOBS]")?;
    let settings = ConnectSettings::parse(&url, &BTreeMap::new(), None)?;
    let path: Vec<_> = env::split_paths(&env::var_os("PATH").unwrap_or_default()).collect();
    let tools = ClientTools::discover(&path).await?;
    let jobs = env::args().nth(3).map_or(Ok(4), |jobs| jobs.parse())?;
    let options = BackupOptions { jobs, ..BackupOptions::new(BackupClass::Daily, Compression::default().codec()) };
    let engine = ParallelEngine::new(settings, tools, DumpOptions::default(), options.jobs);
    let local = Arc::new(DiskStorage::open(folder)?);
    let keeper = Keeper { observer: Arc::new(Log), ..Keeper::of(local, Layout::Flat, "shop-service") };

    let cancel = keeper.cancel.clone();
    tokio::spawn(async move { tokio::signal::ctrl_c().await.map(|()| cancel.cancel()) });

    let report = keeper.backup(&engine, &options).await?;
    println!("{}: {} in {:?}", report.meta.id, report.meta.size, report.elapsed);
    Ok(())
}
