//! Test tools of the backprop training engine.
//!
//! * [`GradientCheck`]: compares a function's derivatives with central differences of the oracle.
//! * [`sample`]: values and surroundings for the samples that every primitive brings along.
//! * [`random_graph`]: valid graphs over all primitives, for properties that passes and backends must keep.
//! * [`compare`]: distances in units in the last place, and messages that say where two tensors differ.

pub mod compare;
mod difference;
mod gradient;
mod random;
mod random_graph;
pub mod sample;

pub use difference::central_difference;
pub use gradient::{CheckError, GradientCheck, GradientReport, Order};
pub use random::Random;
pub use random_graph::{GraphOptions, random_graph, random_inputs, special_inputs};
