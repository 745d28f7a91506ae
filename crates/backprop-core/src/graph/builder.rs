use super::{Graph, Input, Node, NodeId, Origin, Output, Role, Tensor, Type, ValueId};
use crate::{
    DType, Error, HostTensor,
    error::GraphError,
    op::{Constant, InputOp, Invalid, Op},
};
use std::{cell::RefCell, fmt, panic::Location, sync::Arc};

/// A graph under construction. [`Tensor`] handles borrow it.
///
/// Misuse never panics: the builder keeps the first error with layer path, operands and source line, later handles carry a
/// best-effort shape, and [`finish`](Self::finish) returns the error.
///
/// ```
/// use backprop_core::{Builder, DType, Type, graph::Role};
/// let b = Builder::new();
/// let x = b.input("x", Role::Data, Type::new(DType::F32, [2, 3]));
/// let y = (x * 2.0).tanh().sum(&[0, 1]);
/// b.output("y", Role::Data, y);
/// b.output("dx", Role::Data, y.grad(&[x])[0]);
/// assert_eq!(b.finish().unwrap().outputs.len(), 2);
/// ```
#[derive(Default)]
pub struct Builder {
    state: RefCell<State>,
}

#[derive(Default)]
struct State {
    graph: Graph,
    error: Option<Error>,
    path: Arc<str>,
    backward: bool,
}

/// Leaves the scope it stands for when dropped.
pub struct ScopeGuard<'g> {
    builder: &'g Builder,
    outer: Arc<str>,
}

impl Drop for ScopeGuard<'_> {
    fn drop(&mut self) {
        self.builder.state.borrow_mut().path = self.outer.clone();
    }
}

impl Builder {
    /// An empty graph.
    pub fn new() -> Builder {
        Builder::default()
    }

