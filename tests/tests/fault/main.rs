//! The n-th statement of any session, and any client tool, goes wrong in every way there is: what a backup, a restore, a
//! drill or a check makes of it, and what it leaves behind.

#![expect(clippy::unwrap_used, reason = "what a test relies on and does not get fails it")]

mod backup;
mod ground;
mod look;
mod relay;
mod restore;
#[expect(dead_code, reason = "the end-to-end tests need more of it")]
#[path = "../end_to_end/setup.rs"]
mod setup;
mod table;
mod tools;
