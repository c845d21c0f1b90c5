//! Everything that reads bytes from outside, as functions of bytes: a [`Target`] panics if what it promises does not hold.
//!
//! Promises are more than that nothing panics: what is accepted comes back the same when it is written again, memory is what the
//! input pays for, nothing behind the end is taken, and no name becomes SQL.
//!
//! - [`short`] replays the corpus and then mutates it, the same way every time: what CI runs, on a stable compiler.
//! - `fuzz/libfuzzer` runs the same functions under libFuzzer, guided by coverage, on a nightly one.
//! - `fuzz/corpus/<target>` has the seeds, and what once failed.

mod mutations;
mod random;
mod short;
mod sql;
mod targets;

pub use short::{Failure, Report, short};

/// One parser, or several that read the same bytes.
#[derive(Debug, Clone, Copy)]
pub struct Target {
    /// Its name, and its corpus's folder.
    pub name: &'static str,
    /// What the bytes are.
    pub reads: &'static str,
    /// Who may have written them.
    pub from: &'static str,
    /// What is done with them; it panics if a promise is broken.
    pub run: fn(&[u8]),
    /// Words of its format, for mutations.
    pub words: &'static [&'static [u8]],
    /// The longest input that mutations make, in bytes.
    pub longest: usize,
    /// How many mutations a short run makes.
    pub mutations: u64,
}

impl Target {
    /// All of them.
    pub const ALL: &'static [Self] = targets::ALL;

    /// The one of this name.
    pub fn named(name: &str) -> Option<&'static Self> {
        Self::ALL.iter().find(|target| target.name == name)
    }
}
