//! A loop over time: body graph, carried state, stacked inputs and outputs.

use super::{Cost, Derivative, Domain, Primitive, Sample, Vjp, composite::graph_flops};
use crate::{
    Builder, DType, HostTensor, Tensor, Type,
    graph::{Graph, Shape},
    reference::{Array, evaluate},
    stablehlo::{self, Region, Value, Writer},
};
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Runs the body `length` times. Body inputs: constants, carried values, one slice of each stacked input. Body outputs: new carried
/// values, one slice of each stacked output. Operands: constants, initial carried values, stacked inputs `[length, …]`.
/// Results: final carried values, stacked outputs `[length, …]`.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Scan {
    /// Number of iterations.
    pub length: usize,
    /// Number of operands that are the same in every iteration.
    pub constants: usize,
    /// Number of carried values.
    pub carried: usize,
    /// Whether iteration goes from the last slice to the first. Slice i of an input goes with slice i of an output either way.
    pub reverse: bool,
    /// One iteration.
    #[serde(skip)]
    pub body: Arc<Graph>,
}

/// What a scan's body gives: new carried values, and one slice of each stacked output.
pub type ScanStep<'b> = (Vec<Tensor<'b>>, Vec<Tensor<'b>>);

/// Traces `body(constants, carried, slices)` and scans with it. Returns (final carried values, stacked outputs).
///
/// ```
/// use backprop_core::{Builder, DType, Type, graph::Role, op::{ScanSpec, scan}};
/// let b = Builder::new();
/// let x = b.input("x", Role::Data, Type::new(DType::F32, [5, 2]));
/// let start = b.zeros(Type::new(DType::F32, [2]));
/// let (last, sums) = scan(&b, ScanSpec { length: 5, reverse: false }, &[], &[start], &[x], |_, carried, slices| {
///     let sum = carried[0] + slices[0];
///     (vec![sum], vec![sum])
/// });
/// assert_eq!((last[0].shape()[..].len(), sums[0].dim(0)), (1, 5));
/// ```
#[track_caller]
pub fn scan<'g, F>(
    b: &'g Builder,
    spec: ScanSpec,
    constants: &[Tensor<'g>],
    init: &[Tensor<'g>],
    xs: &[Tensor<'g>],
    body: F,
) -> (Vec<Tensor<'g>>, Vec<Tensor<'g>>)
where
    F: for<'b> FnOnce(&[Tensor<'b>], &[Tensor<'b>], &[Tensor<'b>]) -> ScanStep<'b>,
{
    let slice = |t: &Tensor| Type { dtype: t.dtype(), shape: t.shape().iter().skip(1).copied().collect() };
    let types: Vec<Type> = constants.iter().chain(init).map(Tensor::ty).chain(xs.iter().map(slice)).collect();
    let (nc, nk) = (constants.len(), init.len());
    let mut carried = 0;
    let graph = b.trace(&types, |_, inputs| {
        let (next, mut outputs) = body(&inputs[..nc], &inputs[nc..nc + nk], &inputs[nc + nk..]);
        carried = next.len();
        outputs.splice(0..0, next);
        outputs
    });
    let operands = [constants, init, xs].concat();
    if carried != nk {
        let message = format!("the body gives {carried} carried values, but {nk} initial ones were given");
        let stand_in = b.fail("scan", &types, message);
        return (vec![stand_in; nk], vec![stand_in; 8]);
    }
    let op = Scan { length: spec.length, constants: nc, carried: nk, reverse: spec.reverse, body: graph.into() };
    let outputs = b.apply(op, &operands);
    if outputs.len() < nk {
        return (vec![outputs[0]; nk], vec![outputs[0]; 8]);
    }
    (outputs[..nk].to_vec(), outputs[nk..].to_vec())
}

/// Length and direction of a scan.
#[derive(Clone, Copy, Debug)]
pub struct ScanSpec {
    /// Number of iterations.
    pub length: usize,
    /// Whether iteration goes from the last slice to the first.
    pub reverse: bool,
}

