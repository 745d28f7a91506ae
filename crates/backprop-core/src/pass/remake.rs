//! Cheap values that are made again where they are read much later, instead of being kept until then.
//!
//! What a batch norm and an activation make in the forward pass is read at once by the next layer, and again by the gradient of that
//! layer's weights. Kept until then it would go to memory and come back. It follows by a few operations from a tensor that the
//! backward pass reads anyway, so the gradient is given a copy that is made right before it. The same operations on the same operands
//! give the same bits.
//!
//! Likewise which elements an activation let pass: that follows from what it was given, or from what it gave, and one of them is kept.

use super::{fuse::Group, recompute};
use crate::{
    exec::native::ir::{Access, Def, Elementwise, Lowered, Node, NodeOp, Val, Value},
    op::Compare,
};
use std::collections::{BTreeMap, HashMap};

/// Bytes that are made between two readers of a value which leave nothing of it in a cache.
pub(crate) const FAR: usize = 16 << 20;
/// The most operations of a copy.
const OPERATIONS: usize = 8;

/// A value that is made again.
struct Copy {
    /// The nodes that make it from what is in memory, in order.
    nodes: Vec<usize>,
    /// An operand of theirs, and what they read in its place.
    instead: Option<(Val, Val)>,
    value: Val,
    /// The nodes that read the copy, first to last.
    readers: Vec<usize>,
}

/// Gives late readers of cheap values copies of their own; whether there were any. Late is after `far` bytes of other values, a reader is
/// a product that sums over `parts`; `outside` are the values that are needed outside the group that makes them.
pub(crate) fn remake(graph: &mut Lowered, groups: &[Group], outside: &[bool], far: usize, parts: usize) -> bool {
    let copies = Search::new(graph, groups, outside, far, parts).copies();
    insert(graph, &copies);
    !copies.is_empty()
}

struct Search<'a> {
    graph: &'a Lowered,
    groups: &'a [Group],
    outside: &'a [bool],
    far: usize,
    parts: usize,
    group_of: Vec<usize>,
    /// The last node of each group.
    last: Vec<usize>,
    readers: HashMap<Val, Vec<usize>>,
    /// Bytes of what is kept in memory that nodes up to each have made.
    made: Vec<usize>,
}

