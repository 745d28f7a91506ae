//! A training engine for neural networks: layers, losses, optimizers, training, checkpoints

pub mod init;
pub mod loss;
pub mod metrics;
pub mod nn;
pub mod optim;
pub mod prelude;
pub mod schedule;
pub mod step;

pub use backprop_core as core;
pub use backprop_core::{Error, Graph};
