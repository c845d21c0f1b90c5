//! A short run: the corpus, then mutations of it.

use std::fs;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};

use crate::Target;
use crate::mutations::mutated;
use crate::random::Random;

/// What a run did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Report {
    /// Inputs of the corpus.
    pub seeds: usize,
    /// Inputs made of them.
    pub mutations: u64,
}

/// An input that broke a promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// The seed's file, or where the input was written.
    pub input: PathBuf,
}

/// The folder of a target's seeds.
fn corpus(target: &Target) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target.name)
}

/// The corpus in order, by its files' names.
fn seeds(target: &Target) -> io::Result<Vec<(PathBuf, Vec<u8>)>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(corpus(target))?.flatten().map(|entry| entry.path()).collect();
    paths.sort();
    paths.into_iter().map(|path| Ok((path.clone(), fs::read(path)?))).collect()
}

/// Replays the corpus of a target and then runs so many mutations of it; `before` hears every input before it is run, for
/// who must know which one ended the process. The same seed makes the same inputs.
///
/// What fails is written into `failures`.
pub fn short(
    target: &Target,
    mutations: u64,
    seed: u64,
    failures: &Path,
    mut before: impl FnMut(&[u8]),
) -> io::Result<Result<Report, Failure>> {
    let seeds = seeds(target)?;
    let mut run = |input: &[u8]| {
        before(input);
        catch_unwind(AssertUnwindSafe(|| (target.run)(input))).is_ok()
    };
    for (path, input) in &seeds {
        if !run(input) {
            return Ok(Err(Failure { input: path.clone() }));
        }
    }
    let inputs: Vec<Vec<u8>> = seeds.into_iter().map(|(_, input)| input).collect();
    let mut random = Random::new(seed);
    for number in 0..mutations {
        let input = mutated(&mut random, &inputs, target.words, target.longest);
        if !run(&input) {
            fs::create_dir_all(failures)?;
            let path = failures.join(format!("{}-{seed}-{number}", target.name));
            fs::write(&path, &input)?;
            return Ok(Err(Failure { input: path }));
        }
    }
    Ok(Ok(Report { seeds: inputs.len(), mutations }))
}
