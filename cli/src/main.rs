//! The `duka` command line.

/// Runs the command line.
fn main() {}
