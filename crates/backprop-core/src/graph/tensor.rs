use super::{Builder, Shape, Type, ValueId};
use crate::{
    DType,
    op::{
        ArgReduce, Binary, BroadcastInDim, Clamp, Compare, Concatenate, Convert, Convolution, DotGeneral, DynamicSlice,
        DynamicUpdateSlice, Gather, Iota, Op, Pad, Reduce, ReduceWindow, Reducer, Reshape, Reverse, ScatterAdd, Select, Slice,
        StopGradient, Transpose, Unary, Window,
    },
};
use std::{fmt, ops, panic::Location};

/// A symbolic tensor: a handle to one value of a graph under construction.
///
/// Operators broadcast as in NumPy: trailing dimensions are aligned, extents of 1 are stretched.
#[derive(Clone, Copy)]
pub struct Tensor<'g> {
    builder: &'g Builder,
    value: ValueId,
}

impl<'g> Tensor<'g> {
    pub(super) fn new(builder: &'g Builder, value: ValueId) -> Self {
        Tensor { builder, value }
    }

    /// The graph this belongs to.
    pub fn builder(&self) -> &'g Builder {
        self.builder
    }

    /// Identity of the value in its graph.
    pub fn id(&self) -> ValueId {
        self.value
    }

    /// Element type and shape.
    pub fn ty(&self) -> Type {
        self.builder.with_graph(|g| g.ty(self.value).clone())
    }

    /// Shape.
    pub fn shape(&self) -> Shape {
        self.ty().shape
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.builder.with_graph(|g| g.ty(self.value).dtype)
    }

    /// Number of dimensions.
    pub fn rank(&self) -> usize {
        self.builder.with_graph(|g| g.ty(self.value).shape.len())
    }

    /// Extent of a dimension; negative counts from the end. A dimension that does not exist is an error of the graph, not a
    /// panic, and has extent 1.
    #[track_caller]
    pub fn dim(&self, dim: isize) -> usize {
        let shape = self.shape();
        let at = if dim < 0 { dim + shape.len() as isize } else { dim };
        match usize::try_from(at).ok().and_then(|d| shape.get(d)) {
            Some(&extent) => extent,
            None => {
                self.builder.fail("dim", &[self.ty()], format!("dimension {dim} does not exist"));
                1
            }
        }
    }

    #[track_caller]
    fn apply1(self, op: impl Into<Op>, more: &[Tensor<'g>]) -> Tensor<'g> {
        self.apply_all(op.into(), more)[0]
    }

    #[track_caller]
    fn apply_all(self, op: Op, more: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
        let mut inputs = vec![self];
        inputs.extend_from_slice(more);
        self.builder.apply_at(op, &inputs, Location::caller())
    }

    /// Applies a binary elementwise primitive, broadcasting both operands.
    #[track_caller]
    pub fn binary(self, op: Binary, other: Tensor<'g>) -> Tensor<'g> {
        let (a, b) = self.broadcast_together(other);
        a.apply1(op, &[b])
    }

    /// Compares elementwise, broadcasting both operands.
    #[track_caller]
    pub fn compare(self, comparison: Compare, other: Tensor<'g>) -> Tensor<'g> {
        let (a, b) = self.broadcast_together(other);
        a.apply1(comparison, &[b])
    }

    #[track_caller]
    fn broadcast_together(self, other: Tensor<'g>) -> (Tensor<'g>, Tensor<'g>) {
        let (a, b) = (self.shape(), other.shape());
        if a == b {
            return (self, other);
        }
        let rank = a.len().max(b.len());
        let extent = |s: &Shape, d: usize| (d + s.len()).checked_sub(rank).map_or(1, |d| s[d]);
        let shape: Shape = (0..rank).map(|d| if extent(&a, d) == 1 { extent(&b, d) } else { extent(&a, d) }).collect();
        if (0..rank).any(|d| extent(&b, d) != 1 && extent(&b, d) != shape[d]) {
            return (self, other);
        }
        (self.broadcast_to(&shape), other.broadcast_to(shape))
    }

    /// Repeats along new leading dimensions and stretches extents of 1, aligning trailing dimensions.
    #[track_caller]
    pub fn broadcast_to(self, shape: impl Into<Shape>) -> Tensor<'g> {
        let (shape, own) = (shape.into(), self.shape());
        if own == shape {
            return self;
        }
        let dims: Vec<usize> = (shape.len().saturating_sub(own.len())..shape.len()).collect();
        self.broadcast_in_dim(shape, &dims)
    }

    /// Broadcast with explicit dimensions; see [`BroadcastInDim`].
    #[track_caller]
    pub fn broadcast_in_dim(self, shape: impl Into<Shape>, dims: &[usize]) -> Tensor<'g> {
        self.apply1(BroadcastInDim { shape: shape.into(), dims: dims.to_vec() }, &[])
    }

    /// The same elements under another shape.
    #[track_caller]
    pub fn reshape(self, shape: impl Into<Shape>) -> Tensor<'g> {
        let shape = shape.into();
        if shape == self.shape() { self } else { self.apply1(Reshape { shape }, &[]) }
    }

    /// Permutes dimensions; see [`Transpose`].
    #[track_caller]
    pub fn transpose(self, permutation: &[usize]) -> Tensor<'g> {
        if permutation.len() == self.rank() && permutation.iter().enumerate().all(|(i, &p)| i == p) {
            return self;
        }
        self.apply1(Transpose { permutation: permutation.to_vec() }, &[])
    }

    /// Exchanges the last two dimensions.
    #[track_caller]
    pub fn t(self) -> Tensor<'g> {
        let n = self.rank();
        let mut permutation: Vec<usize> = (0..n).collect();
        if n < 2 {
            return self.builder.fail("t", &[self.ty()], "needs at least two dimensions".into());
        }
        permutation.swap(n - 1, n - 2);
        self.transpose(&permutation)
    }

    /// Reverses the order of elements along dimensions.
    #[track_caller]
    pub fn reverse(self, dims: &[usize]) -> Tensor<'g> {
        if dims.is_empty() { self } else { self.apply1(Reverse { dims: dims.to_vec() }, &[]) }
    }

    /// The elements from `start` to `limit` in steps of `stride`, per dimension.
    #[track_caller]
    pub fn slice_strided(self, start: &[usize], limit: &[usize], stride: &[usize]) -> Tensor<'g> {
        let whole = start.iter().all(|&s| s == 0) && stride.iter().all(|&s| s == 1) && limit == &self.shape()[..];
        if whole {
            return self;
        }
        let [start, limit, stride] = [start, limit, stride].map(<[usize]>::to_vec);
        self.apply1(Slice { start, limit, stride }, &[])
    }

    /// The elements `start..limit` along one dimension.
    #[track_caller]
    pub fn slice_dim(self, dim: usize, start: usize, limit: usize) -> Tensor<'g> {
        let shape = self.shape();
        let (mut low, mut high) = (vec![0; shape.len()], shape.to_vec());
        if dim >= shape.len() {
            return self.builder.fail("slice", &[self.ty()], format!("dimension {dim} does not exist"));
        }
        (low[dim], high[dim]) = (start, limit);
        self.slice_strided(&low, &high, &vec![1; shape.len()])
    }

    /// Pads with a scalar; see [`Pad`].
    #[track_caller]
    pub fn pad(self, value: Tensor<'g>, pad: Pad) -> Tensor<'g> {
        let nothing = pad.low.iter().chain(&pad.high).all(|&e| e == 0) && pad.interior.iter().all(|&i| i == 0);
        if nothing && pad.low.len() == self.rank() { self } else { self.apply1(pad, &[value]) }
    }

    /// Joins tensors along a dimension.
    #[track_caller]
    pub fn concatenate(self, others: &[Tensor<'g>], dim: usize) -> Tensor<'g> {
        self.apply1(Concatenate { dim }, others)
    }

    /// A window at a position given by one integer scalar per dimension.
    #[track_caller]
    pub fn dynamic_slice(self, starts: &[Tensor<'g>], sizes: &[usize]) -> Tensor<'g> {
        self.apply1(DynamicSlice { sizes: sizes.to_vec() }, starts)
    }

    /// This tensor with a window replaced.
    #[track_caller]
    pub fn dynamic_update_slice(self, update: Tensor<'g>, starts: &[Tensor<'g>]) -> Tensor<'g> {
        self.apply1(DynamicUpdateSlice {}, &[&[update], starts].concat())
    }

    /// Windows at index vectors; see [`Gather`].
    #[track_caller]
    pub fn gather(self, indices: Tensor<'g>, gather: Gather) -> Tensor<'g> {
        self.apply1(gather, &[indices])
    }

    /// Adds windows at index vectors; see [`ScatterAdd`].
    #[track_caller]
    pub fn scatter_add(self, indices: Tensor<'g>, updates: Tensor<'g>, scatter: ScatterAdd) -> Tensor<'g> {
        self.apply1(scatter, &[indices, updates])
    }

    /// Slabs along dimension 0 by index (any shape of integers): embedding look-up.
    #[track_caller]
    pub fn rows(self, indices: Tensor<'g>) -> Tensor<'g> {
        let shape = indices.shape();
        let column: Shape = shape.iter().copied().chain([1]).collect();
        if self.rank() == 0 {
            return self.builder.fail("gather", &[self.ty()], "needs at least one dimension".into());
        }
        self.gather(indices.reshape(column), Gather::rows(&self.shape(), shape.len()))
    }

    /// Generalised matrix product.
    #[track_caller]
    pub fn dot_general(self, rhs: Tensor<'g>, dot: DotGeneral) -> Tensor<'g> {
        self.apply1(dot, &[rhs])
    }

    /// Matrix product: `[.., m, k] · [.., k, n]` with equal leading dimensions, or `[.., k] · [k, n]`.
    #[track_caller]
    pub fn matmul(self, rhs: Tensor<'g>) -> Tensor<'g> {
        let (l, r) = (self.rank(), rhs.rank());
        if l == 0 || r < 2 || (r > 2 && l != r) {
            let message = "needs [.., m, k] and [.., k, n] with the same leading dimensions, or [.., k] and [k, n]";
            return self.builder.fail("matmul", &[self.ty(), rhs.ty()], message.into());
        }
        let batch: Vec<usize> = if r > 2 { (0..l - 2).collect() } else { Vec::new() };
        self.dot_general(
            rhs,
            DotGeneral {
                lhs_contracting: vec![l - 1],
                rhs_contracting: vec![r - 2],
                lhs_batch: batch.clone(),
                rhs_batch: batch,
                accumulate: self.dtype(),
            },
        )
    }

    /// `x · Wᵀ` for a weight `[out, in]`, as PyTorch's `linear`.
    #[track_caller]
    pub fn linear(self, weight: Tensor<'g>) -> Tensor<'g> {
        let last = self.rank().saturating_sub(1);
        let dot = DotGeneral {
            lhs_contracting: vec![last],
            rhs_contracting: vec![1],
            lhs_batch: Vec::new(),
            rhs_batch: Vec::new(),
            accumulate: self.dtype(),
        };
        self.dot_general(weight, dot)
    }

    /// Convolution; see [`Convolution`].
    #[track_caller]
    pub fn convolution(self, kernel: Tensor<'g>, convolution: Convolution) -> Tensor<'g> {
        self.apply1(convolution, &[kernel])
    }

    /// Combines elements along dimensions, which disappear.
    #[track_caller]
    pub fn reduce(self, reducer: Reducer, dims: &[usize]) -> Tensor<'g> {
        self.reduce_in(self.dtype(), reducer, dims)
    }

    /// As [`reduce`](Self::reduce), formed in and resulting in a wider floating-point type.
    #[track_caller]
    pub fn reduce_in(self, accumulate: DType, reducer: Reducer, dims: &[usize]) -> Tensor<'g> {
        let mut dims = dims.to_vec();
        dims.sort_unstable();
        if dims.is_empty() && accumulate == self.dtype() {
            return self;
        }
        self.apply1(Reduce { reducer, dims, accumulate }, &[])
    }

    /// Sum over dimensions.
    #[track_caller]
    pub fn sum(self, dims: &[usize]) -> Tensor<'g> {
        self.reduce(Reducer::Sum, dims)
    }

    /// Sum of all elements.
    #[track_caller]
    pub fn sum_all(self) -> Tensor<'g> {
        self.sum(&(0..self.rank()).collect::<Vec<_>>())
    }

    /// Maximum over dimensions.
    #[track_caller]
    pub fn max(self, dims: &[usize]) -> Tensor<'g> {
        self.reduce(Reducer::Max, dims)
    }

    /// Minimum over dimensions.
    #[track_caller]
    pub fn min(self, dims: &[usize]) -> Tensor<'g> {
        self.reduce(Reducer::Min, dims)
    }

    /// Mean over dimensions; NaN over nothing.
    #[track_caller]
    pub fn mean(self, dims: &[usize]) -> Tensor<'g> {
        let shape = self.shape();
        let n: usize = dims.iter().filter_map(|&d| shape.get(d)).product();
        self.sum(dims) * (1.0 / n as f64)
    }

    /// Largest value along a dimension and the index of its first occurrence.
    #[track_caller]
    pub fn arg_max(self, dim: usize) -> (Tensor<'g>, Tensor<'g>) {
        let both = self.apply_all(ArgReduce { reducer: Reducer::Max, dim }.into(), &[]);
        (both[0], *both.last().unwrap_or(&both[0]))
    }

    /// Combines the elements of sliding windows: pooling.
    #[track_caller]
    pub fn reduce_window(self, reducer: Reducer, window: Window) -> Tensor<'g> {
        self.apply1(ReduceWindow { reducer, window }, &[])
    }

    /// `a` where this is true, `b` elsewhere; all three are broadcast together.
    #[track_caller]
    pub fn select(self, a: Tensor<'g>, b: Tensor<'g>) -> Tensor<'g> {
        let (a, b) = a.broadcast_together(b);
        let condition = if self.rank() == 0 { self } else { self.broadcast_to(a.shape()) };
        condition.apply1(Select {}, &[a, b])
    }

    /// Limits to an interval; bounds are scalars or of this shape.
    #[track_caller]
    pub fn clamp(self, low: Tensor<'g>, high: Tensor<'g>) -> Tensor<'g> {
        low.apply1(Clamp {}, &[self, high])
    }

    /// Converts the element type.
    #[track_caller]
    pub fn convert(self, to: DType) -> Tensor<'g> {
        if self.dtype() == to { self } else { self.apply1(Convert { to }, &[]) }
    }

    /// Identity whose derivative is zero.
    #[track_caller]
    pub fn stop_gradient(self) -> Tensor<'g> {
        self.apply1(StopGradient {}, &[])
    }

    /// max(x, 0); derivative 0 at 0.
    #[track_caller]
    pub fn relu(self) -> Tensor<'g> {
        let zero = self.builder.zeros(self.ty());
        // select, not maximum: at a tie maximum would give half of the cotangent.
        self.less_equal(zero).select(zero, self)
    }

    /// A constant scalar of this element type.
    #[track_caller]
    pub fn like(self, value: f64) -> Tensor<'g> {
        self.builder.scalar(self.dtype(), value)
    }

    /// Gradients of this floating-point scalar with respect to `wrt`.
    #[track_caller]
    pub fn grad(self, wrt: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
        crate::grad::grad(self, wrt)
    }
}

