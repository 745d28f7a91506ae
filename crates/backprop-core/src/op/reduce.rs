//! Reduction over dimensions.

use super::{Cost, Derivative, Domain, Primitive, Sample, Vjp, arity, convert::dtype_name, distinct_dims};
use crate::{
    DType, Shape, Type,
    reference::{Array, index_space, wrap},
    stablehlo::{Region, Value, Writer},
};
use serde::{Deserialize, Serialize};

/// How elements are combined.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reducer {
    /// Sum; 0 of nothing.
    Sum,
    /// Maximum (or, for bool); NaN if any is; −∞ or the smallest integer of nothing.
    Max,
    /// Minimum (and, for bool); NaN if any is; +∞ or the largest integer of nothing.
    Min,
}

impl Reducer {
    /// The value of an empty reduction.
    pub fn identity(self, dtype: DType) -> f64 {
        let (low, high) = match dtype {
            DType::Bool => (0.0, 1.0),
            DType::U8 => (0.0, f64::from(u8::MAX)),
            DType::I32 => (f64::from(i32::MIN), f64::from(i32::MAX)),
            DType::I64 => (i64::MIN as f64, i64::MAX as f64),
            DType::U32 => (0.0, f64::from(u32::MAX)),
            DType::U64 => (0.0, u64::MAX as f64),
            _ => (f64::NEG_INFINITY, f64::INFINITY),
        };
        match self {
            Reducer::Sum => 0.0,
            Reducer::Max => low,
            Reducer::Min => high,
        }
    }

    /// Combines two values.
    pub fn combine(self, a: f64, b: f64) -> f64 {
        match self {
            Reducer::Sum => a + b,
            _ if a.is_nan() || b.is_nan() => f64::NAN,
            Reducer::Max => a.max(b),
            Reducer::Min => a.min(b),
        }
    }

    /// Name of the operation that combines two values.
    pub(super) fn stablehlo(self) -> &'static str {
        match self {
            Reducer::Sum => "add",
            Reducer::Max => "maximum",
            Reducer::Min => "minimum",
        }
    }

    /// The type partial results have in StableHLO: sums of half precision are formed in `f32`, as the native ones.
    pub(super) fn partial(self, dtype: DType) -> DType {
        if self == Reducer::Sum && dtype.is_float() && dtype.size() < 4 { DType::F32 } else { dtype }
    }

    /// The value of an empty reduction in StableHLO.
    pub(super) fn start(self, w: &mut Writer, dtype: DType) -> Value {
        if dtype.is_float() { w.scalar(dtype, self.identity(dtype)) } else { w.integer(dtype, self.empty(dtype)) }
    }

    /// The value of an empty reduction of integers.
    fn empty(self, dtype: DType) -> i128 {
        let (low, high) = match dtype {
            DType::Bool => (0, 1),
            DType::I32 => (i32::MIN.into(), i32::MAX.into()),
            DType::I64 => (i64::MIN.into(), i64::MAX.into()),
            _ => (0, wrap(dtype, -1)),
        };
        match self {
            Reducer::Sum => 0,
            Reducer::Max => low,
            Reducer::Min => high,
        }
    }

    /// Combines values of any type into one: floats in f64, integers exactly.
    pub(crate) fn fold(self, dtype: DType, array: &Array, positions: impl Iterator<Item = usize>) -> (f64, i128) {
        if dtype.is_float() {
            return (positions.fold(self.identity(dtype), |acc, p| self.combine(acc, array.at(p))), 0);
        }
        let values = array.to_int();
        let all = positions.map(|p| values[p]);
        let result = match self {
            Reducer::Sum => Some(all.sum()),
            Reducer::Max => all.max(),
            Reducer::Min => all.min(),
        };
        let result = result.unwrap_or_else(|| self.empty(dtype));
        (0.0, result)
    }

    /// The result array of folding a set of positions for each output element.
    pub(crate) fn fold_each(self, ty: &Type, array: &Array, positions: impl Fn(&[usize]) -> Vec<usize>) -> Array {
        let each = ty.shape.indices().map(|out| self.fold(ty.dtype, array, positions(&out).into_iter()));
        if ty.dtype.is_float() {
            Array::float(ty, each.map(|v| v.0).collect())
        } else {
            Array::int(ty, each.map(|v| v.1).collect())
        }
    }
}

/// Combines the elements along dimensions, which disappear.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Reduce {
    /// How elements are combined.
    pub reducer: Reducer,
    /// Dimensions reduced over, ascending.
    pub dims: Vec<usize>,
    /// Type sums are formed in and results have.
    #[serde(with = "dtype_name")]
    pub accumulate: DType,
}

