//! Benches of pgkeep: micro benches in `benches/`, the comparison with other tools in `src/bin/compare`.
