//! Recurrent layers as regions: the recurrence of a whole sequence, with its derivative as a region too.
//!
//! A backend may have kernels for both; their definitions are loops in primitives. What is no recurrence stays outside: the input's
//! products before, the weights' gradients as products over all time steps after.

use crate::{
    Builder, Tensor, Type,
    graph::Graph,
    op::{Composite, ScanSpec, ScanStep, scan},
};
use backprop_kernels::sequence::{SequenceSpec, Stacked};

pub use backprop_kernels::sequence::SequenceCell;

/// What the region of the derivative is called, after the region's name.
const BACKWARD: &str = "_backward";

/// One direction of a recurrent layer over `length` time steps of `batch` rows.
#[derive(Clone, Debug)]
pub struct Direction<'g> {
    /// The input's part of the sums, `[length, batch, gates · hidden]`.
    pub input: Tensor<'g>,
    /// Recurrent weights, `[gates · hidden, hidden]`.
    pub weight: Tensor<'g>,
    /// The states before the first step, `[batch, hidden]` each.
    pub first: Vec<Tensor<'g>>,
    /// A GRU's recurrent biases, `[gates · hidden]`, in all directions or in none.
    pub bias: Option<Tensor<'g>>,
}

/// Runs one direction from the first time step to the last, or that and a second one from the last to the first. Returns, for each
/// direction, each state after every time step, `[length, batch, hidden]`.
///
/// Where `keep`, of booleans `[length, batch]`, is false, a step changes no state.
#[track_caller]
pub fn sequence<'g>(cell: SequenceCell, directions: &[Direction<'g>], keep: Option<Tensor<'g>>) -> Vec<Vec<Tensor<'g>>> {
    let Some(any) = directions.first() else { return Vec::new() };
    let region = Region {
        cell,
        directions: directions.len(),
        bias: any.bias.is_some(),
        keep: keep.is_some(),
        length: any.input.dim(0),
        batch: any.input.dim(1),
        hidden: any.weight.dim(1),
    };
    let operands = directions.iter().flat_map(|d| [&[d.input, d.weight][..], &d.first, d.bias.as_slice()].concat());
    let operands: Vec<Tensor> = operands.chain(keep).collect();
    let composite = region.composite(any.input.builder(), &operands);
    let given = any.input.builder().apply(composite, &operands);
    // After an error there may be no results.
    let at = |i: usize| given.get(i).copied().unwrap_or(any.input);
    (0..directions.len()).map(|d| (0..cell.states()).map(|k| at(d * cell.states() + k)).collect()).collect()
}

/// A recurrent layer's sequence, as far as a kernel needs to know it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Region {
    cell: SequenceCell,
    directions: usize,
    bias: bool,
    keep: bool,
    length: usize,
    batch: usize,
    hidden: usize,
}

/// Operands of a direction's derivative.
struct Known<'g> {
    weight: Tensor<'g>,
    /// Gates, or what a cell made that saves nothing else.
    saved: Tensor<'g>,
    /// A value more, and the state before.
    more: Option<[Tensor<'g>; 2]>,
    cotangents: Vec<Tensor<'g>>,
}

impl Region {
    /// The sequence that a composite is, and whether it is its derivative.
    pub fn of(composite: &Composite) -> Option<(Region, bool)> {
        let (name, backward) = match composite.region.strip_suffix(BACKWARD) {
            Some(name) => (name, true),
            None => (composite.region.as_str(), false),
        };
        let cell = CELLS.iter().find(|(_, known)| *known == name)?.0;
        let directions = composite.attributes.get("directions")?.parse().ok()?;
        let types = composite.body.input_types();
        let shape = |i: usize| types.get(i).map(|ty| &ty.shape[..]);
        let (&[length, batch, _], &[_, hidden]) = (shape(usize::from(backward))?, shape(usize::from(!backward))?) else {
            return None;
        };
        let [bias, keep] = ["bias", "keep"].map(|key| composite.attributes.contains_key(key));
        Some((Region { cell, directions, bias, keep, length, batch, hidden }, backward))
    }

