//! What happened, told to whoever listens.
//!
//! An [`Observer`] hears every [`Event`] of a run as it happens: it cannot fail and must not block. A [`Notifier`]
//! carries a [`Notice`] to people; its failures are warnings, never a failed backup.

mod event;
mod notice;

pub use event::{Discard, Event, Observer, Stage};
pub use notice::{Error, Notice, Notifier, Severity};
