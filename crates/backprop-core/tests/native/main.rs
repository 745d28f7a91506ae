//! The native executor against the oracle, and against itself under every option.

mod bits;
mod common;
mod memory;
mod samples;
mod sequences;
mod sparse;
mod state;
mod steps;
