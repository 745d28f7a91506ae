//! Generalised convolution (cross-correlation, as StableHLO and every framework define it).

use super::{Cost, Derivative, Domain, Primitive, Sample, Vjp, arity, convert::dtype_name, same_dtype};
use crate::{
    DType, Shape, Tensor, Type,
    reference::{Array, index_space},
    stablehlo::{Value, Writer, strings},
};
use serde::{Deserialize, Serialize};

/// Which dimension of each tensor plays which part.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct ConvDims {
    /// Of the input: batch, feature, then the spatial dimensions.
    pub lhs: Vec<usize>,
    /// Of the kernel: output feature, input feature, then the spatial dimensions.
    pub rhs: Vec<usize>,
    /// Of the result: batch, feature, then the spatial dimensions.
    pub out: Vec<usize>,
}

impl ConvDims {
    /// Channel-last images (N, spatial…, C) with PyTorch's kernels (O, I, spatial…).
    pub fn channels_last(spatial: usize) -> ConvDims {
        let image: Vec<usize> = [0, spatial + 1].into_iter().chain(1..=spatial).collect();
        ConvDims { lhs: image.clone(), rhs: (0..spatial + 2).collect(), out: image }
    }
}

/// `out[b, f, o] = Σ_{c, k} lhs[b, c, o·stride + k·rhs_dilation − padding] · rhs[f, c, k]`, per group.
///
/// With `lhs_dilation` d, d − 1 zeros stand between neighbouring input positions. Padding may be negative.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct Convolution {
    /// Parts of the dimensions.
    pub dims: ConvDims,
    /// Window strides, per spatial dimension.
    pub stride: Vec<usize>,
    /// Zeros before and after, per spatial dimension.
    pub padding: Vec<(isize, isize)>,
    /// Dilation of the input (transposed convolution).
    pub lhs_dilation: Vec<usize>,
    /// Dilation of the kernel (atrous convolution).
    pub rhs_dilation: Vec<usize>,
    /// Groups the input features are split into.
    pub feature_groups: usize,
    /// Groups the batch is split into; arises in the kernel gradient of grouped convolutions.
    pub batch_groups: usize,
    /// Type the sum is formed in.
    #[serde(with = "dtype_name")]
    pub accumulate: DType,
}

/// Extent after inserting `dilation − 1` gaps between elements.
pub(crate) fn dilate(extent: usize, dilation: usize) -> isize {
    if extent == 0 { 0 } else { ((extent - 1) * dilation + 1) as isize }
}

/// Number of positions of a (dilated) window over a (dilated, padded) extent.
pub(crate) fn window_positions(extent: isize, window: isize, stride: usize) -> usize {
    if extent < window || window == 0 && extent < 0 { 0 } else { ((extent - window) / stride as isize + 1) as usize }
}

impl Convolution {
    /// A plain convolution of a channel-last image, symmetric in nothing but its defaults.
    pub fn new(dims: ConvDims, dtype: DType) -> Convolution {
        let n = dims.lhs.len().saturating_sub(2);
        Convolution {
            dims,
            stride: vec![1; n],
            padding: vec![(0, 0); n],
            lhs_dilation: vec![1; n],
            rhs_dilation: vec![1; n],
            feature_groups: 1,
            batch_groups: 1,
            accumulate: dtype,
        }
    }

    /// Number of spatial dimensions.
    pub fn spatial(&self) -> usize {
        self.dims.lhs.len() - 2
    }

    fn check_attributes(&self, inputs: &[Type]) -> Result<(), String> {
        let rank = self.dims.lhs.len();
        let n = rank.checked_sub(2).ok_or("dimension numbers need a batch and a feature dimension")?;
        for (what, dims) in [("input", &self.dims.lhs), ("kernel", &self.dims.rhs), ("result", &self.dims.out)] {
            super::distinct_dims(what, dims, rank)?;
            if dims.len() != rank {
                return Err(format!("{what} dimension numbers name {} dimensions, expected {rank}", dims.len()));
            }
        }
        for (what, t) in [("input", &inputs[0]), ("kernel", &inputs[1])] {
            if t.shape.len() != rank {
                return Err(format!("the {what} must have {rank} dimensions ({n} spatial), got {}", t.shape.len()));
            }
        }
        let lists = [("stride", &self.stride), ("input dilation", &self.lhs_dilation), ("dilation", &self.rhs_dilation)];
        for (what, list) in lists {
            if list.len() != n || list.contains(&0) {
                return Err(format!("{what} must be {n} positive numbers, got {list:?}"));
            }
        }
        if self.padding.len() != n {
            return Err(format!("padding must be given for {n} spatial dimensions, got {}", self.padding.len()));
        }
        if self.feature_groups == 0 || self.batch_groups == 0 || (self.feature_groups > 1 && self.batch_groups > 1) {
            return Err("groups must be positive, and only one of feature and batch groups above 1".into());
        }
        Ok(())
    }

