//! Several hosts, one bucket: what they do at the same time costs nobody a backup, and no reader sees half of one.

#![expect(clippy::unwrap_used, reason = "what a test relies on and does not get fails it")]

#[expect(dead_code, reason = "the crash tests need more of it")]
#[path = "../crash/eyes.rs"]
mod eyes;
mod found;
#[expect(dead_code, reason = "the crash tests need more of it")]
#[path = "../crash/gate.rs"]
mod gate;
mod host;
mod lease;
mod minute;
mod naive;
mod rounds;
#[expect(dead_code, reason = "the end-to-end tests need more of it")]
#[path = "../end_to_end/setup.rs"]
mod setup;
mod stopped;
