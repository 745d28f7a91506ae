//! Graph-to-graph passes. Each is bit-exact: nothing is reassociated, no x·0 becomes 0.

pub(crate) mod chain;
mod cse;
mod dce;
pub(crate) mod fuse;
mod hoist;
mod inline;
mod merge_scans;
pub mod plan;
pub(crate) mod recompute;
pub(crate) mod remake;
mod rewrite;
pub(crate) mod schedule;
mod simplify;

pub use cse::Cse;
pub use dce::Dce;
pub use hoist::Hoist;
pub use inline::Inline;
pub use merge_scans::MergeScans;
pub use simplify::Simplify;

use crate::{Graph, op::Composite};

/// A transformation of a graph that keeps every output bit for bit.
pub trait Pass: Send + Sync {
    /// Name by which `inspect --pass` finds it.
    fn name(&self) -> &'static str;

    /// The transformed graph. Bodies of scans are transformed too.
    fn run(&self, graph: &Graph) -> Graph;
}

/// The passes every backend runs before its own, in order. `keep` tells the composites the backend has kernels for.
pub fn pipeline(keep: fn(&Composite) -> bool) -> Vec<Box<dyn Pass>> {
    vec![
        Box::new(Inline { keep }),
        Box::new(Simplify),
        Box::new(Cse),
        Box::new(MergeScans),
        Box::new(Dce),
        Box::new(Hoist),
        Box::new(Simplify),
        Box::new(Cse),
        Box::new(Dce),
    ]
}

/// Runs passes in order; the observer sees the graph before and after each.
pub fn optimize(graph: &Graph, passes: &[Box<dyn Pass>], observer: &mut dyn FnMut(&dyn Pass, &Graph, &Graph)) -> Graph {
    passes.iter().fold(graph.clone(), |before, pass| {
        let after = pass.run(&before);
        observer(pass.as_ref(), &before, &after);
        after
    })
}
