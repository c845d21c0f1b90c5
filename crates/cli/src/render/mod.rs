//! What people and programs get to see.

pub(crate) mod json;
mod markup;
pub(crate) mod sizes;
pub(crate) mod tables;

pub(crate) use markup::escape;
pub(crate) use sizes::{age, ago, count, elapsed, short_size, size};
