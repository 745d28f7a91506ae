//! What a hidden unit makes of its sums, and its gradients.
//!
//! Every operation and its order are those of the definition in primitives, so that both give the same bits.

use crate::math::{logistic, tanh};

/// Most gates, states and saved values of a unit.
pub(super) const GATES: usize = 4;
pub(super) const STATES: usize = 2;
pub(super) const SAVED: usize = 5;

/// What a unit makes in a time step: states, and what is saved for the backward pass.
pub(super) struct Made {
    pub states: [f32; STATES],
    pub saved: [f32; SAVED],
}

/// What a unit's derivative is made of.
pub(super) struct Known {
    pub saved: [f32; SAVED],
    /// The hidden or cell state before the step.
    pub previous: f32,
    /// Cotangents of the states after it.
    pub cotangents: [f32; STATES],
}

/// Cotangents that a unit's derivative gives.
pub(super) struct Given {
    /// Of the input's sums.
    pub input: [f32; GATES],
    /// Of the recurrent sums, where they are others.
    pub recurrent: [f32; GATES],
    /// Of the states before, but for what goes through the recurrent sums.
    pub states: [f32; STATES],
}

/// A cell's arithmetic.
pub(super) trait Cell {
    const GATES: usize;
    const STATES: usize;
    /// Saved gates, and one value more.
    const SAVED: usize;
    /// Whether the recurrent sums have cotangents of their own.
    const APART: bool = false;

    fn step<const FMA: bool>(input: [f32; GATES], recurrent: [f32; GATES], previous: [f32; STATES]) -> Made;

    fn derive(known: Known) -> Given;
}

pub(super) struct Tanh;

impl Cell for Tanh {
    const GATES: usize = 1;
    const STATES: usize = 1;
    const SAVED: usize = 0;

    #[inline(always)]
    fn step<const FMA: bool>(input: [f32; GATES], recurrent: [f32; GATES], _: [f32; STATES]) -> Made {
        Made { states: [tanh::<FMA>(input[0] + recurrent[0]), 0.0], saved: [0.0; SAVED] }
    }

    #[inline(always)]
    fn derive(known: Known) -> Given {
        let (h, ct) = (known.saved[0], known.cotangents[0]);
        of_one_gate(ct * (1.0 - h * h))
    }
}

pub(super) struct Relu;

impl Cell for Relu {
    const GATES: usize = 1;
    const STATES: usize = 1;
    const SAVED: usize = 0;

    #[inline(always)]
    fn step<const FMA: bool>(input: [f32; GATES], recurrent: [f32; GATES], _: [f32; STATES]) -> Made {
        Made { states: [crate::math::maximum(input[0] + recurrent[0], 0.0), 0.0], saved: [0.0; SAVED] }
    }

    #[inline(always)]
    fn derive(known: Known) -> Given {
        of_one_gate(if known.saved[0] > 0.0 { known.cotangents[0] } else { 0.0 })
    }
}

#[inline(always)]
fn of_one_gate(gradient: f32) -> Given {
    Given { input: [gradient, 0.0, 0.0, 0.0], recurrent: [0.0; GATES], states: [0.0; STATES] }
}

pub(super) struct Gru;

impl Cell for Gru {
    const GATES: usize = 3;
    const STATES: usize = 1;
    const SAVED: usize = 4;
    const APART: bool = true;

    #[inline(always)]
    fn step<const FMA: bool>(input: [f32; GATES], recurrent: [f32; GATES], previous: [f32; STATES]) -> Made {
        let r = logistic::<FMA>(input[0] + recurrent[0]);
        let z = logistic::<FMA>(input[1] + recurrent[1]);
        let n = tanh::<FMA>(input[2] + r * recurrent[2]);
        Made { states: [(1.0 - z) * n + z * previous[0], 0.0], saved: [r, z, n, recurrent[2], 0.0] }
    }

    #[inline(always)]
    fn derive(known: Known) -> Given {
        let [r, z, n, sum, _] = known.saved;
        let (h, ct) = (known.previous, known.cotangents[0]);
        let new = ct * (1.0 - z) * (1.0 - n * n);
        let reset = new * sum * (r * (1.0 - r));
        let update = ct * (h - n) * (z * (1.0 - z));
        Given { input: [reset, update, new, 0.0], recurrent: [reset, update, new * r, 0.0], states: [ct * z, 0.0] }
    }
}

pub(super) struct Lstm;

impl Cell for Lstm {
    const GATES: usize = 4;
    const STATES: usize = 2;
    const SAVED: usize = 5;

    #[inline(always)]
    fn step<const FMA: bool>(input: [f32; GATES], recurrent: [f32; GATES], previous: [f32; STATES]) -> Made {
        let i = logistic::<FMA>(input[0] + recurrent[0]);
        let f = logistic::<FMA>(input[1] + recurrent[1]);
        let g = tanh::<FMA>(input[2] + recurrent[2]);
        let o = logistic::<FMA>(input[3] + recurrent[3]);
        let cell = f * previous[1] + i * g;
        let t = tanh::<FMA>(cell);
        Made { states: [o * t, cell], saved: [i, f, g, o, t] }
    }

    #[inline(always)]
    fn derive(known: Known) -> Given {
        let [i, f, g, o, t] = known.saved;
        let [hidden, cell] = known.cotangents;
        let cell = cell + hidden * o * (1.0 - t * t);
        let input = [
            cell * g * (i * (1.0 - i)),
            cell * known.previous * (f * (1.0 - f)),
            cell * i * (1.0 - g * g),
            hidden * t * (o * (1.0 - o)),
        ];
        Given { input, recurrent: [0.0; GATES], states: [0.0, cell * f] }
    }
}

/// The instance of a generic function for a cell.
macro_rules! of_cell {
    ($cell:expr, $function:ident, $isa:expr) => {
        match $cell {
            $crate::sequence::SequenceCell::Tanh => $function::<$crate::sequence::cell::Tanh>($isa),
            $crate::sequence::SequenceCell::Relu => $function::<$crate::sequence::cell::Relu>($isa),
            $crate::sequence::SequenceCell::Gru => $function::<$crate::sequence::cell::Gru>($isa),
            $crate::sequence::SequenceCell::Lstm => $function::<$crate::sequence::cell::Lstm>($isa),
        }
    };
}
pub(super) use of_cell;
