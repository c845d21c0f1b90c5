//! Many backups, many tables, many large objects, wide rows, long streams: what grows, and what must not.
//!
//! `PGKEEP_TEST_SCALE=full` makes everything as large as docs/RELIABILITY.md says it was made once; without, the large things are
//! smaller, and nothing is left out.
#![expect(clippy::unwrap_used, reason = "a test that cannot go on fails")]

mod catalog;
mod metas;
#[expect(dead_code, reason = "the end-to-end tests need more of it")]
#[path = "../end_to_end/setup.rs"]
mod setup;
mod shapes;
mod stream;

/// How many of something: so many, and at full scale so many.
fn scaled<T>(usual: T, full: T) -> T {
    let full_scale = std::env::var("PGKEEP_TEST_SCALE").is_ok_and(|scale| scale == "full");
    if full_scale { full } else { usual }
}
