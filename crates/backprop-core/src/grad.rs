//! Reverse-mode differentiation as a transform of the graph. The rules themselves stand with the primitives.
//!
//! Gradients are made of the same primitives, so they can be differentiated again; [`jvp`] and [`hvp`] stand on that.

use crate::{
    Builder, Tensor,
    graph::{NodeId, ValueId},
    op::{Derivative, Op, Vjp},
};
use std::{cell::RefCell, collections::HashMap};

/// Gradients of a floating-point scalar. A tensor it does not depend on gets zeros.
///
/// A `loss` that is not a floating-point scalar is an error of the graph.
#[track_caller]
pub fn grad<'g>(loss: Tensor<'g>, wrt: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
    let ty = loss.ty();
    if !ty.dtype.is_float() || !ty.shape.is_empty() {
        let message = "only a floating-point scalar has a gradient; reduce it with sum or mean, or use vjp";
        loss.builder().fail("grad", &[ty], message.into());
        return wrt.to_vec();
    }
    vjp(&[loss], &[loss.like(1.0)], wrt)
}

/// A function's value and its gradients with respect to its arguments.
#[track_caller]
pub fn value_and_grad<'g>(args: &[Tensor<'g>], f: impl FnOnce(&[Tensor<'g>]) -> Tensor<'g>) -> (Tensor<'g>, Vec<Tensor<'g>>) {
    let loss = f(args);
    (loss, grad(loss, args))
}

/// Vector–Jacobian product: Σ cotangentᵢ · ∂yᵢ/∂x for every x. Zeros where nothing depends on x.
#[track_caller]
pub fn vjp<'g>(ys: &[Tensor<'g>], cotangents: &[Tensor<'g>], xs: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
    let Some(first) = ys.first().or(xs.first()) else { return Vec::new() };
    let b = first.builder();
    for (y, ct) in ys.iter().zip(cotangents) {
        if y.ty() != ct.ty() {
            b.fail("vjp", &[y.ty(), ct.ty()], "a cotangent must have the type of its value".into());
            return xs.to_vec();
        }
    }
    let gradients = vjp_partial(b, ys, cotangents, xs, &vec![true; xs.len()]);
    gradients.into_iter().zip(xs).map(|(g, x)| g.unwrap_or_else(|| b.zeros(x.ty()))).collect()
}

/// Jacobian–vector product: ∂y/∂x · v, by transposing the (linear) vector–Jacobian product once more.
#[track_caller]
pub fn jvp<'g>(ys: &[Tensor<'g>], xs: &[Tensor<'g>], vs: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
    let duals: Vec<Tensor<'g>> = ys.iter().map(|y| y.builder().zeros(y.ty())).collect();
    let pulled = vjp(ys, &duals, xs);
    vjp(&pulled, vs, &duals)
}

/// Hessian–vector product of a scalar: the gradient of Σ gradient·v.
#[track_caller]
pub fn hvp<'g>(loss: Tensor<'g>, xs: &[Tensor<'g>], vs: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
    let gradients = grad(loss, xs);
    vjp(&gradients, vs, xs)
}

/// As [`vjp`], but `None` where nothing depends on x or it is not wanted.
pub(crate) fn vjp_partial<'g>(
    b: &'g Builder,
    ys: &[Tensor<'g>],
    cotangents: &[Tensor<'g>],
    xs: &[Tensor<'g>],
    wanted: &[bool],
) -> Vec<Option<Tensor<'g>>> {
    let sources: Vec<ValueId> = xs.iter().zip(wanted).filter(|(_, w)| **w).map(|(x, _)| x.id()).collect();
    let active = Active::new(b, &sources);
    let mut sums: HashMap<ValueId, Tensor<'g>> = HashMap::new();
    for (y, &ct) in ys.iter().zip(cotangents) {
        accumulate(&mut sums, y.id(), ct, "");
    }
    let last = ys.iter().map(|y| y.id().node.0).max();
    b.backward(|| {
        for id in (0..=last.unwrap_or(0)).rev().map(NodeId) {
            if active.node(id) {
                pull_back(b, id, &active, &mut sums);
            }
        }
    });
    xs.iter().zip(wanted).map(|(x, &w)| sums.get(&x.id()).copied().filter(|_| w)).collect()
}

/// Applies the rule of one node and adds what it gives to the cotangents of the operands.
fn pull_back<'g>(b: &'g Builder, id: NodeId, active: &Active, sums: &mut HashMap<ValueId, Tensor<'g>>) {
    let node = b.node(id);
    let values: Vec<ValueId> = (0..node.outputs.len() as u32).map(|output| ValueId { node: id, output }).collect();
    let cotangents: Vec<_> = values.iter().map(|v| sums.get(v).copied()).collect();
    if cotangents.iter().all(Option::is_none) {
        return;
    }
    let _scope = b.scope_at(node.origin.path.clone());
    let cx = Vjp {
        node: id,
        inputs: node.inputs.iter().map(|&v| b.tensor(v)).collect(),
        outputs: values.into_iter().map(|v| b.tensor(v)).collect(),
        cotangents,
        wanted: node.inputs.iter().map(|&v| active.value(v)).collect(),
    };
    match node.op.vjp(&cx) {
        Derivative::Rule(gradients) => {
            for (i, gradient) in gradients.into_iter().enumerate().filter(|(i, _)| cx.wanted[*i]) {
                let Some(gradient) = gradient.and_then(|g| faulty(node.op.name(), g)) else { continue };
                accumulate(sums, node.inputs[i], gradient, node.op.name());
            }
        }
        Derivative::Zero(_) => {}
        Derivative::Undefined(why) => {
            let operands: Vec<_> = cx.inputs.iter().map(Tensor::ty).collect();
            b.fail(node.op.name(), &operands, format!("has no derivative: {why}"));
        }
    }
}

