//! Damage, byte by byte: a small repository in memory, every byte of every object of it altered in turn. What the real programs
//! do with damaged repositories on real stores is in tests/tests/damage.

mod archive;
mod fields;
mod records;
mod repository;
