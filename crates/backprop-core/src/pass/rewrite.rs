//! What passes are written with: copies a graph node by node while values are redirected.

use crate::{
    Graph, Type,
    graph::{Input, Node, NodeId, Origin, Output, ValueId},
    op::Op,
};

/// A graph being copied. Old values map to new ones.
pub(super) struct Rewrite<'a> {
    pub old: &'a Graph,
    pub new: Graph,
    map: Vec<Vec<Option<ValueId>>>,
}

impl<'a> Rewrite<'a> {
    pub fn new(old: &'a Graph) -> Self {
        let map = old.nodes.iter().map(|n| vec![None; n.outputs.len()]).collect();
        Rewrite { old, new: Graph::default(), map }
    }

    /// The new value of an old one that has been copied or redirected.
    pub fn value(&self, old: ValueId) -> ValueId {
        self.map[old.node.index()][old.output as usize].unwrap_or(old)
    }

    pub fn inputs(&self, node: &Node) -> Vec<ValueId> {
        node.inputs.iter().map(|&v| self.value(v)).collect()
    }

    /// Lets an old value be represented by a new one.
    pub fn redirect(&mut self, old: ValueId, new: ValueId) {
        self.map[old.node.index()][old.output as usize] = Some(new);
    }

    /// Adds a node to the new graph; its first value.
    pub fn push(&mut self, node: Node) -> ValueId {
        self.new.nodes.push(node);
        ValueId { node: NodeId(self.new.nodes.len() as u32 - 1), output: 0 }
    }

    /// Adds an operation with one result, made where `origin` says.
    pub fn apply(&mut self, op: Op, inputs: Vec<ValueId>, ty: Type, origin: &Origin) -> ValueId {
        self.push(Node { op, inputs, outputs: vec![ty], origin: origin.clone() })
    }

    /// Copies a node, with its operands mapped, and redirects its values to the copy.
    pub fn copy(&mut self, id: NodeId) {
        let node = self.old.node(id);
        let copied = self.push(Node { inputs: self.inputs(node), ..node.clone() });
        self.redirect_all(id, copied.node);
    }

    /// Redirects every value of an old node to the value of the same number of a new one.
    pub fn redirect_all(&mut self, id: NodeId, new: NodeId) {
        for output in 0..self.old.node(id).outputs.len() as u32 {
            self.redirect(ValueId { node: id, output }, ValueId { node: new, output });
        }
    }

    /// The new graph with the old one's inputs and outputs.
    pub fn finish(mut self) -> Graph {
        let value = |v: ValueId| self.map[v.node.index()][v.output as usize].unwrap_or(v);
        let input = |i: &Input| Input { node: value(ValueId { node: i.node, output: 0 }).node, ..i.clone() };
        self.new.inputs = self.old.inputs.iter().map(input).collect();
        self.new.outputs = self.old.outputs.iter().map(|o| Output { value: value(o.value), ..o.clone() }).collect();
        self.new
    }
}
