//! Primitives that move elements and compute nothing.

use super::{Cost, Derivative, Domain, Primitive, Sample, Vjp, arity, distinct_dims, dot_general::inverse, same_dtype};
use crate::{
    DType, Shape, Type,
    reference::Array,
    stablehlo::{Value, Writer},
};
use serde::{Deserialize, Serialize};

const ANY: Domain = Domain::Uniform(-2.0, 2.0);

/// Repeats elements: dimension `i` of the operand becomes dimension `dims[i]` of the result; extents of 1 are stretched.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct BroadcastInDim {
    /// Shape of the result.
    pub shape: Shape,
    /// For each dimension of the operand, the dimension of the result; ascending.
    pub dims: Vec<usize>,
}

impl Primitive for BroadcastInDim {
    fn name(&self) -> &'static str {
        "broadcast_in_dim"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, String> {
        arity(inputs, 1)?;
        let x = &inputs[0];
        distinct_dims("result", &self.dims, self.shape.len())?;
        if self.dims.len() != x.shape.len() || !self.dims.is_sorted() {
            return Err(format!("needs one ascending result dimension per operand dimension, got {:?} for {x}", self.dims));
        }
        for (i, &d) in self.dims.iter().enumerate() {
            if x.shape[i] != 1 && x.shape[i] != self.shape[d] {
                return Err(format!("cannot broadcast {} to {}: dimension {i} has {} elements", x.shape, self.shape, x.shape[i]));
            }
        }
        Ok(vec![Type::new(x.dtype, &self.shape)])
    }

    fn reference(&self, inputs: &[&Array], outputs: &[Type]) -> Vec<Array> {
        let shape = &inputs[0].ty.shape;
        let source = |out: &[usize]| {
            let index: Vec<usize> = (0..shape.len()).map(|i| if shape[i] == 1 { 0 } else { out[self.dims[i]] }).collect();
            shape.ravel(&index)
        };
        vec![inputs[0].pick(&outputs[0], source)]
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Derivative<'g> {
        let shape = cx.inputs[0].shape();
        let kept = |d: &usize| self.dims.iter().position(|e| e == d).is_some_and(|i| shape[i] == self.shape[*d]);
        let summed: Vec<usize> = (0..self.shape.len()).filter(|d| !kept(d)).collect();
        Derivative::Rule(vec![Some(cx.ct().sum(&summed).reshape(shape))])
    }

    fn cost(&self, inputs: &[Type], outputs: &[Type]) -> Cost {
        Cost::movement(inputs, outputs)
    }

    fn stablehlo(&self, w: &mut Writer, inputs: &[Value], _: &[Type]) -> Vec<Value> {
        vec![w.broadcast(&inputs[0], &self.shape, &self.dims)]
    }

    fn samples() -> Vec<Sample> {
        let cases: &[(&[usize], &[usize], &[usize])] = &[
            (&[], &[2, 3], &[]),
            (&[3], &[2, 3], &[1]),
            (&[2], &[2, 3], &[0]),
            (&[2, 1], &[2, 3], &[0, 1]),
            (&[1, 1], &[5, 1], &[0, 1]),
            (&[3], &[3, 0], &[0]),
            (&[0, 1], &[0, 3], &[0, 1]),
            (&[7, 1, 3], &[7, 2, 3], &[0, 1, 2]),
            (&[2, 3], &[2, 3], &[0, 1]),
            (&[2, 5], &[2, 1, 3, 5], &[0, 3]),
        ];
        let sample = |from: &[usize], to: &[usize], dims: &[usize]| {
            Sample::f64(BroadcastInDim { shape: to.into(), dims: dims.to_vec() }, &[from], ANY)
        };
        cases.iter().map(|(f, t, d)| sample(f, t, d)).collect()
    }
}

/// The same elements, in row-major order, under another shape.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Reshape {
    /// Shape of the result.
    pub shape: Shape,
}

impl Primitive for Reshape {
    fn name(&self) -> &'static str {
        "reshape"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, String> {
        arity(inputs, 1)?;
        let (old, new) = (&inputs[0].shape, &self.shape);
        if old.elements() != new.elements() {
            return Err(format!("{old} has {} elements but {new} has {}", old.elements(), new.elements()));
        }
        Ok(vec![Type::new(inputs[0].dtype, new)])
    }

