//! Multilane: benches.
