//! The store's promises, kept by every implementation that needs no server.

mod disk;
mod fan_out;
mod memory;
