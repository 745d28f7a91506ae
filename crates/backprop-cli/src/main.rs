//! The `backprop` program.

fn main() {}
