//! Training steps: forward pass, loss, backward pass and update traced into one graph.

mod accumulate;
mod groups;
mod parameter_group;
mod standard;
mod trace;

#[cfg(test)]
mod tests;

pub use groups::{Group, Groups};
pub use parameter_group::{ParameterGroup, Patterns};
pub(crate) use standard::GROUPS;
pub use standard::{BatchSpec, Step, TracedStep, Unit};
pub use trace::{StepTrace, TracedGraph, Update, initial_state, trace_step};

use backprop_core::{Builder, DType, Type, graph::Role, random::Randomness};

/// Name of the data input with the runtime numbers, `f32[n]`.
pub const HYPER: &str = "hyper";
/// Name of the data input with the run's seed, `u32[2]`, low word first.
pub const SEED: &str = "seed";
/// Name of the data input with the step (from 0), `u32[]`.
pub const STEP: &str = "step";
/// Name of the data output that is 1 if the update was made and 0 if everything was left as it was.
pub const FINITE: &str = "finite";
/// Name of the state tensor, `bool[]`, of steps that [run ahead](StepTrace::run_ahead): true as long as every step was made.
pub const CLEAR: &str = "clear";
/// What the name of the state tensor starts with that holds the moving average of a parameter or statistic; its name follows.
pub const EMA: &str = "ema/";

/// Adds the inputs random numbers come from: [`SEED`] and [`STEP`].
pub fn random_inputs(b: &Builder) -> Randomness<'_> {
    let seed = b.input(SEED, Role::Data, Type::new(DType::U32, [2]));
    let step = b.input(STEP, Role::Data, Type::scalar(DType::U32));
    Randomness { seed, step, offset: b.scalar(DType::U32, 0.0), rows: None }
}
