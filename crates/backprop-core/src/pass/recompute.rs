//! Cheap elementwise values that are computed where they are read, instead of being stored.
//!
//! A value that follows from one tensor of its size and small ones by a few arithmetic operations (what a batch norm centres,
//! what it normalises) is read from memory as slowly as that tensor. Every kernel that reads it reads the tensor and computes it
//! once more: the writing is saved, and one value is kept where the other was. The same operation on the same operands gives the
//! same bits. A table that is mostly zeros is made of its rows wherever it is read.

use super::fuse::{Group, Kind, MAX_NODES};
use crate::{
    exec::native::ir::{Def, Elementwise, Lowered, Node, NodeOp, Val},
    op::{Binary, Unary},
};
use std::collections::HashMap;

/// Chains are undone one value after the other, at most this many.
pub(crate) const ROUNDS: usize = 3;
/// Operands at least this many times smaller than the result cost nothing to read.
const SMALL: usize = 8;
/// Room in a group for what other rounds add.
const ROOM: usize = 8;

/// Gives every kernel that reads a cheap stored value a node of its own that makes it; whether there was any.
pub(crate) fn recompute(graph: &mut Lowered, groups: &[Group]) -> bool {
    let mut group_of = vec![usize::MAX; graph.nodes.len()];
    for (g, group) in groups.iter().enumerate() {
        group.nodes.iter().for_each(|&n| group_of[n] = g);
    }
    let mut readers: HashMap<Val, Vec<usize>> = HashMap::new();
    for (n, node) in graph.nodes.iter().enumerate() {
        node.inputs.iter().for_each(|access| readers.entry(access.value).or_default().push(n));
    }
    let mut copies: HashMap<usize, Vec<usize>> = HashMap::new();
    for n in (0..graph.nodes.len()).filter(|&n| is_cheap(graph, n)) {
        let value = graph.nodes[n].outputs[0];
        let of_others = |&&r: &&usize| group_of[r] != group_of[n];
        let foreign: Vec<usize> = readers.get(&value).into_iter().flatten().filter(of_others).copied().collect();
        let can_take = |&r: &usize| takes(graph, &groups[group_of[r]], r, value, &[n]);
        if !foreign.is_empty() && foreign.iter().all(can_take) {
            copies.insert(n, foreign);
        }
    }
    // An operand that is itself no longer stored is dealt with in the next round.
    let unstored: Vec<usize> = copies.keys().copied().collect();
    copies.retain(|&n, _| graph.nodes[n].inputs.iter().all(|a| graph.maker(a.value).is_none_or(|m| !unstored.contains(&m))));
    if copies.is_empty() {
        return false;
    }
    insert(graph, &copies, &group_of);
    true
}

/// Whether a node is a cheap function of one tensor of its size and small ones, and its result need not be stored.
fn is_cheap(graph: &Lowered, node: usize) -> bool {
    let n = &graph.nodes[node];
    let NodeOp::Elementwise(op) = n.op else { return false };
    let unseen = |v: Val| graph.outputs.iter().all(|o| o.value != v);
    if op == Elementwise::SparseRows {
        return unseen(n.outputs[0]);
    }
    let value = n.outputs[0];
    let elements = graph.values[value].ty.elements();
    let large = || n.inputs.iter().filter(|a| !is_small(graph, a.value, elements));
    let mut tensors: Vec<Val> = large().map(|a| a.value).collect();
    tensors.dedup();
    is_arithmetic(op)
        && elements > SMALL
        && tensors.len() == 1
        && is_kept(graph, tensors[0])
        && graph.values[tensors[0]].ty.elements() <= elements
        && large().all(|a| graph.is_identity(a))
        && unseen(value)
}

/// Whether an operation takes next to no time.
pub(crate) fn is_arithmetic(op: Elementwise) -> bool {
    matches!(
        op,
        Elementwise::Unary(Unary::Neg | Unary::Abs)
            | Elementwise::Binary(Binary::Add | Binary::Sub | Binary::Mul | Binary::Max | Binary::Min)
    )
}

/// Whether a value costs nothing to read beside so many elements.
pub(crate) fn is_small(graph: &Lowered, value: Val, elements: usize) -> bool {
    graph.values[value].ty.elements() * SMALL <= elements
}

/// Whether a value is in memory as long as anybody reads it.
pub(crate) fn is_kept(graph: &Lowered, value: Val) -> bool {
    match graph.values[value].def {
        Def::Node(_) => true,
        // State is replaced as soon as nobody reads it any more.
        Def::Input(i) => !graph.replaces.values().any(|&r| r == i),
        _ => false,
    }
}

/// Whether a reader's group can make a value for itself, by copies of these nodes.
pub(crate) fn takes(graph: &Lowered, group: &Group, reader: usize, value: Val, nodes: &[usize]) -> bool {
    let r = &graph.nodes[reader];
    let by_element = match (&r.op, group.kind) {
        (NodeOp::Elementwise(e), Kind::Tile | Kind::Tiled(_) | Kind::Reduce(_)) => !e.reads_fixed_elements(),
        (NodeOp::Reduce(_), Kind::Reduce(_)) => true,
        _ => false,
    };
    // Only then has the group as many elements as the value.
    let whole = || r.inputs.iter().filter(|a| a.value == value).all(|a| graph.is_identity(a));
    let readable = |&n: &usize| {
        let node = &graph.nodes[n];
        let fixed = matches!(node.op, NodeOp::Elementwise(e) if e.reads_fixed_elements());
        fixed || node.inputs.iter().all(|a| a.view.reshape(&group.dims).is_some())
    };
    by_element && whole() && nodes.iter().all(readable) && group.nodes.len() + nodes.len() + ROOM <= MAX_NODES
}

/// Puts copies of nodes behind them, one for each group of readers, and lets these read them.
fn insert(graph: &mut Lowered, copies: &HashMap<usize, Vec<usize>>, group_of: &[usize]) {
    let old = std::mem::take(&mut graph.nodes);
    // By reader: the value it read, and the one it reads now.
    let mut instead: HashMap<(usize, Val), Val> = HashMap::new();
    for (n, mut node) in old.into_iter().enumerate() {
        for access in &mut node.inputs {
            access.value = instead.get(&(n, access.value)).copied().unwrap_or(access.value);
        }
        let mut made: HashMap<usize, Val> = HashMap::new();
        let readers = copies.get(&n).map_or(&[][..], Vec::as_slice);
        let mut copied: Vec<Node> = Vec::new();
        for &reader in readers {
            let value = *made.entry(group_of[reader]).or_insert_with(|| {
                let ty = graph.values[node.outputs[0]].ty.clone();
                graph.values.push(crate::exec::native::ir::Value { ty, def: Def::Node(0) });
                let value = graph.values.len() - 1;
                copied.push(Node { outputs: vec![value], flops: 0, ..node.clone() });
                value
            });
            instead.insert((reader, node.outputs[0]), value);
        }
        for node in std::iter::once(node).chain(copied) {
            let at = graph.nodes.len();
            node.outputs.iter().for_each(|&v| graph.values[v].def = Def::Node(at));
            graph.nodes.push(node);
        }
    }
}
