//! Recurrent layers' sequences as kernels.

use super::{
    ir::{Access, Def, Lowering, NodeOp, Val},
    view::View,
};
use crate::{
    DType, Type,
    graph::{NodeId, ValueId},
    op::Composite,
    sequence::Region,
};
use backprop_kernels::{
    Isa, Kernel,
    sequence::{Sequence, SequenceCell, SequenceGradient, SequenceSpec, Stacked},
};

/// Time steps from which on packing the weights is worth it, and rows of all time steps if the weights have more than so many elements.
const SHORTEST: usize = 4;
const FEWEST: usize = 128;
const LARGE: usize = 1 << 20;

/// A sequence, forward or backward.
#[derive(Clone, Debug)]
pub(crate) struct SequenceNode {
    spec: SequenceSpec,
    pass: Pass,
}

#[derive(Clone, Debug)]
enum Pass {
    /// Whether what the backward pass needs is saved.
    Forward { saves: bool },
    /// How what was saved lies, and whether there are cotangents of cell states.
    Backward { saved: Vec<Stacked>, cells: bool },
}

impl SequenceNode {
    pub fn kernel(&self, isa: Isa) -> Box<dyn Kernel> {
        match &self.pass {
            Pass::Forward { saves } => Box::new(Sequence::new(self.spec.clone(), *saves, isa)),
            Pass::Backward { saved, cells } => Box::new(SequenceGradient::new(self.spec.clone(), saved.clone(), *cells, isa)),
        }
    }

    /// Results that may take the place of an operand: the gates' gradients that of the gates.
    pub fn replaceable(&self) -> Vec<(usize, usize)> {
        let (cell, directions) = (self.spec.cell, self.spec.directions.len());
        let Pass::Backward { cells, .. } = self.pass else { return Vec::new() };
        if !cell.saves() {
            return Vec::new();
        }
        let (inputs, results) = (5 + usize::from(cells), 1 + usize::from(cell.is_apart()) + cell.states());
        (0..directions).map(|d| (d * results, d * inputs + 1)).collect()
    }

    pub fn name(&self) -> &'static str {
        match (self.spec.cell, &self.pass) {
            (SequenceCell::Tanh | SequenceCell::Relu, Pass::Forward { .. }) => "rnn_sequence",
            (SequenceCell::Tanh | SequenceCell::Relu, Pass::Backward { .. }) => "rnn_sequence_backward",
            (SequenceCell::Gru, Pass::Forward { .. }) => "gru_sequence",
            (SequenceCell::Gru, Pass::Backward { .. }) => "gru_sequence_backward",
            (SequenceCell::Lstm, Pass::Forward { .. }) => "lstm_sequence",
            (SequenceCell::Lstm, Pass::Backward { .. }) => "lstm_sequence_backward",
        }
    }
}

/// Whether a composite is a sequence there is a kernel for.
pub(crate) fn has_kernel(composite: &Composite) -> bool {
    let f32 = composite.body.input_types().first().is_some_and(|ty| ty.dtype == DType::F32);
    f32 && Region::of(composite).is_some_and(|(region, _)| {
        let spec = region.spec(Vec::new());
        let rows = spec.length * spec.batch;
        let large = spec.cell.gates() * spec.hidden * spec.hidden > LARGE;
        spec.length >= SHORTEST && rows > 0 && spec.hidden > 0 && (!large || rows >= FEWEST)
    })
}

/// A stacked value whose rows have so many elements.
fn stacked_type(spec: &SequenceSpec, row: usize) -> Type {
    Type::new(DType::F32, [spec.length, spec.batch, row])
}

/// The gates, or their gradients, in a value that the kernels write.
fn gates(spec: &SequenceSpec, value: Val) -> Access {
    let limit = [spec.length, spec.batch, spec.cell.gates() * spec.hidden];
    let view = View::dense(&[limit[0], limit[1], spec.gates_row()]).slice(&[0; 3], &limit, &[1; 3]);
    Access { value, view }
}

