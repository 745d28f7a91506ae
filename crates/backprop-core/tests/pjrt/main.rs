//! Programs compiled by a PJRT plugin against the oracle and the native executor. The plugin is the one that
//! `BACKPROP_PJRT_PLUGIN` names; without it every test says that it was skipped.

mod bits;
#[path = "../native/common.rs"]
#[allow(dead_code)]
mod common;
mod extremes;
mod graphs;
mod samples;
mod state;
