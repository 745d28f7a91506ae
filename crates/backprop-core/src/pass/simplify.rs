//! Exact local simplifications: identities disappear, views of views become one.

use super::{Pass, rewrite::Rewrite};
use crate::{
    DType, Graph,
    graph::{Node, ValueId},
    op::{Binary, BroadcastInDim, Op, Reducer, Reshape, Transpose, Unary},
};

/// Removes identities (also x·1, x/1 and x−0, which are exact where x isn't denormal: such results are zeros) and merges chains of views.
pub struct Simplify;

impl Pass for Simplify {
    fn name(&self) -> &'static str {
        "simplify"
    }

    fn run(&self, graph: &Graph) -> Graph {
        let mut rewrite = Rewrite::new(graph);
        for (id, node) in graph.iter() {
            let mut node = node.clone();
            node.inputs = rewrite.inputs(&node);
            if let Op::Scan(_) = node.op {
                node.op = node.op.map_regions(|body| self.run(body));
            }
            merge_views(&rewrite.new, &mut node);
            match identity(&rewrite.new, &node) {
                Some(same) => rewrite.redirect(ValueId { node: id, output: 0 }, same),
                None => {
                    let copied = rewrite.push(node);
                    rewrite.redirect_all(id, copied.node);
                }
            }
        }
        rewrite.finish()
    }
}

/// The operand a node is equal to, bit for bit.
fn identity(graph: &Graph, node: &Node) -> Option<ValueId> {
    let first = *node.inputs.first()?;
    let same_type = graph.ty(first) == &node.outputs[0];
    let constant = |i: usize, wanted: f64| is_constant(graph, node.inputs[i], wanted);
    let ascending = |dims: &[usize]| dims.iter().enumerate().all(|(i, &d)| i == d);
    match &node.op {
        Op::StopGradient(_) => Some(first),
        Op::Reshape(_) | Op::Convert(_) | Op::BroadcastInDim(_) | Op::Slice(_) if same_type => Some(first),
        // A sum starts at +0, so that it turns −0 into +0 even over nothing.
        Op::Reduce(r) if same_type && r.dims.is_empty() && r.reducer != Reducer::Sum => Some(first),
        Op::Reverse(r) if r.dims.iter().all(|&d| graph.ty(first).shape[d] <= 1) => Some(first),
        Op::Transpose(t) if ascending(&t.permutation) => Some(first),
        Op::Pad(_) if same_type && pads_nothing(&node.op) => Some(first),
        Op::Concatenate(_) if node.inputs.len() == 1 => Some(first),
        Op::Binary(Binary::Mul | Binary::Div) if constant(1, 1.0) && never_denormal(graph, first) => Some(first),
        Op::Binary(Binary::Mul) if constant(0, 1.0) && never_denormal(graph, node.inputs[1]) => Some(node.inputs[1]),
        Op::Binary(Binary::Sub) if constant(1, 0.0) && never_denormal(graph, first) => Some(first),
        Op::Unary(Unary::Neg) => match &graph.node(first.node).op {
            Op::Unary(Unary::Neg) => Some(graph.node(first.node).inputs[0]),
            _ => None,
        },
        _ => None,
    }
}

fn pads_nothing(op: &Op) -> bool {
    matches!(op, Op::Pad(p) if p.low.iter().chain(&p.high).all(|&e| e == 0) && p.interior.iter().all(|&i| i == 0))
}

/// Whether a value is a (broadcast) constant with one value everywhere. Negative zero is not zero here.
fn is_constant(graph: &Graph, v: ValueId, wanted: f64) -> bool {
    let node = graph.node(v.node);
    match &node.op {
        Op::Constant(c) if c.value.ty().elements() == 1 => c.value.to_f64()[0].to_bits() == wanted.to_bits(),
        Op::BroadcastInDim(_) | Op::Reshape(_) => is_constant(graph, node.inputs[0], wanted),
        _ => false,
    }
}

/// Whether arithmetic would keep a value as it is: it's the result of arithmetic itself, which makes zeros of denormals, or of a type that
/// is computed without or in a wider one.
fn never_denormal(graph: &Graph, v: ValueId) -> bool {
    let node = graph.node(v.node);
    match &node.op {
        _ if !matches!(graph.ty(v).dtype, DType::F32 | DType::BF16) => true,
        Op::Binary(Binary::Add | Binary::Sub | Binary::Mul | Binary::Div) => true,
        Op::Unary(Unary::Exp | Unary::Tanh | Unary::Logistic | Unary::Erf | Unary::Sqrt | Unary::Rsqrt) => true,
        Op::Unary(Unary::Neg | Unary::Abs) | Op::Reshape(_) | Op::BroadcastInDim(_) | Op::Transpose(_) | Op::Slice(_) => {
            never_denormal(graph, node.inputs[0])
        }
        _ => false,
    }
}

/// Lets a view read through the view it is applied to.
fn merge_views(graph: &Graph, node: &mut Node) {
    let Some(&first) = node.inputs.first() else { return };
    let inner = graph.node(first.node);
    let merged: Option<Op> = match (&node.op, &inner.op) {
        (Op::Reshape(outer), Op::Reshape(_)) => Some(Reshape { shape: outer.shape.clone() }.into()),
        (Op::Transpose(outer), Op::Transpose(inner)) => {
            let permutation = outer.permutation.iter().map(|&d| inner.permutation[d]).collect();
            Some(Transpose { permutation }.into())
        }
        (Op::BroadcastInDim(outer), Op::BroadcastInDim(inner)) => {
            let dims = inner.dims.iter().map(|&d| outer.dims[d]).collect();
            Some(BroadcastInDim { shape: outer.shape.clone(), dims }.into())
        }
        // A constant scalar under a reshape broadcasts directly.
        (Op::BroadcastInDim(outer), Op::Reshape(_)) if graph.ty(inner.inputs[0]).shape.is_empty() => {
            Some(BroadcastInDim { shape: outer.shape.clone(), dims: Vec::new() }.into())
        }
        _ => None,
    };
    if let Some(op) = merged {
        node.op = op;
        node.inputs = vec![inner.inputs[0]];
    }
}
