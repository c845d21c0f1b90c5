//! A backup from inside a tokio service, with progress and cancellation: `embed postgresql://… /var/backups/shop`.
#![expect(clippy::print_stdout, reason = "an example's only way to speak")]

use std::{collections::BTreeMap, env, sync::Arc};

use pgkeep_compress::Compression;
use pgkeep_core::{BackupClass, BackupOptions, Keeper, Layout};
use pgkeep_dump::{ClientTools, ConnectSettings, DumpOptions, PgDumpEngine};
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
    let (url, folder) = env::args().nth(1).zip(env::args().nth(2)).ok_or("usage: embed URL FOLDER")?;
    let settings = ConnectSettings::parse(&url, &BTreeMap::new(), None)?;
    let engine = PgDumpEngine::new(settings, ClientTools::discover(&[]).await?, DumpOptions::default());
    let local = Arc::new(DiskStorage::open(folder)?);
    let keeper = Keeper { observer: Arc::new(Log), ..Keeper::of(local, Layout::Flat, "shop-service") };

    let cancel = keeper.cancel.clone();
    tokio::spawn(async move { tokio::signal::ctrl_c().await.map(|()| cancel.cancel()) });

    let options = BackupOptions::new(BackupClass::Daily, Compression::default().codec());
    let report = keeper.backup(&engine, &options).await?;
    println!("{}: {} in {:?}", report.meta.id, report.meta.size, report.elapsed);
    Ok(())
}
