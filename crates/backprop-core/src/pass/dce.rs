//! Dead code elimination, also through scans: stacked results nobody reads and operands the body ignores disappear.

use super::{Pass, rewrite::Rewrite};
use crate::{
    Graph,
    graph::{Node, NodeId, ValueId, subgraph},
    op::{Op, Scan},
};

/// Removes what no output needs. Inputs stay: they are the graph's signature.
pub struct Dce;

impl Pass for Dce {
    fn name(&self) -> &'static str {
        "dce"
    }

    fn run(&self, graph: &Graph) -> Graph {
        let live = live_values(graph);
        let mut rewrite = Rewrite::new(graph);
        for (id, node) in graph.iter() {
            let used = &live[id.index()];
            match &node.op {
                Op::Input(_) => rewrite.copy(id),
                _ if !used.contains(&true) => {}
                Op::Scan(scan) => self.trim(&mut rewrite, id, scan, used),
                _ => rewrite.copy(id),
            }
        }
        rewrite.finish()
    }
}

/// For every value, whether an output depends on it.
fn live_values(graph: &Graph) -> Vec<Vec<bool>> {
    let mut live: Vec<Vec<bool>> = graph.nodes.iter().map(|n| vec![false; n.outputs.len()]).collect();
    let mark = |live: &mut Vec<Vec<bool>>, v: &ValueId| live[v.node.index()][v.output as usize] = true;
    graph.outputs.iter().for_each(|o| mark(&mut live, &o.value));
    for (id, node) in graph.iter().rev() {
        if live[id.index()].contains(&true) {
            node.inputs.iter().for_each(|v| mark(&mut live, v));
        }
    }
    live
}

impl Dce {
    /// Copies a scan without the stacked results that are dead and the operands its body then ignores.
    fn trim(&self, rewrite: &mut Rewrite<'_>, id: NodeId, scan: &Scan, used: &[bool]) {
        let node = rewrite.old.node(id);
        let outputs: Vec<usize> = (0..node.outputs.len()).filter(|&i| i < scan.carried || used[i]).collect();
        let body_inputs: Vec<ValueId> = scan.body.inputs.iter().map(|i| ValueId { node: i.node, output: 0 }).collect();
        let results = scan.body.output_values();
        let kept_results: Vec<ValueId> = outputs.iter().map(|&i| results[i]).collect();
        let body = self.run(&subgraph(&scan.body, &body_inputs, &kept_results));
        let counts = body.use_counts();
        let fixed = scan.constants..scan.constants + scan.carried;
        let needed = |i: usize| fixed.contains(&i) || counts[body.inputs[i].node.index()] > 0;
        let inputs: Vec<usize> = (0..body.inputs.len()).filter(|&i| needed(i)).collect();
        let kept_inputs: Vec<ValueId> = inputs.iter().map(|&i| ValueId { node: body.inputs[i].node, output: 0 }).collect();
        let op = Scan {
            constants: inputs.iter().filter(|&&i| i < scan.constants).count(),
            body: subgraph(&body, &kept_inputs, &body.output_values()).into(),
            ..scan.clone()
        };
        let operands = rewrite.inputs(node);
        let trimmed = Node {
            op: op.into(),
            inputs: inputs.iter().map(|&i| operands[i]).collect(),
            outputs: outputs.iter().map(|&i| node.outputs[i].clone()).collect(),
            origin: node.origin.clone(),
        };
        let copied = rewrite.push(trimmed);
        for (new, &old) in outputs.iter().enumerate() {
            let old = ValueId { node: id, output: old as u32 };
            rewrite.redirect(old, ValueId { output: new as u32, ..copied });
        }
    }
}