    fn reference(&self, inputs: &[&Array], outputs: &[Type]) -> Vec<Array> {
        vec![Array { ty: outputs[0].clone(), elements: inputs[0].elements.clone() }]
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Derivative<'g> {
        Derivative::Rule(vec![Some(cx.ct().reshape(cx.inputs[0].shape()))])
    }

    fn cost(&self, _: &[Type], _: &[Type]) -> Cost {
        Cost::default()
    }

    fn stablehlo(&self, w: &mut Writer, inputs: &[Value], _: &[Type]) -> Vec<Value> {
        vec![w.reshape(&inputs[0], &self.shape)]
    }

    fn samples() -> Vec<Sample> {
        let cases: &[(&[usize], &[usize])] = &[
            (&[6], &[2, 3]),
            (&[2, 3], &[3, 2]),
            (&[1], &[]),
            (&[], &[1, 1]),
            (&[0], &[2, 0]),
            (&[4, 3, 2], &[2, 12]),
            (&[7], &[1, 7]),
            (&[3, 5], &[5, 1, 3]),
        ];
        cases.iter().map(|(from, to)| Sample::f64(Reshape { shape: (*to).into() }, &[from], ANY)).collect()
    }
}

/// Permutes dimensions: dimension `i` of the result is dimension `permutation[i]` of the operand.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Transpose {
    /// For each dimension of the result, the dimension of the operand.
    pub permutation: Vec<usize>,
}

impl Primitive for Transpose {
    fn name(&self) -> &'static str {
        "transpose"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, String> {
        arity(inputs, 1)?;
        let shape = &inputs[0].shape;
        distinct_dims("permuted", &self.permutation, shape.len())?;
        if self.permutation.len() != shape.len() {
            return Err(format!("{:?} does not permute the {} dimensions of the operand", self.permutation, shape.len()));
        }
        Ok(vec![Type::new(inputs[0].dtype, self.permutation.iter().map(|&d| shape[d]).collect::<Shape>())])
    }

    fn reference(&self, inputs: &[&Array], outputs: &[Type]) -> Vec<Array> {
        let source = |out: &[usize]| {
            let mut index = vec![0; out.len()];
            self.permutation.iter().zip(out).for_each(|(&d, &o)| index[d] = o);
            inputs[0].ty.shape.ravel(&index)
        };
        vec![inputs[0].pick(&outputs[0], source)]
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Derivative<'g> {
        Derivative::Rule(vec![Some(cx.ct().transpose(&inverse(&self.permutation)))])
    }

    fn cost(&self, inputs: &[Type], outputs: &[Type]) -> Cost {
        Cost::movement(inputs, outputs)
    }

    fn stablehlo(&self, w: &mut Writer, inputs: &[Value], outputs: &[Type]) -> Vec<Value> {
        vec![w.op("transpose", &[&inputs[0]], &Writer::numbers("permutation", &self.permutation), &outputs[0])]
    }

    fn samples() -> Vec<Sample> {
        let cases: &[(&[usize], &[usize])] = &[
            (&[], &[]),
            (&[4], &[0]),
            (&[2, 3], &[1, 0]),
            (&[2, 3, 5], &[2, 0, 1]),
            (&[2, 3, 5], &[0, 2, 1]),
            (&[4, 3, 5], &[1, 2, 0]),
            (&[0, 3], &[1, 0]),
            (&[1, 7, 1], &[2, 1, 0]),
            (&[2, 3, 4, 5], &[0, 3, 1, 2]),
        ];
        cases.iter().map(|(s, p)| Sample::f64(Transpose { permutation: p.to_vec() }, &[s], ANY)).collect()
    }
}

/// Reverses the order of elements along dimensions.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Reverse {
    /// Reversed dimensions.
    pub dims: Vec<usize>,
}

impl Primitive for Reverse {
    fn name(&self) -> &'static str {
        "reverse"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, String> {
        arity(inputs, 1)?;
        distinct_dims("reversed", &self.dims, inputs[0].shape.len())?;
        Ok(inputs.to_vec())
    }

    fn reference(&self, inputs: &[&Array], outputs: &[Type]) -> Vec<Array> {
        let shape = &outputs[0].shape;
        let source = |out: &[usize]| {
            let flip = |(d, &i): (usize, &usize)| if self.dims.contains(&d) { shape[d] - 1 - i } else { i };
            shape.ravel(&out.iter().enumerate().map(flip).collect::<Vec<_>>())
        };
        vec![inputs[0].pick(&outputs[0], source)]
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Derivative<'g> {
        Derivative::Rule(vec![Some(cx.ct().reverse(&self.dims))])
    }

