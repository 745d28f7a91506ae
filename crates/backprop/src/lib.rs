//! A training engine for neural networks: layers, losses, optimizers, training, checkpoints

pub mod accelerator;
pub mod bench;
pub mod checkpoint;
pub mod compare;
pub mod compile_cache;
pub mod config;
pub mod events;
mod files;
pub mod init;
pub mod loss;
pub mod metrics;
pub mod model;
pub mod nn;
pub mod optim;
pub mod plot;
pub mod prelude;
pub mod propose;
pub mod run;
pub mod schedule;
pub mod step;
pub mod train;

pub use backprop_core as core;
pub use backprop_core::{Error, Graph};
pub use backprop_data as data;
pub use backprop_data::machine;
pub use files::FileError;

/// Runs the snippets of the README and of the guide as documentation tests.
#[cfg(doctest)]
#[doc = include_str!("../../../README.md")]
#[doc = include_str!("../../../docs/guide.md")]
struct Readme;