    fn out_extent(&self, s: usize, lhs: &Shape, rhs: &Shape) -> usize {
        let extent = dilate(lhs[self.dims.lhs[2 + s]], self.lhs_dilation[s]) + self.padding[s].0 + self.padding[s].1;
        window_positions(extent, dilate(rhs[self.dims.rhs[2 + s]], self.rhs_dilation[s]), self.stride[s])
    }

    /// Input position under kernel position `k` for output position `o`, if it holds an element and not padding or a gap.
    fn source(&self, s: usize, o: usize, k: usize, extent: usize) -> Option<usize> {
        let p = (o * self.stride[s] + k * self.rhs_dilation[s]) as isize - self.padding[s].0;
        let d = self.lhs_dilation[s] as isize;
        (p >= 0 && p % d == 0 && p / d < extent as isize).then_some((p / d) as usize)
    }
}

impl Primitive for Convolution {
    fn name(&self) -> &'static str {
        "convolution"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, String> {
        arity(inputs, 2)?;
        let (lhs, rhs) = (&inputs[0], &inputs[1]);
        same_dtype(lhs.dtype, rhs.dtype)?;
        if lhs.dtype == DType::Bool {
            return Err("convolution of bool is not defined; convert the operands".into());
        }
        self.check_attributes(inputs)?;
        let (batch, features) = (lhs.shape[self.dims.lhs[0]], lhs.shape[self.dims.lhs[1]]);
        let (out_features, in_features) = (rhs.shape[self.dims.rhs[0]], rhs.shape[self.dims.rhs[1]]);
        if features % self.feature_groups != 0 || features / self.feature_groups != in_features {
            return Err(format!(
                "the input has {features} channels in {} groups, so the kernel must take {} channels, but it takes {in_features}",
                self.feature_groups,
                features / self.feature_groups
            ));
        }
        let groups = self.feature_groups.max(self.batch_groups);
        if out_features % groups != 0 || batch % self.batch_groups != 0 {
            return Err(format!("{out_features} output channels (and a batch of {batch}) do not divide into {groups} groups"));
        }
        let mut shape = vec![0; self.dims.out.len()];
        shape[self.dims.out[0]] = batch / self.batch_groups;
        shape[self.dims.out[1]] = out_features;
        (0..self.spatial()).for_each(|s| shape[self.dims.out[2 + s]] = self.out_extent(s, &lhs.shape, &rhs.shape));
        Ok(vec![Type::new(lhs.dtype, shape)])
    }

    fn reference(&self, inputs: &[&Array], outputs: &[Type]) -> Vec<Array> {
        let (lhs, rhs) = (inputs[0], inputs[1]);
        let n = self.spatial();
        let (ls, rs) = (&lhs.ty.shape, &rhs.ty.shape);
        let window: Vec<usize> = (0..n).map(|s| rs[self.dims.rhs[2 + s]]).collect();
        let taps = index_space(&window);
        let (features_in, features_out) = (rs[self.dims.rhs[1]], rs[self.dims.rhs[0]]);
        let per_group = (features_out / self.feature_groups.max(self.batch_groups)).max(1);
        let out_batch = outputs[0].shape[self.dims.out[0]];
        let element = |out: &[usize]| -> f64 {
            let (b, f) = (out[self.dims.out[0]], out[self.dims.out[1]]);
            let group = f / per_group;
            let (mut li, mut ri) = (vec![0; n + 2], vec![0; n + 2]);
            li[self.dims.lhs[0]] = if self.batch_groups > 1 { group * out_batch + b } else { b };
            ri[self.dims.rhs[0]] = f;
            let mut sum = 0.0;
            for tap in &taps {
                let inside = (0..n).all(|s| {
                    let at = self.source(s, out[self.dims.out[2 + s]], tap[s], ls[self.dims.lhs[2 + s]]);
                    at.inspect(|&at| (li[self.dims.lhs[2 + s]], ri[self.dims.rhs[2 + s]]) = (at, tap[s])).is_some()
                });
                for c in (0..features_in).filter(|_| inside) {
                    li[self.dims.lhs[1]] = if self.feature_groups > 1 { group * features_in + c } else { c };
                    ri[self.dims.rhs[1]] = c;
                    sum += lhs.at(ls.ravel(&li)) * rhs.at(rs.ravel(&ri));
                }
            }
            sum
        };
        vec![Array::from_fn(&outputs[0], element)]
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Derivative<'g> {
        let (lhs, rhs, g) = (cx.inputs[0], cx.inputs[1], cx.ct());
        let to_lhs = cx.wanted[0].then(|| self.transpose(g, rhs, &lhs.shape()));
        let to_rhs = cx.wanted[1].then(|| self.kernel_gradient(lhs, rhs, g));
        Derivative::Rule(vec![to_lhs, to_rhs])
    }

