//! End-to-end tests of pgkeep against real servers; they are in `tests/`.
