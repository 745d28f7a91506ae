//! From lowered graph to code: dependencies, replacement of state, order, phases, memory.

use super::{
    code::{Block, Call, Code, KernelInfo, Launch, Phase, Pointer, ScanCode, Step},
    ir::{Def, Lowered, Val},
    unit::{self, Operand, Unit, Work},
};
use crate::{
    Error, Graph, Type,
    graph::Role,
    host::Literal,
    op::Scan,
    pass::{chain, fuse, plan, recompute, remake, schedule},
};
use backprop_kernels::{Isa, movement::StridedCopy, pool::Phase as Tasks};
use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

/// What every compilation of a graph and its loops' bodies shares.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub isa: Isa,
    pub fuse: bool,
    pub poison: bool,
    /// Samples of a batch, if kernels may run sample by sample; else 1.
    pub parts: usize,
    pub limits: chain::Limits,
}

/// The bases that addresses are given from: the arena, the graph's inputs, its data outputs, its constants.
pub(crate) const ARENA: usize = 0;
pub(crate) const SLOTS: usize = 1;

/// Where a value is in memory.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Place {
    /// In that block of the arena.
    Arena(usize),
    /// At the start of that base.
    Base(usize),
    Nowhere,
}

struct Assembly<'a> {
    graph: &'a Graph,
    lowered: Lowered,
    settings: Settings,
    units: Vec<Unit>,
    /// Units that must run before each.
    after: Vec<Vec<usize>>,
    writer: HashMap<Val, usize>,
    readers: HashMap<Val, Vec<usize>>,
    places: Vec<Place>,
    constants: Vec<Literal>,
    /// The first base after inputs and data outputs.
    first_constant: usize,
}

/// Compiles a graph whose composites are inlined.
pub(crate) fn assemble(graph: &Graph, settings: Settings) -> Result<Code, Error> {
    let mut lowered = super::ir::lower(graph)?;
    let groups = groups(&mut lowered, settings);
    let outside = read_outside(&lowered, &groups, &alone(&groups));
    let units = units(&lowered, &groups, &outside, settings)?;
    let places = vec![Place::Nowhere; lowered.values.len()];
    let mut assembly = Assembly {
        graph,
        lowered,
        settings,
        units,
        after: Vec::new(),
        writer: HashMap::new(),
        readers: HashMap::new(),
        places,
        constants: Vec::new(),
        first_constant: SLOTS + graph.inputs.len() + graph.outputs.iter().filter(|o| o.role == Role::Data).count(),
    };
    assembly.connect();
    assembly.place_fixed();
    assembly.place_outputs();
    assembly.finish()
}

/// What becomes one kernel each.
fn groups(lowered: &mut Lowered, settings: Settings) -> Vec<fuse::Group> {
    let mut groups = fuse::fuse(lowered, settings.fuse);
    for _ in 0..recompute::ROUNDS {
        if !settings.fuse || !recompute::recompute(lowered, &groups) {
            break;
        }
        groups = fuse::fuse(lowered, true);
    }
    let outside = read_outside(lowered, &groups, &alone(&groups));
    if settings.fuse && remake::remake(lowered, &groups, &outside, settings.limits.far, settings.parts) {
        groups = fuse::fuse(lowered, true);
    }
    groups
}

/// The kernels of all groups, those of chains together.
fn units(lowered: &Lowered, groups: &[fuse::Group], outside: &[bool], settings: Settings) -> Result<Vec<Unit>, Error> {
    let large = |value: &super::ir::Value| settings.isa.writes_faster_past_caches() && value.ty.bytes() >= PAST;
    let past: Vec<bool> = lowered.values.iter().map(large).collect();
    let plan = unit::Plan { outside, past: &past, isa: settings.isa, runs: 1 };
    let chains = chain::chains(lowered, groups, outside, settings.parts, settings.limits);
    let (part, parts_of_groups) = chain::part(lowered, groups, &chains, settings.parts);
    let chain_of = |g: usize| chains.iter().position(|chain| chain.groups.iter().any(|&(member, _)| member == g));
    let chain_of: Vec<usize> = (0..groups.len()).map(|g| chain_of(g).unwrap_or(chains.len() + g)).collect();
    let shared = read_outside(lowered, groups, &chain_of);
    let mut units = Vec::with_capacity(groups.len());
    let mut linked = vec![false; groups.len()];
    for chain in &chains {
        chain.groups.iter().for_each(|&(g, _)| linked[g] = true);
        let past = &unread(&past, lowered, groups, chain);
        units.push(unit::linked(&part, &parts_of_groups, chain, &shared, unit::Plan { runs: settings.parts, past, ..plan })?);
    }
    for group in (0..groups.len()).filter(|&g| !linked[g]) {
        units.extend(unit::build(lowered, &groups[group], plan)?);
    }
    Ok(units)
}

