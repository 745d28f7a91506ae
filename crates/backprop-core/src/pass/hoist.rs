//! Moves work out of scans: what no iteration changes is computed once before the loop, and products of stacked inputs with
//! loop-invariant operands become one product over all iterations.

use super::Pass;
use crate::{
    Graph, Type,
    graph::{Node, NodeId, ValueId, subgraph},
    op::{DotGeneral, Op, Scan},
    pass::rewrite::Rewrite,
};

/// Contracted extents up to this give the same bits for any number of rows: one chunk of the matrix product's sum.
pub const EXACT_DEPTH: usize = backprop_kernels::gemm::KC;

/// Hoists loop-invariant nodes and input products.
pub struct Hoist;

impl Pass for Hoist {
    fn name(&self) -> &'static str {
        "hoist"
    }

    fn run(&self, graph: &Graph) -> Graph {
        let mut rewrite = Rewrite::new(graph);
        for (id, node) in graph.iter() {
            match &node.op {
                Op::Scan(scan) if scan.length > 0 => {
                    let inner = Scan { body: self.run(&scan.body).into(), ..scan.clone() };
                    hoist(&mut rewrite, id, &inner);
                }
                _ => rewrite.copy(id),
            }
        }
        rewrite.finish()
    }
}

/// How a body's value is available outside of the loop.
#[derive(Clone, Copy)]
enum Outside {
    /// Changes from iteration to iteration.
    No,
    /// The same in every iteration.
    Invariant(ValueId),
    /// Stacked over iterations.
    Stacked(ValueId),
}

struct Hoisting<'r, 'a> {
    rewrite: &'r mut Rewrite<'a>,
    scan: &'r Scan,
    outside: Vec<Vec<Outside>>,
    /// Invariant values read inside the loop although they are not constants of it yet, and stacked products.
    constants: Vec<(ValueId, ValueId)>,
    stacks: Vec<(ValueId, ValueId)>,
}

fn hoist(rewrite: &mut Rewrite<'_>, id: NodeId, scan: &Scan) {
    let node = rewrite.old.node(id).clone();
    let operands = rewrite.inputs(&node);
    let outside = scan.body.nodes.iter().map(|n| vec![Outside::No; n.outputs.len()]).collect();
    let mut hoisting = Hoisting { rewrite, scan, outside, constants: Vec::new(), stacks: Vec::new() };
    hoisting.bind_inputs(&operands);
    for (inner, body_node) in scan.body.iter() {
        hoisting.visit(inner, body_node);
    }
    hoisting.emit(id, &node, &operands);
}

impl Hoisting<'_, '_> {
    fn bind_inputs(&mut self, operands: &[ValueId]) {
        let fixed = self.scan.constants + self.scan.carried;
        for (i, input) in self.scan.body.inputs.iter().enumerate() {
            let outside = match i {
                _ if i < self.scan.constants => Outside::Invariant(operands[i]),
                _ if i >= fixed => Outside::Stacked(operands[i]),
                _ => Outside::No,
            };
            self.outside[input.node.index()][0] = outside;
        }
    }

    fn outside(&self, v: ValueId) -> Outside {
        self.outside[v.node.index()][v.output as usize]
    }

    fn visit(&mut self, id: NodeId, node: &Node) {
        if matches!(node.op, Op::Input(_) | Op::Barrier(_)) {
            return;
        }
        let invariant: Option<Vec<ValueId>> = node
            .inputs
            .iter()
            .map(|&v| match self.outside(v) {
                Outside::Invariant(v) => Some(v),
                _ => None,
            })
            .collect();
        if let Some(inputs) = invariant {
            let copied = self.rewrite.push(Node { inputs, ..node.clone() });
            for output in 0..node.outputs.len() {
                let value = ValueId { output: output as u32, ..copied };
                self.outside[id.index()][output] = Outside::Invariant(value);
            }
        } else if let Op::DotGeneral(dot) = &node.op {
            self.product(id, node, dot);
        }
    }

