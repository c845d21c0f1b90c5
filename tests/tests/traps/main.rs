//! PostgreSQL's traps by their numbers: those that no other suite shows. docs/RELIABILITY.md, "PostgreSQL's traps", has all of them.

#![expect(clippy::unwrap_used, reason = "what a test relies on and does not get fails it")]

mod against_source;
mod archives;
#[expect(dead_code, reason = "the tests of restores need more of it")]
#[path = "../restore/bench.rs"]
mod bench;
mod dumping;
mod ground;
mod restoring;
mod roles;
#[expect(dead_code, reason = "the end-to-end tests need more of it")]
#[path = "../end_to_end/setup.rs"]
mod setup;
#[expect(dead_code, reason = "the tests of the parallel engine need more of it")]
#[path = "../parallel_dump/tools.rs"]
mod tools;