/// The type of `length` stacked slices.
pub(super) fn stacked(length: usize, slice: &Type) -> Type {
    Type { dtype: slice.dtype, shape: std::iter::once(length).chain(slice.shape.iter().copied()).collect() }
}

impl Scan {
    /// Indices of the iterations in the order they run.
    pub fn order(&self) -> Box<dyn Iterator<Item = usize>> {
        if self.reverse { Box::new((0..self.length).rev()) } else { Box::new(0..self.length) }
    }

    /// One iteration as the body of StableHLO's `while`, over the number of iterations done, the operands, and the stacks so far.
    fn iteration(&self, w: &mut Writer, v: &[Value]) -> Vec<Value> {
        let (done, operands) = (&v[0], self.body.inputs.len());
        let (zero, one) = (w.integer(DType::I32, 0), w.integer(DType::I32, 1));
        let index = if self.reverse {
            let last = w.integer(DType::I32, self.length as i128 - 1);
            w.binary("subtract", &last, done)
        } else {
            done.clone()
        };
        let starts = |rank: usize| std::iter::once(&index).chain(std::iter::repeat_n(&zero, rank - 1));
        let mut arguments = v[1..1 + self.fixed()].to_vec();
        for (x, slot) in v[1 + self.fixed()..1 + operands].iter().zip(&self.body.input_types()[self.fixed()..]) {
            let ty = stacked(1, slot);
            let at: Vec<&Value> = std::iter::once(x).chain(starts(ty.shape.len())).collect();
            let slice = w.op("dynamic_slice", &at, &Writer::numbers("slice_sizes", ty.shape.iter()), &ty);
            arguments.push(w.reshape(&slice, &slot.shape));
        }
        let results = stablehlo::body(w, &self.body, &arguments);
        let mut next = vec![w.binary("add", done, &one)];
        next.extend_from_slice(&v[1..1 + self.constants]);
        next.extend_from_slice(&results[..self.carried]);
        next.extend_from_slice(&v[1 + self.fixed()..1 + operands]);
        for (stack, slice) in v[1 + operands..].iter().zip(&results[self.carried..]) {
            let slice = w.reshape(slice, &stacked(1, &slice.ty).shape);
            let at: Vec<&Value> = [stack, &slice].into_iter().chain(starts(stack.ty.shape.len())).collect();
            next.push(w.op("dynamic_update_slice", &at, "", &stack.ty));
        }
        next
    }

    /// Number of operands that come before the stacked ones.
    pub(super) fn fixed(&self) -> usize {
        self.constants + self.carried
    }
}

impl Primitive for Scan {
    fn name(&self) -> &'static str {
        "scan"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, String> {
        let (slots, results) = (self.body.input_types(), self.body.output_types());
        if slots.len() != inputs.len() || slots.len() < self.fixed() || results.len() < self.carried {
            return Err(format!("the body takes {} operands, got {}", slots.len(), inputs.len()));
        }
        for (i, (slot, given)) in slots.iter().zip(inputs).enumerate() {
            let wanted = if i < self.fixed() { slot.clone() } else { stacked(self.length, slot) };
            if *given != wanted {
                return Err(format!("operand {i} must be {wanted}, got {given}"));
            }
        }
        for k in 0..self.carried {
            let (old, new) = (&slots[self.constants + k], &results[k]);
            if old != new {
                return Err(format!("carried value {k} is {old}, but the body makes it {new}; it must keep its type"));
            }
        }
        let stacks = results[self.carried..].iter().map(|t| stacked(self.length, t));
        Ok(results[..self.carried].iter().cloned().chain(stacks).collect())
    }

