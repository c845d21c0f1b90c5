//! The programs in a user's set-up, for tests that say themselves which engine is used: those of `end_to_end` run once for
//! each.

#[expect(dead_code, reason = "the end-to-end tests need more of it")]
#[path = "../end_to_end/setup.rs"]
mod setup;

pub(crate) use setup::{Run, Setup};
