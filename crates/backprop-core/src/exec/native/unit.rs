//! Groups of nodes as kernels with their operands.

use super::{
    attention,
    ir::{Access, Elementwise, Lowered, NodeOp, Val},
    movement,
    tile::{Emitted, emit},
};
use crate::{
    DType, Error,
    op::{Op, Primitive, Reducer, Scan},
    pass::{
        chain::{Chain, Steps},
        fuse::{Group, Kind},
    },
};
use backprop_kernels::{
    ArgReduction, Fused, Isa, Kernel, TileEpilogue,
    chain::{Member, Place},
    gemm::Epilogue,
};
use std::{collections::HashMap, sync::Arc};

/// An address a kernel is handed: that of an element of a value.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Operand {
    pub value: Val,
    /// Bytes from the value's first element.
    pub offset: isize,
}

/// What a unit runs.
pub(crate) enum Work {
    Kernel(Box<dyn Kernel>),
    /// A loop; its operands are the scan's inputs, then its outputs.
    Scan(Box<Scan>),
}

/// A kernel with its operands.
pub(crate) struct Unit {
    pub name: String,
    pub path: Arc<str>,
    pub work: Work,
    pub operands: Vec<Operand>,
    /// Values read, each once.
    pub reads: Vec<Val>,
    pub writes: Vec<Val>,
    /// For each value written: values read only at the element that is being written, whose memory it may take over.
    pub in_step: Vec<Vec<Val>>,
    pub flops: u64,
    /// Last node in the program.
    pub rank: usize,
}

impl Unit {
    /// Values whose memory a value that it writes may take over.
    pub fn replaceable(&self, written: Val) -> &[Val] {
        self.writes.iter().position(|&w| w == written).map_or(&[], |at| &self.in_step[at])
    }
}

/// How a group becomes a kernel.
#[derive(Clone, Copy)]
pub(crate) struct Plan<'a> {
    /// Values that are needed outside the group that makes them.
    pub outside: &'a [bool],
    /// Values that are written past the caches.
    pub past: &'a [bool],
    pub isa: Isa,
    /// How often it runs in a step, on other parts of its operands.
    pub runs: usize,
}

/// The kernel of a group; `None` if it writes no element.
pub(crate) fn build(graph: &Lowered, group: &Group, plan: Plan<'_>) -> Result<Option<Unit>, Error> {
    let Plan { outside, past, isa, .. } = plan;
    let stored: Vec<Val> = group.nodes.iter().flat_map(|&n| &graph.nodes[n].outputs).copied().filter(|&v| outside[v]).collect();
    if stored.iter().all(|&v| graph.values[v].ty.elements() == 0) {
        return Ok(None);
    }
    let mut unit = match group.kind {
        Kind::Tile => tile(graph, group, &stored, past, isa)?,
        Kind::Tiled(node) => tiled(graph, group, node, &stored, plan)?,
        Kind::Reduce(node) => reduce(graph, group, node, isa)?,
        Kind::Single(node) => single(graph, node, isa)?,
    };
    unit.name = name(graph, group);
    unit.path = graph.nodes[group.nodes[0]].path.clone();
    unit.flops = group.nodes.iter().map(|&n| graph.nodes[n].flops).sum();
    unit.rank = group.nodes.iter().copied().max().unwrap_or(0);
    Ok(Some(unit))
}

fn unit(work: Work, graph: &Lowered, inputs: &[Access], writes: Vec<Val>) -> Unit {
    let read = |a: &Access| {
        let size = graph.values[a.value].ty.dtype.size() as isize;
        Operand { value: a.value, offset: a.view.offset * size }
    };
    let operands = inputs.iter().map(read).chain(writes.iter().map(|&value| Operand { value, offset: 0 })).collect();
    let mut reads: Vec<Val> = inputs.iter().map(|a| a.value).collect();
    reads.sort_unstable();
    reads.dedup();
    let path = Arc::from("");
    let in_step = vec![Vec::new(); writes.len()];
    Unit { name: String::new(), path, work, operands, reads, writes, in_step, flops: 0, rank: 0 }
}

/// Accesses to the first elements of values.
fn starts(graph: &Lowered, values: &[Val]) -> Vec<Access> {
    values.iter().map(|&value| Access { value, view: graph.view(value) }).collect()
}