/// Bytes of a value that is written past the caches: no core has so much of them that it would find the value's beginning there again.
const PAST: usize = 32 << 20;

/// Those of the values that no group of a chain reads of another.
fn unread(values: &[bool], lowered: &Lowered, groups: &[fuse::Group], chain: &chain::Chain) -> Vec<bool> {
    let mut unread = values.to_vec();
    for group in chain.groups.iter().map(|&(g, _)| &groups[g]) {
        let reads = group.nodes.iter().flat_map(|&n| &lowered.nodes[n].inputs).map(|access| access.value);
        reads.filter(|&v| lowered.maker(v).is_none_or(|maker| !group.nodes.contains(&maker))).for_each(|v| unread[v] = false);
    }
    unread
}

/// A unit for each group.
fn alone(groups: &[fuse::Group]) -> Vec<usize> {
    (0..groups.len()).collect()
}

/// Values that are needed outside the unit that makes them, given each group's unit.
fn read_outside(lowered: &Lowered, groups: &[fuse::Group], unit_of: &[usize]) -> Vec<bool> {
    let mut group_of = vec![usize::MAX; lowered.nodes.len()];
    for (group, &unit) in groups.iter().zip(unit_of) {
        group.nodes.iter().for_each(|&n| group_of[n] = unit);
    }
    let mut outside = vec![false; lowered.values.len()];
    lowered.outputs.iter().for_each(|o| outside[o.value] = true);
    for (n, node) in lowered.nodes.iter().enumerate() {
        for access in &node.inputs {
            let made_here = lowered.maker(access.value).is_some_and(|m| group_of[m] == group_of[n]);
            outside[access.value] |= !made_here;
        }
        // What a node of its own makes is written whether anybody wants it or not.
        let joins = matches!(node.op, super::ir::NodeOp::Elementwise(_)) || lowered.epilogue_tile(n).is_some();
        if !joins {
            node.outputs.iter().for_each(|&v| outside[v] = true);
        }
    }
    outside
}

