//! Backups of archives made by hand, in memory: what is stored, what is refused, what is left behind.
#![expect(clippy::unwrap_used, reason = "helpers of tests end a test the same way")]
#![expect(clippy::case_sensitive_file_extension_comparisons, reason = "keys, not files")]

mod backup;
mod encryption;
mod fake;
mod reading;
mod thaw;
mod world;
