//! Who brings backups back.

use crate::backups::{DIRECTORY, FILE, GZIP, MANY_JOBS};
use crate::measure::{Contender, Needs, Stored};
use crate::plan::Plan;
use crate::site::Site;

/// Restores out of folders, which the backups to disk have left; ours first.
pub(crate) fn from_disk(plan: &Plan, site: &Site) -> Vec<Contender> {
    let pg_restore = format!("{} -d '{}'", site.tool("pg_restore"), site.url("target"));
    let jobs = plan.jobs;
    let stock = |name: String, command: String| Contender {
        name,
        command,
        needs: Needs::Target,
        stored: Stored::Nothing,
        document: None,
    };
    vec![
        ours(site, "pgkeep restore (analysed and proven)".to_owned(), plan.jobs, &site.on_disk()),
        Contender {
            document: None,
            ..ours(site, format!("pgkeep restore --jobs {MANY_JOBS}"), MANY_JOBS, &site.on_disk())
        },
        stock("gunzip | pg_restore".to_owned(), format!("gunzip -c {} | {pg_restore}", GZIP.path(site))),
        stock(format!("pg_restore -j{jobs}, of the file"), format!("{pg_restore} -j{jobs} {}", FILE.path(site))),
        stock(
            format!("pg_restore -j{jobs}, of the directory"),
            format!("{pg_restore} -j{jobs} {}", DIRECTORY.path(site)),
        ),
    ]
}

/// Restores out of the bucket; there is no stock way without a download.
pub(crate) fn from_bucket(plan: &Plan, site: &Site) -> Vec<Contender> {
    vec![ours(site, "pgkeep restore (analysed and proven)".to_owned(), plan.jobs, &site.in_bucket())]
}

fn ours(site: &Site, name: String, jobs: usize, settings: &str) -> Contender {
    let document = site.path("restore.json");
    Contender {
        name,
        command: format!(
            "{} restore --latest --target-db target --replace-target --yes --skip-snapshot --jobs {jobs} --no-progress \
             --output json > {}",
            site.pgkeep(settings),
            document.display()
        ),
        needs: Needs::Target,
        stored: Stored::Nothing,
        document: Some(document),
    }
}