impl Lowering<'_> {
    /// The results of a sequence that there is a kernel for.
    pub(super) fn sequence(&mut self, composite: &Composite, id: NodeId, inputs: Vec<Access>, flops: u64) -> Vec<Access> {
        let Some((region, backward)) = Region::of(composite) else { return Vec::new() };
        if backward {
            let types = composite.body.output_types();
            self.sequence_backward(region, inputs, &types, flops)
        } else {
            self.sequence_forward(region, id, inputs, flops)
        }
    }

    fn sequence_forward(&mut self, region: Region, id: NodeId, inputs: Vec<Access>, flops: u64) -> Vec<Access> {
        let (count, directions) = (region.inputs(), region.directions());
        let mut strides = Vec::new();
        let mut operands = Vec::new();
        for (i, access) in inputs.iter().enumerate() {
            let stacked = i % count == 0 && i < directions * count;
            operands.push(if stacked { self.stacked(access, &mut strides) } else { self.dense(access) });
        }
        let spec = region.spec(strides);
        let (states, saved) = (spec.cell.states(), region.saved());
        let residuals = states + saved;
        let output = |d: usize, k: usize| ValueId { node: id, output: (directions * states + d * residuals + k) as u32 };
        let saves = (0..directions).any(|d| (states..residuals).any(|k| self.is_used(output(d, k))));
        let slots = Type::new(DType::F32, [spec.length + 1, spec.batch, spec.hidden]);
        let mut types = Vec::new();
        for _ in 0..directions {
            types.extend(vec![slots.clone(); states]);
            types.extend([spec.gates_row(), spec.hidden].map(|row| stacked_type(&spec, row)).into_iter().filter(|_| saves));
        }
        let [length, batch, hidden] = [spec.length, spec.batch, spec.hidden];
        let node = SequenceNode { spec: spec.clone(), pass: Pass::Forward { saves } };
        let values = self.push(NodeOp::Sequence(node), operands, &types, flops);
        let per_direction = states + if saves { saved } else { 0 };
        // The states before and after the steps are the same memory, a time step apart.
        let from = |value: Val, first: usize| Access {
            value,
            view: View::dense(&slots.shape).slice(&[first, 0, 0], &[first + length, batch, hidden], &[1, 1, 1]),
        };
        let value = |d: usize, k: usize| values[d * per_direction + k];
        let (mut results, mut others) = (Vec::new(), Vec::new());
        for d in 0..directions {
            results.extend((0..states).map(|k| from(value(d, k), 1 - d)));
            others.extend((0..states).map(|k| from(value(d, k), d)));
            // Nobody reads what is not saved.
            others.extend((0..saved).map(|k| {
                if saves && k == 0 {
                    gates(&spec, value(d, states))
                } else {
                    self.whole(value(d, if saves { states + k } else { 0 }))
                }
            }));
        }
        [results, others].concat()
    }

    fn sequence_backward(&mut self, region: Region, inputs: Vec<Access>, types: &[Type], flops: u64) -> Vec<Access> {
        let (count, directions) = (region.backward_inputs(), region.directions());
        let states = region.spec(Vec::new()).cell.states();
        // The last operand of an LSTM's direction: cotangents of cell states, which mostly nobody reads.
        let cell = |i: usize| states > 1 && i % count == count - 1 && i < directions * count;
        let cells = inputs.iter().enumerate().any(|(i, access)| cell(i) && !self.is_zero(access));
        let (mut saved, mut strides) = (Vec::new(), Vec::new());
        let mut operands = Vec::new();
        for (i, access) in inputs.iter().enumerate().filter(|(i, _)| cells || !cell(*i)) {
            operands.push(match i % count {
                1 if i < directions * count => self.stacked(access, &mut saved),
                at if at == count - states && i < directions * count => self.stacked(access, &mut strides),
                _ => self.dense(access),
            });
        }
        let spec = region.spec(strides);
        let (results, gradients) = (types.len() / directions, 1 + usize::from(spec.cell.is_apart()));
        let is_gates = |i: usize| i % results < gradients;
        let types =
            types.iter().enumerate().map(|(i, ty)| if is_gates(i) { stacked_type(&spec, spec.gates_row()) } else { ty.clone() });
        let types: Vec<Type> = types.collect();
        let node = SequenceNode { spec: spec.clone(), pass: Pass::Backward { saved, cells } };
        let values = self.push(NodeOp::Sequence(node), operands, &types, flops);
        let access = |(i, value)| if is_gates(i) { gates(&spec, value) } else { self.whole(value) };
        values.into_iter().enumerate().map(access).collect()
    }

    /// An operand whose time steps and rows may be any distance apart; a copy where even a row's elements are not adjacent.
    fn stacked(&mut self, access: &Access, strides: &mut Vec<Stacked>) -> Access {
        let adjacent = self.is_in_memory(access) && access.view.strides[2] == 1;
        let access = if adjacent { access.clone() } else { self.copy(access) };
        strides.push(Stacked { time: access.view.strides[0], row: access.view.strides[1] });
        access
    }

    /// Whether an access reads nothing but zeros, as far as is known now.
    fn is_zero(&self, access: &Access) -> bool {
        matches!(self.result.values[access.value].def, Def::Scalar(0))
    }

    /// Whether anybody reads a value.
    fn is_used(&self, value: ValueId) -> bool {
        self.graph.nodes.iter().any(|node| node.inputs.contains(&value)) || self.graph.outputs.iter().any(|o| o.value == value)
    }
}
