//! Test tools of the backprop training engine.
//!
//! * [`GradientCheck`]: compares a function's derivatives with central differences of the oracle.
//! * [`sample`]: values and surroundings for the samples that every primitive brings along.
//! * [`compare`]: distances in units in the last place, and messages that say where two tensors differ.

pub mod compare;
mod difference;
mod gradient;
mod random;
pub mod sample;

pub use difference::central_difference;
pub use gradient::{CheckError, GradientCheck, GradientReport, Order};
pub use random::Random;
