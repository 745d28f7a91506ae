//! The graph as StableHLO text, which the compilers behind PJRT plugins take.
//!
//! Every primitive writes itself; see [`Primitive::stablehlo`](crate::op::Primitive::stablehlo). The generic form is used
//! throughout: one shape of line for every operation, understood by old and new parsers alike.

mod join;
mod module;
mod writer;

pub use join::{Joined, Part};
pub(crate) use module::body;
pub use module::{Layout, module};
pub(crate) use writer::{Region, strings};
pub use writer::{Value, Writer};

/// How exactly products and convolutions of `f32` are formed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Precision {
    /// Full `f32`.
    #[default]
    Highest,
    /// What the plugin takes by default: on NVIDIA operands rounded to 10 bits of mantissa (TF32), on TPUs to 7.
    Fast,
}
