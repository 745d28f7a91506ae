//! Chains: kernels that run one after the other sample by sample, so that what one makes the next finds in a cache.
//!
//! Where a kernel's outputs for a sample follow from its operands for the same sample and from what all samples share (weights,
//! statistics), it need not wait until its operands are known for all samples. Such kernels are linked as long as what they make of
//! a sample fits a core's cache together. Only the order in which elements are computed changes: no bit does.

use super::fuse::{Group, Kind};
use crate::{
    exec::native::ir::{Access, Def, Lowered, Node, NodeOp, Val},
    op::{Op, ReduceWindow, SelectAndGather, SelectAndScatter},
};
use std::collections::{BTreeSet, HashMap};

/// When kernels are linked.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Fewer samples than this would leave cores idle.
    pub fewest: usize,
    /// Bytes of a sample's share in a value that are worth a task of its own.
    pub least: usize,
    /// Bytes that the members of a chain make of one sample, at most: they stay in a second-level cache.
    pub most: usize,
    /// A value of fewer bytes stays in a cache anyway.
    pub large: usize,
    /// Rows of a sample that are worth a product of their own.
    pub rows: usize,
    /// Likewise of a product that is no convolution: for each sample its weights come from a cache that others share, and they are
    /// more than what it makes.
    pub dense_rows: usize,
    /// Bytes that are made between two readers of a cheap value if the later one is to [make it again](super::remake).
    pub far: usize,
}

impl Limits {
    /// What pays.
    pub const USUAL: Limits =
        Limits { fewest: 16, least: 16 << 10, most: 1 << 20, large: 1 << 20, rows: 16, dense_rows: 512, far: super::remake::FAR };
    /// Whatever can be linked is.
    pub const NONE: Limits = Limits { fewest: 2, least: 0, most: usize::MAX, large: 0, rows: 0, dense_rows: 0, far: 0 };

    /// Rows of a sample that are worth this product of their own.
    fn rows_of(&self, graph: &Lowered, product: usize) -> usize {
        match &graph.nodes[product].op {
            NodeOp::Product(product) if product.is_dense() => self.dense_rows,
            _ => self.rows,
        }
    }
}

/// Longer sums may be split into parts, in a way that depends on how many there are.
const TERMS: usize = 7 * backprop_kernels::gemm::KC;

/// The elements of each value from one part of a group's work to the next; 0 where all parts read the same.
pub(crate) type Steps = HashMap<Val, isize>;

/// Groups of nodes that run part by part.
#[derive(Debug)]
pub(crate) struct Chain {
    /// In the order in which they run, with how far their parts are apart.
    pub groups: Vec<(usize, Steps)>,
}

/// Whether a group sums over the parts: its results are there when all parts are done, and no part has a share in them.
fn is_sum(graph: &Lowered, group: &Group, steps: &Steps) -> bool {
    matches!(group.nodes[..], [n] if steps.get(&graph.nodes[n].outputs[0]) == Some(&0))
}

/// Links groups to chains of `parts` parts; groups that stay alone are in none.
pub(crate) fn chains(graph: &Lowered, groups: &[Group], outside: &[bool], parts: usize, limits: Limits) -> Vec<Chain> {
    if parts < limits.fewest {
        return Vec::new();
    }
    let mut linking = Linking::new(graph, groups, outside, parts, limits);
    for group in linking.order() {
        linking.add(group);
    }
    let mut steps = linking.steps;
    let several = linking.clusters.into_iter().filter(|cluster| cluster.groups.len() > 1);
    let mut with_steps = |g: usize| Some((g, steps[g].take()?));
    several.map(|cluster| Chain { groups: cluster.groups.into_iter().filter_map(&mut with_steps).collect() }).collect()
}

/// Groups that will run as one.
#[derive(Default)]
struct Cluster {
    groups: Vec<usize>,
    /// Clusters it reads of.
    before: BTreeSet<usize>,
    /// Bytes it makes of a sample.
    bytes: usize,
}

struct Linking<'a> {
    graph: &'a Lowered,
    groups: &'a [Group],
    outside: &'a [bool],
    parts: usize,
    limits: Limits,
    group_of: Vec<usize>,
    /// Of the groups that have parts.
    steps: Vec<Option<Steps>>,
    cluster_of: Vec<usize>,
    clusters: Vec<Cluster>,
}

