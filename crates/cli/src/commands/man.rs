//! `pgkeep man`: the same text as `--help`.

use clap::CommandFactory;
use clap_mangen::Man;

use super::Done;
use crate::args::{ManArgs, Pgkeep, programs};
use crate::failure::{Failure, Result};

pub(super) fn run(args: &ManArgs) -> Result<Done> {
    let failed = |error: std::io::Error| Failure::io("write the man pages", &error);
    let Some(folder) = &args.folder else {
        let mut page = Vec::new();
        Man::new(Pgkeep::command()).render(&mut page).map_err(failed)?;
        return Ok(Done::raw(String::from_utf8_lossy(&page)));
    };
    std::fs::create_dir_all(folder).map_err(failed)?;
    for program in programs() {
        clap_mangen::generate_to(program, folder).map_err(failed)?;
    }
    Ok(Done::raw(format!("the man pages are in {}\n", folder.display())))
}
