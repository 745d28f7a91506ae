//! Runs loops that do the same once.

use super::{Cse, Pass, rewrite::Rewrite};
use crate::{
    Graph,
    graph::{Node, NodeId, Output, ValueId},
    op::{Op, Scan},
};
use std::collections::HashMap;

/// Merges scans over the same operands whose carried values are the same: one loop stacks what each of them stacks.
///
/// They arise where a composite's body is differentiated: the backward pass needs a loop that also stacks residuals, and the
/// forward pass has the loop without.
pub struct MergeScans;

impl Pass for MergeScans {
    fn name(&self) -> &'static str {
        "merge_scans"
    }

    fn run(&self, graph: &Graph) -> Graph {
        let merges = find(graph);
        let mut rewrite = Rewrite::new(graph);
        for (id, node) in graph.iter() {
            match merges.get(&id) {
                Some(Merge::Into(first, outputs)) => {
                    let merged = rewrite.value(ValueId { node: *first, output: 0 }).node;
                    redirect(&mut rewrite, id, merged, outputs);
                }
                Some(Merge::First(merged)) => {
                    let copied = rewrite.push(Node { inputs: rewrite.inputs(node), ..(**merged).clone() });
                    rewrite.redirect_all(id, copied.node);
                }
                None => {
                    let op = node.op.map_regions(|body| self.run(body));
                    let copied = rewrite.push(Node { op, inputs: rewrite.inputs(node), ..node.clone() });
                    rewrite.redirect_all(id, copied.node);
                }
            }
        }
        rewrite.finish()
    }
}

/// What becomes of a scan that takes part in a merge.
enum Merge {
    /// It is replaced by this one, which gives its outputs and more.
    First(Box<Node>),
    /// Its outputs are these of the merged scan that stands where `first` stood.
    Into(NodeId, Vec<u32>),
}

fn redirect(rewrite: &mut Rewrite<'_>, id: NodeId, merged: NodeId, outputs: &[u32]) {
    for (output, &source) in outputs.iter().enumerate() {
        let old = ValueId { node: id, output: output as u32 };
        rewrite.redirect(old, ValueId { node: merged, output: source });
    }
}

fn find(graph: &Graph) -> HashMap<NodeId, Merge> {
    let mut first: HashMap<&[ValueId], Vec<NodeId>> = HashMap::new();
    let mut merges: HashMap<NodeId, Merge> = HashMap::new();
    for (id, node) in graph.iter() {
        let Op::Scan(scan) = &node.op else { continue };
        let candidates = first.entry(&node.inputs).or_default();
        let merged = candidates.iter().find_map(|&target| {
            let current = match merges.get(&target) {
                Some(Merge::First(merged)) => merged,
                _ => graph.node(target),
            };
            merge(current, scan, node).map(|(merged, outputs)| (target, merged, outputs))
        });
        match merged {
            Some((target, merged, outputs)) => {
                merges.insert(target, Merge::First(Box::new(merged)));
                merges.insert(id, Merge::Into(target, outputs));
            }
            None => candidates.push(id),
        }
    }
    merges
}

/// One scan that gives the outputs of `first`, then those of `second` it lacks; and where each output of `second` is in it.
fn merge(first: &Node, second: &Scan, second_node: &Node) -> Option<(Node, Vec<u32>)> {
    let Op::Scan(a) = &first.op else { return None };
    let shape = |s: &Scan| (s.length, s.constants, s.carried, s.reverse);
    if shape(a) != shape(second) {
        return None;
    }
    let mut body = join(&a.body, &second.body);
    let count = a.body.outputs.len();
    let values = body.output_values();
    if values[..a.carried] != values[count..count + a.carried] {
        return None;
    }
    let mut kept: Vec<ValueId> = values[..count].to_vec();
    let mut outputs = first.outputs.clone();
    let mut places: Vec<u32> = (0..a.carried as u32).collect();
    for (i, &value) in values[count..].iter().enumerate().skip(a.carried) {
        let place = kept[a.carried..].iter().position(|&k| k == value).map(|p| p + a.carried);
        places.push(place.unwrap_or(kept.len()) as u32);
        if place.is_none() {
            kept.push(value);
            outputs.push(second_node.outputs[i].clone());
        }
    }
    let output = |(i, &value): (usize, &ValueId)| Output { name: i.to_string(), value, ..body.outputs[0].clone() };
    body.outputs = kept.iter().enumerate().map(output).collect();
    let op = Scan { body: body.into(), ..a.clone() };
    Some((Node { op: op.into(), outputs, ..first.clone() }, places))
}

/// Both bodies over the same inputs with equal nodes merged; outputs of the first, then of the second.
fn join(a: &Graph, b: &Graph) -> Graph {
    let mut joint = a.clone();
    let mut map: Vec<NodeId> = vec![NodeId(0); b.nodes.len()];
    for (from, to) in b.inputs.iter().zip(&a.inputs) {
        map[from.node.index()] = to.node;
    }
    let mapped = |map: &[NodeId], v: ValueId| ValueId { node: map[v.node.index()], ..v };
    for (id, node) in b.iter().filter(|(_, n)| !matches!(n.op, Op::Input(_))) {
        map[id.index()] = NodeId(joint.nodes.len() as u32);
        let inputs = node.inputs.iter().map(|&v| mapped(&map, v)).collect();
        joint.nodes.push(Node { inputs, ..node.clone() });
    }
    for (i, output) in b.outputs.iter().enumerate() {
        let name = (a.outputs.len() + i).to_string();
        joint.outputs.push(Output { name, value: mapped(&map, output.value), ..output.clone() });
    }
    Cse.run(&joint)
}