    fn cost(&self, inputs: &[Type], outputs: &[Type]) -> Cost {
        Cost::movement(inputs, outputs)
    }

    fn stablehlo(&self, w: &mut Writer, inputs: &[Value], outputs: &[Type]) -> Vec<Value> {
        vec![w.op("reverse", &[&inputs[0]], &Writer::numbers("dimensions", &self.dims), &outputs[0])]
    }

    fn samples() -> Vec<Sample> {
        let cases: &[(&[usize], &[usize])] = &[
            (&[], &[]),
            (&[5], &[0]),
            (&[2, 3], &[0]),
            (&[4, 3], &[1]),
            (&[3, 3], &[0, 1]),
            (&[0], &[0]),
            (&[1, 4, 3], &[1]),
            (&[1], &[0]),
            (&[2, 5, 3], &[0, 2]),
        ];
        cases.iter().map(|(s, d)| Sample::f64(Reverse { dims: d.to_vec() }, &[s], ANY)).collect()
    }
}

/// The elements from `start` to `limit` (excluded) in steps of `stride`, per dimension.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Slice {
    /// First index.
    pub start: Vec<usize>,
    /// Index after the last.
    pub limit: Vec<usize>,
    /// Step.
    pub stride: Vec<usize>,
}

impl Primitive for Slice {
    fn name(&self) -> &'static str {
        "slice"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, String> {
        arity(inputs, 1)?;
        let shape = &inputs[0].shape;
        if [self.start.len(), self.limit.len(), self.stride.len()] != [shape.len(); 3] {
            return Err(format!("start, limit and stride must be given for each of the {} dimensions", shape.len()));
        }
        for d in 0..shape.len() {
            if self.start[d] > self.limit[d] || self.limit[d] > shape[d] || self.stride[d] == 0 {
                return Err(format!(
                    "{}..{} in steps of {} is not a range within dimension {d} of {} elements",
                    self.start[d], self.limit[d], self.stride[d], shape[d]
                ));
            }
        }
        let extent = |d: usize| (self.limit[d] - self.start[d]).div_ceil(self.stride[d]);
        Ok(vec![Type::new(inputs[0].dtype, (0..shape.len()).map(extent).collect::<Shape>())])
    }

    fn reference(&self, inputs: &[&Array], outputs: &[Type]) -> Vec<Array> {
        let source = |out: &[usize]| {
            let index: Vec<usize> = out.iter().enumerate().map(|(d, &i)| self.start[d] + i * self.stride[d]).collect();
            inputs[0].ty.shape.ravel(&index)
        };
        vec![inputs[0].pick(&outputs[0], source)]
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Derivative<'g> {
        let (shape, g) = (cx.inputs[0].shape(), cx.ct());
        let extents = g.shape();
        let interior: Vec<usize> = self.stride.iter().map(|s| s - 1).collect();
        let low: Vec<isize> = self.start.iter().map(|&s| s as isize).collect();
        let spread = |d: usize| super::convolution::dilate(extents[d], self.stride[d]);
        let high = (0..shape.len()).map(|d| shape[d] as isize - low[d] - spread(d)).collect();
        let zero = g.builder().scalar(g.dtype(), 0.0);
        Derivative::Rule(vec![Some(g.pad(zero, Pad { low, high, interior }))])
    }

    fn cost(&self, _: &[Type], outputs: &[Type]) -> Cost {
        Cost::movement(&[], &[outputs, outputs].concat())
    }

    fn stablehlo(&self, w: &mut Writer, inputs: &[Value], outputs: &[Type]) -> Vec<Value> {
        let lists = [("start_indices", &self.start), ("limit_indices", &self.limit), ("strides", &self.stride)];
        let attributes = lists.map(|(name, list)| Writer::numbers(name, list)).join(", ");
        vec![w.op("slice", &[&inputs[0]], &attributes, &outputs[0])]
    }

