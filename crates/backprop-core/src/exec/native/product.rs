//! Generalised products and convolutions as the kernels' strided specifications.

use super::view::{View, merge, row_major};
use crate::{
    DType, Error, Type,
    op::{Convolution, DotGeneral},
};
use backprop_kernels::{
    Isa, Kernel,
    conv::{Conv, ConvDim, ConvGeneric, ConvSpec},
    gemm::{BatchDim, Epilogue, Gemm, GemmGeneric, GemmSpec},
};
use std::sync::Arc;

/// Strides and extents of a product.
#[derive(Clone, Debug)]
pub(crate) enum Form {
    Dot(GemmSpec),
    Convolution(ConvSpec),
}

/// A product ready for a kernel. Operands start at their views' offsets.
#[derive(Clone, Debug)]
pub(crate) struct Product {
    pub form: Form,
    pub dtype: DType,
    /// Type sums are formed in.
    pub sum: DType,
    /// Batch, rows and columns of the output as an epilogue sees it, if it is row-major in them.
    pub tile: Option<[usize; 3]>,
}

impl Product {
    /// Its output as an epilogue sees it, if elementwise work can happen on its output tiles.
    pub fn epilogue_tile(&self) -> Option<[usize; 3]> {
        self.tile.filter(|_| self.dtype == DType::F32 && self.sum == DType::F32)
    }

    /// Whether it is no convolution.
    pub fn is_dense(&self) -> bool {
        matches!(self.form, Form::Dot(_))
    }

    /// Terms of each sum.
    pub fn terms(&self) -> usize {
        match &self.form {
            Form::Dot(spec) => spec.k,
            Form::Convolution(spec) => spec.terms(),
        }
    }

    /// One of so many equal parts of a product, by the outermost dimension of its row-major output of `elements`, and how many elements
    /// the parts are apart in the two operands.
    pub fn parts(&self, parts: usize, elements: usize) -> Option<(Product, [isize; 2])> {
        let outermost =
            |extent: usize, stride: isize| extent.is_multiple_of(parts) && extent as isize * stride == elements as isize;
        let tile = self.tile?;
        let (form, tile, steps) = match &self.form {
            Form::Dot(spec) => {
                let mut spec = spec.clone();
                let (extent, steps, tile) = match spec.batch.first_mut() {
                    Some(BatchDim { extent, a, b, c }) if outermost(*extent, *c) => {
                        (extent, [*a, *b], [tile[0] / parts, tile[1], tile[2]])
                    }
                    None if outermost(spec.m, spec.c_row) => (&mut spec.m, [spec.a_row, 0], [tile[0], tile[1] / parts, tile[2]]),
                    _ => return None,
                };
                *extent /= parts;
                let steps = steps.map(|step| step * *extent as isize);
                (Form::Dot(spec), tile, steps)
            }
            Form::Convolution(spec) => {
                if !outermost(spec.batch, spec.out_batch) || spec.batch_groups != 1 {
                    return None;
                }
                let batch = spec.batch / parts;
                let steps = [batch as isize * spec.lhs_batch, 0];
                (Form::Convolution(ConvSpec { batch, ..spec.clone() }), [tile[0], tile[1] / parts, tile[2]], steps)
            }
        };
        Some((Product { form, tile: Some(tile), ..self.clone() }, steps))
    }

    /// How many elements the parts of its two operands are apart if it sums over so many, each of which adds to all of its output.
    pub fn sum_parts(&self, parts: usize) -> Option<[isize; 2]> {
        let Form::Convolution(spec) = &self.form else { return None };
        let plain = self.dtype == DType::F32 && self.sum == DType::F32 && spec.channels == parts;
        let kernel = Conv::new(spec, None, Isa::Portable).filter(|_| plain)?;
        (parts > 1 && kernel.sum_parts() == parts).then_some([spec.lhs_channel, spec.rhs_channel])
    }

    pub fn name(&self) -> &'static str {
        match self.form {
            Form::Dot(_) => "dot_general",
            Form::Convolution(_) => "convolution",
        }
    }

    /// The kernel, planned to run so often with other left operands.
    pub fn kernel(&self, epilogue: Option<Arc<dyn Epilogue>>, isa: Isa, runs: usize) -> Result<Box<dyn Kernel>, Error> {
        let missing = || Error::Invalid(format!("no kernel for products of {} summed in {}", self.dtype, self.sum));
        let plain = self.dtype == DType::F32 && self.sum == DType::F32;
        Ok(match &self.form {
            Form::Dot(spec) if plain => Box::new(Gemm::repeated(spec.clone(), epilogue, isa, runs)),
            Form::Dot(spec) => Box::new(GemmGeneric::new(spec.clone(), self.dtype, self.sum).ok_or_else(missing)?),
            Form::Convolution(spec) if plain => Box::new(Conv::repeated(spec, epilogue, isa, runs).ok_or_else(missing)?),
            Form::Convolution(spec) => Box::new(ConvGeneric::new(spec, self.dtype, self.sum).ok_or_else(missing)?),
        })
    }
}

/// The type sums are really formed in: never narrower than asked for.
fn sum_type(dtype: DType, accumulate: DType) -> DType {
    match (dtype, accumulate) {
        (DType::F16 | DType::BF16, _) => DType::F32,
        (DType::F64, _) => DType::F64,
        (DType::F32, DType::F64) => DType::F64,
        _ => dtype,
    }
}