    fn cost(&self, inputs: &[Type], outputs: &[Type]) -> Cost {
        let kernel = &inputs[1].shape;
        let per_output = kernel.elements() / kernel[self.dims.rhs[0]].max(1);
        // Zeros between dilated positions are not multiplied.
        let dilation: usize = self.lhs_dilation.iter().product();
        Cost {
            flops: 2u64.saturating_mul(outputs[0].elements().saturating_mul(per_output) as u64) / dilation.max(1) as u64,
            bytes: Cost::traffic(inputs, outputs),
        }
    }

    fn stablehlo(&self, w: &mut Writer, inputs: &[Value], outputs: &[Type]) -> Vec<Value> {
        let attributes = [
            format!(
                "dimension_numbers = #stablehlo.conv<{}x{}->{}>",
                parts(&self.dims.lhs, 'b', 'f'),
                parts(&self.dims.rhs, 'o', 'i'),
                parts(&self.dims.out, 'b', 'f')
            ),
            Writer::numbers("window_strides", &self.stride),
            Writer::padding(&self.padding),
            Writer::numbers("lhs_dilation", &self.lhs_dilation),
            Writer::numbers("rhs_dilation", &self.rhs_dilation),
            format!("feature_group_count = {} : i64", self.feature_groups),
            format!("batch_group_count = {} : i64", self.batch_groups),
            w.precision_config(),
        ];
        let ty = Type::new(self.accumulate, &outputs[0].shape);
        let sum = w.op("convolution", &[&inputs[0], &inputs[1]], &attributes.join(", "), &ty);
        vec![w.convert(&sum, outputs[0].dtype)]
    }

    fn samples() -> Vec<Sample> {
        let conv = |lhs: &[usize], rhs: &[usize], change: &dyn Fn(&mut Convolution)| {
            let mut op = Convolution::new(ConvDims::channels_last(lhs.len() - 2), DType::F64);
            change(&mut op);
            Sample::f64(op, &[lhs, rhs], Domain::Uniform(0.2, 1.5))
        };
        vec![
            conv(&[2, 5, 4, 3], &[4, 3, 3, 2], &|_| ()),
            conv(&[1, 7, 2], &[3, 2, 3], &|c| (c.stride, c.padding) = (vec![2], vec![(1, 1)])),
            conv(&[2, 6, 5, 2], &[4, 1, 3, 3], &|c| (c.feature_groups, c.padding) = (2, vec![(1, 1); 2])),
            conv(&[1, 5, 5, 3], &[3, 1, 3, 3], &|c| (c.feature_groups, c.stride) = (3, vec![2, 2])),
            conv(&[2, 7, 6, 1], &[2, 1, 2, 3], &|c| (c.rhs_dilation, c.padding) = (vec![2, 1], vec![(2, 1), (0, 2)])),
            conv(&[1, 3, 4, 2], &[3, 2, 3, 3], &|c| (c.lhs_dilation, c.padding) = (vec![2, 2], vec![(1, 2), (2, 1)])),
            conv(&[2, 6, 6, 1], &[1, 1, 2, 2], &|c| (c.padding, c.stride) = (vec![(-1, 0), (1, -1)], vec![2, 1])),
            conv(&[1, 3, 4, 3, 2], &[2, 2, 2, 1, 2], &|_| ()),
            conv(&[4, 3, 2], &[4, 2, 2], &|c| c.batch_groups = 2),
            conv(&[2, 1, 1, 3], &[5, 3, 1, 1], &|_| ()),
            conv(&[1, 1, 1], &[1, 1, 1], &|_| ()),
            conv(&[0, 4, 4, 1], &[2, 1, 3, 3], &|_| ()),
            conv(&[1, 2, 2, 1], &[2, 1, 3, 3], &|_| ()),
            conv(&[3, 2], &[4, 2], &|_| ()),
        ]
    }
}

/// Dimension numbers in StableHLO's notation: the letter of each dimension, digits for the spatial ones.
fn parts(dims: &[usize], first: char, second: char) -> String {
    let name = |d: usize| match dims.iter().position(|&at| at == d) {
        Some(0) => first.to_string(),
        Some(1) => second.to_string(),
        at => (at.unwrap_or_default() - 2).to_string(),
    };
    format!("[{}]", strings((0..dims.len()).map(name)))
}

