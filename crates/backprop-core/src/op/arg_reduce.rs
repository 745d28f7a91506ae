//! Extremum along one dimension with its index.

use super::{Cost, Derivative, Domain, Primitive, Reducer, Sample, Vjp, arity, distinct_dims};
use crate::{
    DType, Type,
    reference::Array,
    stablehlo::{Region, Value, Writer},
};
use serde::{Deserialize, Serialize};

/// Of two tuples (value, index, …) of scalars in StableHLO the one whose value is more extreme, a NaN before any number; at ties the
/// one with the smaller index. In whatever order a compiler combines them, the first extremum is left.
pub(super) fn first_extremum(w: &mut Writer, reducer: Reducer, a: &[Value], b: &[Value]) -> Vec<Value> {
    let direction = if reducer == Reducer::Min { "LT" } else { "GT" };
    let (mut better, mut tied) = (w.compare(direction, &a[0], &b[0]), w.compare("EQ", &a[0], &b[0]));
    if a[0].ty.dtype.is_float() {
        let [a_nan, b_nan] = [a, b].map(|v| w.compare("NE", &v[0], &v[0]));
        let both = w.binary("and", &a_nan, &b_nan);
        let number = w.op("not", &[&b_nan], "", &b_nan.ty);
        let only = w.binary("and", &a_nan, &number);
        better = w.binary("or", &better, &only);
        tied = w.binary("or", &tied, &both);
    }
    let before = w.compare("LT", &a[1], &b[1]);
    let earlier = w.binary("and", &tied, &before);
    let chosen = w.binary("or", &better, &earlier);
    a.iter().zip(b).map(|(a, b)| w.select(&chosen, a, b)).collect()
}

/// The extremum along a dimension and the index of its first occurrence (i32). A NaN counts as the extremum.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct ArgReduce {
    /// [`Reducer::Max`] or [`Reducer::Min`].
    pub reducer: Reducer,
    /// Dimension reduced over; must not be empty.
    pub dim: usize,
}

impl Primitive for ArgReduce {
    fn name(&self) -> &'static str {
        "arg_reduce"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, String> {
        arity(inputs, 1)?;
        distinct_dims("reduced", &[self.dim], inputs[0].shape.len())?;
        if self.reducer == Reducer::Sum {
            return Err("only max and min have an index".into());
        }
        if inputs[0].shape[self.dim] == 0 {
            return Err(format!("dimension {} is empty, so it has no extremum", self.dim));
        }
        let shape = inputs[0].shape.without(&[self.dim]);
        Ok(vec![Type::new(inputs[0].dtype, &shape), Type::new(DType::I32, shape)])
    }

    fn reference(&self, inputs: &[&Array], outputs: &[Type]) -> Vec<Array> {
        let x = inputs[0];
        let better = |a: f64, b: f64| match self.reducer {
            _ if b.is_nan() => false,
            _ if a.is_nan() => true,
            Reducer::Min => a < b,
            _ => a > b,
        };
        let position = |out: &[usize], i: usize| {
            let mut index = out.to_vec();
            index.insert(self.dim, i);
            x.ty.shape.ravel(&index)
        };
        let first = |out: &[usize]| {
            let at = |i| x.at(position(out, i));
            (1..x.ty.shape[self.dim]).fold(0, |best, i| if better(at(i), at(best)) { i } else { best })
        };
        let value = x.pick(&outputs[0], |out| position(out, first(out)));
        vec![value, Array::from_fn(&outputs[1], |out| first(out) as f64)]
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Derivative<'g> {
        let (x, index, g) = (cx.inputs[0], cx.outputs[1], cx.ct());
        let shape = x.shape();
        let kept: Vec<usize> = (0..shape.len()).filter(|&d| d != self.dim).collect();
        let spread = |t: crate::Tensor<'g>| t.broadcast_in_dim(shape.clone(), &kept);
        let here = x.builder().iota(Type::new(DType::I32, &shape), self.dim).equal(spread(index));
        Derivative::Rule(vec![Some(here.select(spread(g), x.builder().zeros(x.ty())))])
    }

    fn cost(&self, inputs: &[Type], outputs: &[Type]) -> Cost {
        Cost { flops: inputs[0].elements() as u64, bytes: Cost::traffic(inputs, outputs) }
    }

    fn stablehlo(&self, w: &mut Writer, inputs: &[Value], outputs: &[Type]) -> Vec<Value> {
        let (x, dtype) = (&inputs[0], inputs[0].ty.dtype);
        let index = w.op("iota", &[], &format!("iota_dimension = {} : i64", self.dim), &Type::new(DType::I32, &x.ty.shape));
        let start = [self.reducer.start(w, dtype), w.integer(DType::I32, i32::MAX.into())];
        let pair = [Type::scalar(dtype), Type::scalar(DType::I32)];
        let mut first = |w: &mut Writer, v: &[Value]| first_extremum(w, self.reducer, &v[..2], &v[2..]);
        let regions: &mut [(Vec<Type>, Region<'_>)] = &mut [([&pair[..], &pair].concat(), &mut first)];
        w.regions("reduce", &[x, &index, &start[0], &start[1]], &Writer::numbers("dimensions", [self.dim]), outputs, regions)
    }

    fn samples() -> Vec<Sample> {
        let cases: &[(&[usize], usize)] = &[
            (&[5], 0),
            (&[2, 3], 0),
            (&[2, 3], 1),
            (&[7, 1], 0),
            (&[3, 1, 5], 1),
            (&[3, 4, 5], 1),
            (&[1], 0),
            (&[0, 3], 1),
            (&[2, 33], 1),
        ];
        let sample =
            |reducer, shape: &[usize], dim| Sample::f64(ArgReduce { reducer, dim }, &[shape], Domain::Distinct(-2.0, 2.0));
        let both = [Reducer::Max, Reducer::Min];
        both.iter().flat_map(|&r| cases.iter().map(move |(s, d)| sample(r, s, *d))).collect()
    }
}
