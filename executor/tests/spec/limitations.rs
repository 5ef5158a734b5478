//! Tests that revm 43 and alloy-evm 0.39 do not pass, each with its cause.
//!
//! The runner demands of each of them that it fails, and that the oracle alone fails in the same
//! words: the cause is then below this crate. A limitation that is lifted shows as a failure here.

/// A part of the names of the tests that fail, and why they do.
#[derive(Debug)]
pub(crate) struct Limitation {
    pub(crate) name_part: &'static str,
    pub(crate) cause: &'static str,
}

const LIMITATIONS: &[Limitation] = &[];

/// The limitation that a test is known to run into.
pub(crate) fn limitation_of(name: &str) -> Option<&'static Limitation> {
    LIMITATIONS.iter().find(|limitation| name.contains(limitation.name_part))
}