impl Primitive for Reduce {
    fn name(&self) -> &'static str {
        "reduce"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, String> {
        arity(inputs, 1)?;
        let x = &inputs[0];
        distinct_dims("reduced", &self.dims, x.shape.len())?;
        if !self.dims.is_sorted() {
            return Err(format!("reduced dimensions must be ascending, got {:?}", self.dims));
        }
        if x.dtype == DType::Bool && self.reducer == Reducer::Sum {
            return Err("sums of bool are not defined; convert to a number, or use max (any) or min (all)".into());
        }
        let widened = x.dtype.is_float() && self.accumulate.is_float() && self.accumulate.size() >= x.dtype.size();
        if self.accumulate != x.dtype && !widened {
            return Err(format!("cannot accumulate {} in {}", x.dtype, self.accumulate));
        }
        Ok(vec![Type { dtype: self.accumulate, shape: x.shape.without(&self.dims) }])
    }

    fn reference(&self, inputs: &[&Array], outputs: &[Type]) -> Vec<Array> {
        let shape = &inputs[0].ty.shape;
        let extents: Vec<usize> = self.dims.iter().map(|&d| shape[d]).collect();
        let inner = index_space(&extents);
        let kept: Vec<usize> = (0..shape.len()).filter(|d| !self.dims.contains(d)).collect();
        let positions = |out: &[usize]| {
            let mut index = vec![0; shape.len()];
            kept.iter().zip(out).for_each(|(&d, &o)| index[d] = o);
            let at = |k: &Vec<usize>| {
                self.dims.iter().zip(k).for_each(|(&d, &i)| index[d] = i);
                shape.ravel(&index)
            };
            inner.iter().map(at).collect()
        };
        vec![self.reducer.fold_each(&outputs[0], inputs[0], positions)]
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Derivative<'g> {
        let (x, y, g) = (cx.inputs[0], cx.outputs[0], cx.ct());
        let shape = x.shape();
        let kept: Vec<usize> = (0..shape.len()).filter(|d| !self.dims.contains(d)).collect();
        let spread = |t: crate::Tensor<'g>| t.convert(x.dtype()).broadcast_in_dim(shape.clone(), &kept);
        if self.reducer == Reducer::Sum {
            return Derivative::Rule(vec![Some(spread(g))]);
        }
        // Equal shares at ties, as PyTorch's amax.
        let hit = x.equal(spread(y)).convert(x.dtype());
        let share = g.convert(x.dtype()) / hit.reduce(Reducer::Sum, &self.dims);
        Derivative::Rule(vec![Some(hit * spread(share))])
    }

    fn cost(&self, inputs: &[Type], outputs: &[Type]) -> Cost {
        Cost { flops: inputs[0].elements() as u64, bytes: Cost::traffic(inputs, outputs) }
    }

    fn stablehlo(&self, w: &mut Writer, inputs: &[Value], outputs: &[Type]) -> Vec<Value> {
        let dtype = self.reducer.partial(self.accumulate);
        let x = w.convert(&inputs[0], dtype);
        if self.dims.is_empty() {
            return vec![w.convert(&x, self.accumulate)];
        }
        let start = self.reducer.start(w, dtype);
        let (ty, result) = (Type::scalar(dtype), [Type::new(dtype, &outputs[0].shape)]);
        let mut combine = |w: &mut Writer, v: &[Value]| vec![w.binary(self.reducer.stablehlo(), &v[0], &v[1])];
        let regions: &mut [(Vec<Type>, Region<'_>)] = &mut [(vec![ty.clone(), ty], &mut combine)];
        let sums = w.regions("reduce", &[&x, &start], &Writer::numbers("dimensions", &self.dims), &result, regions);
        sums.iter().map(|sum| w.convert(sum, self.accumulate)).collect()
    }

    fn samples() -> Vec<Sample> {
        let cases: &[(&[usize], &[usize])] = &[
            (&[], &[]),
            (&[5], &[0]),
            (&[2, 3], &[]),
            (&[2, 3], &[0]),
            (&[2, 3], &[1]),
            (&[4, 3], &[0, 1]),
            (&[3, 1, 5], &[0, 2]),
            (&[3, 2, 5], &[1]),
            (&[1, 1], &[0]),
            (&[2, 67], &[1]),
            (&[3, 0], &[0]),
        ];
        let sample = |reducer, shape: &[usize], dims: &[usize]| {
            let op = Reduce { reducer, dims: dims.to_vec(), accumulate: DType::F64 };
            Sample::f64(op, &[shape], Domain::Distinct(-2.0, 2.0))
        };
        let mut all: Vec<Sample> = Vec::new();
        for reducer in [Reducer::Sum, Reducer::Max, Reducer::Min] {
            all.extend(cases.iter().map(|(shape, dims)| sample(reducer, shape, dims)));
        }
        all.push(sample(Reducer::Sum, &[3, 0], &[1]));
        let widened = Reduce { reducer: Reducer::Sum, dims: vec![1], accumulate: DType::F64 };
        all.push(Sample::new(widened, vec![(Type::new(DType::F32, Shape::from([2, 9])), Domain::Uniform(-1.0, 1.0))]));
        all
    }
}
