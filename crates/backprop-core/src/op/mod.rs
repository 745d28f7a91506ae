//! The primitives: one variant of [`Op`] each, one file per structural primitive, one row per elementwise primitive.
//!
//! Semantics and names follow StableHLO wherever it has the operation. Everything about a primitive stands in its own file,
//! in the order of the trait [`Primitive`].

mod arg_reduce;
mod composite;
mod convert;
mod convolution;
mod data_movement;
mod dot_general;
mod dynamic;
mod elementwise;
mod gather;
mod leaf;
mod reduce;
mod sample;
mod scan;
mod scan_grad;
mod window;

pub use arg_reduce::ArgReduce;
pub use composite::{Composite, checkpoint, composite, custom_vjp};
pub use convert::Convert;
pub use convolution::{ConvDims, Convolution};
pub use data_movement::{BroadcastInDim, Concatenate, Pad, Reshape, Reverse, Slice, Transpose};
pub use dot_general::DotGeneral;
pub(crate) use dot_general::inverse;
pub use dynamic::{DynamicSlice, DynamicUpdateSlice};
pub use elementwise::{Binary, BinaryRow, Clamp, Compare, Select, Unary, UnaryRow};
pub use gather::{Gather, ScatterAdd};
pub use leaf::{Barrier, Constant, InputOp, Invalid, Iota, StopGradient};
pub use reduce::{Reduce, Reducer};
pub use sample::{Domain, Sample};
pub use scan::{Scan, ScanSpec, ScanStep, scan};
pub use window::{ReduceWindow, SelectAndGather, SelectAndScatter, Window};

use crate::{
    DType, Tensor, Type,
    graph::{Graph, NodeId},
    reference::Array,
    stablehlo::{Value, Writer},
};
use std::sync::Arc;

/// What every primitive says about itself. The order of the methods is the order in every file.
pub trait Primitive {
    /// Name in the text form; StableHLO's where it has one.
    fn name(&self) -> &'static str;

    /// Types of the outputs.
    ///
    /// # Errors
    /// A sentence saying what is wrong with the operands and what would be right.
    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, String>;

    /// The slow, obvious definition, in f64 for every floating-point type: the oracle.
    fn reference(&self, inputs: &[&Array], outputs: &[Type]) -> Vec<Array>;

    /// The reverse-mode derivative, in primitives.
    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Derivative<'g>;

    /// Work done; one operation per output element unless the primitive says otherwise.
    fn cost(&self, inputs: &[Type], outputs: &[Type]) -> Cost {
        let flops = outputs.iter().map(|t| t.elements() as u64).sum();
        Cost { flops, bytes: Cost::traffic(inputs, outputs) }
    }

    /// The primitive as lines of StableHLO; gives the values of its results. `inputs` are of types that
    /// [`infer`](Self::infer) accepts, `outputs` are what it gives.
    fn stablehlo(&self, w: &mut Writer, inputs: &[Value], outputs: &[Type]) -> Vec<Value>;

    /// Applications to check: shapes with sizes 0 and 1, odd sizes, values that keep the derivative at 0.05 or more.
    fn samples() -> Vec<Sample>
    where
        Self: Sized;
}

/// Work of one node: floating-point operations (a fused multiply-add is two) and bytes of operands and results.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Cost {
    /// Floating-point operations.
    pub flops: u64,
    /// Bytes read and written if nothing is fused.
    pub bytes: u64,
}

impl Cost {
    /// Bytes of operands and results.
    pub fn traffic(inputs: &[Type], outputs: &[Type]) -> u64 {
        inputs.iter().chain(outputs).map(|t| t.bytes() as u64).sum()
    }

    /// No arithmetic, only traffic.
    pub fn movement(inputs: &[Type], outputs: &[Type]) -> Cost {
        Cost { flops: 0, bytes: Cost::traffic(inputs, outputs) }
    }
}

/// What a derivative rule is given: the node's operands and results, and the cotangents of its results.
pub struct Vjp<'g> {
    /// The node being differentiated.
    pub node: NodeId,
    /// Its operands.
    pub inputs: Vec<Tensor<'g>>,
    /// Its results.
    pub outputs: Vec<Tensor<'g>>,
    /// Cotangents of the results; `None` is zero.
    pub cotangents: Vec<Option<Tensor<'g>>>,
    /// Whether a cotangent is wanted, by operand.
    pub wanted: Vec<bool>,
}