/// Operands whose contracted (or the right one's free) dimensions are no single stride, with the order of dimensions to copy them in.
pub(crate) fn copies(dot: &DotGeneral, lhs: &View, rhs: &View) -> Vec<(usize, Vec<usize>)> {
    let single = |view: &View, dims: &[usize]| merge(dims.iter().map(|&d| (view.shape[d], [view.strides[d]]))).len() <= 1;
    let (lhs_free, rhs_free) = (dot.lhs_free(lhs.shape.len()), dot.rhs_free(rhs.shape.len()));
    let mut copies = Vec::new();
    if !single(lhs, &dot.lhs_contracting) {
        copies.push((0, [&dot.lhs_batch[..], &lhs_free, &dot.lhs_contracting].concat()));
    }
    if !single(rhs, &dot.rhs_contracting) || !single(rhs, &rhs_free) {
        copies.push((1, [&dot.rhs_batch[..], &rhs_free, &dot.rhs_contracting].concat()));
    }
    copies
}

/// The product of two operands that need no more copies.
pub(crate) fn dot(dot: &DotGeneral, lhs: &View, rhs: &View, out: &Type) -> Product {
    let (lhs_free, rhs_free) = (dot.lhs_free(lhs.shape.len()), dot.rhs_free(rhs.shape.len()));
    let c = row_major(&out.shape);
    let nb = dot.lhs_batch.len();
    let pairs = |l: &[usize], r: &[usize]| {
        merge(l.iter().zip(r).map(|(&l, &r)| (lhs.shape[l], [lhs.strides[l], rhs.strides[r]]))).pop().unwrap_or((1, [0, 0]))
    };
    let (k, [a_col, b_row]) = pairs(&dot.lhs_contracting, &dot.rhs_contracting);
    let mut rows = merge(lhs_free.iter().enumerate().map(|(i, &d)| (lhs.shape[d], [lhs.strides[d], c[nb + i]])));
    let (m, [a_row, c_row]) = rows.pop().unwrap_or((1, [0, 0]));
    let from = nb + lhs_free.len();
    let mut cols = merge(rhs_free.iter().enumerate().map(|(i, &d)| (rhs.shape[d], [rhs.strides[d], c[from + i]])));
    let (n, [b_col, c_col]) = cols.pop().unwrap_or((1, [0, 1]));
    let batches = merge((0..nb).map(|i| {
        let (l, r) = (dot.lhs_batch[i], dot.rhs_batch[i]);
        (lhs.shape[l], [lhs.strides[l], rhs.strides[r], c[i]])
    }));
    let mut batch: Vec<BatchDim> = batches.into_iter().map(|(extent, [a, b, c])| BatchDim { extent, a, b, c }).collect();
    // Free dimensions that are no single stride repeat the product.
    batch.extend(rows.into_iter().map(|(extent, [a, c])| BatchDim { extent, a, b: 0, c }));
    let spec = GemmSpec { m, n, k, a_row, a_col, b_row, b_col, c_row, c_col, batch };
    let tile = Some([spec.batches(), m, n]);
    Product { form: Form::Dot(spec), dtype: out.dtype, sum: sum_type(out.dtype, dot.accumulate), tile }
}

/// A convolution of two operands.
pub(crate) fn convolution(conv: &Convolution, lhs: &View, rhs: &View, out: &Type) -> Product {
    let dims = &conv.dims;
    let out_strides = row_major(&out.shape);
    let spatial = (0..conv.spatial()).map(|s| {
        let (l, r, o) = (dims.lhs[2 + s], dims.rhs[2 + s], dims.out[2 + s]);
        ConvDim {
            input: lhs.shape[l],
            lhs: lhs.strides[l],
            window: rhs.shape[r],
            rhs: rhs.strides[r],
            output: out.shape[o],
            out: out_strides[o],
            stride: conv.stride[s],
            pad_low: conv.padding[s].0,
            lhs_dilation: conv.lhs_dilation[s],
            rhs_dilation: conv.rhs_dilation[s],
            reverse: false,
        }
    });
    let spec = ConvSpec {
        batch: out.shape[dims.out[0]],
        lhs_batch: lhs.strides[dims.lhs[0]],
        out_batch: out_strides[dims.out[0]],
        channels: rhs.shape[dims.rhs[1]],
        lhs_channel: lhs.strides[dims.lhs[1]],
        rhs_channel: rhs.strides[dims.rhs[1]],
        features: rhs.shape[dims.rhs[0]],
        rhs_feature: rhs.strides[dims.rhs[0]],
        out_feature: out_strides[dims.out[1]],
        feature_groups: conv.feature_groups,
        batch_groups: conv.batch_groups,
        spatial: spatial.collect(),
    };
    let order = [&dims.out[..1], &dims.out[2..], &dims.out[1..2]].concat();
    let rows = out.elements() / spec.features.max(1);
    let tile = order.is_sorted().then_some([1, rows, spec.features]);
    Product { form: Form::Convolution(spec), dtype: out.dtype, sum: sum_type(out.dtype, conv.accumulate), tile }
}
