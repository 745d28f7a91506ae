use super::Type;
use crate::op::Op;
use std::{
    collections::HashMap,
    hash::{Hash, Hasher},
    panic::Location,
    sync::Arc,
};

/// Position of a node in its graph; operands always come before their users.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct NodeId(pub u32);

impl NodeId {
    /// As an index into [`Graph::nodes`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// One output of one node.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ValueId {
    /// The node that makes the value.
    pub node: NodeId,
    /// Which of its outputs.
    pub output: u32,
}

/// Where a node came from. Never part of a node's identity.
#[derive(Clone, Debug, Default)]
pub struct Origin {
    /// Path of the layer, such as `layers.0`; empty at the top.
    pub path: Arc<str>,
    /// Source line that called the operation.
    pub location: Option<&'static Location<'static>>,
    /// Whether the node was made by differentiation.
    pub backward: bool,
}

/// One application of a primitive.
#[derive(Clone, Debug)]
pub struct Node {
    /// The primitive with its attributes.
    pub op: Op,
    /// Operands.
    pub inputs: Vec<ValueId>,
    /// Types of the outputs.
    pub outputs: Vec<Type>,
    /// Layer path and source location.
    pub origin: Origin,
}

impl PartialEq for Node {
    fn eq(&self, other: &Node) -> bool {
        self.op == other.op && self.inputs == other.inputs && self.outputs == other.outputs
    }
}
impl Eq for Node {}
impl Hash for Node {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.op.hash(state);
        self.inputs.hash(state);
    }
}

/// What an input or output of a graph is to the program that runs it.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Role {
    /// A named tensor that lives between runs (parameter, optimizer state, statistics). A state *output* replaces the state
    /// tensor of the same name, in place.
    State,
    /// Handed over anew for every run, or returned from it.
    Data,
}

/// An input of a graph.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Input {
    /// Unique among the inputs.
    pub name: String,
    /// State or data.
    pub role: Role,
    /// The node ([`Op::Input`]) that stands for it.
    pub node: NodeId,
}

/// An output of a graph.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Output {
    /// Unique among the outputs. For a state output: the name of the state input it replaces.
    pub name: String,
    /// State or data.
    pub role: Role,
    /// The value.
    pub value: ValueId,
}

/// A static computation: nodes in topological order with named, typed inputs and outputs.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Graph {
    /// Nodes; every operand precedes its users.
    pub nodes: Vec<Node>,
    /// Inputs in calling order.
    pub inputs: Vec<Input>,
    /// Outputs in calling order.
    pub outputs: Vec<Output>,
}

impl Graph {
    /// The node of that id.
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.index()]
    }

    /// The type of a value.
    pub fn ty(&self, value: ValueId) -> &Type {
        &self.node(value.node).outputs[value.output as usize]
    }

    /// Types of the inputs, in order.
    pub fn input_types(&self) -> Vec<Type> {
        self.inputs.iter().map(|i| self.node(i.node).outputs[0].clone()).collect()
    }

    /// Types of the outputs, in order.
    pub fn output_types(&self) -> Vec<Type> {
        self.outputs.iter().map(|o| self.ty(o.value).clone()).collect()
    }

    /// Values of the outputs, in order.
    pub fn output_values(&self) -> Vec<ValueId> {
        self.outputs.iter().map(|o| o.value).collect()
    }

    /// Iterates over (id, node) in topological order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = (NodeId, &Node)> {
        self.nodes.iter().enumerate().map(|(i, n)| (NodeId(i as u32), n))
    }

    /// For every node, how often its values are used by other nodes and by the graph's outputs.
    pub fn use_counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.nodes.len()];
        let used = self.nodes.iter().flat_map(|n| &n.inputs).chain(self.outputs.iter().map(|o| &o.value));
        used.for_each(|v| counts[v.node.index()] += 1);
        counts
    }
}

/// The part of a graph that computes `outputs` from `inputs`: a graph of its own with data inputs and outputs named by
/// position. Nodes that need nothing of the inputs (constants) come along; other inputs of the graph must not be needed.
pub fn subgraph(graph: &Graph, inputs: &[ValueId], outputs: &[ValueId]) -> Graph {
    let mut needed = vec![false; graph.nodes.len()];
    let mark = |v: &ValueId, needed: &mut Vec<bool>| {
        if !inputs.contains(v) {
            needed[v.node.index()] = true;
        }
    };
    outputs.iter().for_each(|v| mark(v, &mut needed));
    for (id, node) in graph.iter().rev() {
        if needed[id.index()] {
            node.inputs.iter().for_each(|v| mark(v, &mut needed));
        }
    }
    let mut part = Graph::default();
    let mut map: HashMap<ValueId, ValueId> = HashMap::new();
    for (i, &v) in inputs.iter().enumerate() {
        let ty = graph.ty(v).clone();
        let op = Op::Input(crate::op::InputOp { ty: ty.clone() });
        part.nodes.push(Node { op, inputs: Vec::new(), outputs: vec![ty], origin: graph.node(v.node).origin.clone() });
        let node = NodeId(i as u32);
        part.inputs.push(Input { name: i.to_string(), role: Role::Data, node });
        map.insert(v, ValueId { node, output: 0 });
    }
    for (id, node) in graph.iter().filter(|(id, _)| needed[id.index()]) {
        let copied = NodeId(part.nodes.len() as u32);
        let operands = node.inputs.iter().map(|v| map[v]).collect();
        part.nodes.push(Node { inputs: operands, ..node.clone() });
        for output in 0..node.outputs.len() as u32 {
            map.entry(ValueId { node: id, output }).or_insert(ValueId { node: copied, output });
        }
    }
    for (i, v) in outputs.iter().enumerate() {
        part.outputs.push(Output { name: i.to_string(), role: Role::Data, value: map[v] });
    }
    part
}
