//! Restores on real servers: a database comes back as it was, beside the live one, in its place, or in part; whatever
//! is cut off leaves the live database as it was, and the next run tidies up.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod bench;
mod blocked_ddl;
mod bucket;
mod in_place;
mod interrupted;
mod lanes;
mod memory;
mod programs;
mod relay;
mod round_trip;
mod selection;
mod swap;
