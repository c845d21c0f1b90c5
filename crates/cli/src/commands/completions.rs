//! `pgkeep completions`.

use clap::CommandFactory;

use super::Done;
use crate::args::{CompletionsArgs, Pgkeep};

pub(super) fn run(args: &CompletionsArgs) -> Done {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Pgkeep::command(), "pgkeep", &mut script);
    Done::raw(String::from_utf8_lossy(&script))
}
