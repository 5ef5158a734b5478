//! Multilane: executor.
