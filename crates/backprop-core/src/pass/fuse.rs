//! Fusion: which nodes of a lowered graph become one kernel.
//!
//! Nodes are taken from the last to the first. Each group has a level, the longest path from it to the end; a node joins its
//! users' group if all its users on the highest level are that group and read it element by element, and else starts a group one
//! level up. Levels strictly fall along every path between groups, so no cycle can arise. Taking nodes backwards also puts cheap
//! work as late as its users allow: what the backward pass derives from an activation is not kept since the forward pass.
//! Where a single value would be kept in place of several it is early instead: it joins the group that makes those.
//!
//! Nothing is computed twice and nothing is reassociated, so fusing changes no bit.

use crate::exec::native::ir::{Access, Lowered, NodeOp, Val};

/// The most nodes and accesses of a group: enough for any optimizer, small enough that tiles stay in the first-level cache.
pub(crate) const MAX_NODES: usize = 60;

/// What the kernel of a group is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Elementwise nodes alone.
    Tile,
    /// That product or scatter of what windows selected, and elementwise nodes on its output tiles.
    Tiled(usize),
    /// That reduction, and elementwise nodes that make its operand.
    Reduce(usize),
    /// That node alone.
    Single(usize),
}

/// Nodes that become one kernel.
#[derive(Clone, Debug)]
pub(crate) struct Group {
    pub kind: Kind,
    /// In topological order.
    pub nodes: Vec<usize>,
    /// Iteration space of the elementwise nodes.
    pub dims: Vec<usize>,
    level: usize,
}

struct Fusion<'a> {
    graph: &'a Lowered,
    /// Users of each value: (node, operand).
    users: Vec<Vec<(usize, usize)>>,
    is_output: Vec<bool>,
    group_of: Vec<usize>,
    groups: Vec<Option<Group>>,
}

/// Elementwise nodes, and the values as large as theirs that they read of others.
struct Shared {
    nodes: Vec<usize>,
    values: Vec<Val>,
}

/// Groups of a graph's nodes; without `fuse`, one per node. The order is not topological.
pub(crate) fn fuse(graph: &Lowered, fuse: bool) -> Vec<Group> {
    let mut users = vec![Vec::new(); graph.values.len()];
    for (n, node) in graph.nodes.iter().enumerate() {
        node.inputs.iter().enumerate().for_each(|(i, access)| users[access.value].push((n, i)));
    }
    let mut is_output = vec![false; graph.values.len()];
    graph.outputs.iter().for_each(|o| is_output[o.value] = true);
    let group_of = vec![usize::MAX; graph.nodes.len()];
    let mut fusion = Fusion { graph, users, is_output, group_of, groups: Vec::new() };
    for node in (0..graph.nodes.len()).rev() {
        if !fuse || !fusion.join(node) {
            fusion.start(node);
        }
    }
    let mut groups: Vec<Group> = fusion.groups.into_iter().flatten().collect();
    groups.iter_mut().for_each(|g| g.nodes.sort_unstable());
    groups
}

