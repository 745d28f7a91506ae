//! The derivative of a scan: a scan in the other direction.
//!
//! The forward loop is extended to stack what the backward loop reads. The gradient of a loop-invariant operand is never
//! carried: where it is a sum of products or of reductions over time, the loop stacks their factors and one product (or
//! reduction) over time × batch follows the loop.

use super::{Binary, DotGeneral, Op, Reduce, Reducer, Scan, Vjp, scan::stacked};
use crate::{
    Builder, Tensor, Type,
    graph::{Graph, NodeId, Role, ValueId, subgraph},
};
use std::collections::{HashMap, HashSet};

/// The body together with its derivative as one graph: inputs are the body's, then the cotangents of its outputs.
struct Joint {
    graph: Graph,
    /// Values standing for the body's inputs and outputs.
    inputs: Vec<ValueId>,
    outputs: Vec<ValueId>,
    /// Inputs standing for cotangents of the body's outputs, where they exist.
    cotangents: Vec<Option<ValueId>>,
    /// Cotangent of each body input, where there is one.
    gradients: Vec<Option<ValueId>>,
    /// Number of nodes before differentiation began.
    primal: usize,
}

/// Cotangents of a scan's operands.
pub(super) fn reverse_scan<'g>(scan: &Scan, cx: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
    let Some(b) = cx.outputs.first().map(|t| t.builder()) else { return vec![None; cx.inputs.len()] };
    match Joint::trace(b, scan, cx) {
        Some(joint) => Plan::new(scan, &joint).emit(b, scan, &joint, cx),
        None => vec![None; cx.inputs.len()],
    }
}

impl Joint {
    fn trace(b: &Builder, scan: &Scan, cx: &Vjp<'_>) -> Option<Joint> {
        let inner = Builder::new();
        let input = |prefix: &str, i: usize, ty: Type| inner.input(format!("{prefix}{i}"), Role::Data, ty);
        let inputs: Vec<Tensor> = scan.body.input_types().into_iter().enumerate().map(|(i, ty)| input("x", i, ty)).collect();
        let results = scan.body.output_types();
        // Carried cotangents exist for every floating-point carried value; stacked ones where one arrived.
        let exists = |i: usize| results[i].dtype.is_float() && (i < scan.carried || cx.cotangents[i].is_some());
        let cotangents: Vec<Option<Tensor>> =
            results.iter().enumerate().map(|(i, ty)| exists(i).then(|| input("ct", i, ty.clone()))).collect();
        let outputs = inner.inline(&scan.body, &inputs);
        let primal = inner.with_graph(|g| g.nodes.len());
        let (ys, cts): (Vec<Tensor>, Vec<Tensor>) =
            outputs.iter().zip(&cotangents).filter_map(|(&y, ct)| ct.map(|ct| (y, ct))).unzip();
        let is_carried = |i: usize| (scan.constants..scan.fixed()).contains(&i);
        let wanted: Vec<bool> =
            (0..inputs.len()).map(|i| inputs[i].dtype().is_float() && (cx.wanted[i] || is_carried(i))).collect();
        let mut gradients = crate::grad::vjp_partial(&inner, &ys, &cts, &inputs, &wanted);
        for i in scan.constants..scan.fixed() {
            if wanted[i] && gradients[i].is_none() {
                gradients[i] = Some(inner.zeros(inputs[i].ty()));
            }
        }
        let ids = |ts: &[Tensor]| ts.iter().map(Tensor::id).collect::<Vec<_>>();
        let maybe_ids = |ts: &[Option<Tensor>]| ts.iter().map(|t| t.map(|t| t.id())).collect::<Vec<_>>();
        let parts = (ids(&inputs), ids(&outputs), maybe_ids(&cotangents), maybe_ids(&gradients));
        if let Some(error) = inner.error() {
            b.fail_with(error);
            return None;
        }
        let graph = inner.with_graph(Graph::clone);
        Some(Joint { graph, inputs: parts.0, outputs: parts.1, cotangents: parts.2, gradients: parts.3, primal })
    }

    fn node(&self, v: ValueId) -> &crate::graph::Node {
        self.graph.node(v.node)
    }

    fn is_primal(&self, v: ValueId) -> bool {
        v.node.index() < self.primal && !self.cotangents.contains(&Some(v))
    }
}

/// A contribution to the gradient of a loop-invariant operand, formed after the loop from stacked values.
enum Leaf {
    /// One product over time and what the per-step product contracted.
    Product(DotGeneral, ValueId, ValueId),
    /// One sum over time and what the per-step reduction summed.
    Sum(Vec<usize>, ValueId),
}

/// A leaf and the views (reshape, transpose) applied to it on the way to the gradient, innermost first.
struct Term {
    leaf: Leaf,
    views: Vec<Op>,
}

