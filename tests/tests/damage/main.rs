//! Damaged repositories: every stored object altered in every way that happens, and all commands run over what is left. Byte by byte,
//! in memory, the same is done by pgkeep-core's own suite (`damage`).

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod alteration;
mod bucket;
mod frames;
mod ground;
mod junk;
mod live;
mod matrix;
