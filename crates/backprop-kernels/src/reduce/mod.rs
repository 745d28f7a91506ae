//! Reductions: sums and extremes over any dimensions of a tile program's result, and the position of an extreme.
//!
//! The order of the additions is a pure function of the shape and of which dimensions are reduced. Adjacent dimensions of one
//! kind count as one, so the input is [outer, reduced, inner]; the innermost reduced run goes first, further ones follow on its
//! results. A run without inner elements is summed in chunks of 16,384, each by element `j` joining virtual lane `j mod W` (W =
//! 1, 16 or 64 by length) and the lanes halving in a tree; a run with inner elements is summed row after row in chunks of rows.
//! The chunks' results are reduced the same way again.

mod arg;
mod fold;
mod level;
mod plan;

pub use arg::{ArgReduce, ArgReduction};
pub(crate) use fold::Loops;
pub(crate) use plan::same_type_loops;
pub use plan::{Reduce, Reduction};

#[cfg(test)]
mod tests;