impl<'a> Search<'a> {
    fn new(graph: &'a Lowered, groups: &'a [Group], outside: &'a [bool], far: usize, parts: usize) -> Search<'a> {
        let mut group_of = vec![usize::MAX; graph.nodes.len()];
        for (g, group) in groups.iter().enumerate() {
            group.nodes.iter().for_each(|&n| group_of[n] = g);
        }
        let mut readers: HashMap<Val, Vec<usize>> = HashMap::new();
        let mut made = Vec::with_capacity(graph.nodes.len());
        let mut sum = 0;
        for (n, node) in graph.nodes.iter().enumerate() {
            node.inputs.iter().for_each(|access| readers.entry(access.value).or_default().push(n));
            sum += node.outputs.iter().filter(|&&v| outside[v]).map(|&v| graph.values[v].ty.bytes()).sum::<usize>();
            made.push(sum);
        }
        let last = groups.iter().map(|group| group.nodes.iter().copied().max().unwrap_or(0)).collect();
        Search { graph, groups, outside, far, parts, group_of, last, readers, made }
    }

    fn copies(&self) -> Vec<Copy> {
        (0..self.graph.nodes.len()).flat_map(|n| self.copy(n).into_iter().chain(self.masks(n))).collect()
    }

    /// The end of the group that a node is in.
    fn end(&self, node: usize) -> usize {
        self.last[self.group_of[node]]
    }

    /// Whether a value is in memory anyway until about when the group of a node runs.
    fn is_kept_for(&self, value: Val, node: usize) -> bool {
        let until = self.readers.get(&value).into_iter().flatten().map(|&r| self.end(r)).max();
        recompute::is_kept(self.graph, value) && until.is_some_and(|last| self.made[self.end(node)] <= self.made[last] + self.far)
    }

    /// Whether a node runs late after another.
    fn is_late(&self, node: usize, after: usize) -> bool {
        self.made[node - 1] - self.made[after] > self.far
    }

    /// Copies of a comparison for the groups that need its result, if that is late, and they can have it from what is in memory anyway.
    fn masks(&self, node: usize) -> Vec<Copy> {
        let Node { op: NodeOp::Elementwise(Elementwise::Compare(_)), outputs, .. } = &self.graph.nodes[node] else {
            return Vec::new();
        };
        let value = outputs[0];
        if self.graph.outputs.iter().any(|o| o.value == value) {
            return Vec::new();
        }
        let mut by_group: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
        for &reader in self.readers.get(&value).into_iter().flatten() {
            by_group.entry(self.group_of[reader]).or_default().push(reader);
        }
        by_group.remove(&self.group_of[node]);
        // What one group cannot make again is kept for all.
        by_group.into_values().map(|readers| self.mask(node, value, readers)).collect::<Option<_>>().unwrap_or_default()
    }

    /// How the readers in one group make a comparison's result again: as it was made, or of what a ReLU gave.
    fn mask(&self, node: usize, value: Val, mut readers: Vec<usize>) -> Option<Copy> {
        readers.dedup();
        let (first, group) = (readers[0], self.group_of[readers[0]]);
        let takes = |nodes: &[usize]| readers.iter().all(|&r| recompute::takes(self.graph, &self.groups[group], r, value, nodes));
        let (mut nodes, mut source) = (Vec::new(), None);
        let cheap = self.collect(node, self.graph.values[value].ty.elements(), &mut nodes, &mut source);
        nodes.sort_unstable();
        let source = source.filter(|&source| cheap && self.is_kept_for(source, first) && takes(&nodes));
        let read_there = source.is_some_and(|source| self.readers[&source].iter().any(|&r| self.group_of[r] == group));
        let rectified = || self.rectified(node).filter(|&(_, to)| self.is_kept_for(to, first) && takes(&[node]));
        let (nodes, instead) = match (if read_there { None } else { rectified() }, source) {
            (Some(instead), _) => (vec![node], Some(instead)),
            (None, Some(_)) => (nodes, None),
            (None, None) => return None,
        };
        self.is_late(first, node).then_some(Copy { nodes, instead, value, readers })
    }

    /// What a node compares with zero, and the [ReLU](crate::Tensor::relu) of that, of which the same comparison gives the same.
    fn rectified(&self, node: usize) -> Option<(Val, Val)> {
        let Node { op: NodeOp::Elementwise(Elementwise::Compare(Compare::Le)), inputs, outputs, .. } = &self.graph.nodes[node]
        else {
            return None;
        };
        let is_zero = matches!(self.graph.values[inputs[1].value].def, Def::Scalar(0)) && self.graph.is_identity(&inputs[0]);
        let selects = |&&r: &&usize| {
            let Node { op: NodeOp::Elementwise(Elementwise::Select), inputs: operands, .. } = &self.graph.nodes[r] else {
                return false;
            };
            let [mask, zero, x] = &operands[..] else { return false };
            mask.value == outputs[0] && self.graph.is_identity(mask) && zero.value == inputs[1].value && *x == inputs[0]
        };
        let relu = *self.readers[&outputs[0]].iter().find(selects)?;
        let to = self.graph.nodes[relu].outputs[0];
        let kept = self.outside[to] && self.copy(relu).is_none();
        (is_zero && kept).then_some((inputs[0].value, to))
    }

    fn copy(&self, node: usize) -> Option<Copy> {
        let &[value] = &self.graph.nodes[node].outputs[..] else { return None };
        let all = self.readers.get(&value).map_or(&[][..], Vec::as_slice);
        let sums =
            |r: usize| matches!(&self.graph.nodes[r].op, NodeOp::Product(product) if product.sum_parts(self.parts).is_some());
        let mut readers: Vec<usize> = all.iter().copied().filter(|&r| self.is_late(r, node)).collect();
        readers.dedup();
        // What another late reader needs is kept anyway.
        if !self.outside[value]
            || readers.is_empty()
            || !readers.iter().all(|&r| sums(r))
            || self.graph.outputs.iter().any(|o| o.value == value)
        {
            return None;
        }
        let (mut nodes, mut source) = (Vec::new(), None);
        let cheap = self.collect(node, self.graph.values[value].ty.elements(), &mut nodes, &mut source);
        let last = *readers.last()?;
        let kept = source.is_some_and(|source| self.readers[&source].iter().any(|&r| self.end(r) > last));
        nodes.sort_unstable();
        (cheap && kept).then_some(Copy { nodes, instead: None, value, readers })
    }

    /// Collects the nodes that make a value of so many elements; whether they are few and cheap, and read one tensor that is in memory.
    fn collect(&self, node: usize, elements: usize, nodes: &mut Vec<usize>, source: &mut Option<Val>) -> bool {
        if nodes.contains(&node) {
            return true;
        }
        nodes.push(node);
        let n = &self.graph.nodes[node];
        let NodeOp::Elementwise(op) = n.op else { return false };
        let cheap = recompute::is_arithmetic(op) || matches!(op, Elementwise::Compare(_) | Elementwise::Select);
        let read = |access: &Access| {
            if recompute::is_small(self.graph, access.value, elements) {
                return true;
            }
            let is_stored =
                |maker: usize| self.outside[access.value] && !matches!(self.graph.nodes[maker].op, NodeOp::Elementwise(_));
            match self.graph.maker(access.value) {
                _ if !self.graph.is_identity(access) => false,
                Some(maker) if self.group_of[maker] == self.group_of[node] && !is_stored(maker) => {
                    self.collect(maker, elements, nodes, source)
                }
                _ => {
                    let same = source.is_none_or(|source| source == access.value);
                    *source = Some(access.value);
                    same && recompute::is_kept(self.graph, access.value)
                }
            }
        };
        cheap && n.inputs.iter().all(read) && nodes.len() <= OPERATIONS
    }
}

/// Puts copies of nodes before the first of their readers, and lets these read them.
fn insert(graph: &mut Lowered, copies: &[Copy]) {
    let mut before: HashMap<usize, Vec<&Copy>> = HashMap::new();
    for copy in copies {
        before.entry(copy.readers[0]).or_default().push(copy);
    }
    let old = std::mem::take(&mut graph.nodes);
    // By reader: the value it read, and the one it reads now.
    let mut instead: HashMap<(usize, Val), Val> = HashMap::new();
    for n in 0..old.len() {
        for copy in before.get(&n).into_iter().flatten() {
            let value = push_copies(graph, &old, copy);
            instead.extend(copy.readers.iter().map(|&reader| ((reader, copy.value), value)));
        }
        let mut node = old[n].clone();
        for access in &mut node.inputs {
            access.value = instead.get(&(n, access.value)).copied().unwrap_or(access.value);
        }
        let at = graph.nodes.len();
        node.outputs.iter().for_each(|&v| graph.values[v].def = Def::Node(at));
        graph.nodes.push(node);
    }
}

/// Appends copies of nodes; the copy of the value.
fn push_copies(graph: &mut Lowered, old: &[Node], copy: &Copy) -> Val {
    let mut made: HashMap<Val, Val> = copy.instead.into_iter().collect();
    for &n in &copy.nodes {
        let mut node = Node { flops: 0, ..old[n].clone() };
        for access in &mut node.inputs {
            access.value = made.get(&access.value).copied().unwrap_or(access.value);
        }
        for output in &mut node.outputs {
            let ty = graph.values[*output].ty.clone();
            graph.values.push(Value { ty, def: Def::Node(graph.nodes.len()) });
            made.insert(*output, graph.values.len() - 1);
            *output = graph.values.len() - 1;
        }
        graph.nodes.push(node);
    }
    made[&copy.value]
}