    fn samples() -> Vec<Sample> {
        let cases: &[[&[usize]; 4]] = &[
            [&[], &[], &[], &[]],
            [&[7], &[2], &[6], &[1]],
            [&[9], &[1], &[9], &[3]],
            [&[3, 5], &[1, 0], &[3, 5], &[1, 2]],
            [&[4, 5], &[2, 2], &[2, 4], &[1, 1]],
            [&[0], &[0], &[0], &[1]],
            [&[1, 1], &[0, 0], &[1, 1], &[1, 1]],
            [&[3, 6, 2], &[0, 1, 1], &[3, 6, 2], &[2, 2, 1]],
        ];
        let sample = |shape: &[usize], start: &[usize], limit: &[usize], stride: &[usize]| {
            let [start, limit, stride] = [start, limit, stride].map(<[usize]>::to_vec);
            Sample::f64(Slice { start, limit, stride }, &[shape], ANY)
        };
        cases.iter().map(|[a, b, c, d]| sample(a, b, c, d)).collect()
    }
}

/// Puts copies of a scalar before, after and between the elements. Negative edges crop. Operands: x, the scalar.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Pad {
    /// Elements before the first, per dimension.
    pub low: Vec<isize>,
    /// Elements after the last.
    pub high: Vec<isize>,
    /// Elements between neighbours.
    pub interior: Vec<usize>,
}

impl Pad {
    /// The operand's index under a result index, if it is not padding.
    fn source(&self, shape: &Shape, out: &[usize]) -> Option<usize> {
        let mut index = vec![0; shape.len()];
        for d in 0..shape.len() {
            let (p, step) = (out[d] as isize - self.low[d], self.interior[d] as isize + 1);
            if p < 0 || p % step != 0 || p / step >= shape[d] as isize {
                return None;
            }
            index[d] = (p / step) as usize;
        }
        Some(shape.ravel(&index))
    }
}

impl Primitive for Pad {
    fn name(&self) -> &'static str {
        "pad"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, String> {
        arity(inputs, 2)?;
        let (x, value) = (&inputs[0], &inputs[1]);
        same_dtype(x.dtype, value.dtype)?;
        if !value.shape.is_empty() {
            return Err(format!("the padding value must be a scalar, got {value}"));
        }
        let n = x.shape.len();
        if [self.low.len(), self.high.len(), self.interior.len()] != [n; 3] {
            return Err(format!("low, high and interior must be given for each of the {n} dimensions"));
        }
        let extent = |d: usize| super::convolution::dilate(x.shape[d], self.interior[d] + 1) + self.low[d] + self.high[d];
        match (0..n).find(|&d| extent(d) < 0) {
            Some(d) => Err(format!("padding leaves dimension {d} with {} elements", extent(d))),
            None => Ok(vec![Type::new(x.dtype, (0..n).map(|d| extent(d) as usize).collect::<Shape>())]),
        }
    }

    fn reference(&self, inputs: &[&Array], outputs: &[Type]) -> Vec<Array> {
        let mut result = inputs[1].pick(&outputs[0], |_| 0);
        for (i, out) in outputs[0].shape.indices().enumerate() {
            self.source(&inputs[0].ty.shape, &out).iter().for_each(|&s| result.copy_element(i, inputs[0], s));
        }
        vec![result]
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Derivative<'g> {
        let g = cx.ct();
        let shape = cx.inputs[0].shape();
        // Uncrop and crop first, so that a plain strided slice remains.
        let zero = g.builder().scalar(g.dtype(), 0.0);
        let negated = |edges: &[isize]| edges.iter().map(|e| -e).collect();
        let trim = Pad { low: negated(&self.low), high: negated(&self.high), interior: vec![0; shape.len()] };
        let spread = g.pad(zero, trim);
        let stride: Vec<usize> = self.interior.iter().map(|i| i + 1).collect();
        let limit = spread.shape().to_vec();
        let to_x = spread.slice_strided(&vec![0; limit.len()], &limit, &stride);
        let to_value = cx.wanted[1].then(|| g.sum_all() - to_x.sum_all());
        Derivative::Rule(vec![Some(to_x), to_value])
    }

    fn cost(&self, inputs: &[Type], outputs: &[Type]) -> Cost {
        Cost::movement(inputs, outputs)
    }

    fn stablehlo(&self, w: &mut Writer, inputs: &[Value], outputs: &[Type]) -> Vec<Value> {
        vec![w.pad(&inputs[0], &inputs[1], [&self.low, &self.high], &self.interior, &outputs[0])]
    }