/// What the two loops hand over.
struct Plan {
    /// Values that change from iteration to iteration.
    varying: Vec<bool>,
    /// Per loop-invariant operand.
    terms: Vec<Vec<Term>>,
    /// Values made by the backward loop that the leaves need, in stacking order.
    made: Vec<ValueId>,
    /// Values of the forward pass that the backward loop or the leaves need.
    residuals: Vec<ValueId>,
}

impl Plan {
    fn new(scan: &Scan, joint: &Joint) -> Plan {
        let mut plan = Plan { varying: varying(scan, joint), terms: Vec::new(), made: Vec::new(), residuals: Vec::new() };
        for i in 0..scan.constants {
            let mut terms = Vec::new();
            joint.gradients[i].iter().for_each(|&g| plan.collect(joint, g, Vec::new(), &mut terms));
            plan.terms.push(terms);
        }
        let stacked: Vec<ValueId> = plan.terms.iter().flatten().flat_map(|t| t.leaf.values()).collect();
        for v in stacked {
            let list = if joint.is_primal(v) { &mut plan.residuals } else { &mut plan.made };
            if !list.contains(&v) {
                list.push(v);
            }
        }
        plan.find_residuals(scan, joint);
        plan
    }

    fn is_varying(&self, v: ValueId) -> bool {
        self.varying[v.node.index()]
    }

    /// Splits a gradient into terms that can be formed after the loop.
    fn collect(&self, joint: &Joint, v: ValueId, views: Vec<Op>, terms: &mut Vec<Term>) {
        let node = joint.node(v);
        match &node.op {
            Op::Binary(Binary::Add) if v.node.index() >= joint.primal => {
                node.inputs.iter().for_each(|&operand| self.collect(joint, operand, views.clone(), terms));
            }
            Op::Reshape(_) | Op::Transpose(_) if v.node.index() >= joint.primal => {
                let views = std::iter::once(node.op.clone()).chain(views).collect();
                self.collect(joint, node.inputs[0], views, terms);
            }
            Op::DotGeneral(dot) if node.inputs.iter().all(|&i| self.is_varying(i)) => {
                terms.push(Term { leaf: Leaf::Product(dot.clone(), node.inputs[0], node.inputs[1]), views });
            }
            Op::Reduce(Reduce { reducer: Reducer::Sum, dims, accumulate })
                if self.is_varying(node.inputs[0]) && *accumulate == joint.graph.ty(node.inputs[0]).dtype =>
            {
                terms.push(Term { leaf: Leaf::Sum(dims.clone(), node.inputs[0]), views });
            }
            _ => terms.push(Term { leaf: Leaf::Sum(Vec::new(), v), views }),
        }
    }

    /// Roots the backward loop computes: cotangents of carried values and of slices, and what the leaves need of it.
    fn roots(&self, scan: &Scan, joint: &Joint) -> Vec<ValueId> {
        joint.gradients[scan.constants..].iter().flatten().copied().chain(self.made.iter().copied()).collect()
    }

    /// Walks back from the roots; forward values that vary are residuals, the rest is computed again.
    fn find_residuals(&mut self, scan: &Scan, joint: &Joint) {
        let mut pending = self.roots(scan, joint);
        let mut seen: HashSet<ValueId> = HashSet::new();
        while let Some(v) = pending.pop() {
            if !seen.insert(v) {
                continue;
            }
            if joint.is_primal(v) && self.is_varying(v) {
                if !self.residuals.contains(&v) {
                    self.residuals.push(v);
                }
            } else {
                pending.extend(&joint.node(v).inputs);
            }
        }
        self.residuals.sort_unstable();
    }

    fn emit<'g>(&self, b: &'g Builder, scan: &Scan, joint: &Joint, cx: &Vjp<'g>) -> Vec<Option<Tensor<'g>>> {
        let mut stacks = self.extend_forward(b, scan, joint, cx);
        let backward = self.backward_scan(b, scan, joint, cx, &mut stacks);
        let mut result: Vec<Option<Tensor<'g>>> = Vec::with_capacity(cx.inputs.len());
        for (i, terms) in self.terms.iter().enumerate() {
            let parts = terms.iter().map(|t| t.emit(&stacks));
            result.push(parts.reduce(|sum, part| sum + part).filter(|_| cx.wanted[i]));
        }
        result.extend(backward);
        result
    }

    /// Makes the forward scan stack the residuals. Returns the stack of each residual.
    fn extend_forward<'g>(&self, b: &'g Builder, scan: &Scan, joint: &Joint, cx: &Vjp<'g>) -> HashMap<ValueId, Tensor<'g>> {
        let mut stacks = HashMap::new();
        let mut outputs = joint.outputs.clone();
        let mut types = b.node(cx.node).outputs;
        for &v in &self.residuals {
            let slice = joint.inputs[scan.fixed()..].iter().position(|&x| x == v);
            let stacked_already = outputs[scan.carried..].iter().position(|&y| y == v);
            let stack = match (slice, stacked_already) {
                (Some(i), _) => cx.inputs[scan.fixed() + i],
                (None, Some(i)) => b.tensor(ValueId { node: cx.node, output: (scan.carried + i) as u32 }),
                (None, None) => {
                    outputs.push(v);
                    types.push(stacked(scan.length, joint.graph.ty(v)));
                    b.tensor(ValueId { node: cx.node, output: outputs.len() as u32 - 1 })
                }
            };
            stacks.insert(v, stack);
        }
        if outputs.len() > joint.outputs.len() {
            let body = subgraph(&joint.graph, &joint.inputs, &outputs).into();
            b.extend_node(cx.node, Op::Scan(Scan { body, ..scan.clone() }), types);
        }
        stacks
    }

