//! What people and programs get to see.

pub(crate) mod json;
mod markup;
pub(crate) mod sizes;
pub(crate) mod tables;
mod visible;

pub(crate) use markup::escape;
pub(crate) use sizes::{age, ago, count, elapsed, short_size, size};
pub(crate) use visible::visible;