    fn samples() -> Vec<Sample> {
        type Case<'a> = (&'a [usize], &'a [isize], &'a [isize], &'a [usize]);
        let cases: &[Case] = &[
            (&[], &[], &[], &[]),
            (&[3], &[1], &[2], &[0]),
            (&[1], &[0], &[1], &[2]),
            (&[4], &[0], &[0], &[2]),
            (&[5], &[-1], &[-2], &[0]),
            (&[3], &[-1], &[1], &[1]),
            (&[2, 3], &[1, 0], &[0, 2], &[0, 1]),
            (&[0, 2], &[2, 0], &[0, 0], &[0, 0]),
            (&[1, 1, 4], &[0, 1, -1], &[1, 0, 2], &[0, 3, 1]),
        ];
        let sample = |shape: &[usize], low: &[isize], high: &[isize], interior: &[usize]| {
            let pad = Pad { low: low.to_vec(), high: high.to_vec(), interior: interior.to_vec() };
            Sample::f64(pad, &[shape, &[]], ANY)
        };
        cases.iter().map(|(a, b, c, d)| sample(a, b, c, d)).collect()
    }
}

/// Joins operands along a dimension.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Concatenate {
    /// The dimension joined along.
    pub dim: usize,
}

impl Primitive for Concatenate {
    fn name(&self) -> &'static str {
        "concatenate"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, String> {
        let first = inputs.first().ok_or("needs at least one operand")?;
        distinct_dims("joined", &[self.dim], first.shape.len())?;
        for other in inputs {
            same_dtype(first.dtype, other.dtype)?;
            let fits = |d: usize| d == self.dim || other.shape[d] == first.shape[d];
            if other.shape.len() != first.shape.len() || !(0..first.shape.len()).all(fits) {
                let dim = self.dim;
                return Err(format!("{} and {} differ in more than dimension {dim}", first.shape, other.shape));
            }
        }
        let mut shape = first.shape.to_vec();
        shape[self.dim] = inputs.iter().map(|t| t.shape[self.dim]).sum();
        Ok(vec![Type::new(first.dtype, shape)])
    }

    fn reference(&self, inputs: &[&Array], outputs: &[Type]) -> Vec<Array> {
        let mut result = Array::zeros(&outputs[0]);
        let mut offset = 0;
        for x in inputs {
            for (i, mut index) in x.ty.shape.indices().enumerate() {
                index[self.dim] += offset;
                result.copy_element(outputs[0].shape.ravel(&index), x, i);
            }
            offset += x.ty.shape[self.dim];
        }
        vec![result]
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Derivative<'g> {
        let g = cx.ct();
        let mut offset = 0;
        let part = |x: &crate::Tensor<'g>| {
            let extent = x.shape()[self.dim];
            offset += extent;
            Some(g.slice_dim(self.dim, offset - extent, offset))
        };
        Derivative::Rule(cx.inputs.iter().map(part).collect())
    }

    fn cost(&self, inputs: &[Type], outputs: &[Type]) -> Cost {
        Cost::movement(inputs, outputs)
    }

    fn stablehlo(&self, w: &mut Writer, inputs: &[Value], outputs: &[Type]) -> Vec<Value> {
        let operands: Vec<&Value> = inputs.iter().collect();
        vec![w.op("concatenate", &operands, &format!("dimension = {} : i64", self.dim), &outputs[0])]
    }

    fn samples() -> Vec<Sample> {
        let cases: &[(usize, &[&[usize]])] = &[
            (0, &[&[3], &[2]]),
            (0, &[&[4]]),
            (1, &[&[2, 3], &[2, 1], &[2, 4]]),
            (0, &[&[2, 3], &[1, 3]]),
            (1, &[&[2, 0], &[2, 3]]),
            (2, &[&[1, 2, 3], &[1, 2, 5]]),
            (1, &[&[0, 2], &[0, 3]]),
            (0, &[&[1], &[1], &[1]]),
        ];
        let all = cases.iter().map(|(dim, shapes)| Sample::f64(Concatenate { dim: *dim }, shapes, ANY));
        all.chain([Sample::new(
            Concatenate { dim: 0 },
            vec![(Type::new(DType::I32, [2]), Domain::Integers(-5, 5)), (Type::new(DType::I32, [3]), Domain::Integers(-5, 5))],
        )])
        .collect()
    }
}
