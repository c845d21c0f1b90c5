//! Who hears of runs, and what they are told: channels from settings, what is remembered between runs, and what happens
//! before and after each.
//!
//! - `channels`: notifiers, sinks of metrics and pings, as set.
//! - `record`: what survives a run, kept beside the backups.
//! - `standing`: how things stand, and what a run measured, from the catalog.
//! - `story`: a notice's words, without row data.
//! - `aftermath`: all of it around a command. Nothing in it can fail one (law 8).

mod aftermath;
mod channels;
mod record;
mod standing;
mod story;

pub(crate) use aftermath::{Aftermath, Measured, Pings};
pub(crate) use channels::{Channels, DEFAULT_NAMESPACE, MailRoute, mail_route, mail_route_words, namespace, topic};
pub(crate) use record::Record;
pub(crate) use story::without_row_data;
