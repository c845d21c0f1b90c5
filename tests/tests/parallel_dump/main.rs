//! The parallel engine on real servers: what it writes is what `pg_dump` writes on the same snapshot.

mod identity;
mod locks;
mod others;
mod roles;
mod standby;
mod tools;
