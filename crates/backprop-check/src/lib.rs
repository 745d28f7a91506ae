//! Test tools of the backprop training engine.
//!
//! * [`GradientCheck`]: compares a function's derivatives with central differences of the oracle.
//! * [`sample`]: values and surroundings for the samples that every primitive brings along.
//! * [`random_graph`]: valid graphs over all primitives, for properties that passes and backends must keep.
//! * [`check_plan`]: replays a program's phases with its own account of memory.
//! * [`compare`]: distances in units in the last place, and messages that say where two tensors differ.

pub mod compare;
mod difference;
mod execute;
mod gradient;
mod plan;
mod plugin;
mod random;
mod random_graph;
pub mod sample;

pub use difference::central_difference;
pub use execute::execute;
pub use gradient::{CheckError, GradientCheck, GradientReport, Order};
pub use plan::{PlanReport, check_plan};
pub use plugin::{PLUGIN, plugin, plugin_on, report_skipped};
pub use random::Random;
pub use random_graph::{GraphOptions, graph_count, random_graph, random_graphs, random_inputs, special_inputs};
