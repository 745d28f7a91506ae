//! Attention and its derivative as kernels.

use super::{
    ir::{Access, Lowered, Lowering, Node, NodeOp, Val},
    unit::missing,
    view::View,
};
use crate::{Error, Type, attention::Attention, op::inverse};
use backprop_kernels::{AttentionGradient, AttentionSpec, AttentionStrides, Isa, Kernel};

/// Attention or its derivative.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Form {
    pub attention: Attention,
    pub gradient: bool,
}

impl Form {
    pub fn name(self) -> &'static str {
        if self.gradient { "attention_grad" } else { "attention" }
    }

    /// Position among the operands of what is as the result is: the result itself, its gradient.
    fn results(self) -> [usize; 2] {
        let first = 3 + usize::from(self.attention.masked);
        [first, first + 2]
    }

    /// Position among the derivative's operands of the logarithms, which are read row by row.
    pub fn logarithms(self) -> Option<usize> {
        self.gradient.then_some(self.results()[0] + 1)
    }

    /// The order of dimensions in which an output lies in memory: that of the operand whose rows it has, so that heads are put side by
    /// side again without a copy.
    pub fn order(self, output: usize, inputs: &[Access]) -> Vec<usize> {
        let rank = inputs[0].view.shape.len();
        match (self.gradient, output) {
            (false, 0) => order(&inputs[0].view),
            (false, _) => (0..rank - 1).collect(),
            (true, which) => order(&inputs[which].view),
        }
    }
}

/// Dimensions from the outermost in memory to the innermost, which must be the last one; else as they are.
fn order(view: &View) -> Vec<usize> {
    let rank = view.shape.len();
    let mut order: Vec<usize> = (0..rank).collect();
    if view.strides.iter().any(|&s| s <= 0) {
        return order;
    }
    order.sort_by_key(|&d| std::cmp::Reverse(view.strides[d]));
    if order.last() == Some(&(rank - 1)) { order } else { (0..rank).collect() }
}

/// A type with its dimensions in another order.
fn reordered(ty: &Type, order: &[usize]) -> Type {
    Type::new(ty.dtype, order.iter().map(|&d| ty.shape[d]).collect::<Vec<_>>())
}

fn strides(view: &View) -> AttentionStrides {
    let rank = view.strides.len();
    AttentionStrides { batch: view.strides[..rank - 2].to_vec(), row: view.strides[rank - 2], col: view.strides[rank - 1] }
}

impl Lowering<'_> {
    /// Attention, with outputs laid out as operands are.
    pub(super) fn attention(&mut self, form: Form, inputs: Vec<Access>, types: &[Type], flops: u64) -> Vec<Access> {
        let mut inputs = self.readable(inputs);
        if let Some(at) = form.logarithms() {
            inputs[at] = self.dense(&inputs[at]);
        }
        let orders: Vec<Vec<usize>> = (0..types.len()).map(|i| form.order(i, &inputs)).collect();
        let stored: Vec<Type> = types.iter().zip(&orders).map(|(ty, order)| reordered(ty, order)).collect();
        let values = self.push(NodeOp::Attention(form), inputs, &stored, flops);
        let access = |(value, order): (Val, &Vec<usize>)| {
            let Access { value, view } = self.whole(value);
            Access { value, view: view.transpose(&inverse(order)) }
        };
        values.into_iter().zip(&orders).map(access).collect()
    }
}

/// The kernel of a node.
pub(crate) fn kernel(graph: &Lowered, node: &Node, form: Form, isa: Isa) -> Result<Box<dyn Kernel>, Error> {
    let Attention { masked, causal, scale } = form.attention;
    let inputs = &node.inputs;
    let dtype = graph.values[inputs[0].value].ty.dtype;
    let [q, k, v] = [0, 1, 2].map(|i| &inputs[i].view);
    let rank = q.shape.len();
    let spec = AttentionSpec {
        dtype,
        batch: q.shape[..rank - 2].to_vec(),
        queries: q.shape[rank - 2],
        keys: k.shape[rank - 2],
        features: q.shape[rank - 1],
        values: v.shape[rank - 1],
        causal,
        scale,
    };
    let output = |i: usize| {
        let order = form.order(i, inputs);
        strides(&graph.view(node.outputs[i]).transpose(&inverse(&order)))
    };
    let mask = masked.then(|| strides(&inputs[3].view));
    let factors = [q, k, v].map(strides);
    let factors = [&factors[0], &factors[1], &factors[2]];
    let made: Option<Box<dyn Kernel>> = if form.gradient {
        let [y, g] = form.results().map(|i| strides(&inputs[i].view));
        let outputs = [0, 1, 2].map(output);
        let outputs = [&outputs[0], &outputs[1], &outputs[2]];
        AttentionGradient::new(&spec, factors, mask.as_ref(), [&y, &g], outputs, isa).map(|kernel| Box::new(kernel) as _)
    } else {
        backprop_kernels::Attention::new(&spec, factors, mask.as_ref(), &output(0), isa).map(|kernel| Box::new(kernel) as _)
    };
    made.ok_or_else(|| missing(crate::attention::REGION, dtype))
}