/// Lets every result of a unit take over the memory of values that a tile program reads in step, but not of a product's factors.
fn let_replace(unit: &mut Unit, emitted: &Emitted, factors: &[Access]) {
    let read = emitted.loads.iter().zip(&emitted.in_step).filter(|(_, in_step)| **in_step).map(|(&v, _)| v);
    let in_step: Vec<Val> = read.filter(|v| factors.iter().all(|factor| factor.value != *v)).collect();
    unit.in_step.fill(in_step);
}

fn tile(graph: &Lowered, group: &Group, stored: &[Val], past: &[bool], isa: Isa) -> Result<Unit, Error> {
    if let [node] = group.nodes[..]
        && let NodeOp::Elementwise(Elementwise::Copy) = graph.nodes[node].op
        && let Some((kernel, inputs)) = movement::copy(graph, &graph.nodes[node].inputs[0])
    {
        return Ok(unit(Work::Kernel(kernel), graph, &inputs, stored.to_vec()));
    }
    let emitted = emit(graph, group, 0, stored, past)?;
    let kernel = Fused::new(&emitted.program, isa)?;
    let mut unit = unit(Work::Kernel(Box::new(kernel)), graph, &starts(graph, &emitted.loads), emitted.stores.clone());
    let_replace(&mut unit, &emitted, &[]);
    Ok(unit)
}

fn tiled(graph: &Lowered, group: &Group, node: usize, stored: &[Val], plan: Plan<'_>) -> Result<Unit, Error> {
    let Plan { past, isa, runs, .. } = plan;
    let n = &graph.nodes[node];
    let kernel = |epilogue: Option<Arc<dyn Epilogue>>| match &n.op {
        NodeOp::Product(product) => product.kernel(epilogue, isa, runs),
        NodeOp::Dense(op) => {
            let ty = graph.read_type(&n.inputs[0]);
            super::window::scatter(op, &ty, epilogue, isa).ok_or_else(|| missing(op.name(), ty.dtype))
        }
        _ => Err(Error::Invalid("a group around a node without tiles".into())),
    };
    if group.nodes.len() == 1 {
        return Ok(unit(Work::Kernel(kernel(None)?), graph, &n.inputs, n.outputs.clone()));
    }
    let emitted = emit(graph, group, n.inputs.len(), stored, past)?;
    let epilogue: Arc<dyn Epilogue> = Arc::new(TileEpilogue::new(&emitted.program, isa)?);
    let inputs = [n.inputs.clone(), starts(graph, &emitted.loads)].concat();
    let mut unit = unit(Work::Kernel(kernel(Some(epilogue))?), graph, &inputs, emitted.stores.clone());
    match (&n.op, &n.inputs[..]) {
        // A tile holds all elements of its windows, so that the operand of these has been read where the epilogue writes.
        (NodeOp::Dense(_), [operand, source]) if graph.is_identity(operand) && operand.value != source.value => {
            let_replace(&mut unit, &emitted, &n.inputs[1..]);
            if !emitted.loads.contains(&operand.value) {
                unit.in_step.iter_mut().for_each(|values| values.push(operand.value));
            }
        }
        _ => let_replace(&mut unit, &emitted, &n.inputs),
    }
    Ok(unit)
}

fn reduce(graph: &Lowered, group: &Group, node: usize, isa: Isa) -> Result<Unit, Error> {
    let n = &graph.nodes[node];
    let NodeOp::Reduce(reduce) = &n.op else { return Err(Error::Invalid("a reduction group without a reduction".into())) };
    let mut emitted = emit(graph, group, 0, &[], &[])?;
    let mut result = emitted.registers[&n.outputs[0]];
    if emitted.program.dtype(result) != Some(reduce.accumulate) {
        result = emitted.program.op(backprop_kernels::OpCode::Convert(reduce.accumulate), &[result])?;
    }
    let reduced: Vec<bool> = (0..group.dims.len()).map(|d| reduce.dims.contains(&d)).collect();
    let how = super::window::reduction(reduce.reducer);
    let output = emitted.loads.len();
    let kernel = backprop_kernels::Reduce::new(&emitted.program, result, &reduced, how, reduce.accumulate, output, isa)?;
    Ok(unit(Work::Kernel(Box::new(kernel)), graph, &starts(graph, &emitted.loads), n.outputs.clone()))
}

