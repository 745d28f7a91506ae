//! The lowered form of a graph: what is left when everything that only renames elements has become a view.
//!
//! Reshape, transpose, broadcast, slice, reverse, barrier and stop-gradient make no nodes: they change how a later node reads
//! the value. Where a kernel needs adjacent elements, or no view can say the order, a copy is inserted.

use super::{
    attention,
    product::{self, Product},
    sequence::{self, SequenceNode},
    view::View,
    window,
};
use crate::{
    DType, Error, Graph, Type,
    attention::{Attention, GRADIENT},
    graph::{NodeId, Role, ValueId},
    host::Literal,
    op::{Binary, Compare, Composite, Op, Reduce, Reducer, Scan, SelectAndGather, SelectAndScatter, Unary},
    random::PHILOX,
};
use std::{collections::HashMap, sync::Arc};

/// Elements of a sample that are worth being reduced by themselves.
const SAMPLE: usize = 4096;

/// Position of a value in [`Lowered::values`].
pub(crate) type Val = usize;

/// How an operand is read: a value and the order of its elements.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub(crate) struct Access {
    pub value: Val,
    pub view: View,
}

/// Where a value comes from.
#[derive(Clone, Debug)]
pub(crate) enum Def {
    /// That input of the graph.
    Input(usize),
    /// A constant in memory.
    Literal(Literal),
    /// One element known now, as the low bytes: never in memory.
    Scalar(u64),
    /// 0, 1, 2, …: never in memory.
    Iota,
    /// Made by that node.
    Node(usize),
}

/// A value: dense in memory unless its definition says it is never there.
#[derive(Clone, Debug)]
pub(crate) struct Value {
    pub ty: Type,
    pub def: Def,
}

/// What is computed for every element by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Elementwise {
    Copy,
    Unary(Unary),
    Binary(Binary),
    Compare(Compare),
    Select,
    Clamp,
    Convert(DType),
    /// Random bits; operands seed, step, offset.
    Philox(u64),
    /// A table that is zeros but for sums of rows; operands are what [`NodeOp::RowSums`] makes.
    SparseRows,
}

impl Elementwise {
    /// Whether the operands are read at fixed positions rather than at the element's own.
    pub fn reads_fixed_elements(self) -> bool {
        matches!(self, Elementwise::Philox(_) | Elementwise::SparseRows)
    }
}

/// What a node does.
#[derive(Clone, Debug)]
pub(crate) enum NodeOp {
    Elementwise(Elementwise),
    Product(Product),
    Reduce(Reduce),
    /// A primitive whose operands are dense; those of a concatenation and a padding are any views.
    Dense(Op),
    Attention(attention::Form),
    Scan(Scan),
    Sequence(SequenceNode),
    /// Keys and sums of the updates to a table of that many rows; operands are dense indices and updates.
    RowSums(usize),
}

#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub op: NodeOp,
    pub inputs: Vec<Access>,
    pub outputs: Vec<Val>,
    /// Layer path of the graph's node.
    pub path: Arc<str>,
    pub flops: u64,
}

/// An output of the graph: the value that is written to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bound {
    /// Position among the graph's outputs.
    pub output: usize,
    pub value: Val,
}

/// A graph without views. Nodes are in topological order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lowered {
    pub nodes: Vec<Node>,
    pub values: Vec<Value>,
    /// Outputs that must be written: each by a value of its own that a node makes.
    pub outputs: Vec<Bound>,
    /// For each state output, the graph's input it replaces.
    pub replaces: HashMap<Val, usize>,
}

impl Lowered {
    pub fn view(&self, value: Val) -> View {
        View::dense(&self.values[value].ty.shape)
    }

    /// The node that makes a value.
    pub fn maker(&self, value: Val) -> Option<usize> {
        match self.values[value].def {
            Def::Node(node) => Some(node),
            _ => None,
        }
    }

    /// The type of what an access reads.
    pub fn read_type(&self, access: &Access) -> Type {
        Type::new(self.values[access.value].ty.dtype, &access.view.shape[..])
    }

    /// Batch, rows and columns of a node's output, if elementwise work can happen on its output tiles.
    pub fn epilogue_tile(&self, node: usize) -> Option<[usize; 3]> {
        let Node { op, inputs, .. } = &self.nodes[node];
        match op {
            NodeOp::Product(product) => product.epilogue_tile(),
            NodeOp::Dense(op) => window::tile(op, &self.read_type(inputs.first()?)),
            _ => None,
        }
    }

