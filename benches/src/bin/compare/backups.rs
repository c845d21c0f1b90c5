//! Who makes backups: pgkeep, and what people use without it.

use crate::measure::{Contender, Needs, Stored};
use crate::plan::Plan;
use crate::site::{BUCKET, Site};

/// One of the stock ways, and the folder and file it writes below the site's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stock {
    name: &'static str,
    folder: &'static str,
    file: &'static str,
    /// Written to a file by itself, else to stdout and on to gzip.
    piped: bool,
    /// Between program and database; `{jobs}` is replaced.
    options: &'static str,
}

/// What the procedures' scripts do.
pub(crate) const GZIP: Stock =
    Stock { name: "pg_dump -Fc | gzip -9", folder: "gzip9", file: "app.dump.gz", piped: true, options: "-Fc" };
/// One file, the fastest level.
pub(crate) const FILE: Stock =
    Stock { name: "pg_dump -Fc -Z zstd:1", folder: "file1", file: "app.dump", piped: false, options: "-Fc -Z zstd:1" };
/// A directory, the fastest level.
pub(crate) const DIRECTORY: Stock = Stock {
    name: "pg_dump -Fd -j{jobs} -Z zstd:1",
    folder: "directory1",
    file: "app.dump",
    piped: false,
    options: "-Fd -j{jobs} -Z zstd:1",
};
const STOCK: [Stock; 5] = [
    GZIP,
    FILE,
    Stock { name: "pg_dump -Fc -Z zstd:3", folder: "file3", options: "-Fc -Z zstd:3", ..FILE },
    DIRECTORY,
    Stock {
        name: "pg_dump -Fd -j{jobs} -Z zstd:3",
        folder: "directory3",
        options: "-Fd -j{jobs} -Z zstd:3",
        ..DIRECTORY
    },
];

impl Stock {
    /// For tables.
    fn name(self, plan: &Plan) -> String {
        self.name.replace("{jobs}", &plan.jobs.to_string())
    }

    /// Where it writes.
    pub(crate) fn path(self, site: &Site) -> String {
        site.path(self.folder).join(self.file).display().to_string()
    }

    fn command(self, plan: &Plan, site: &Site) -> String {
        let dump = format!("{} {} -d '{}'", site.tool("pg_dump"), self.options, site.url("app"));
        let dump = dump.replace("{jobs}", &plan.jobs.to_string());
        let path = self.path(site);
        if self.piped { format!("{dump} | gzip -9 > {path}") } else { format!("{dump} -f {path}") }
    }
}

/// Jobs of ours whose peak of memory is told, however many cores there are: the figure that is promised.
pub(crate) const MANY_JOBS: usize = 4;

/// Backups to a folder; ours first.
pub(crate) fn to_disk(plan: &Plan, site: &Site) -> Vec<Contender> {
    let ours = |name: String, engine: &str, jobs: usize, folder: &str| Contender {
        name,
        command: ours(site, engine, jobs, &format!("BACKUP_DIR={}", site.path(folder).display())),
        needs: Needs::Folder(site.path(folder)),
        stored: Stored::Folder(site.path(folder)),
        document: None,
    };
    let mut contenders = vec![
        ours(our_name(plan), &plan.engine, plan.jobs, Site::KEEP),
        // For its memory.
        ours(format!("pgkeep backup --jobs {MANY_JOBS}"), &plan.engine, MANY_JOBS, "keep-many-jobs"),
        ours("pgkeep backup --engine pg_dump".to_owned(), "pg_dump", plan.jobs, "keep-pg_dump"),
    ];
    contenders.extend(STOCK.map(|stock| Contender {
        name: stock.name(plan),
        command: stock.command(plan, site),
        needs: Needs::Folder(site.path(stock.folder)),
        stored: Stored::Folder(site.path(stock.folder)),
        document: None,
    }));
    contenders
}

/// Backups to the bucket; ours first, and without a detour.
pub(crate) fn to_bucket(plan: &Plan, site: &Site) -> Vec<Contender> {
    let mut contenders = vec![ours_to_bucket(plan, site)];
    contenders.extend(STOCK.map(|stock| {
        let folder = site.path(stock.folder);
        let upload = format!(
            "{} s3 cp --recursive --only-show-errors {} s3://{BUCKET}/{}",
            site.aws(),
            folder.display(),
            stock.folder
        );
        Contender {
            name: format!("{}, then aws s3 cp", stock.name(plan)),
            command: format!("{} && {upload}", stock.command(plan, site)),
            needs: Needs::Bucket(folder.clone()),
            stored: Stored::Folder(folder),
            document: None,
        }
    }));
    contenders
}

/// Our backup straight into the bucket.
pub(crate) fn ours_to_bucket(plan: &Plan, site: &Site) -> Contender {
    Contender {
        name: our_name(plan),
        command: ours(site, &plan.engine, plan.jobs, &site.in_bucket()),
        needs: Needs::Bucket(site.path("nothing")),
        stored: Stored::Bucket,
        document: None,
    }
}

fn our_name(plan: &Plan) -> String {
    format!("pgkeep backup --engine {}", plan.engine)
}

fn ours(site: &Site, engine: &str, jobs: usize, settings: &str) -> String {
    format!("{} backup --daily --engine {engine} --jobs {jobs} --no-progress --quiet", site.pgkeep(settings))
}