impl Fusion<'_> {
    fn users(&self, node: usize) -> impl Iterator<Item = (usize, usize)> + '_ {
        self.graph.nodes[node].outputs.iter().flat_map(|&v| self.users[v].iter().copied())
    }

    /// The highest level among the users' groups.
    fn top(&self, node: usize) -> Option<usize> {
        self.users(node).filter_map(|(user, _)| self.group(self.group_of[user]).map(|g| g.level)).max()
    }

    fn group(&self, group: usize) -> Option<&Group> {
        self.groups.get(group).and_then(Option::as_ref)
    }

    fn start(&mut self, node: usize) {
        let level = self.top(node).map_or(0, |level| level + 1);
        let n = &self.graph.nodes[node];
        let shape = |v: usize| self.graph.values[v].ty.shape.to_vec();
        let (kind, dims) = match &n.op {
            NodeOp::Elementwise(_) => (Kind::Tile, shape(n.outputs[0])),
            NodeOp::Product(_) => (Kind::Tiled(node), shape(n.outputs[0])),
            NodeOp::Reduce(_) => (Kind::Reduce(node), n.inputs[0].view.shape.clone()),
            _ => (Kind::Single(node), Vec::new()),
        };
        self.group_of[node] = self.groups.len();
        self.groups.push(Some(Group { kind, nodes: vec![node], dims, level }));
    }

    /// Adds a node to its users' group, or to one that makes what would else be kept for it, if it may.
    fn join(&mut self, node: usize) -> bool {
        if let Some(group) = self.early(node)
            && let Some(union) = self.united(node, &[group])
        {
            self.unite(node, &[group], union);
            return true;
        }
        let Some(level) = self.top(node) else { return false };
        let mut targets: Vec<usize> = Vec::new();
        for (user, operand) in self.users(node) {
            let target = self.group_of[user];
            if self.group(target).is_some_and(|g| g.level == level) {
                if !self.element_by_element(user, operand, target) {
                    return false;
                }
                if !targets.contains(&target) {
                    targets.push(target);
                }
            }
        }
        match self.united(node, &targets) {
            Some(union) => {
                self.unite(node, &targets, union);
                true
            }
            None => false,
        }
    }

    /// The group that has all values which a node, and what only it is made of, needs of others, if it runs before all users of the
    /// node and more bytes of values are needed nowhere else than the node makes.
    fn early(&self, node: usize) -> Option<usize> {
        let shared = self.shared(node)?;
        let groups_of = |v: Val| self.users[v].iter().map(|&(user, _)| self.group_of[user]);
        let known = |&g: &usize| self.group(g).is_some_and(|group| matches!(group.kind, Kind::Tile | Kind::Tiled(_)));
        let group = shared.values.iter().flat_map(|&v| groups_of(v)).find(known)?;
        let before = self.top(node).is_some_and(|level| self.group(group).is_some_and(|g| g.level > level));
        let all = shared.values.iter().all(|&v| groups_of(v).any(|g| g == group));
        let bytes = |v: Val| self.graph.values[v].ty.bytes();
        let saved = || shared.values.iter().filter(|&&v| self.stays(v, &shared.nodes, group)).map(|&v| bytes(v)).sum::<usize>();
        (before && all && saved() > bytes(self.graph.nodes[node].outputs[0])).then_some(group)
    }

    /// Whether a value can be made within a group that nodes are added to, and is needed nowhere else.
    fn stays(&self, value: Val, added: &[usize], group: usize) -> bool {
        let is_elementwise = |node: usize| matches!(self.graph.nodes[node].op, NodeOp::Elementwise(_));
        let tiled = self.graph.maker(value).is_some_and(|m| is_elementwise(m) || self.graph.epilogue_tile(m).is_some());
        let (mut values, mut next) = (vec![value], 0);
        // What nobody has taken yet goes where all its users are.
        while let Some(&v) = values.get(next) {
            next += 1;
            if self.is_output[v] || values.len() > MAX_NODES {
                return false;
            }
            for &(user, _) in &self.users[v] {
                if added.contains(&user) || self.group_of[user] == group {
                    continue;
                }
                if self.group_of[user] != usize::MAX || !is_elementwise(user) {
                    return false;
                }
                let made = self.graph.nodes[user].outputs.iter().filter(|made| !values.contains(made)).copied();
                values.extend(made.collect::<Vec<_>>());
            }
        }
        tiled
    }

    /// What of others an elementwise node of numbers, and all that it alone is made of, reads as a whole.
    fn shared(&self, node: usize) -> Option<Shared> {
        let elements = |v: Val| self.graph.values[v].ty.elements();
        let size = elements(*self.graph.nodes[node].outputs.first()?);
        let mut shared = Shared { nodes: vec![node], values: Vec::new() };
        let mut next = 0;
        while let Some(&n) = shared.nodes.get(next) {
            next += 1;
            let NodeOp::Elementwise(op) = &self.graph.nodes[n].op else { return None };
            if op.reads_fixed_elements() || shared.nodes.len() > MAX_NODES {
                return None;
            }
            for access in self.graph.nodes[n].inputs.iter().filter(|access| elements(access.value) >= size) {
                let (value, maker) = (access.value, self.graph.maker(access.value));
                if !self.graph.is_identity(access) {
                    return None;
                }
                let own = self.users[value].iter().all(|&(user, _)| shared.nodes.contains(&user)) && !self.is_output[value];
                match maker.filter(|&m| own && matches!(self.graph.nodes[m].op, NodeOp::Elementwise(_))) {
                    Some(maker) if !shared.nodes.contains(&maker) => shared.nodes.push(maker),
                    Some(_) => {}
                    None if !shared.values.contains(&value) => shared.values.push(value),
                    None => {}
                }
            }
        }
        Some(shared)
    }

    /// Whether a user reads the whole operand in its group's iteration order.
    fn element_by_element(&self, user: usize, operand: usize, target: usize) -> bool {
        let node = &self.graph.nodes[user];
        let elementwise = match (&node.op, self.group(target).map(|g| g.kind)) {
            (NodeOp::Elementwise(e), Some(Kind::Tile | Kind::Tiled(_) | Kind::Reduce(_))) => !e.reads_fixed_elements(),
            (NodeOp::Reduce(_), Some(Kind::Reduce(_))) => true,
            _ => false,
        };
        let access = &node.inputs[operand];
        elementwise && access.view.elements() > 0 && self.graph.is_identity(access)
    }

    /// Kind and iteration space of the groups with the node added, if that can be one kernel.
    fn united(&self, node: usize, targets: &[usize]) -> Option<(Kind, Vec<usize>)> {
        let groups: Vec<&Group> = targets.iter().filter_map(|&t| self.group(t)).collect();
        let n = &self.graph.nodes[node];
        let mut kind = match &n.op {
            NodeOp::Elementwise(_) => Kind::Tile,
            _ => Kind::Tiled(node),
        };
        for group in &groups {
            kind = match (kind, group.kind) {
                (kind, Kind::Tile) => kind,
                (Kind::Tile, other) => other,
                _ => return None,
            };
        }
        if groups.iter().map(|g| g.nodes.len()).sum::<usize>() >= MAX_NODES {
            return None;
        }
        let reduces = matches!(kind, Kind::Reduce(_));
        let seen_elsewhere = n.outputs.iter().any(|&v| self.is_output[v])
            || self.users(node).any(|(user, _)| !targets.contains(&self.group_of[user]));
        if reduces && (groups.len() > 1 || seen_elsewhere) {
            return None;
        }
        let dims = match kind {
            Kind::Tiled(tiled) => self.graph.epilogue_tile(tiled)?.to_vec(),
            _ => groups.first()?.dims.clone(),
        };
        let members = groups.iter().flat_map(|g| g.nodes.iter().copied()).chain([node]);
        members.into_iter().all(|m| self.fits(m, &dims)).then_some((kind, dims))
    }

    /// Whether all operands of a node can be read in the order of an iteration space.
    fn fits(&self, node: usize, dims: &[usize]) -> bool {
        let n = &self.graph.nodes[node];
        match &n.op {
            NodeOp::Elementwise(e) => {
                e.reads_fixed_elements() || n.inputs.iter().all(|access: &Access| access.view.reshape(dims).is_some())
            }
            _ => true,
        }
    }

    fn unite(&mut self, node: usize, targets: &[usize], (kind, dims): (Kind, Vec<usize>)) {
        let mut merged: Vec<Group> = targets.iter().filter_map(|&t| self.groups[t].take()).collect();
        // The largest group takes in the others: every node moves at most log n times.
        merged.sort_by_key(|g| std::cmp::Reverse(g.nodes.len()));
        let mut merged = merged.into_iter();
        let Some(mut group) = merged.next() else { return };
        merged.for_each(|other| group.nodes.extend(other.nodes));
        group.nodes.push(node);
        (group.kind, group.dims) = (kind, dims);
        let id = targets[0];
        group.nodes.iter().for_each(|&n| self.group_of[n] = id);
        self.groups[id] = Some(group);
    }
}