    fn reference(&self, inputs: &[&Array], outputs: &[Type]) -> Vec<Array> {
        let slots = self.body.input_types();
        let mut carried: Vec<Array> = inputs[self.constants..self.fixed()].iter().map(|&a| a.clone()).collect();
        let mut stacks: Vec<Array> = outputs[self.carried..].iter().map(Array::zeros).collect();
        for t in self.order() {
            let mut arguments: Vec<Array> = inputs[..self.constants].iter().map(|&a| a.clone()).collect();
            arguments.append(&mut carried);
            for (x, slot) in inputs[self.fixed()..].iter().zip(&slots[self.fixed()..]) {
                let n = slot.elements();
                arguments.push(x.pick(slot, |index| t * n + slot.shape.ravel(index)));
            }
            carried = evaluate(&self.body, &arguments);
            for (stack, slice) in stacks.iter_mut().zip(carried.split_off(self.carried)) {
                let n = slice.ty.elements();
                (0..n).for_each(|i| stack.copy_element(t * n + i, &slice, i));
            }
        }
        carried.append(&mut stacks);
        carried
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Derivative<'g> {
        Derivative::Rule(super::scan_grad::reverse_scan(self, cx))
    }

    fn cost(&self, inputs: &[Type], outputs: &[Type]) -> Cost {
        Cost { flops: self.length as u64 * graph_flops(&self.body), bytes: Cost::traffic(inputs, outputs) }
    }

    fn stablehlo(&self, w: &mut Writer, inputs: &[Value], outputs: &[Type]) -> Vec<Value> {
        if self.length == 0 {
            let empty = outputs[self.carried..].iter().map(|ty| w.constant(&HostTensor::zeros(ty.clone())));
            return inputs[self.constants..self.fixed()].iter().cloned().chain(empty).collect();
        }
        let mut values = vec![w.integer(DType::I32, 0)];
        values.extend_from_slice(inputs);
        for ty in &outputs[self.carried..] {
            let zero = w.scalar(ty.dtype, 0.0);
            values.push(w.spread(&zero, &ty.shape));
        }
        let types: Vec<Type> = values.iter().map(|v| v.ty.clone()).collect();
        let mut condition = |w: &mut Writer, v: &[Value]| {
            let length = w.integer(DType::I32, self.length as i128);
            vec![w.compare("LT", &v[0], &length)]
        };
        let mut step = |w: &mut Writer, v: &[Value]| self.iteration(w, v);
        let regions: &mut [(Vec<Type>, Region<'_>)] = &mut [(types.clone(), &mut condition), (types.clone(), &mut step)];
        let last = w.regions("while", &values.iter().collect::<Vec<_>>(), "", &types, regions);
        let carried = &last[1 + self.constants..1 + self.fixed()];
        carried.iter().chain(&last[1 + inputs.len()..]).cloned().collect()
    }

    fn samples() -> Vec<Sample> {
        let shapes: [(usize, usize, usize); 8] =
            [(4, 2, 3), (1, 1, 1), (7, 1, 2), (2, 3, 5), (5, 0, 2), (0, 2, 2), (3, 4, 1), (6, 2, 2)];
        shapes.iter().enumerate().map(|(i, &(length, batch, width))| recurrent_sample(length, batch, width, i % 2 == 1)).collect()
    }
}

/// h' = tanh(x·Wᵀ + h·Uᵀ + b) + 0.1 x, outputs h' and h·x: weights, a bias, a carried value and stacked values all at once.
fn recurrent_sample(length: usize, batch: usize, width: usize, reverse: bool) -> Sample {
    let ty = |shape: &[usize]| Type::new(DType::F64, Shape::from(shape));
    let types = [ty(&[width, width]), ty(&[width, width]), ty(&[width]), ty(&[batch, width]), ty(&[batch, width])];
    let body = Builder::new().trace(&types, |_, v| {
        let [w, u, bias, h, x] = [v[0], v[1], v[2], v[3], v[4]];
        let next = (x.linear(w) + h.linear(u) + bias).tanh() + x * 0.1;
        vec![next, next, h * x]
    });
    let op = Scan { length, constants: 3, carried: 1, reverse, body: body.into() };
    let mut inputs: Vec<(Type, Domain)> = types[..4].iter().map(|t| (t.clone(), Domain::Uniform(0.1, 0.5))).collect();
    inputs.push((stacked(length, &types[4]), Domain::Uniform(0.2, 0.8)));
    Sample::new(op, inputs)
}