fn single(graph: &Lowered, node: usize, isa: Isa) -> Result<Unit, Error> {
    let n = &graph.nodes[node];
    match &n.op {
        NodeOp::Scan(scan) => Ok(unit(Work::Scan(Box::new(scan.clone())), graph, &n.inputs, n.outputs.clone())),
        NodeOp::Sequence(s) => {
            let mut unit = unit(Work::Kernel(s.kernel(isa)), graph, &n.inputs, n.outputs.clone());
            for (output, input) in s.replaceable() {
                let gates = &n.inputs[input];
                let (ty, whole) = (&graph.values[gates.value].ty, graph.view(n.outputs[output]));
                let alike = *ty == graph.values[n.outputs[output]].ty && gates.view.strides == whole.strides;
                let once = n.inputs.iter().filter(|access| access.value == gates.value).count() == 1;
                unit.in_step[output].extend((once && alike && gates.view.offset == 0).then_some(gates.value));
            }
            Ok(unit)
        }
        NodeOp::Dense(Op::ArgReduce(arg)) => {
            let ty = &graph.values[n.inputs[0].value].ty;
            let shape = &n.inputs[0].view.shape;
            let parts = [shape[..arg.dim].iter().product(), shape[arg.dim], shape[arg.dim + 1..].iter().product()];
            let how = if arg.reducer == Reducer::Min { ArgReduction::Min } else { ArgReduction::Max };
            let kernel =
                backprop_kernels::ArgReduce::new(parts, ty.dtype, how, isa).ok_or_else(|| missing("arg_reduce", ty.dtype))?;
            // The kernel's outputs are the index, then the value.
            Ok(unit(Work::Kernel(Box::new(kernel)), graph, &n.inputs, vec![n.outputs[1], n.outputs[0]]))
        }
        NodeOp::Attention(form) => {
            let kernel = attention::kernel(graph, n, *form, isa)?;
            Ok(unit(Work::Kernel(kernel), graph, &n.inputs, n.outputs.clone()))
        }
        NodeOp::RowSums(rows) => {
            Ok(unit(Work::Kernel(movement::row_sums(graph, *rows, n)?), graph, &n.inputs, n.outputs.clone()))
        }
        NodeOp::Dense(op) => {
            let (kernel, inputs) = movement::kernel(graph, op, n, isa)?;
            let mut unit = unit(Work::Kernel(kernel), graph, &inputs, n.outputs.clone());
            // These leave the rest of their first operand as it is.
            if matches!(op, Op::ScatterAdd(_) | Op::DynamicUpdateSlice(_))
                && let [target, others @ ..] = &inputs[..]
                && graph.is_identity(target)
                && others.iter().all(|a| a.value != target.value)
            {
                unit.in_step[0].push(target.value);
            }
            Ok(unit)
        }
        _ => Err(Error::Invalid("a node of its own that is none".into())),
    }
}