    /// Emits the backward scan and records the stacks it makes. Returns the cotangents of initial carried values and slices.
    fn backward_scan<'g>(
        &self,
        b: &'g Builder,
        scan: &Scan,
        joint: &Joint,
        cx: &Vjp<'g>,
        stacks: &mut HashMap<ValueId, Tensor<'g>>,
    ) -> Vec<Option<Tensor<'g>>> {
        let carried: Vec<usize> = (0..scan.carried).filter(|&k| joint.cotangents[k].is_some()).collect();
        let arrived: Vec<usize> = (scan.carried..joint.outputs.len()).filter(|&i| joint.cotangents[i].is_some()).collect();
        let constants = &joint.inputs[..scan.constants];
        let body_inputs: Vec<ValueId> = constants
            .iter()
            .copied()
            .chain(carried.iter().chain(&arrived).filter_map(|&i| joint.cotangents[i]))
            .chain(self.residuals.iter().copied())
            .collect();
        let slices: Vec<Option<ValueId>> = joint.gradients[scan.fixed()..].to_vec();
        let carried_gradients = carried.iter().filter_map(|&k| joint.gradients[scan.constants + k]);
        let body_outputs: Vec<ValueId> =
            carried_gradients.chain(slices.iter().flatten().copied()).chain(self.made.iter().copied()).collect();
        let op = Scan {
            length: scan.length,
            constants: scan.constants,
            carried: carried.len(),
            reverse: !scan.reverse,
            body: subgraph(&joint.graph, &body_inputs, &body_outputs).into(),
        };
        let operands: Vec<Tensor<'g>> = cx.inputs[..scan.constants]
            .iter()
            .copied()
            .chain(carried.iter().chain(&arrived).map(|&i| cx.cotangent(i)))
            .chain(self.residuals.iter().map(|v| stacks[v]))
            .collect();
        if body_outputs.is_empty() {
            return vec![None; cx.inputs.len() - scan.constants];
        }
        let mut given = b.apply(op, &operands).into_iter();
        let mut result = vec![None; scan.carried];
        carried.iter().for_each(|&k| result[k] = given.next());
        result.extend(slices.iter().map(|s| s.and_then(|_| given.next())));
        stacks.extend(self.made.iter().copied().zip(given));
        result
    }
}

/// Which nodes depend on carried values, slices or cotangents.
fn varying(scan: &Scan, joint: &Joint) -> Vec<bool> {
    let sources: HashSet<NodeId> = joint.inputs[scan.constants..].iter().map(|v| v.node).collect();
    let cotangents: HashSet<NodeId> = joint.cotangents.iter().flatten().map(|v| v.node).collect();
    let mut varying = vec![false; joint.graph.nodes.len()];
    for (id, node) in joint.graph.iter() {
        varying[id.index()] =
            sources.contains(&id) || cotangents.contains(&id) || node.inputs.iter().any(|v| varying[v.node.index()]);
    }
    varying
}

impl Leaf {
    fn values(&self) -> Vec<ValueId> {
        match self {
            Leaf::Product(_, l, r) => vec![*l, *r],
            Leaf::Sum(_, v) => vec![*v],
        }
    }
}

impl Term {
    fn emit<'g>(&self, stacks: &HashMap<ValueId, Tensor<'g>>) -> Tensor<'g> {
        let after_time = |dims: &[usize]| dims.iter().map(|d| d + 1).collect::<Vec<_>>();
        let with_time = |dims: &[usize]| std::iter::once(0).chain(after_time(dims)).collect::<Vec<_>>();
        let leaf = match &self.leaf {
            Leaf::Sum(dims, v) => stacks[v].sum(&with_time(dims)),
            Leaf::Product(dot, l, r) => {
                let over_time = DotGeneral {
                    lhs_contracting: with_time(&dot.lhs_contracting),
                    rhs_contracting: with_time(&dot.rhs_contracting),
                    lhs_batch: after_time(&dot.lhs_batch),
                    rhs_batch: after_time(&dot.rhs_batch),
                    accumulate: dot.accumulate,
                };
                stacks[l].dot_general(stacks[r], over_time)
            }
        };
        self.views.iter().fold(leaf, |t, view| t.builder().apply(view.clone(), &[t])[0])
    }
}
