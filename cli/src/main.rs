//! The command line of Multilane.
fn main() {}
