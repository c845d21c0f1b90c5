//! Each call that a command makes to a store fails once, in every way that a store can fail; then the laws must hold, and the
//! next run must do well.

mod commands;
mod ground;
mod laws;
mod matrix;