impl<'g> Vjp<'g> {
    /// The cotangent of the first result, zeros if it has none.
    pub fn ct(&self) -> Tensor<'g> {
        self.cotangent(0)
    }

    /// The cotangent of a result, zeros if it has none.
    pub fn cotangent(&self, output: usize) -> Tensor<'g> {
        let like = self.outputs[output];
        self.cotangents[output].unwrap_or_else(|| like.builder().zeros(like.ty()))
    }
}

/// The outcome of a derivative rule: there is no silent default.
pub enum Derivative<'g> {
    /// One cotangent per operand; `None` for an operand that has none (an index) or that nobody wants.
    Rule(Vec<Option<Tensor<'g>>>),
    /// Zero everywhere it exists, with the reason.
    Zero(&'static str),
    /// Asking for it is an error, with the reason.
    Undefined(&'static str),
}

/// Defines [`Op`], its dispatch, and the one list of primitives that checks, fuzzing and documentation iterate over.
macro_rules! primitives {
    ($($(#[$doc:meta])* $text:literal $variant:ident($payload:ty)),* $(,)?) => {
        /// A primitive with its attributes.
        #[derive(Clone, PartialEq, Eq, Hash, Debug)]
        pub enum Op {
            $($(#[$doc])* $variant($payload),)*
        }

        $(impl From<$payload> for Op {
            fn from(p: $payload) -> Op {
                Op::$variant(p)
            }
        })*

        impl Op {
            /// Samples of every primitive.
            pub fn all_samples() -> Vec<Sample> {
                let mut all = Vec::new();
                $(all.extend(<$payload>::samples());)*
                all
            }

            /// Name in the text form.
            pub fn name(&self) -> &'static str {
                match self { $(Op::$variant(p) => p.name(),)* }
            }

            /// Types of the outputs; see [`Primitive::infer`].
            ///
            /// # Errors
            /// As [`Primitive::infer`].
            pub fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, String> {
                match self { $(Op::$variant(p) => p.infer(inputs),)* }
            }

            /// See [`Primitive::reference`].
            pub fn reference(&self, inputs: &[&Array], outputs: &[Type]) -> Vec<Array> {
                match self { $(Op::$variant(p) => p.reference(inputs, outputs),)* }
            }

            /// See [`Primitive::vjp`].
            pub fn vjp<'g>(&self, cx: &Vjp<'g>) -> Derivative<'g> {
                match self { $(Op::$variant(p) => p.vjp(cx),)* }
            }

            /// See [`Primitive::cost`].
            pub fn cost(&self, inputs: &[Type], outputs: &[Type]) -> Cost {
                match self { $(Op::$variant(p) => p.cost(inputs, outputs),)* }
            }

            /// See [`Primitive::stablehlo`].
            pub fn stablehlo(&self, w: &mut Writer, inputs: &[Value], outputs: &[Type]) -> Vec<Value> {
                match self { $(Op::$variant(p) => p.stablehlo(w, inputs, outputs),)* }
            }

            /// Attributes for the text form, without bodies.
            pub(crate) fn attributes(&self) -> serde_json::Value {
                match self { $(Op::$variant(p) => serde_json::to_value(p).unwrap_or_default(),)* }
            }

            /// The primitive of a name in the text form with its attributes; bodies are left empty.
            pub(crate) fn from_text(name: &str, attributes: serde_json::Value) -> Result<Op, String> {
                if let Some(row) = Unary::rows().iter().find(|row| row.name == name) {
                    return Ok(Op::Unary(row.op));
                }
                if let Some(row) = Binary::rows().iter().find(|row| row.name == name) {
                    return Ok(Op::Binary(row.op));
                }
                match name {
                    $($text => serde_json::from_value(attributes).map(Op::$variant).map_err(|e| e.to_string()),)*
                    _ => Err(format!("there is no operation `{name}`")),
                }
            }
        }
    };
}

primitives! {
    /// An input of the graph.
    "input" Input(InputOp),
    /// A constant tensor.
    "constant" Constant(Constant),
    /// Indices along a dimension.
    "iota" Iota(Iota),
    /// An elementwise function of one operand.
    "unary" Unary(Unary),
    /// An elementwise function of two operands.
    "binary" Binary(Binary),
    /// An elementwise comparison.
    "compare" Compare(Compare),
    /// Elementwise choice between two operands.
    "select" Select(Select),
    /// Elementwise limitation to an interval.
    "clamp" Clamp(Clamp),
    /// Conversion of the element type.
    "convert" Convert(Convert),
    /// Generalised matrix product.
    "dot_general" DotGeneral(DotGeneral),
    /// Generalised convolution.
    "convolution" Convolution(Convolution),
    /// Reduction over dimensions.
    "reduce" Reduce(Reduce),
    /// Extremum along a dimension with its index.
    "arg_reduce" ArgReduce(ArgReduce),
    /// Reduction over sliding windows.
    "reduce_window" ReduceWindow(ReduceWindow),
    /// Scatter of values to the selected element of each window.
    "select_and_scatter" SelectAndScatter(SelectAndScatter),
    /// Gather of values from the selected element of each window.
    "select_and_gather" SelectAndGather(SelectAndGather),
    /// Broadcast with explicit dimensions.
    "broadcast_in_dim" BroadcastInDim(BroadcastInDim),
    /// Same elements under another shape.
    "reshape" Reshape(Reshape),
    /// Permutation of dimensions.
    "transpose" Transpose(Transpose),
    /// Reversal of dimensions.
    "reverse" Reverse(Reverse),
    /// Strided window with static bounds.
    "slice" Slice(Slice),
    /// Padding at the edges and between elements.
    "pad" Pad(Pad),
    /// Concatenation along a dimension.
    "concatenate" Concatenate(Concatenate),
    /// Window with bounds known at run time.
    "dynamic_slice" DynamicSlice(DynamicSlice),
    /// Replacement of a window with bounds known at run time.
    "dynamic_update_slice" DynamicUpdateSlice(DynamicUpdateSlice),
    /// Windows at positions given by indices.
    "gather" Gather(Gather),
    /// Addition of windows at positions given by indices.
    "scatter_add" ScatterAdd(ScatterAdd),
    /// A loop with carried state, stacked inputs and stacked outputs.
    "scan" Scan(Scan),
    /// A named region with a body in primitives.
    "composite" Composite(Composite),
    /// Identity whose derivative is zero.
    "stop_gradient" StopGradient(StopGradient),
    /// Identity that no pass looks through.
    "optimization_barrier" Barrier(Barrier),
    /// Stand-in after a tracing error; never part of a finished graph.
    "invalid" Invalid(Invalid),
}

impl Op {
    /// Bodies of the operation, in the order of the text form.
    pub fn regions(&self) -> Vec<&Arc<Graph>> {
        match self {
            Op::Scan(scan) => vec![&scan.body],
            Op::Composite(c) => std::iter::once(&c.body).chain(&c.derivative).collect(),
            _ => Vec::new(),
        }
    }

    /// The same operation with its bodies replaced by functions of them.
    pub fn map_regions(&self, mut f: impl FnMut(&Graph) -> Graph) -> Op {
        match self {
            Op::Scan(scan) => Op::Scan(Scan { body: f(&scan.body).into(), ..scan.clone() }),
            Op::Composite(c) => {
                let derivative = c.derivative.as_ref().map(|d| f(d).into());
                Op::Composite(Composite { body: f(&c.body).into(), derivative, ..c.clone() })
            }
            other => other.clone(),
        }
    }
}

/// Checks the number of operands.
pub(crate) fn arity(inputs: &[Type], n: usize) -> Result<(), String> {
    if inputs.len() == n { Ok(()) } else { Err(format!("takes {n} operands, got {}", inputs.len())) }
}

/// Checks that dimensions exist and are distinct.
pub(crate) fn distinct_dims(what: &str, dims: &[usize], rank: usize) -> Result<(), String> {
    for (i, &d) in dims.iter().enumerate() {
        if d >= rank {
            return Err(format!("{what} dimension {d} does not exist: the operand has {rank} dimensions"));
        }
        if dims[..i].contains(&d) {
            return Err(format!("{what} dimension {d} is named twice"));
        }
    }
    Ok(())
}

/// Checks that two operands have one element type.
pub(crate) fn same_dtype(a: DType, b: DType) -> Result<(), String> {
    if a == b { Ok(()) } else { Err(format!("operands must have one element type, got {a} and {b}; convert one of them")) }
}
