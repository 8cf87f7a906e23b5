//! The command `aggregator`.

fn main() {}