    /// Adds an input. Its name must be new among the inputs.
    #[track_caller]
    pub fn input(&self, name: impl Into<String>, role: Role, ty: Type) -> Tensor<'_> {
        let name = name.into();
        if self.state.borrow().graph.inputs.iter().any(|i| i.name == name) {
            self.fail("input", &[], format!("there is an input `{name}` already; names must be unique"));
        }
        if let Err(message) = ty.check_size() {
            return self.fail("input", &[ty], format!("`{name}`: {message}"));
        }
        let node = self.push(Op::Input(InputOp { ty: ty.clone() }), Vec::new(), vec![ty], Location::caller());
        self.state.borrow_mut().graph.inputs.push(Input { name, role, node });
        self.tensor(ValueId { node, output: 0 })
    }

    /// A constant tensor.
    #[track_caller]
    pub fn constant(&self, value: HostTensor) -> Tensor<'_> {
        let ty = value.ty().clone();
        let node = self.push(Op::Constant(Constant { value: Arc::new(value) }), Vec::new(), vec![ty], Location::caller());
        self.tensor(ValueId { node, output: 0 })
    }

    /// A constant scalar, rounded to `dtype`. A fraction among integers is an error of the graph: it would become another number.
    #[track_caller]
    pub fn scalar(&self, dtype: DType, value: f64) -> Tensor<'_> {
        if dtype.is_int() && value.fract() != 0.0 {
            let message = format!("{value} is no {dtype}; convert the tensor it stands beside to floating point");
            return self.fail("constant", &[Type::scalar(dtype)], message);
        }
        match HostTensor::from_f64(dtype, [], &[value]) {
            Ok(literal) => self.constant(literal),
            Err(message) => self.fail("constant", &[], message),
        }
    }

    /// A tensor with one value everywhere.
    #[track_caller]
    pub fn full(&self, ty: Type, value: f64) -> Tensor<'_> {
        let scalar = self.scalar(ty.dtype, value);
        if ty.shape.is_empty() { scalar } else { scalar.broadcast_in_dim(ty.shape, &[]) }
    }

    /// Zeros of a type.
    #[track_caller]
    pub fn zeros(&self, ty: Type) -> Tensor<'_> {
        self.full(ty, 0.0)
    }

    /// Adds a state or data output. For a state output, `name` is that of the state input it replaces.
    #[track_caller]
    pub fn output(&self, name: impl Into<String>, role: Role, value: Tensor<'_>) {
        let name = name.into();
        let duplicate = self.state.borrow().graph.outputs.iter().any(|o| o.name == name);
        if duplicate {
            self.fail("output", &[], format!("there is an output `{name}` already; names must be unique"));
        }
        self.state.borrow_mut().graph.outputs.push(Output { name, role, value: value.id() });
    }

    /// Applies a primitive; one tensor per output.
    #[track_caller]
    pub fn apply(&self, op: impl Into<Op>, inputs: &[Tensor<'_>]) -> Vec<Tensor<'_>> {
        self.apply_at(op.into(), inputs, Location::caller())
    }

    pub(crate) fn apply_at(&self, op: Op, inputs: &[Tensor<'_>], location: &'static Location<'static>) -> Vec<Tensor<'_>> {
        let types: Vec<Type> = inputs.iter().map(Tensor::ty).collect();
        if inputs.iter().any(|t| !std::ptr::eq(t.builder(), self)) {
            let message = "an operand belongs to another graph; tensors of different builders cannot be mixed";
            return vec![self.fail_at(op.name(), &types, message.into(), location)];
        }
        let inferred = op.infer(&types).and_then(|outputs| {
            outputs.iter().try_for_each(Type::check_size)?;
            Ok(outputs)
        });
        match inferred {
            Ok(outputs) => {
                let count = outputs.len() as u32;
                let node = self.push(op, inputs.iter().map(|t| t.id()).collect(), outputs, location);
                (0..count).map(|output| self.tensor(ValueId { node, output })).collect()
            }
            Err(message) => vec![self.fail_at(op.name(), &types, message, location)],
        }
    }

    /// Records an error, if it is the first, and returns a stand-in shaped like the first operand.
    #[track_caller]
    pub fn fail(&self, op: &str, operands: &[Type], message: String) -> Tensor<'_> {
        self.fail_at(op, operands, message, Location::caller())
    }

    pub(crate) fn fail_at(
        &self,
        op: &str,
        operands: &[Type],
        message: String,
        location: &'static Location<'static>,
    ) -> Tensor<'_> {
        let path = self.path().to_string();
        let error = GraphError { path, op: op.into(), operands: operands.to_vec(), location: Some(location), message };
        self.fail_with(error.into());
        let ty = operands.first().cloned().unwrap_or(Type::scalar(DType::F32));
        let node = self.push(Op::Invalid(Invalid { ty: ty.clone() }), Vec::new(), vec![ty], location);
        self.tensor(ValueId { node, output: 0 })
    }

    pub(crate) fn fail_with(&self, error: Error) {
        self.state.borrow_mut().error.get_or_insert(error);
    }

    /// The first error so far.
    pub fn error(&self) -> Option<Error> {
        self.state.borrow().error.clone()
    }

    /// Nodes made until the guard is dropped belong to the layer `name` within the current one.
    #[must_use = "the scope ends when the guard is dropped"]
    pub fn scope(&self, name: &str) -> ScopeGuard<'_> {
        let mut state = self.state.borrow_mut();
        let path: Arc<str> = match (name.is_empty(), state.path.is_empty()) {
            (true, _) => state.path.clone(),
            (false, true) => name.into(),
            (false, false) => format!("{}.{name}", state.path).into(),
        };
        ScopeGuard { builder: self, outer: std::mem::replace(&mut state.path, path) }
    }

    /// Enters the scope of an absolute path, as when a node's gradient is made in the layer of the node.
    #[must_use = "the scope ends when the guard is dropped"]
    pub(crate) fn scope_at(&self, path: Arc<str>) -> ScopeGuard<'_> {
        ScopeGuard { builder: self, outer: std::mem::replace(&mut self.state.borrow_mut().path, path) }
    }

    /// Path of the current scope.
    pub fn path(&self) -> Arc<str> {
        self.state.borrow().path.clone()
    }

    /// Marks the nodes made by `f` as part of a backward pass.
    pub(crate) fn backward<R>(&self, f: impl FnOnce() -> R) -> R {
        let outer = std::mem::replace(&mut self.state.borrow_mut().backward, true);
        let result = f();
        self.state.borrow_mut().backward = outer;
        result
    }

    /// Traces a function of its own: the body of a scan or composite. Errors in it become errors of this builder.
    #[track_caller]
    pub fn trace<F>(&self, inputs: &[Type], f: F) -> Graph
    where
        F: for<'b> FnOnce(&'b Builder, &[Tensor<'b>]) -> Vec<Tensor<'b>>,
    {
        let inner = Builder::new();
        inner.state.borrow_mut().path = self.path();
        let args: Vec<Tensor> =
            inputs.iter().enumerate().map(|(i, ty)| inner.input(format!("{i}"), Role::Data, ty.clone())).collect();
        for (i, value) in f(&inner, &args).into_iter().enumerate() {
            inner.output(format!("{i}"), Role::Data, value);
        }
        drop(args);
        match inner.finish() {
            Ok(graph) => graph,
            Err(error) => {
                self.fail_with(error);
                Graph::default()
            }
        }
    }

    /// Copies the nodes of `graph` into this one with `inputs` for its inputs; returns its outputs here.
    pub fn inline<'g>(&'g self, graph: &Graph, inputs: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
        let mut map: Vec<Option<NodeId>> = vec![None; graph.nodes.len()];
        let mut bound: Vec<Option<ValueId>> = vec![None; graph.nodes.len()];
        for (input, tensor) in graph.inputs.iter().zip(inputs) {
            bound[input.node.index()] = Some(tensor.id());
        }
        let resolve = |map: &[Option<NodeId>], bound: &[Option<ValueId>], v: ValueId| {
            bound[v.node.index()].or(map[v.node.index()].map(|node| ValueId { node, output: v.output })).unwrap_or(v)
        };
        for (id, node) in graph.iter() {
            if bound[id.index()].is_some() {
                continue;
            }
            let inputs = node.inputs.iter().map(|&v| resolve(&map, &bound, v)).collect();
            let mut state = self.state.borrow_mut();
            let mut copy = Node { inputs, ..node.clone() };
            copy.origin.backward |= state.backward;
            state.graph.nodes.push(copy);
            map[id.index()] = Some(NodeId(state.graph.nodes.len() as u32 - 1));
        }
        graph.outputs.iter().map(|o| self.tensor(resolve(&map, &bound, o.value))).collect()
    }

    /// Appends outputs to a node by replacing its operation with one that computes the old outputs and more.
    pub(crate) fn extend_node(&self, id: NodeId, op: Op, outputs: Vec<Type>) {
        let mut state = self.state.borrow_mut();
        let node = &mut state.graph.nodes[id.index()];
        debug_assert_eq!(node.outputs[..], outputs[..node.outputs.len()]);
        node.op = op;
        node.outputs = outputs;
    }

    /// A copy of a node made so far.
    pub fn node(&self, id: NodeId) -> Node {
        self.state.borrow().graph.node(id).clone()
    }

    /// Reads the graph made so far.
    pub fn with_graph<R>(&self, f: impl FnOnce(&Graph) -> R) -> R {
        f(&self.state.borrow().graph)
    }

    /// The handle of a value of this graph.
    pub fn tensor(&self, value: ValueId) -> Tensor<'_> {
        Tensor::new(self, value)
    }

    /// The finished graph.
    ///
    /// # Errors
    /// The first misuse met while tracing; a state output without a state input of its name and type.
    pub fn finish(self) -> Result<Graph, Error> {
        let state = self.state.into_inner();
        match state.error {
            Some(error) => Err(error),
            None => {
                super::verify::verify(&state.graph)?;
                Ok(state.graph)
            }
        }
    }

    fn push(&self, op: Op, inputs: Vec<ValueId>, outputs: Vec<Type>, location: &'static Location<'static>) -> NodeId {
        let mut state = self.state.borrow_mut();
        let origin = Origin { path: state.path.clone(), location: Some(location), backward: state.backward };
        state.graph.nodes.push(Node { op, inputs, outputs, origin });
        NodeId(state.graph.nodes.len() as u32 - 1)
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state.borrow();
        write!(f, "Builder({} nodes, {} inputs)", state.graph.nodes.len(), state.graph.inputs.len())
    }
}
