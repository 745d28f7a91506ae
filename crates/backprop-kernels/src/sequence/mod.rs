//! Recurrent layers: all time steps of a sequence in one kernel, forward and backward, of one direction or two side by side.
//!
//! The recurrent weights are packed once. A time step is a stage: the product of the state with them in blocks of hidden units, the
//! columns of a unit's gates together, so that the product's epilogue has all it needs to make the unit's new state, or its
//! gradients. Sums are formed as those of any product, but never in parts.

mod backward;
mod cell;
mod forward;
mod lanes;
mod source;
mod step;

use crate::{
    Isa,
    gemm::{
        Epilogue,
        driver::{Driver, Mode, Side},
        finish::{Logical, Output},
        micro::Micro,
        plan::{Block, Extents},
        source::{Matrix, Runs, Source, Strided},
    },
};
pub use backward::SequenceGradient;
pub use forward::Sequence;
use std::sync::Arc;

/// Hidden units whose gates stand together in the columns of a product.
const GROUP: usize = 16;

/// Elements in 4 KiB.
const ALIASED: usize = 1024;

/// The function of one time step.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum SequenceCell {
    /// h' = tanh(x + U·h).
    Tanh,
    /// h' = max(x + U·h, 0).
    Relu,
    /// Gates reset, update, new; h' = (1 − z)·tanh(xₙ + r·(Uₙ·h + bₙ)) + z·h.
    Gru,
    /// Gates input, forget, cell, output; c' = f·c + i·tanh(g), h' = o·tanh(c').
    Lstm,
}

impl SequenceCell {
    /// Rows of the recurrent weights for each hidden unit.
    pub fn gates(self) -> usize {
        match self {
            SequenceCell::Tanh | SequenceCell::Relu => 1,
            SequenceCell::Gru => 3,
            SequenceCell::Lstm => 4,
        }
    }

    /// Carried values: the hidden state, and an LSTM's cell state.
    pub fn states(self) -> usize {
        if self == SequenceCell::Lstm { 2 } else { 1 }
    }

    /// Whether the cotangents of the recurrent sums are not those of the input's.
    pub fn is_apart(self) -> bool {
        self == SequenceCell::Gru
    }

    /// Whether the backward pass needs a unit's gates and one value more besides the states (of a GRU Uₙ·h + bₙ, of an LSTM tanh(c')),
    /// and the hidden state of a GRU and the cell state of an LSTM before each step.
    pub fn saves(self) -> bool {
        matches!(self, SequenceCell::Gru | SequenceCell::Lstm)
    }
}

/// Distances in elements of a stacked operand `[length, batch, …]` whose last dimension is dense.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Stacked {
    /// From a time step to the next.
    pub time: isize,
    /// From a row of the batch to the next.
    pub row: isize,
}

/// A recurrent layer's sequence.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SequenceSpec {
    /// The function of a time step.
    pub cell: SequenceCell,
    /// Time steps; at least one.
    pub length: usize,
    /// Rows of the batch.
    pub batch: usize,
    /// Hidden units.
    pub hidden: usize,
    /// Whether a GRU has recurrent biases.
    pub bias: bool,
    /// Whether a mask `[length, batch]` says which steps change the states.
    pub keep: bool,
    /// How each direction's stacked input (its cotangents, in the backward pass) lies. The second direction goes from the last time step
    /// to the first.
    pub directions: Vec<Stacked>,
}

impl SequenceSpec {
    /// Rows of the weights.
    fn rows(&self) -> usize {
        self.cell.gates() * self.hidden
    }

    /// Distance in elements of the rows of gates that are saved, and of their gradients. Rows a multiple of 4 KiB apart would share so few
    /// sets of the caches that they evict each other.
    pub fn gates_row(&self) -> usize {
        self.rows() + if self.rows().is_multiple_of(ALIASED) { GROUP } else { 0 }
    }

    /// Elements of a state.
    fn state(&self) -> usize {
        self.batch * self.hidden
    }

    /// The time that a direction deals with in a round of the forward pass.
    fn time(&self, direction: usize, round: usize) -> usize {
        if direction == 1 { self.length - 1 - round } else { round }
    }

    /// Extents of a round's product `[batch, terms]` × `[terms, cols]`.
    fn extents(&self, cols: usize, terms: usize) -> Extents {
        Extents { batch: 1, m: self.batch, n: cols, k: terms, runs: self.length, splits: Some(1) }
    }

    /// Plans a round's product in such blocks; rows of its left operand are so far apart.
    fn product(&self, x: Extents, row: usize, block: Block, b: Side, epilogue: Arc<dyn Epilogue>, isa: Isa) -> Driver {
        let a = Matrix { offset: 0, batch: Strided::default(), row: row as isize, runs: Runs::One(1), isa };
        let a = Side { source: Box::new(a), operand: 0, mode: Mode::Direct };
        // Where results go is the epilogue's business.
        let out = Output {
            offset: 0,
            batch: Strided::default(),
            row: Strided::default(),
            col: Strided::default(),
            logical: Logical::default(),
        };
        Driver::cut(x, Micro::of(isa), block, [a, b], out, Some(epilogue))
    }
}

/// The right operand of a product.
fn side(source: impl Source + 'static, mode: Mode) -> Side {
    Side { source: Box::new(source), operand: 1, mode }
}

/// A pointer into an operand of `f32`, so many elements from its start.
fn at(operand: *mut u8, elements: isize) -> *mut f32 {
    operand.cast::<f32>().wrapping_offset(elements)
}
