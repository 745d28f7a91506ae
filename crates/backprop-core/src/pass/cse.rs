//! Common subexpression elimination.

use super::{Pass, rewrite::Rewrite};
use crate::{
    Graph,
    graph::{Node, NodeId},
    op::Op,
};
use std::collections::HashMap;

/// Computes equal operations on equal operands once. Barriers and what stands behind them stay apart; random draws differ in
/// their stream and so never merge.
pub struct Cse;

impl Pass for Cse {
    fn name(&self) -> &'static str {
        "cse"
    }

    fn run(&self, graph: &Graph) -> Graph {
        let mut rewrite = Rewrite::new(graph);
        let mut seen: HashMap<Node, NodeId> = HashMap::new();
        for (id, node) in graph.iter() {
            if matches!(node.op, Op::Input(_) | Op::Barrier(_)) {
                rewrite.copy(id);
                continue;
            }
            let mut node = node.clone();
            node.inputs = rewrite.inputs(&node);
            if let Op::Scan(_) = node.op {
                node.op = node.op.map_regions(|body| self.run(body));
            }
            let first = match seen.get(&node) {
                Some(&first) => first,
                None => {
                    let first = rewrite.push(node.clone()).node;
                    seen.insert(node, first);
                    first
                }
            };
            rewrite.redirect_all(id, first);
        }
        rewrite.finish()
    }
}