    /// What kernels need to know, their stacked operands lying so.
    pub fn spec(&self, directions: Vec<Stacked>) -> SequenceSpec {
        let Region { cell, bias, keep, length, batch, hidden, .. } = *self;
        SequenceSpec { cell, length, batch, hidden, bias, keep, directions }
    }

    /// Number of directions.
    pub fn directions(&self) -> usize {
        self.directions
    }

    /// Operands of a direction, forward.
    pub fn inputs(&self) -> usize {
        2 + self.cell.states() + usize::from(self.bias)
    }

    /// Operands of a direction, backward.
    pub fn backward_inputs(&self) -> usize {
        2 + if self.cell.saves() { 2 } else { 0 } + self.cell.states()
    }

    /// What a direction saves for its derivative besides states: gates, and a value more.
    pub fn saved(&self) -> usize {
        if self.cell.saves() { 2 } else { 0 }
    }

    fn name(&self) -> &'static str {
        CELLS.iter().find(|(cell, _)| *cell == self.cell).map_or("", |c| c.1)
    }

    fn region(&self, end: &str, body: Graph) -> Composite {
        let mut region = Composite::new(format!("{}{end}", self.name()), body);
        region.attributes.insert("directions".into(), self.directions.to_string());
        let flags = [("bias", self.bias), ("keep", self.keep)];
        region.attributes.extend(flags.into_iter().filter(|f| f.1).map(|f| (f.0.into(), "true".into())));
        region
    }

    fn composite(&self, b: &Builder, operands: &[Tensor<'_>]) -> Composite {
        let types: Vec<Type> = operands.iter().map(Tensor::ty).collect();
        let body = b.trace(&types, |b, v| self.forward(b, v));
        let results = body.output_types();
        let states = self.cell.states();
        let visible = self.directions * states;
        if results.len() != self.directions * (2 * states + self.saved()) {
            // The body has an error, which the builder keeps: there is nothing to differentiate.
            return self.region("", body);
        }
        let (n, m) = (types.len(), results.len());
        let all = [&types[..], &results, &results[..visible]].concat();
        let derivative = b.trace(&all, |b, v| self.derivative(b, &v[..n], &v[n..n + m], &v[n + m..]));
        Composite {
            residuals: m - visible,
            derivative: Some(derivative.into()),
            differentiable: (0..n - usize::from(self.keep)).collect(),
            ..self.region("", body)
        }
    }

    fn time(&self, direction: usize, backward: bool) -> ScanSpec {
        ScanSpec { length: self.length, reverse: (direction == 1) != backward }
    }

    /// States after every step of each direction, then each direction's states before every step and what its derivative needs.
    fn forward<'b>(&self, b: &'b Builder, operands: &[Tensor<'b>]) -> Vec<Tensor<'b>> {
        let (mut results, mut residuals) = (Vec::new(), Vec::new());
        let states = self.cell.states();
        let keep = if self.keep { operands.last() } else { None };
        for d in 0..self.directions {
            let operands = &operands[d * self.inputs()..][..self.inputs()];
            let first = &operands[2..2 + states];
            let constants = [&operands[1..2], &operands[2 + states..]].concat();
            let slices: Vec<Tensor> = operands[..1].iter().chain(keep).copied().collect();
            let (_, stacked) = scan(b, self.time(d, false), &constants, first, &slices, |constants, carried, slices| {
                let (new, saved) = self.step(slices[0], carried, constants);
                let kept = new.iter().zip(carried).map(|(&new, &old)| slices.get(1).map_or(new, |keep| chosen(*keep, new, old)));
                let kept: Vec<Tensor> = kept.collect();
                let (gates, more) = saved.split_at(saved.len().min(self.cell.gates()));
                let gates = gates.split_first().map(|(one, others)| one.concatenate(others, 1));
                (kept.clone(), kept.into_iter().chain(gates).chain(more.first().copied()).collect())
            });
            let at = |i: usize| stacked.get(i).copied().unwrap_or(operands[0]);
            results.extend((0..states).map(at));
            residuals.extend((0..states).map(|k| self.before(d, first[k], at(k))));
            residuals.extend((states..states + self.saved()).map(at));
        }
        [results, residuals].concat()
    }

    /// A state before each step.
    fn before<'b>(&self, direction: usize, first: Tensor<'b>, after: Tensor<'b>) -> Tensor<'b> {
        let Some(rest) = self.length.checked_sub(1) else { return after };
        let first = first.reshape([1, self.batch, self.hidden]);
        if direction == 1 {
            after.slice_dim(0, 1, self.length).concatenate(&[first], 0)
        } else {
            first.concatenate(&[after.slice_dim(0, 0, rest)], 0)
        }
    }

    fn gate<'b>(&self, values: Tensor<'b>, k: usize) -> Tensor<'b> {
        values.slice_dim(1, k * self.hidden, (k + 1) * self.hidden)
    }

    /// New states and what is saved, from the input's sums, the states, and the weights (and biases, of a GRU).
    fn step<'b>(&self, input: Tensor<'b>, states: &[Tensor<'b>], constants: &[Tensor<'b>]) -> (Vec<Tensor<'b>>, Vec<Tensor<'b>>) {
        let gate = |of: Tensor<'b>, k: usize| self.gate(of, k);
        let recurrent = states[0].linear(constants[0]);
        match self.cell {
            SequenceCell::Tanh => (vec![(input + recurrent).tanh()], vec![]),
            SequenceCell::Relu => (vec![(input + recurrent).relu()], vec![]),
            SequenceCell::Gru => {
                let recurrent = constants.get(1).map_or(recurrent, |&bias| recurrent + bias);
                let [r, z] = [0, 1].map(|k| (gate(input, k) + gate(recurrent, k)).logistic());
                let sum = gate(recurrent, 2);
                let n = (gate(input, 2) + r * sum).tanh();
                (vec![(1.0 - z) * n + z * states[0]], vec![r, z, n, sum])
            }
            SequenceCell::Lstm => {
                let gates = input + recurrent;
                let [i, f, o] = [0, 1, 3].map(|k| gate(gates, k).logistic());
                let g = gate(gates, 2).tanh();
                let cell = f * states[1] + i * g;
                let t = cell.tanh();
                (vec![o * t, cell], vec![i, f, g, o, t])
            }
        }
    }

    /// Cotangents of the operands, from them, the results and residuals, and cotangents of the results.
    fn derivative<'b>(
        &self,
        b: &'b Builder,
        operands: &[Tensor<'b>],
        results: &[Tensor<'b>],
        cotangents: &[Tensor<'b>],
    ) -> Vec<Tensor<'b>> {
        let states = self.cell.states();
        let residuals = states + self.saved();
        let residual = |d: usize, k: usize| results[self.directions * states + d * residuals + k];
        let mut known = Vec::new();
        for d in 0..self.directions {
            known.push(operands[d * self.inputs() + 1]);
            if self.cell.saves() {
                known.extend([residual(d, states), residual(d, states + 1), residual(d, states - 1)]);
            } else {
                known.push(results[d * states]);
            }
            known.extend(&cotangents[d * states..][..states]);
        }
        known.extend(operands.last().filter(|_| self.keep));
        let types: Vec<Type> = known.iter().map(Tensor::ty).collect();
        let given = b.apply(self.region(BACKWARD, b.trace(&types, |b, v| self.backward(b, v))), &known);
        let count = given.len() / self.directions;
        let mut gradients = Vec::new();
        for (d, given) in given.chunks(count.max(1)).take(self.directions).enumerate() {
            let (first, recurrent) = (given.len() - states, given[usize::from(self.cell.is_apart())]);
            let rows = [self.length * self.batch, self.cell.gates() * self.hidden];
            let before = residual(d, 0).reshape([rows[0], self.hidden]);
            gradients.extend([given[0], recurrent.reshape(rows).t().matmul(before)]);
            gradients.extend(&given[first..]);
            gradients.extend(self.bias.then(|| recurrent.sum(&[0, 1])));
        }
        gradients
    }

    /// Of each direction: cotangents of the input's sums, of the recurrent ones where they are others, and of the first states.
    fn backward<'b>(&self, b: &'b Builder, operands: &[Tensor<'b>]) -> Vec<Tensor<'b>> {
        let (count, states) = (self.backward_inputs(), self.cell.states());
        let keep = if self.keep { operands.last() } else { None };
        let mut results = Vec::new();
        for d in 0..self.directions {
            let (operands, rest) = operands[d * count..][..count].split_at(count - states);
            let zeros = vec![b.zeros(Type::new(rest[0].dtype(), [self.batch, self.hidden])); states];
            let slices: Vec<Tensor> = operands[1..].iter().chain(rest).chain(keep).copied().collect();
            let (last, stacked) = scan(b, self.time(d, true), &operands[..1], &zeros, &slices, |constants, carried, slices| {
                let known = Known {
                    weight: constants[0],
                    saved: slices[0],
                    more: self.cell.saves().then(|| [slices[1], slices[2]]),
                    cotangents: carried.iter().zip(&slices[count - 1 - states..]).map(|(&c, &outer)| c + outer).collect(),
                };
                self.step_back(&known, slices.get(count - 1).copied())
            });
            results.extend(stacked.into_iter().take(1 + usize::from(self.cell.is_apart())));
            results.extend(last);
        }
        results
    }

    /// Cotangents of the states before a step; those of the input's sums and, where they are others, of the recurrent ones.
    fn step_back<'b>(&self, known: &Known<'b>, keep: Option<Tensor<'b>>) -> ScanStep<'b> {
        let zeros = known.weight.builder().zeros(known.cotangents[0].ty());
        let used: Vec<Tensor> = known.cotangents.iter().map(|&ct| keep.map_or(ct, |keep| chosen(keep, ct, zeros))).collect();
        let saved = |k: usize| self.gate(known.saved, k);
        let [more, previous] = known.more.unwrap_or([zeros; 2]);
        let slope = |y: Tensor<'b>| y * (1.0 - y);
        let ct = used[0];
        let (input, recurrent, states): (Vec<Tensor>, _, _) = match self.cell {
            SequenceCell::Tanh => (vec![ct * (1.0 - known.saved * known.saved)], None, vec![zeros]),
            SequenceCell::Relu => (vec![known.saved.greater(0.0).select(ct, zeros)], None, vec![zeros]),
            SequenceCell::Gru => {
                let [r, z, n] = [0, 1, 2].map(saved);
                let new = ct * (1.0 - z) * (1.0 - n * n);
                let reset = new * more * slope(r);
                let update = ct * (previous - n) * slope(z);
                (vec![reset, update, new], Some(reset.concatenate(&[update, new * r], 1)), vec![ct * z])
            }
            SequenceCell::Lstm => {
                let [i, f, g, o] = [0, 1, 2, 3].map(saved);
                let cell = used[1] + ct * o * (1.0 - more * more);
                let input = cell * g * slope(i);
                let forget = cell * previous * slope(f);
                (vec![input, forget, cell * i * (1.0 - g * g), ct * more * slope(o)], None, vec![zeros, cell * f])
            }
        };
        let input = input[0].concatenate(&input[1..], 1);
        let product = recurrent.unwrap_or(input).matmul(known.weight);
        let passed = |k: usize| keep.map_or(states[k], |keep| chosen(keep, states[k], known.cotangents[k]));
        let direct = keep.is_some() || self.cell == SequenceCell::Gru;
        let hidden = if direct { product + passed(0) } else { product };
        let carried = std::iter::once(hidden).chain((1..states.len()).map(passed)).collect();
        (carried, std::iter::once(input).chain(recurrent).collect())
    }
}

const CELLS: [(SequenceCell, &str); 4] = [
    (SequenceCell::Tanh, "rnn_tanh_sequence"),
    (SequenceCell::Relu, "rnn_relu_sequence"),
    (SequenceCell::Gru, "gru_sequence"),
    (SequenceCell::Lstm, "lstm_sequence"),
];

/// `a` where `keep`, one for each row, is true, else `b`.
fn chosen<'b>(keep: Tensor<'b>, a: Tensor<'b>, b: Tensor<'b>) -> Tensor<'b> {
    keep.broadcast_in_dim(a.shape(), &[0]).select(a, b)
}