impl<'a> Linking<'a> {
    fn new(graph: &'a Lowered, groups: &'a [Group], outside: &'a [bool], parts: usize, limits: Limits) -> Linking<'a> {
        let mut group_of = vec![usize::MAX; graph.nodes.len()];
        for (g, group) in groups.iter().enumerate() {
            group.nodes.iter().for_each(|&n| group_of[n] = g);
        }
        let tall = |group: &Group| match group.kind {
            Kind::Tiled(n) => rows(graph, n).is_none_or(|rows| rows / parts >= limits.rows_of(graph, n)),
            _ => true,
        };
        let steps: Vec<Option<Steps>> = groups
            .iter()
            .map(|group| steps(graph, group, parts).filter(|steps| is_sum(graph, group, steps) || tall(group)))
            .collect();
        let cluster_of = vec![usize::MAX; groups.len()];
        Linking { graph, groups, outside, parts, limits, group_of, steps, cluster_of, clusters: Vec::new() }
    }

    /// What a group reads of other groups.
    fn reads(&self, group: usize) -> impl Iterator<Item = (usize, &'a Access)> + '_ {
        let inputs = self.groups[group].nodes.iter().flat_map(|&n| &self.graph.nodes[n].inputs);
        let made = inputs.filter_map(|access| Some((self.group_of[self.graph.maker(access.value)?], access)));
        made.filter(move |&(maker, _)| maker != group)
    }

    /// The groups in topological order, as they were traced where there is a choice.
    fn order(&self) -> Vec<usize> {
        let mut missing: Vec<BTreeSet<usize>> =
            (0..self.groups.len()).map(|g| self.reads(g).map(|(maker, _)| maker).collect()).collect();
        let mut users: Vec<Vec<usize>> = vec![Vec::new(); self.groups.len()];
        for (g, makers) in missing.iter().enumerate() {
            makers.iter().for_each(|&m| users[m].push(g));
        }
        let rank = |g: usize| (self.groups[g].nodes.last().copied(), g);
        let mut ready: BTreeSet<_> = (0..self.groups.len()).filter(|&g| missing[g].is_empty()).map(rank).collect();
        let mut order = Vec::with_capacity(self.groups.len());
        while let Some((_, group)) = ready.pop_first() {
            order.push(group);
            for &user in &users[group] {
                missing[user].remove(&group);
                if missing[user].is_empty() {
                    ready.insert(rank(user));
                }
            }
        }
        order
    }

    /// Puts a group into the cluster it reads most of, or into one of its own.
    fn add(&mut self, group: usize) {
        let before = self.before(group);
        let made = self.made(group);
        let home = self
            .homes(group)
            .into_iter()
            .find(|&(_, home)| self.clusters[home].bytes + made <= self.limits.most && self.follows(&before, home));
        let home = home.map_or_else(
            || {
                self.clusters.push(Cluster::default());
                self.clusters.len() - 1
            },
            |(_, home)| home,
        );
        if self.steps[group].as_ref().is_some_and(|steps| is_sum(self.graph, &self.groups[group], steps)) {
            self.unite(group, home);
        }
        let before = self.before(group);
        let cluster = &mut self.clusters[home];
        cluster.groups.push(group);
        cluster.bytes += made;
        cluster.before.extend(before.into_iter().filter(|&b| b != home));
        self.cluster_of[group] = home;
    }

    /// Clusters that a group reads of.
    fn before(&self, group: usize) -> BTreeSet<usize> {
        self.reads(group).map(|(maker, _)| self.cluster_of[maker]).collect()
    }

    /// Joins to the cluster of a sum those of its other operands: there is no more of them than a part at a time.
    fn unite(&mut self, group: usize, home: usize) {
        for (_, other) in self.homes(group) {
            let apart = |a: &Cluster, b: usize| !a.before.contains(&b);
            let (one, two) = (&self.clusters[home], &self.clusters[other]);
            // The group itself is no member of a cluster yet.
            let before_one = &one.before | &self.before(group);
            if other == home
                || one.bytes + two.bytes > self.limits.most
                || !(apart(one, other) && self.follows(&two.before, home))
                || !(apart(two, home) && self.follows(&before_one, other))
            {
                continue;
            }
            let mut joined = std::mem::take(&mut self.clusters[other]);
            joined.groups.iter().for_each(|&g| self.cluster_of[g] = home);
            let cluster = &mut self.clusters[home];
            joined.groups.append(&mut cluster.groups);
            cluster.groups = joined.groups;
            cluster.bytes += joined.bytes;
            cluster.before.extend(joined.before);
            for cluster in &mut self.clusters {
                if cluster.before.remove(&other) {
                    cluster.before.insert(home);
                }
            }
        }
    }

    /// Bytes a group makes of a sample.
    fn made(&self, group: usize) -> usize {
        let values = self.groups[group].nodes.iter().flat_map(|&n| &self.graph.nodes[n].outputs);
        values.filter(|&&v| self.outside[v]).map(|&v| self.graph.values[v].ty.bytes() / self.parts).sum()
    }

    /// Clusters with operands that a group reads part by part, with their bytes, most first.
    fn homes(&self, group: usize) -> Vec<(usize, usize)> {
        let Some(steps) = &self.steps[group] else { return Vec::new() };
        let mut bytes: HashMap<usize, usize> = HashMap::new();
        let mut values: Vec<Val> = Vec::new();
        for (maker, access) in self.reads(group) {
            let home = self.cluster_of[maker];
            let size = self.graph.values[access.value].ty.bytes();
            if self.makes_no_parts(maker) || !is_local(self.graph, access, steps[&access.value], self.parts) {
                // Another part might still be missing.
                bytes.insert(home, usize::MAX);
            } else if size >= self.limits.large
                && (self.limits.least..=self.limits.most).contains(&(size / self.parts))
                && !values.contains(&access.value)
            {
                values.push(access.value);
                let sum = bytes.entry(home).or_default();
                *sum = sum.saturating_add(size);
            }
        }
        let mut homes: Vec<(usize, usize)> =
            bytes.into_iter().filter(|&(_, sum)| sum < usize::MAX).map(|(c, s)| (s, c)).collect();
        homes.sort_unstable_by_key(|&(sum, cluster)| (std::cmp::Reverse(sum), cluster));
        homes
    }

    /// Whether what a group makes has no part for each part.
    fn makes_no_parts(&self, group: usize) -> bool {
        self.steps[group].as_ref().is_none_or(|steps| is_sum(self.graph, &self.groups[group], steps))
    }

    /// Whether all that must run before a group, but the cluster `home` itself, can run before that.
    fn follows(&self, before: &BTreeSet<usize>, home: usize) -> bool {
        let mut seen = vec![false; self.clusters.len()];
        let mut stack: Vec<usize> = before.iter().copied().filter(|&b| b != home).collect();
        while let Some(cluster) = stack.pop() {
            if cluster == home {
                return false;
            }
            if !std::mem::replace(&mut seen[cluster], true) {
                stack.extend(&self.clusters[cluster].before);
            }
        }
        true
    }
}

/// Rows of a product, those of all batches together; `None` of what is none.
fn rows(graph: &Lowered, node: usize) -> Option<usize> {
    match &graph.nodes[node].op {
        NodeOp::Product(product) => Some(product.tile.map_or(0, |[batches, rows, _]| batches * rows)),
        _ => None,
    }
}

/// How far the parts of a group are apart in each value it reads or writes, if it can be computed part by part.
fn steps(graph: &Lowered, group: &Group, parts: usize) -> Option<Steps> {
    if let Some(steps) = steps_of_sum(graph, group, parts) {
        return Some(steps);
    }
    let mut steps = Steps::new();
    for &n in &group.nodes {
        let node = &graph.nodes[n];
        for &value in &node.outputs {
            let shape = &graph.values[value].ty.shape;
            let whole =
                shape.first().is_some_and(|&extent| extent > 0 && extent % parts == 0) && graph.values[value].ty.elements() > 0;
            steps.insert(value, whole.then(|| (graph.values[value].ty.elements() / parts) as isize)?);
        }
        for (access, step) in node.inputs.iter().zip(input_steps(graph, node, parts)?) {
            if *steps.entry(access.value).or_insert(step) != step {
                return None;
            }
        }
    }
    let cut = matches!(group.kind, Kind::Tiled(_)) || group.dims.first().is_none_or(|extent| extent % parts == 0);
    cut.then_some(steps)
}

/// The same of a product that sums over the parts.
fn steps_of_sum(graph: &Lowered, group: &Group, parts: usize) -> Option<Steps> {
    let (&[node], Kind::Tiled(_)) = (&group.nodes[..], group.kind) else { return None };
    let NodeOp::Product(product) = &graph.nodes[node].op else { return None };
    let (inputs, steps) = (&graph.nodes[node].inputs, product.sum_parts(parts)?);
    let [lhs, rhs] = [inputs[0].value, inputs[1].value];
    (lhs != rhs).then(|| Steps::from([(lhs, steps[0]), (rhs, steps[1]), (graph.nodes[node].outputs[0], 0)]))
}

/// How far the parts of a node are apart in its operands.
fn input_steps(graph: &Lowered, node: &Node, parts: usize) -> Option<Vec<isize>> {
    let leading = |access: &Access| {
        let (&extent, &stride) = (access.view.shape.first()?, access.view.strides.first()?);
        let counts = matches!(graph.values[access.value].def, Def::Iota) && stride != 0;
        (extent % parts == 0 && !counts).then_some((extent / parts) as isize * stride)
    };
    match &node.op {
        NodeOp::Elementwise(e) if !e.reads_fixed_elements() => node.inputs.iter().map(leading).collect(),
        NodeOp::Reduce(reduce) if !reduce.dims.contains(&0) => node.inputs.iter().map(leading).collect(),
        NodeOp::Product(product) => {
            let elements = graph.values[node.outputs[0]].ty.elements();
            Some(product.parts(parts, elements).filter(|(part, _)| part.terms() <= TERMS)?.1.to_vec())
        }
        NodeOp::Dense(op) if keeps_samples(op) => {
            let scalar = |access: &Access| access.view.shape.is_empty().then_some(0);
            node.inputs.iter().map(|access| scalar(access).or_else(|| leading(access))).collect()
        }
        _ => None,
    }
}

/// Whether a primitive makes its elements of a sample of those of the same sample alone.
fn keeps_samples(op: &Op) -> bool {
    match op {
        Op::ReduceWindow(ReduceWindow { window, .. })
        | Op::SelectAndScatter(SelectAndScatter { window, .. })
        | Op::SelectAndGather(SelectAndGather { window, .. }) => window.keeps(0),
        Op::Concatenate(concatenate) => concatenate.dim != 0,
        Op::Pad(pad) => (pad.low[0], pad.high[0], pad.interior[0]) == (0, 0, 0),
        _ => false,
    }
}

/// Whether an access reads of a value, for each part, nothing but that part.
fn is_local(graph: &Lowered, access: &Access, step: isize, parts: usize) -> bool {
    let elements = graph.values[access.value].ty.elements();
    let size = (elements / parts) as isize;
    if step != size || !elements.is_multiple_of(parts) {
        return false;
    }
    // Wherever the parts begin in the view: the first part of the elements is in the first of the value.
    let view = &access.view;
    let outer = view.strides.iter().zip(&view.shape).position(|(&s, &extent)| s * extent as isize == elements as isize);
    let Some(outer) = outer.filter(|&d| view.shape[d].is_multiple_of(parts)) else { return false };
    let (mut low, mut high) = (view.offset, view.offset);
    for (d, (&stride, &extent)) in view.strides.iter().zip(&view.shape).enumerate() {
        let extent = if d == outer { extent / parts } else { extent };
        let last = stride * (extent.max(1) - 1) as isize;
        low += last.min(0);
        high += last.max(0);
    }
    low >= 0 && high < size
}

/// The graph with the nodes of chains made for one part each. Of other nodes and values it may say anything.
pub(crate) fn part(graph: &Lowered, groups: &[Group], chains: &[Chain], parts: usize) -> (Lowered, Vec<Group>) {
    let (mut graph, mut groups, whole) = (graph.clone(), groups.to_vec(), graph);
    let mut cut: BTreeSet<Val> = BTreeSet::new();
    for (group, steps) in chains.iter().flat_map(|chain| &chain.groups) {
        let group = &mut groups[*group];
        if is_sum(whole, group, steps) {
            group.nodes.iter().for_each(|&n| graph.nodes[n].flops /= parts as u64);
            continue;
        }
        for &n in &group.nodes {
            cut_node(whole, &mut graph.nodes[n], parts);
            let reads = whole.nodes[n].inputs.iter().filter(|access| is_local(whole, access, steps[&access.value], parts));
            cut.extend(reads.map(|access| access.value).chain(whole.nodes[n].outputs.iter().copied()));
        }
        cut_space(&graph, group, parts);
    }
    for value in cut {
        let ty = &mut graph.values[value].ty;
        let shape: Vec<usize> =
            ty.shape.iter().enumerate().map(|(d, &extent)| if d == 0 { extent / parts } else { extent }).collect();
        *ty = crate::Type::new(ty.dtype, shape);
    }
    (graph, groups)
}

/// Cuts the iteration space of a group whose nodes are those of a part.
fn cut_space(part: &Lowered, group: &mut Group, parts: usize) {
    let tile = match group.kind {
        Kind::Tiled(n) => part.epilogue_tile(n),
        _ => None,
    };
    match (tile, group.dims.first_mut()) {
        (Some(tile), _) => group.dims = tile.to_vec(),
        (None, Some(extent)) => *extent /= parts,
        _ => {}
    }
}

fn cut_node(whole: &Lowered, node: &mut Node, parts: usize) {
    node.flops /= parts as u64;
    if let NodeOp::Product(product) = &mut node.op {
        let elements = whole.values[node.outputs[0]].ty.elements();
        if let Some((part, _)) = product.parts(parts, elements) {
            *product = part;
        }
        return;
    }
    for extent in node.inputs.iter_mut().filter_map(|access| access.view.shape.first_mut()) {
        *extent /= parts;
    }
}