    /// A product of a slice with an invariant operand: all iterations' at once.
    fn product(&mut self, id: NodeId, node: &Node, dot: &DotGeneral) {
        let (Outside::Stacked(lhs), Outside::Invariant(rhs)) = (self.outside(node.inputs[0]), self.outside(node.inputs[1]))
        else {
            return;
        };
        let depth = dot.depth(self.scan.body.ty(node.inputs[0]));
        if !dot.lhs_batch.is_empty() || depth > EXACT_DEPTH {
            return;
        }
        let all = DotGeneral { lhs_contracting: dot.lhs_contracting.iter().map(|d| d + 1).collect(), ..dot.clone() };
        let slice = &node.outputs[0];
        let shape = std::iter::once(self.scan.length).chain(slice.shape.iter().copied()).collect();
        let ty = Type { dtype: slice.dtype, shape };
        let product = self.rewrite.apply(all.into(), vec![lhs, rhs], ty, &node.origin);
        self.outside[id.index()][0] = Outside::Stacked(product);
        self.stacks.push((ValueId { node: id, output: 0 }, product));
    }

    /// Rebuilds the scan with hoisted values as constants and stacked inputs.
    fn emit(mut self, id: NodeId, node: &Node, operands: &[ValueId]) {
        self.find_constants();
        let (nc, fixed) = (self.scan.constants, self.scan.constants + self.scan.carried);
        let body = &self.scan.body;
        let slots: Vec<ValueId> = body.inputs.iter().map(|i| ValueId { node: i.node, output: 0 }).collect();
        let join = |old: &[ValueId], constants: Vec<ValueId>, stacks: Vec<ValueId>| {
            [&old[..nc], &constants[..], &old[nc..fixed], &old[fixed..], &stacks[..]].concat()
        };
        let inner = join(&slots, self.constants.iter().map(|c| c.0).collect(), self.stacks.iter().map(|s| s.0).collect());
        let outer = join(operands, self.constants.iter().map(|c| c.1).collect(), self.stacks.iter().map(|s| s.1).collect());
        let op = Scan {
            constants: nc + self.constants.len(),
            body: subgraph(body, &inner, &body.output_values()).into(),
            ..self.scan.clone()
        };
        let rebuilt = Node { op: op.into(), inputs: outer, ..node.clone() };
        let copied = self.rewrite.push(rebuilt);
        self.rewrite.redirect_all(id, copied.node);
    }

    /// Invariant results that an iteration still reads become constants of the loop, unless they are cheap to make anew.
    fn find_constants(&mut self) {
        let body = &self.scan.body;
        let read: Vec<ValueId> = body
            .iter()
            .filter(|(id, n)| !self.hoisted(*id, n))
            .flat_map(|(_, n)| n.inputs.iter().copied())
            .chain(body.output_values())
            .collect();
        for v in read {
            let made = !matches!(body.node(v.node).op, Op::Input(_)) && !is_cheap(body, v);
            if let (true, Outside::Invariant(outer)) = (made, self.outside(v))
                && !self.constants.iter().any(|c| c.0 == v)
            {
                self.constants.push((v, outer));
            }
        }
    }

    fn hoisted(&self, id: NodeId, node: &Node) -> bool {
        !matches!(node.op, Op::Input(_))
            && (0..node.outputs.len()).all(|o| {
                let v = ValueId { node: id, output: o as u32 };
                matches!(self.outside(v), Outside::Invariant(_)) && !is_cheap(&self.scan.body, v)
                    || self.stacks.iter().any(|s| s.0 == v)
            })
    }
}

/// Constants, iota and what only repeats them cost less in the loop than memory to read them from.
fn is_cheap(body: &Graph, v: ValueId) -> bool {
    let node = body.node(v.node);
    match node.op {
        Op::Constant(_) | Op::Iota(_) | Op::BroadcastInDim(_) => true,
        Op::Reshape(_) => is_cheap(body, node.inputs[0]),
        _ => false,
    }
}