fn accumulate<'g>(sums: &mut HashMap<ValueId, Tensor<'g>>, value: ValueId, ct: Tensor<'g>, op: &str) {
    let overwrite = FAULT.with_borrow(|f| f.as_ref().is_some_and(|f| f.kind == FaultKind::Overwrite && f.op == op));
    let sum = match sums.get(&value) {
        Some(&sum) if !overwrite => sum + ct,
        _ => ct,
    };
    sums.insert(value, sum);
}

/// Which values depend on the sources through floating-point values.
struct Active {
    sources: Vec<ValueId>,
    nodes: Vec<bool>,
    float: Vec<Vec<bool>>,
}

impl Active {
    fn new(b: &Builder, sources: &[ValueId]) -> Active {
        b.with_graph(|graph| {
            let float = graph.nodes.iter().map(|n| n.outputs.iter().map(|t| t.dtype.is_float()).collect()).collect();
            let mut active = Active { sources: sources.to_vec(), nodes: vec![false; graph.nodes.len()], float };
            let first = sources.iter().map(|s| s.node.index()).min().unwrap_or(graph.nodes.len());
            for i in first..graph.nodes.len() {
                let node = &graph.nodes[i];
                active.nodes[i] = !matches!(node.op, Op::StopGradient(_)) && node.inputs.iter().any(|&v| active.value(v));
            }
            active
        })
    }

    /// Whether a node has an active operand.
    fn node(&self, id: NodeId) -> bool {
        self.nodes[id.index()]
    }

    /// Whether a value is a source or depends on one, and is floating point.
    fn value(&self, v: ValueId) -> bool {
        self.float[v.node.index()][v.output as usize] && (self.nodes[v.node.index()] || self.sources.contains(&v))
    }
}

/// A deliberate mistake in the derivative of one primitive: the negative control of a gradient checker.
#[doc(hidden)]
#[derive(Clone, PartialEq, Debug)]
pub struct Fault {
    /// Name of the primitive.
    pub op: String,
    /// What goes wrong.
    pub kind: FaultKind,
}

/// Kinds of deliberate mistakes.
#[doc(hidden)]
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum FaultKind {
    /// Every cotangent is scaled by 1.01.
    Scale,
    /// No cotangent reaches the operands.
    Drop,
    /// At a fan-out the cotangent replaces the others instead of being added.
    Overwrite,
}

thread_local! {
    static FAULT: RefCell<Option<Fault>> = const { RefCell::new(None) };
}

/// Runs `f` while this thread differentiates with a deliberate mistake.
#[doc(hidden)]
pub fn with_fault<R>(fault: Fault, f: impl FnOnce() -> R) -> R {
    FAULT.set(Some(fault));
    let result = f();
    FAULT.set(None);
    result
}

fn faulty<'g>(op: &str, gradient: Tensor<'g>) -> Option<Tensor<'g>> {
    let kind = FAULT.with_borrow(|f| f.as_ref().filter(|f| f.op == op).map(|f| f.kind));
    match kind {
        Some(FaultKind::Drop) => None,
        Some(FaultKind::Scale) => Some(gradient * 1.01),
        _ => Some(gradient),
    }
}