/// The kernel of a chain: its groups' kernels, part by part. `graph` and `groups` are [those of one part](chain::part); values that are
/// not `shared` are read by nobody else.
pub(crate) fn linked(graph: &Lowered, groups: &[Group], chain: &Chain, shared: &[bool], plan: Plan<'_>) -> Result<Unit, Error> {
    let mut units = Vec::new();
    for (group, steps) in &chain.groups {
        units.extend(build(graph, &groups[*group], plan)?.map(|unit| (unit, steps)));
    }
    let made: Vec<Val> = units.iter().flat_map(|(unit, _)| &unit.writes).copied().collect();
    let mut reads: Vec<Val> = units.iter().flat_map(|(unit, _)| &unit.reads).copied().filter(|v| !made.contains(v)).collect();
    reads.sort_unstable();
    reads.dedup();
    let in_step = replaceable(graph, &units, &reads);
    let names: Vec<&str> = units.iter().map(|(unit, _)| unit.name.as_str()).collect();
    let (name, path) = (names.join(" > "), units.first().map_or_else(|| Arc::from(""), |(unit, _)| unit.path.clone()));
    let flops = units.iter().map(|(unit, _)| unit.flops * plan.runs as u64).sum();
    let rank = units.iter().map(|(unit, _)| unit.rank).max().unwrap_or(0);
    let (kept, size) = kept(graph, made.iter().copied().filter(|&v| !shared[v]));
    let mut operands: Vec<Operand> = Vec::new();
    let mut members = Vec::new();
    for (unit, steps) in units {
        let sums = unit.writes.iter().all(|v| steps[v] == 0);
        let mut number = |operand: Operand| {
            let step = steps[&operand.value] * graph.values[operand.value].ty.dtype.size() as isize;
            if let Some(offset) = kept.get(&operand.value) {
                return Place::Part(offset + operand.offset, if sums { step } else { 0 });
            }
            let known = operands.iter().position(|&o| o == operand);
            let at = known.unwrap_or(operands.len());
            operands.extend(known.is_none().then_some(operand));
            Place::Operand(at, if sums { 0 } else { step })
        };
        let numbered = unit.operands.iter().map(|&o| number(o)).collect();
        let Work::Kernel(kernel) = unit.work else { return Err(Error::Invalid("a loop in a chain".into())) };
        members.push(Member { kernel, operands: numbered, sums });
    }
    let kernel = backprop_kernels::chain::Chain::new(members, plan.runs, size);
    let (writes, in_step) = made.into_iter().zip(in_step).filter(|(v, _)| shared[*v]).unzip();
    Ok(Unit { name, path, work: Work::Kernel(Box::new(kernel)), operands, reads, writes, in_step, flops, rank })
}

/// Where values lie in what a thread keeps of a part, in bytes, and how much that is.
fn kept(graph: &Lowered, values: impl Iterator<Item = Val>) -> (HashMap<Val, isize>, usize) {
    let mut size = 0;
    let mut place = |v: Val| {
        let at = size;
        size += graph.values[v].ty.bytes().next_multiple_of(64);
        (v, at as isize)
    };
    (values.map(&mut place).collect(), size)
}

/// For each value that a chain's members write, those whose memory it may take over: nobody outside its part reads them, and no later
/// member.
fn replaceable(graph: &Lowered, units: &[(Unit, &Steps)], reads: &[Val]) -> Vec<Vec<Val>> {
    let part = |v: Val, steps: &Steps| steps.get(&v).is_none_or(|&step| step == graph.values[v].ty.elements() as isize);
    let free = |v: Val, member: usize| {
        let later = units[member + 1..].iter().any(|(unit, _)| unit.reads.contains(&v));
        reads.contains(&v) && !later && units.iter().all(|(_, steps)| part(v, steps))
    };
    let lists = units.iter().enumerate().flat_map(|(member, (unit, _))| unit.in_step.iter().map(move |list| (member, list)));
    lists.map(|(member, list)| list.iter().copied().filter(|&v| free(v, member)).collect()).collect()
}

pub(crate) fn missing(what: &str, dtype: DType) -> Error {
    Error::Invalid(format!("the native executor has no kernel for {what} of {dtype}"))
}

/// `dot_general+add+tanh`.
fn name(graph: &Lowered, group: &Group) -> String {
    let names: Vec<&str> = group.nodes.iter().map(|&n| node_name(&graph.nodes[n].op)).collect();
    names.join("+")
}

fn node_name(op: &NodeOp) -> &'static str {
    match op {
        NodeOp::Elementwise(e) => match e {
            Elementwise::Copy => "copy",
            Elementwise::Unary(u) => u.name(),
            Elementwise::Binary(b) => b.name(),
            Elementwise::Compare(_) => "compare",
            Elementwise::Select => "select",
            Elementwise::Clamp => "clamp",
            Elementwise::Convert(_) => "convert",
            Elementwise::Philox(_) => "philox",
            Elementwise::SparseRows => "sparse_rows",
        },
        NodeOp::Product(p) => p.name(),
        NodeOp::Reduce(_) => "reduce",
        NodeOp::Dense(op) => op.name(),
        NodeOp::Attention(form) => form.name(),
        NodeOp::Scan(_) => "scan",
        NodeOp::Sequence(s) => s.name(),
        NodeOp::RowSums(_) => "row_sums",
    }
}