    /// Whether an access walks its whole value from the first element to the last.
    pub fn is_identity(&self, access: &Access) -> bool {
        access.view.offset == 0 && access.view.is_dense() && access.view.elements() == self.values[access.value].ty.elements()
    }
}

pub(super) struct Lowering<'a> {
    pub graph: &'a Graph,
    pub result: Lowered,
    pub(super) accesses: HashMap<ValueId, Access>,
    /// Dense copies made so far.
    copies: HashMap<Access, Val>,
    /// Sums of rows by the sparse table they make.
    pub(super) sums: HashMap<Val, Val>,
    path: Arc<str>,
}

/// Lowers what the outputs need of a graph whose composites are inlined.
pub(crate) fn lower(graph: &Graph) -> Result<Lowered, Error> {
    let needed = needed(graph);
    let mut lowering = Lowering {
        graph,
        result: Lowered::default(),
        accesses: HashMap::new(),
        copies: HashMap::new(),
        sums: HashMap::new(),
        path: Arc::from(""),
    };
    for (position, input) in graph.inputs.iter().enumerate() {
        let ty = graph.node(input.node).outputs[0].clone();
        let value = lowering.value(ty, Def::Input(position));
        let access = lowering.whole(value);
        lowering.accesses.insert(ValueId { node: input.node, output: 0 }, access);
    }
    for (id, node) in graph.iter() {
        if needed[id.index()] && !matches!(node.op, Op::Input(_)) {
            lowering.path = node.origin.path.clone();
            lowering.node(id)?;
        }
    }
    lowering.path = Arc::from("");
    lowering.outputs();
    Ok(lowering.result)
}

fn needed(graph: &Graph) -> Vec<bool> {
    let mut needed = vec![false; graph.nodes.len()];
    graph.outputs.iter().for_each(|o| needed[o.value.node.index()] = true);
    for (id, node) in graph.iter().rev() {
        if needed[id.index()] {
            node.inputs.iter().for_each(|v| needed[v.node.index()] = true);
        }
    }
    needed
}