impl Assembly<'_> {
    fn connect(&mut self) {
        for (u, unit) in self.units.iter().enumerate() {
            self.writer.extend(unit.writes.iter().map(|&v| (v, u)));
            unit.reads.iter().for_each(|&v| self.readers.entry(v).or_default().push(u));
        }
        for (u, unit) in self.units.iter().enumerate() {
            let mut after: Vec<usize> = unit.reads.iter().filter_map(|v| self.writer.get(v)).copied().collect();
            after.sort_unstable();
            after.dedup();
            debug_assert!(!after.contains(&u));
            self.after.push(after);
        }
    }

    /// Inputs and constants.
    fn place_fixed(&mut self) {
        for (v, value) in self.lowered.values.iter().enumerate() {
            match &value.def {
                Def::Input(i) => self.places[v] = Place::Base(SLOTS + i),
                Def::Literal(literal) if self.readers.contains_key(&v) => {
                    self.places[v] = Place::Base(self.first_constant + self.constants.len());
                    self.constants.push(literal.clone());
                }
                _ => {}
            }
        }
    }

    /// Outputs are written where they belong, state in place of the old value.
    fn place_outputs(&mut self) {
        let mut successors: Vec<Vec<usize>> = vec![Vec::new(); self.units.len()];
        for (u, after) in self.after.iter().enumerate() {
            after.iter().for_each(|&a| successors[a].push(u));
        }
        let data: Vec<usize> = (0..self.graph.outputs.len()).filter(|&o| self.graph.outputs[o].role == Role::Data).collect();
        let mut late = Vec::new();
        for bound in self.lowered.outputs.clone() {
            if let Some(&input) = self.lowered.replaces.get(&bound.value) {
                if self.replace(bound.value, input, &mut successors) {
                    self.places[bound.value] = Place::Base(SLOTS + input);
                } else {
                    late.push((bound.value, input));
                }
            } else if let Ok(position) = data.binary_search(&bound.output) {
                self.places[bound.value] = Place::Base(SLOTS + self.graph.inputs.len() + position);
            }
        }
        late.into_iter().for_each(|(value, input)| self.copy_back(value, input));
    }

    /// Makes all readers of a state tensor run before what replaces it; whether that is possible.
    fn replace(&mut self, value: Val, input: usize, successors: &mut [Vec<usize>]) -> bool {
        let Some(&writer) = self.writer.get(&value) else { return true };
        // Lowering makes the inputs' values first, in order.
        let old: Val = input;
        let readers = self.readers.get(&old).cloned().unwrap_or_default();
        if readers.contains(&writer) && !self.units[writer].replaceable(value).contains(&old) {
            return false;
        }
        let others: Vec<usize> = readers.into_iter().filter(|&r| r != writer).collect();
        let mut later = HashSet::new();
        let mut stack = vec![writer];
        while let Some(u) = stack.pop() {
            stack.extend(successors[u].iter().filter(|&&s| later.insert(s)));
        }
        if others.iter().any(|r| later.contains(r)) {
            return false;
        }
        for r in others {
            successors[r].push(writer);
            self.after[writer].push(r);
        }
        true
    }

    /// State that is still read after its new value is known is replaced by a copy when nobody reads it any more.
    fn copy_back(&mut self, value: Val, input: usize) {
        let ty = self.lowered.values[value].ty.clone();
        let target = self.lowered.values.len();
        self.lowered.values.push(super::ir::Value { ty: ty.clone(), def: Def::Input(input) });
        self.places.push(Place::Base(SLOTS + input));
        let elements = ty.elements();
        let kernel = StridedCopy::view(ty.dtype, &[elements], &[1], 0);
        let operand = |value| Operand { value, offset: 0 };
        let mut after: Vec<usize> = self.writer.get(&value).copied().into_iter().collect();
        after.extend(self.readers.get(&input).into_iter().flatten());
        self.readers.entry(value).or_default().push(self.units.len());
        self.units.push(Unit {
            name: "copy_back".into(),
            path: Arc::from(""),
            work: Work::Kernel(Box::new(kernel)),
            operands: vec![operand(value), operand(target)],
            reads: vec![value],
            writes: vec![target],
            in_step: vec![Vec::new()],
            flops: 0,
            rank: usize::MAX,
        });
        self.after.push(after);
    }

    fn bytes(&self, value: Val) -> usize {
        self.lowered.values[value].ty.bytes()
    }

    fn in_arena(&self, value: Val) -> bool {
        self.places[value] == Place::Nowhere && self.writer.contains_key(&value)
    }

    fn finish(mut self) -> Result<Code, Error> {
        let bodies = self.bodies()?;
        let works: Vec<(usize, usize)> = (0..self.units.len())
            .map(|u| match (&self.units[u].work, &bodies[u]) {
                (_, Some(body)) => (body.workspace(), 1),
                (Work::Kernel(k), _) => (k.workspace(), (0..k.stages()).map(|s| k.tasks(s)).max().unwrap_or(0)),
                _ => (0, 0),
            })
            .collect();
        let arena_bytes: Vec<usize> =
            (0..self.lowered.values.len()).map(|v| if self.in_arena(v) { self.bytes(v) } else { 0 }).collect();
        let jobs: Vec<schedule::Job> = (0..self.units.len())
            .map(|u| schedule::Job {
                reads: self.units[u].reads.clone(),
                writes: self.units[u].writes.clone(),
                after: self.after[u].clone(),
                workspace: works[u].0,
                rank: self.units[u].rank,
                tasks: works[u].1,
                alone: bodies[u].is_some(),
            })
            .collect();
        let order = schedule::order(&jobs, &arena_bytes);
        let phases = schedule::relieve(&jobs, &arena_bytes, schedule::phases(&jobs, &order));
        let (blocks, workspace_blocks) = self.blocks(&phases, &works);
        let placement = plan::place(&blocks.iter().map(|b| b.life).collect::<Vec<_>>());
        Ok(self.code(phases, blocks, workspace_blocks, placement, bodies))
    }

    /// The compiled bodies of loops, by unit.
    fn bodies(&self) -> Result<Vec<Option<ScanCode>>, Error> {
        let body = |unit: &Unit| match &unit.work {
            Work::Scan(scan) => self.scan(scan).map(Some),
            Work::Kernel(_) => Ok(None),
        };
        self.units.iter().map(body).collect()
    }

    fn scan(&self, scan: &Scan) -> Result<ScanCode, Error> {
        let code = assemble(&scan.body, Settings { parts: 1, ..self.settings })?;
        let bytes = |types: Vec<Type>| types.iter().map(Type::bytes).collect();
        Ok(ScanCode::new(scan, code, bytes(scan.body.input_types()), bytes(scan.body.output_types())))
    }

    /// Lifetimes by phase, with values in place of operands that die where they are made. Fills in the arena's places.
    fn blocks(&mut self, phases: &[Vec<usize>], works: &[(usize, usize)]) -> (Vec<Block>, Vec<Option<usize>>) {
        let mut phase_of = vec![0; self.units.len()];
        for (p, phase) in phases.iter().enumerate() {
            phase.iter().for_each(|&u| phase_of[u] = p);
        }
        let last_use = |s: &Self, v: Val| s.readers.get(&v).into_iter().flatten().map(|&u| phase_of[u]).max();
        let dies = |s: &Self, v: Val, u: usize| s.readers[&v].iter().all(|&r| r == u || phase_of[r] < phase_of[u]);
        let mut blocks: Vec<Block> = Vec::new();
        let mut workspaces = vec![None; self.units.len()];
        for (p, phase) in phases.iter().enumerate() {
            for &u in phase {
                let mut taken = Vec::new();
                for v in self.units[u].writes.clone() {
                    if !self.in_arena(v) {
                        continue;
                    }
                    let last = last_use(self, v).unwrap_or(p).max(p);
                    let donor = self.donor(u, v, &taken, &dies);
                    let block = match donor.map(|d| (d, self.places[d])) {
                        Some((d, Place::Arena(block))) => {
                            taken.push(d);
                            blocks[block].life.last = last;
                            blocks[block].values.push(v);
                            block
                        }
                        _ => {
                            let life = plan::Block { bytes: self.bytes(v), first: p, last };
                            blocks.push(Block { name: self.units[u].name.clone(), life, values: vec![v] });
                            blocks.len() - 1
                        }
                    };
                    self.places[v] = Place::Arena(block);
                }
                if works[u].0 > 0 {
                    let life = plan::Block { bytes: works[u].0, first: p, last: p };
                    blocks.push(Block { name: format!("{} workspace", self.units[u].name), life, values: Vec::new() });
                    workspaces[u] = Some(blocks.len() - 1);
                }
            }
        }
        (blocks, workspaces)
    }

    /// An operand whose memory an output of a unit may take over: it dies here and is read in step with the writing.
    fn donor(&self, unit: usize, value: Val, taken: &[Val], dies: &dyn Fn(&Self, Val, usize) -> bool) -> Option<Val> {
        if !self.settings.fuse {
            return None;
        }
        let ty = &self.lowered.values[value].ty;
        let fits = |d: Val| {
            let other = &self.lowered.values[d].ty;
            let same = other.dtype.size() == ty.dtype.size() && other.elements() == ty.elements();
            same && matches!(self.places[d], Place::Arena(_)) && !taken.contains(&d) && dies(self, d, unit)
        };
        self.units[unit].replaceable(value).iter().copied().find(|&d| fits(d))
    }

    fn pointer(&self, operand: Operand, offsets: &[usize]) -> Pointer {
        let at = |base: usize, offset: usize| Pointer { base, offset: offset as isize + operand.offset };
        match self.places[operand.value] {
            Place::Arena(block) => at(ARENA, offsets[block]),
            Place::Base(base) => at(base, 0),
            // Of a value without elements nothing is read.
            Place::Nowhere => Pointer { base: ARENA, offset: 0 },
        }
    }

    fn code(
        mut self,
        phases: Vec<Vec<usize>>,
        blocks: Vec<Block>,
        workspaces: Vec<Option<usize>>,
        placement: plan::Placement,
        mut bodies: Vec<Option<ScanCode>>,
    ) -> Code {
        let mut code = Code { arena: placement.arena, live: placement.live, ..Code::default() };
        let offsets = &placement.offsets;
        let units = std::mem::take(&mut self.units);
        for unit in &units {
            let info = KernelInfo {
                name: unit.name.clone(),
                path: unit.path.to_string(),
                flops: unit.flops,
                bytes: unit.reads.iter().chain(&unit.writes).map(|&v| self.bytes(v)).sum(),
                reads: self.planned(&unit.reads),
                writes: self.planned(&unit.writes),
            };
            code.kernels.push(info);
        }
        let operands: Vec<Vec<Operand>> = units.iter().map(|u| u.operands.clone()).collect();
        let mut works: Vec<Option<Work>> = units.into_iter().map(|u| Some(u.work)).collect();
        for (p, phase) in phases.iter().enumerate() {
            let mut calls = Vec::new();
            for &u in phase {
                let first = code.pointers.len();
                code.pointers.extend(operands[u].iter().map(|&o| self.pointer(o, offsets)));
                let workspace = code.pointers.len();
                code.pointers.push(Pointer { base: ARENA, offset: workspaces[u].map_or(0, |b| offsets[b]) as isize });
                match (works[u].take(), bodies[u].take()) {
                    (Some(Work::Kernel(kernel)), _) => {
                        calls.push(code.calls.len());
                        code.calls.push(Call { info: u, kernel, operands: first..workspace });
                    }
                    (_, Some(body)) => {
                        code.scratch = code.scratch.max(body.scratch());
                        code.steps.push(Step::Scan(code.scans.len(), first..workspace));
                        code.scans.push(body);
                    }
                    _ => {}
                }
            }
            launch(&mut code, &calls);
            code.phases.push(Phase { kernels: phase.clone() });
            if self.settings.poison {
                let dead = (0..blocks.len()).filter(|&b| blocks[b].life.last == p);
                code.steps.push(Step::Poison(dead.map(|b| (offsets[b], blocks[b].life.bytes)).collect()));
            }
        }
        code.offsets = placement.offsets;
        code.blocks = blocks;
        code.prepare(self.first_constant, self.constants);
        code
    }

    /// The blocks of values that are in the arena.
    fn planned(&self, values: &[Val]) -> Vec<usize> {
        let block = |&v: &Val| match self.places[v] {
            Place::Arena(block) => Some(block),
            _ => None,
        };
        values.iter().filter_map(block).collect()
    }
}

/// Steps that run the stages of a phase's kernels, all kernels' first stages together, then all second ones.
fn launch(code: &mut Code, calls: &[usize]) {
    let stages = calls.iter().map(|&c| code.calls[c].kernel.stages()).max().unwrap_or(0);
    for stage in 0..stages {
        let first = code.launches.len();
        let mut tasks = 0;
        for &call in calls {
            let kernel = &code.calls[call].kernel;
            let count = if stage < kernel.stages() { kernel.tasks(stage) } else { 0 };
            if count > 0 {
                code.launches.push(Launch { first_task: tasks, call, stage });
                tasks += count;
            }
        }
        if tasks > 0 {
            let launches = first..code.launches.len();
            code.steps.push(Step::Tasks { phase: Tasks { tasks, short: false }, launches });
        }
    }
    for &call in calls {
        code.scratch = code.scratch.max(code.calls[call].kernel.scratch());
    }
}
