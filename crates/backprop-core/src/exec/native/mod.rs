//! The native executor: compiles a graph to kernels with a plan of every byte, and runs them on a team of threads.
//!
//! The graph is simplified (the passes every backend runs), lowered to a form in which renaming elements costs nothing, fused
//! into kernels, ordered, and placed in one arena. A run resolves addresses and starts the phases; it allocates nothing.

mod arena;
mod assemble;
mod attention;
mod code;
pub(crate) mod ir;
mod movement;
mod product;
mod profile;
mod program;
mod run;
mod sequence;
mod sparse;
#[cfg(test)]
mod tests;
mod tile;
mod unit;
mod view;
mod window;

pub(crate) use arena::in_large_pages;
pub use arena::{Workspace, return_freed_blocks};
pub use code::{KernelInfo, Phase};
pub use program::{NativeProgram, Planned};

use super::{Backend, Program, Signature};
use crate::{
    Error, Graph,
    attention::Attention,
    graph::Role,
    op::Composite,
    pass::{self, Inline, Pass, chain::Limits},
};
use assemble::Settings;
use backprop_kernels::{Isa, pool::Pool};
use std::sync::Arc;

/// Whether there are instructions or a kernel for a composite.
fn is_kept(composite: &Composite) -> bool {
    composite.region == crate::random::PHILOX || sequence::has_kernel(composite) || is_replaced(composite)
}

/// Whether the kernel of a composite gives other bits than its body.
fn is_replaced(composite: &Composite) -> bool {
    Attention::of(composite).is_some()
}

/// Which kernels run one after the other sample by sample.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Link {
    /// Those of which it pays.
    Paying,
    /// For tests: all that can, even if nothing is won.
    All,
    /// For tests: all that can because of values of `large` bytes and more, of all samples together, as long as they make at most `most`
    /// bytes of a sample: what [`Paying`](Link::Paying) does on values larger than tests can afford.
    Within {
        /// Bytes that linked kernels make of a sample, at most.
        most: usize,
        /// Bytes of a value of which linking counts.
        large: usize,
    },
}

/// How a graph is compiled. Every choice gives the same bits.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Options {
    /// Simplify the graph first.
    pub optimize: bool,
    /// Join nodes into common kernels and let results take over the memory of operands.
    pub fuse: bool,
    /// For tests: overwrite all working memory before a run, and every value as soon as it is dead.
    pub poison: bool,
    /// Which kernels run one after the other sample by sample.
    pub link: Link,
    /// For tests: let all threads take part in every phase, however short.
    pub share_all: bool,
    /// Measure how long each kernel takes: see [`Program::profile`].
    pub profile: bool,
}

impl Default for Options {
    fn default() -> Options {
        Options { optimize: true, fuse: true, poison: false, link: Link::Paying, share_all: false, profile: false }
    }
}

/// The native backend: a team of threads and an instruction set.
#[derive(Clone, Debug)]
pub struct Native {
    pool: Arc<Pool>,
    isa: Isa,
    options: Options,
}

impl Default for Native {
    /// As many threads as the process may use, the best instruction set of the processor.
    fn default() -> Native {
        let threads = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
        Native::new(threads, Isa::detect())
    }
}

impl Native {
    /// A team of `threads` (at least one) that runs kernels for an instruction set; where the processor lacks it, for the best it
    /// has. Results do not depend on the number of threads.
    pub fn new(threads: usize, isa: Isa) -> Native {
        let isa = if Isa::available().contains(&isa) { isa } else { Isa::detect() };
        Native { pool: Arc::new(Pool::new(threads)), isa, options: Options::default() }
    }

    /// The same backend with other options; the team is shared.
    pub fn with(&self, options: Options) -> Native {
        Native { options, ..self.clone() }
    }

    /// The same backend without any pass but the replacement of composites: one kernel per node.
    pub fn unfused(&self) -> Native {
        self.with(Options { optimize: false, fuse: false, ..self.options })
    }

    /// Number of threads, the calling one included.
    pub fn threads(&self) -> usize {
        self.pool.threads()
    }

    /// The instruction set kernels are made for.
    pub fn isa(&self) -> Isa {
        self.isa
    }

    /// Compiles a graph to a program that can be inspected.
    ///
    /// # Errors
    /// If the graph is not valid or uses something there is no kernel for.
    pub fn build(&self, graph: &Graph) -> Result<NativeProgram, Error> {
        crate::graph::verify(graph)?;
        let graph = if self.options.optimize {
            pass::optimize(graph, &pass::pipeline(is_kept), &mut |_, _, _| ())
        } else {
            Inline { keep: is_replaced }.run(graph)
        };
        let parts = if self.options.fuse { samples(&graph) } else { 1 };
        let limits = match self.options.link {
            Link::Paying => Limits::USUAL,
            Link::All => Limits::NONE,
            Link::Within { most, large } => Limits { most, large, far: large, ..Limits::NONE },
        };
        let settings = Settings { isa: self.isa, fuse: self.options.fuse, poison: self.options.poison, parts, limits };
        let mut code = assemble::assemble(&graph, settings)?;
        if !self.options.share_all {
            code.leave_short_phases();
        }
        if self.options.profile {
            code.measure();
        }
        Ok(NativeProgram::new(Signature::of(&graph), &graph, code, self.pool.clone(), self.options.poison))
    }
}

/// Samples of a batch: the leading extent of the largest data input.
fn samples(graph: &Graph) -> usize {
    let inputs = graph.inputs.iter().filter(|input| input.role == Role::Data);
    let types = inputs.map(|input| &graph.node(input.node).outputs[0]);
    let largest = types.max_by_key(|ty| ty.bytes());
    largest.and_then(|ty| ty.shape.first().copied()).unwrap_or(1)
}

impl Backend for Native {
    fn describe(&self) -> String {
        format!("cpu ({}, {} threads)", self.isa, self.threads())
    }

    fn compile(&self, graph: &Graph) -> Result<Box<dyn Program>, Error> {
        Ok(Box::new(self.build(graph)?))
    }
}