impl Convolution {
    /// The transpose of this convolution as a linear map of its input: from `g`, shaped like the result, to the shape `input`.
    /// It is the input's gradient, and what PyTorch calls a transposed convolution. `g`, dilated by the stride, is convolved with
    /// the reversed kernel whose features are exchanged.
    ///
    /// The shapes must be those of a convolution that [`infer`](Primitive::infer) accepts.
    #[track_caller]
    pub fn transpose<'g>(&self, g: Tensor<'g>, rhs: Tensor<'g>, input: &Shape) -> Tensor<'g> {
        let groups = self.feature_groups.max(self.batch_groups);
        let (out_dim, in_dim) = (self.dims.rhs[0], self.dims.rhs[1]);
        let kernel = if groups > 1 { move_groups(rhs, out_dim, in_dim, groups) } else { rhs };
        let mut rhs_dims = self.dims.rhs.clone();
        rhs_dims.swap(0, 1);
        let padding = (0..self.spatial()).map(|s| {
            let window = dilate(rhs.shape()[self.dims.rhs[2 + s]], self.rhs_dilation[s]);
            let (input, result) = self.dilated_extents(s, input, g);
            let before = window - self.padding[s].0 - 1;
            (before, input + window - 1 - result - before)
        });
        let transposed = Convolution {
            dims: ConvDims { lhs: self.dims.out.clone(), rhs: rhs_dims, out: self.dims.lhs.clone() },
            stride: self.lhs_dilation.clone(),
            padding: padding.collect(),
            lhs_dilation: self.stride.clone(),
            rhs_dilation: self.rhs_dilation.clone(),
            feature_groups: groups,
            batch_groups: 1,
            accumulate: self.accumulate,
        };
        let gradient = g.convolution(kernel.reverse(&self.dims.rhs[2..]), transposed);
        if self.batch_groups > 1 {
            move_groups(gradient, self.dims.lhs[1], self.dims.lhs[0], self.batch_groups)
        } else {
            gradient
        }
    }

    /// The kernel's gradient: the input convolved with the result's gradient, batch and features exchanged.
    fn kernel_gradient<'g>(&self, lhs: Tensor<'g>, rhs: Tensor<'g>, g: Tensor<'g>) -> Tensor<'g> {
        let exchange = |dims: &[usize]| {
            let mut dims = dims.to_vec();
            dims.swap(0, 1);
            dims
        };
        let padding = (0..self.spatial()).map(|s| {
            let window = dilate(rhs.shape()[self.dims.rhs[2 + s]], self.rhs_dilation[s]);
            let (input, result) = self.dilated_extents(s, &lhs.shape(), g);
            (self.padding[s].0, result - input + window - self.padding[s].0 - 1)
        });
        let transposed = Convolution {
            dims: ConvDims { lhs: exchange(&self.dims.lhs), rhs: exchange(&self.dims.out), out: exchange(&self.dims.rhs) },
            stride: self.rhs_dilation.clone(),
            padding: padding.collect(),
            lhs_dilation: self.lhs_dilation.clone(),
            rhs_dilation: self.stride.clone(),
            feature_groups: self.batch_groups,
            batch_groups: self.feature_groups,
            accumulate: self.accumulate,
        };
        lhs.convolution(g, transposed)
    }

    fn dilated_extents(&self, s: usize, lhs: &Shape, g: Tensor<'_>) -> (isize, isize) {
        let input = dilate(lhs[self.dims.lhs[2 + s]], self.lhs_dilation[s]);
        (input, dilate(g.shape()[self.dims.out[2 + s]], self.stride[s]))
    }
}

/// Splits `groups` off the front of dimension `from` and merges them into the front of dimension `into`.
fn move_groups<'g>(x: Tensor<'g>, from: usize, into: usize, groups: usize) -> Tensor<'g> {
    let shape = x.shape();
    let mut split = shape.to_vec();
    split[from] /= groups;
    split.insert(from, groups);
    // Position of `into` and of the group dimension once it is inserted.
    let into_at = if into > from { into + 1 } else { into };
    let mut order: Vec<usize> = (0..split.len()).filter(|&d| d != from).collect();
    let before = order.iter().position(|&d| d == into_at).unwrap_or(0);
    order.insert(before, from);
    let mut merged = shape.to_vec();
    merged[from] /= groups;
    merged[into] *= groups;
    x.reshape(split).transpose(&order).reshape(merged)
}