impl Lowering<'_> {
    fn value(&mut self, ty: Type, def: Def) -> Val {
        self.result.values.push(Value { ty, def });
        self.result.values.len() - 1
    }

    pub(super) fn whole(&self, value: Val) -> Access {
        Access { value, view: self.result.view(value) }
    }

    pub(super) fn push(&mut self, op: NodeOp, inputs: Vec<Access>, types: &[Type], flops: u64) -> Vec<Val> {
        let node = self.result.nodes.len();
        let outputs: Vec<Val> = types.iter().map(|ty| self.value(ty.clone(), Def::Node(node))).collect();
        self.result.nodes.push(Node { op, inputs, outputs: outputs.clone(), path: self.path.clone(), flops });
        outputs
    }

    /// A dense copy of what an access reads.
    pub(super) fn copy(&mut self, access: &Access) -> Access {
        if let Some(&value) = self.copies.get(access) {
            return self.whole(value);
        }
        let ty = self.result.read_type(access);
        let value = self.push(NodeOp::Elementwise(Elementwise::Copy), vec![access.clone()], &[ty], 0)[0];
        self.copies.insert(access.clone(), value);
        self.whole(value)
    }

    /// The access itself where its elements are adjacent in memory, else one to a copy.
    pub(super) fn dense(&mut self, access: &Access) -> Access {
        if self.is_in_memory(access) && access.view.is_dense() { access.clone() } else { self.copy(access) }
    }

    pub(super) fn is_in_memory(&self, access: &Access) -> bool {
        !matches!(self.result.values[access.value].def, Def::Scalar(_) | Def::Iota)
    }

    fn node(&mut self, id: NodeId) -> Result<(), Error> {
        let node = self.graph.node(id);
        let mut inputs: Vec<Access> = node.inputs.iter().map(|v| self.accesses[v].clone()).collect();
        if let Op::Reduce(reduce) = &node.op {
            inputs = self.squares_of_rows(reduce, node.inputs[0]).map_or(inputs, |rows| vec![rows]);
        }
        let types: Vec<Type> = node.inputs.iter().map(|&v| self.graph.ty(v).clone()).collect();
        let flops = node.op.cost(&types, &node.outputs).flops;
        let accesses = match &node.op {
            Op::Barrier(_) | Op::StopGradient(_) => inputs,
            Op::Constant(constant) => vec![self.literal(&constant.value)],
            Op::Composite(composite) if sequence::has_kernel(composite) => self.sequence(composite, id, inputs, flops),
            op => match self.view_of(op, &inputs) {
                Some(access) => vec![access],
                None => self.compute(op, inputs, &node.outputs, flops)?,
            },
        };
        for (output, access) in accesses.into_iter().enumerate() {
            self.accesses.insert(ValueId { node: id, output: output as u32 }, access);
        }
        Ok(())
    }

    fn literal(&mut self, literal: &Literal) -> Access {
        let ty = literal.ty().clone();
        let def = match ty.elements() {
            1 => {
                let mut bits = [0; 8];
                bits[..ty.bytes()].copy_from_slice(literal.bytes());
                Def::Scalar(u64::from_le_bytes(bits))
            }
            _ => Def::Literal(literal.clone()),
        };
        let value = self.value(ty, def);
        self.whole(value)
    }

    /// The result of a primitive that only renames elements, where a view can say it.
    fn view_of(&mut self, op: &Op, inputs: &[Access]) -> Option<Access> {
        let base = || (inputs[0].value, &inputs[0].view);
        let (value, view) = match op {
            Op::Iota(iota) => {
                let extent = iota.ty.shape[iota.dim];
                let value = self.value(Type::new(iota.ty.dtype, [extent]), Def::Iota);
                (value, View::dense(&[extent]).broadcast(&iota.ty.shape, &[iota.dim]))
            }
            Op::Reshape(r) => (base().0, base().1.reshape(&r.shape)?),
            Op::Transpose(t) => (base().0, base().1.transpose(&t.permutation)),
            Op::BroadcastInDim(b) => (base().0, base().1.broadcast(&b.shape, &b.dims)),
            Op::Slice(s) => (base().0, base().1.slice(&s.start, &s.limit, &s.stride)),
            Op::Reverse(r) => (base().0, base().1.reverse(&r.dims)),
            Op::Convert(c) if self.result.values[inputs[0].value].ty.dtype == c.to => return Some(inputs[0].clone()),
            _ => return None,
        };
        Some(Access { value, view })
    }

    fn compute(&mut self, op: &Op, inputs: Vec<Access>, types: &[Type], flops: u64) -> Result<Vec<Access>, Error> {
        if let Some(wide) = inputs.first().and_then(|a| wider(op, self.result.values[a.value].ty.dtype)) {
            return self.compute_in(wide, op, inputs, types, flops);
        }
        let outputs = match op {
            Op::Unary(u) => self.elementwise(Elementwise::Unary(*u), inputs, types, flops),
            Op::Binary(b) => self.elementwise(Elementwise::Binary(*b), inputs, types, flops),
            Op::Compare(c) => self.elementwise(Elementwise::Compare(*c), inputs, types, flops),
            Op::Select(_) => self.elementwise(Elementwise::Select, inputs, types, flops),
            Op::Clamp(_) => self.elementwise(Elementwise::Clamp, inputs, types, flops),
            Op::Convert(c) => self.elementwise(Elementwise::Convert(c.to), inputs, types, flops),
            Op::Composite(c) if is_philox(c) => self.elementwise(Elementwise::Philox(stream(c)), inputs, types, flops),
            Op::Reshape(_) => {
                let copy = self.copy(&inputs[0]);
                return Ok(vec![Access { view: View::dense(&types[0].shape), ..copy }]);
            }
            Op::DotGeneral(dot) => {
                let mut inputs = self.readable(inputs);
                for (side, order) in product::copies(dot, &inputs[0].view, &inputs[1].view) {
                    inputs[side] = self.permuted_copy(&inputs[side], &order);
                }
                let product = product::dot(dot, &inputs[0].view, &inputs[1].view, &types[0]);
                self.push(NodeOp::Product(product), inputs, types, flops)
            }
            Op::Convolution(conv) => {
                let inputs = self.readable(inputs);
                let product = product::convolution(conv, &inputs[0].view, &inputs[1].view, &types[0]);
                self.push(NodeOp::Product(product), inputs, types, flops)
            }
            Op::Reduce(reduce) => self.reduce(reduce, inputs, types, flops),
            Op::ScatterAdd(scatter) if self.is_sparse(scatter, &inputs) => self.sparse_rows(inputs, types, flops),
            Op::Invalid(_) => return Err(Error::Invalid("the graph holds the stand-in of a tracing error".into())),
            Op::Composite(c) => {
                let missing = || Error::Invalid(format!("composite `{}` was not inlined", c.region));
                let attention = Attention::of(c).ok_or_else(missing)?;
                let form = attention::Form { attention, gradient: c.region == GRADIENT };
                return Ok(self.attention(form, inputs, types, flops));
            }
            Op::SelectAndScatter(SelectAndScatter { select: Reducer::Min, window }) => {
                let inputs = self.negated_first(inputs);
                let op = SelectAndScatter { select: Reducer::Max, window: window.clone() };
                return self.compute(&op.into(), inputs, types, flops);
            }
            Op::SelectAndGather(SelectAndGather { select: Reducer::Min, window }) => {
                let inputs = self.negated_first(inputs);
                let op = SelectAndGather { select: Reducer::Max, window: window.clone() };
                return self.compute(&op.into(), inputs, types, flops);
            }
            Op::DynamicSlice(_) | Op::DynamicUpdateSlice(_) => {
                let first = if matches!(op, Op::DynamicSlice(_)) { 1 } else { 2 };
                let inputs = self.starts_of_one_type(inputs, first);
                let inputs = inputs.iter().map(|access| self.dense(access)).collect();
                self.push(NodeOp::Dense(op.clone()), inputs, types, flops)
            }
            Op::Concatenate(_) => {
                let inputs = self.readable(inputs);
                self.push(NodeOp::Dense(op.clone()), inputs, types, flops)
            }
            Op::Pad(_) => {
                let mut inputs = inputs;
                let value = inputs.remove(1);
                inputs = self.readable(inputs);
                inputs.push(value);
                self.push(NodeOp::Dense(op.clone()), inputs, types, flops)
            }
            op => {
                let inputs = inputs.iter().map(|access| self.dense(access)).collect();
                let lowered = match op {
                    Op::Scan(scan) => NodeOp::Scan(scan.clone()),
                    _ => NodeOp::Dense(op.clone()),
                };
                self.push(lowered, inputs, types, flops)
            }
        };
        Ok(outputs.into_iter().map(|value| self.whole(value)).collect())
    }

    /// A reduction. What goes over samples and much within each is reduced within the samples first, so that a sample can be done with while
    /// it is in a cache.
    fn reduce(&mut self, reduce: &Reduce, inputs: Vec<Access>, types: &[Type], flops: u64) -> Vec<Val> {
        let shape = &inputs[0].view.shape;
        let (dtype, samples) = (self.result.values[inputs[0].value].ty.dtype, shape.first().copied().unwrap_or(1));
        let large = samples > 1 && inputs[0].view.elements() / samples >= SAMPLE;
        if !large || reduce.dims.first() != Some(&0) || reduce.dims.len() == 1 || reduce.accumulate != dtype {
            return self.push(NodeOp::Reduce(reduce.clone()), inputs, types, flops);
        }
        let kept: Vec<usize> = (0..shape.len()).filter(|d| *d == 0 || !reduce.dims.contains(d)).map(|d| shape[d]).collect();
        let within = Reduce { dims: reduce.dims[1..].to_vec(), ..reduce.clone() };
        let partial = self.push(NodeOp::Reduce(within), inputs, &[Type::new(dtype, kept)], flops)[0];
        let partial = self.whole(partial);
        self.push(NodeOp::Reduce(Reduce { dims: vec![0], ..reduce.clone() }), vec![partial], types, 0)
    }

    /// Converts operands of the first one's type, computes in a wider type, and rounds once.
    fn compute_in(
        &mut self,
        wide: DType,
        op: &Op,
        inputs: Vec<Access>,
        types: &[Type],
        flops: u64,
    ) -> Result<Vec<Access>, Error> {
        let narrow = self.result.values[inputs[0].value].ty.dtype;
        // Others are indices, or say which keys take part.
        let convert = |access: Access| {
            let of_values = self.result.values[access.value].ty.dtype == narrow;
            if of_values { self.converted(access, wide) } else { access }
        };
        let inputs = inputs.into_iter().map(convert).collect();
        let op = match op {
            Op::Reduce(r) if r.accumulate == narrow => Reduce { accumulate: wide, ..r.clone() }.into(),
            op => op.clone(),
        };
        // Later outputs are indices, but for those of attention.
        let mut wide_types = types.to_vec();
        let values = if matches!(op, Op::Composite(_)) { types.len() } else { 1 };
        for ty in wide_types[..values].iter_mut().filter(|ty| ty.dtype == narrow) {
            ty.dtype = wide;
        }
        let outputs = self.compute(&op, inputs, &wide_types, flops)?;
        Ok(outputs.into_iter().zip(types).map(|(access, ty)| self.converted(access, ty.dtype)).collect())
    }

    fn converted(&mut self, access: Access, to: DType) -> Access {
        if self.result.values[access.value].ty.dtype == to {
            return access;
        }
        let ty = Type::new(to, &access.view.shape[..]);
        let value = self.push(NodeOp::Elementwise(Elementwise::Convert(to)), vec![access], &[ty], 0)[0];
        self.whole(value)
    }

    fn negated_first(&mut self, mut inputs: Vec<Access>) -> Vec<Access> {
        let ty = self.result.read_type(&inputs[0]);
        let negate = NodeOp::Elementwise(Elementwise::Unary(Unary::Neg));
        let value = self.push(negate, vec![inputs[0].clone()], &[ty], 0)[0];
        inputs[0] = self.whole(value);
        inputs
    }

    fn starts_of_one_type(&mut self, mut inputs: Vec<Access>, first: usize) -> Vec<Access> {
        let starts = inputs.split_off(first);
        let dtypes: Vec<DType> = starts.iter().map(|a| self.result.values[a.value].ty.dtype).collect();
        let one = dtypes.iter().all(|d| *d == dtypes[0]);
        inputs.extend(starts.into_iter().map(|a| if one { a } else { self.converted(a, DType::I64) }));
        inputs
    }

    /// Scalar operands are read for every element.
    fn elementwise(&mut self, op: Elementwise, mut inputs: Vec<Access>, types: &[Type], flops: u64) -> Vec<Val> {
        if !matches!(op, Elementwise::Philox(_)) {
            for input in inputs.iter_mut().filter(|i| i.view.shape.is_empty()) {
                input.view = input.view.broadcast(&types[0].shape, &[]);
            }
        }
        self.push(NodeOp::Elementwise(op), inputs, types, flops)
    }

    /// Values that are never in memory are copied there.
    pub(super) fn readable(&mut self, inputs: Vec<Access>) -> Vec<Access> {
        let readable = |access: Access, s: &mut Self| if s.is_in_memory(&access) { access } else { s.copy(&access) };
        inputs.into_iter().map(|access| readable(access, self)).collect()
    }

    /// A copy with its elements in the order of permuted dimensions; the access still has the original order of dimensions.
    fn permuted_copy(&mut self, access: &Access, order: &[usize]) -> Access {
        let permuted = Access { value: access.value, view: access.view.transpose(order) };
        let copy = self.copy(&permuted);
        Access { value: copy.value, view: copy.view.transpose(&crate::op::inverse(order)) }
    }

    /// Gives every output a value of its own.
    fn outputs(&mut self) {
        let mut owned = vec![false; self.result.values.len()];
        for (output, o) in self.graph.outputs.iter().enumerate() {
            let access = self.accesses[&o.value].clone();
            let state = (o.role == Role::State)
                .then(|| self.graph.inputs.iter().position(|i| i.role == Role::State && i.name == o.name))
                .flatten();
            let unchanged = state.is_some_and(|s| {
                matches!(self.result.values[access.value].def, Def::Input(i) if i == s) && self.result.is_identity(&access)
            });
            if unchanged {
                continue;
            }
            let free = self.result.maker(access.value).is_some() && !owned[access.value] && self.result.is_identity(&access);
            let value = if free {
                access.value
            } else {
                let ty = self.graph.ty(o.value).clone();
                owned.push(true);
                self.push(NodeOp::Elementwise(Elementwise::Copy), vec![access], &[ty], 0)[0]
            };
            owned[value] = true;
            self.result.outputs.push(Bound { output, value });
            self.result.replaces.extend(state.map(|s| (value, s)));
        }
    }
}

/// The type a primitive is computed in where there is no kernel for the operand's own.
fn wider(op: &Op, dtype: DType) -> Option<DType> {
    let half = matches!(dtype, DType::F16 | DType::BF16);
    match op {
        Op::Reduce(_) | Op::ReduceWindow(_) | Op::ScatterAdd(_) if half => Some(DType::F32),
        Op::Composite(c) if half && Attention::of(c).is_some() => Some(DType::F32),
        Op::ArgReduce(_) | Op::SelectAndScatter(_) | Op::SelectAndGather(_) => match dtype {
            DType::F32 | DType::F64 => None,
            _ if half => Some(DType::F32),
            _ => Some(DType::F64),
        },
        _ => None,
    }
}

/// Whether a composite is the one that draws random bits, for which there is an instruction.
pub(crate) fn is_philox(composite: &Composite) -> bool {
    composite.region == PHILOX && composite.attributes.contains_key("stream")
}

fn stream(composite: &Composite) -> u64 {
    composite.attributes.get("stream").and_then(|s| u64::from_str_radix(s, 16).ok()).unwrap_or_default()
}