macro_rules! unary_methods {
    ($($(#[$doc:meta])* $name:ident $variant:ident;)*) => {
        impl<'g> Tensor<'g> { $(
            $(#[$doc])*
            #[track_caller]
            pub fn $name(self) -> Tensor<'g> {
                self.apply1(Unary::$variant, &[])
            }
        )* }
    };
}

unary_methods! {
    /// |x|.
    abs Abs;
    /// −1, 0 or 1.
    sign Sign;
    /// Largest integer not above x.
    floor Floor;
    /// Smallest integer not below x.
    ceil Ceil;
    /// Nearest integer, ties to even.
    round_nearest_even RoundNearestEven;
    /// eˣ.
    exp Exp;
    /// eˣ − 1.
    expm1 Expm1;
    /// Natural logarithm.
    log Log;
    /// ln(1 + x).
    log1p Log1p;
    /// Square root.
    sqrt Sqrt;
    /// 1/√x.
    rsqrt Rsqrt;
    /// Hyperbolic tangent.
    tanh Tanh;
    /// 1/(1 + e⁻ˣ).
    logistic Logistic;
    /// Error function.
    erf Erf;
    /// Sine.
    sin Sin;
    /// Cosine.
    cos Cos;
    /// Bitwise complement; logical not for bool.
    logical_not Not;
    /// Whether neither infinite nor NaN.
    is_finite IsFinite;
}

macro_rules! binary_methods {
    ($($(#[$doc:meta])* $name:ident $method:ident $row:ident :: $variant:ident;)*) => {
        impl<'g> Tensor<'g> { $(
            $(#[$doc])*
            #[track_caller]
            pub fn $name(self, other: impl Operand<'g>) -> Tensor<'g> {
                self.$method($row::$variant, other.tensor_like(self))
            }
        )* }
    };
}

binary_methods! {
    /// Larger of two; NaN if either is.
    maximum binary Binary::Max;
    /// Smaller of two; NaN if either is.
    minimum binary Binary::Min;
    /// Power.
    pow binary Binary::Pow;
    /// Shift towards the high bits.
    shift_left binary Binary::ShiftLeft;
    /// Shift towards the low bits, zero filled.
    shift_right binary Binary::ShiftRightLogical;
    /// =.
    equal compare Compare::Eq;
    /// ≠.
    not_equal compare Compare::Ne;
    /// <.
    less compare Compare::Lt;
    /// ≤.
    less_equal compare Compare::Le;
    /// >.
    greater compare Compare::Gt;
    /// ≥.
    greater_equal compare Compare::Ge;
}

/// What may stand at the right of an operator: a tensor, or a number that becomes a constant of the left operand's type.
pub trait Operand<'g> {
    /// As a tensor of the same graph and element type as `like`.
    fn tensor_like(self, like: Tensor<'g>) -> Tensor<'g>;
}

impl<'g> Operand<'g> for Tensor<'g> {
    fn tensor_like(self, _: Tensor<'g>) -> Tensor<'g> {
        self
    }
}

impl<'g> Operand<'g> for f64 {
    #[track_caller]
    fn tensor_like(self, like: Tensor<'g>) -> Tensor<'g> {
        like.like(self)
    }
}

macro_rules! operators {
    ($($trait:ident $method:ident $variant:ident;)*) => { $(
        impl<'g, O: Operand<'g>> ops::$trait<O> for Tensor<'g> {
            type Output = Tensor<'g>;
            #[track_caller]
            fn $method(self, other: O) -> Tensor<'g> {
                self.binary(Binary::$variant, other.tensor_like(self))
            }
        }
    )* };
}
operators! {
    Add add Add;
    Sub sub Sub;
    Mul mul Mul;
    Div div Div;
    Rem rem Rem;
    BitAnd bitand And;
    BitOr bitor Or;
    BitXor bitxor Xor;
}

macro_rules! number_on_the_left {
    ($($trait:ident $method:ident;)*) => { $(
        impl<'g> ops::$trait<Tensor<'g>> for f64 {
            type Output = Tensor<'g>;
            #[track_caller]
            fn $method(self, other: Tensor<'g>) -> Tensor<'g> {
                ops::$trait::$method(other.like(self), other)
            }
        }
    )* };
}
number_on_the_left! {
    Add add;
    Sub sub;
    Mul mul;
    Div div;
}

impl<'g> ops::Neg for Tensor<'g> {
    type Output = Tensor<'g>;
    #[track_caller]
    fn neg(self) -> Tensor<'g> {
        self.apply1(Unary::Neg, &[])
    }
}

impl fmt::Debug for Tensor<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "%{}.{}: {}", self.value.node.0, self.value.output, self.ty())
    }
}

impl Builder {
    /// Indices along a dimension.
    #[track_caller]
    pub fn iota(&self, ty: Type, dim: usize) -> Tensor<'_> {
        self.apply(Iota { ty, dim }, &[])[0]
    }
}
