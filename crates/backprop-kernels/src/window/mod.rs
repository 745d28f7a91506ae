//! Windows: reductions over them (pooling), and the derivatives of their maximum.
//!
//! Fast where the innermost dimensions have windows of one element (channels last): loops over window positions outside, vectors
//! over channels inside.

mod choose;
mod geometry;
mod reduce;
mod select;

pub(crate) use choose::{Channels, Windows, each_channel};
pub use geometry::WindowSpec;
pub use reduce::ReduceWindow;
pub use select::{SelectAndGather, SelectAndScatter};

#[cfg(test)]
mod tests;
