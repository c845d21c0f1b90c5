//! Random histories of two hosts that share a bucket, held step by step against a plain list of what there must be.
//!
//! A history is told by its seed. `PGKEEP_MODEL_SEED=… cargo test -p pgkeep-core --test suite histories` runs that one again
//! and tells every step; `PGKEEP_MODEL_STEPS=1000000` runs more of them.

mod dice;
mod histories;
mod laws;
mod policy;
mod steps;
mod world;
