//! Replaces composites by their bodies.

use super::{Pass, rewrite::Rewrite};
use crate::{
    Graph,
    graph::{NodeId, ValueId},
    op::{Composite, Op},
};

/// Replaces every composite by its body, but for those the backend has a kernel for.
pub struct Inline {
    /// Whether a region is left alone.
    pub keep: fn(&Composite) -> bool,
}

impl Pass for Inline {
    fn name(&self) -> &'static str {
        "inline"
    }

    fn run(&self, graph: &Graph) -> Graph {
        let mut rewrite = Rewrite::new(graph);
        for (id, node) in graph.iter() {
            match &node.op {
                Op::Composite(region) if !(self.keep)(region) => {
                    self.splice(&mut rewrite, id, &self.run(&region.body));
                }
                Op::Scan(_) => {
                    let mut node = node.clone();
                    node.inputs = rewrite.inputs(&node);
                    node.op = node.op.map_regions(|body| self.run(body));
                    let copied = rewrite.push(node);
                    rewrite.redirect_all(id, copied.node);
                }
                _ => rewrite.copy(id),
            }
        }
        rewrite.finish()
    }
}

impl Inline {
    /// Copies the nodes of a body that holds no composites to inline any more.
    fn splice(&self, rewrite: &mut Rewrite<'_>, id: NodeId, body: &Graph) {
        let operands = rewrite.inputs(rewrite.old.node(id));
        let origin = rewrite.old.node(id).origin.clone();
        let mut map: Vec<Option<NodeId>> = vec![None; body.nodes.len()];
        let resolve = |map: &[Option<NodeId>], v: ValueId| match body.inputs.iter().position(|i| i.node == v.node) {
            Some(position) => operands[position],
            None => ValueId { node: map[v.node.index()].unwrap_or(v.node), output: v.output },
        };
        for (inner, node) in body.iter().filter(|(_, n)| !matches!(n.op, Op::Input(_))) {
            let mut node = node.clone();
            node.inputs = node.inputs.iter().map(|&v| resolve(&map, v)).collect();
            node.origin.backward |= origin.backward;
            if node.origin.path.is_empty() {
                node.origin.path = origin.path.clone();
            }
            map[inner.index()] = Some(rewrite.push(node).node);
        }
        for (output, o) in body.outputs.iter().enumerate() {
            rewrite.redirect(ValueId { node: id, output: output as u32 }, resolve(&map, o.value));
        }
    }
}
