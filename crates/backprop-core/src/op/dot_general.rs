//! Generalised matrix product.

use super::{Cost, Derivative, Domain, Primitive, Sample, Vjp, arity, convert::dtype_name, distinct_dims, same_dtype};
use crate::{
    DType, Tensor, Type,
    reference::{Array, index_space},
    stablehlo::{Value, Writer},
};
use serde::{Deserialize, Serialize};

/// Sums products over the contracting dimensions, for every index of the batch dimensions.
///
/// The result's dimensions are: batch, then the free ones of the left operand, then the free ones of the right, in operand order.
#[derive(Clone, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
pub struct DotGeneral {
    /// Contracted dimensions of the left operand.
    pub lhs_contracting: Vec<usize>,
    /// Contracted dimensions of the right operand, pairwise with the left's.
    pub rhs_contracting: Vec<usize>,
    /// Batch dimensions of the left operand.
    pub lhs_batch: Vec<usize>,
    /// Batch dimensions of the right operand, pairwise with the left's.
    pub rhs_batch: Vec<usize>,
    /// Type the sum is formed in; the result has the operands' type.
    #[serde(with = "dtype_name")]
    pub accumulate: DType,
}

impl DotGeneral {
    /// Dimensions of the left operand that are neither contracted nor batch.
    pub fn lhs_free(&self, rank: usize) -> Vec<usize> {
        free(rank, &self.lhs_contracting, &self.lhs_batch)
    }

    /// Dimensions of the right operand that are neither contracted nor batch.
    pub fn rhs_free(&self, rank: usize) -> Vec<usize> {
        free(rank, &self.rhs_contracting, &self.rhs_batch)
    }

    /// Product of the contracted extents.
    pub fn depth(&self, lhs: &Type) -> usize {
        self.lhs_contracting.iter().map(|&d| lhs.shape[d]).product()
    }
}

fn free(rank: usize, contracting: &[usize], batch: &[usize]) -> Vec<usize> {
    (0..rank).filter(|d| !contracting.contains(d) && !batch.contains(d)).collect()
}

impl Primitive for DotGeneral {
    fn name(&self) -> &'static str {
        "dot_general"
    }

    fn infer(&self, inputs: &[Type]) -> Result<Vec<Type>, String> {
        arity(inputs, 2)?;
        let (lhs, rhs) = (&inputs[0], &inputs[1]);
        same_dtype(lhs.dtype, rhs.dtype)?;
        if lhs.dtype == DType::Bool {
            return Err("products of bool are not defined; convert the operands".into());
        }
        let lhs_used = [&self.lhs_batch[..], &self.lhs_contracting].concat();
        let rhs_used = [&self.rhs_batch[..], &self.rhs_contracting].concat();
        distinct_dims("left", &lhs_used, lhs.shape.len())?;
        distinct_dims("right", &rhs_used, rhs.shape.len())?;
        if self.lhs_batch.len() != self.rhs_batch.len() || self.lhs_contracting.len() != self.rhs_contracting.len() {
            return Err("batch and contracting dimensions must come in pairs".into());
        }
        for (&l, &r) in lhs_used.iter().zip(&rhs_used) {
            if lhs.shape[l] != rhs.shape[r] {
                return Err(format!(
                    "dimension {l} of the left operand has {} elements but dimension {r} of the right one has {}; they must be equal",
                    lhs.shape[l], rhs.shape[r]
                ));
            }
        }
        let batch = self.lhs_batch.iter().map(|&d| lhs.shape[d]);
        let lhs_free = self.lhs_free(lhs.shape.len()).into_iter().map(|d| lhs.shape[d]);
        let rhs_free = self.rhs_free(rhs.shape.len()).into_iter().map(|d| rhs.shape[d]);
        Ok(vec![Type { dtype: lhs.dtype, shape: batch.chain(lhs_free).chain(rhs_free).collect() }])
    }

    fn reference(&self, inputs: &[&Array], outputs: &[Type]) -> Vec<Array> {
        let (lhs, rhs) = (inputs[0], inputs[1]);
        let (lhs_free, rhs_free) = (self.lhs_free(lhs.ty.shape.len()), self.rhs_free(rhs.ty.shape.len()));
        let depth: Vec<usize> = self.lhs_contracting.iter().map(|&d| lhs.ty.shape[d]).collect();
        let depths = index_space(&depth);
        let nb = self.lhs_batch.len();
        let terms = |out: &[usize]| {
            let mut li = vec![0; lhs.ty.shape.len()];
            let mut ri = vec![0; rhs.ty.shape.len()];
            (0..nb).for_each(|i| (li[self.lhs_batch[i]], ri[self.rhs_batch[i]]) = (out[i], out[i]));
            lhs_free.iter().enumerate().for_each(|(i, &d)| li[d] = out[nb + i]);
            rhs_free.iter().enumerate().for_each(|(i, &d)| ri[d] = out[nb + lhs_free.len() + i]);
            depths.iter().map(move |k| {
                (0..k.len()).for_each(|i| (li[self.lhs_contracting[i]], ri[self.rhs_contracting[i]]) = (k[i], k[i]));
                (lhs.ty.shape.ravel(&li), rhs.ty.shape.ravel(&ri))
            })
        };
        let ty = &outputs[0];
        vec![if ty.dtype.is_float() {
            Array::from_fn(ty, |out| terms(out).map(|(l, r)| lhs.at(l) * rhs.at(r)).sum())
        } else {
            let (a, b) = (lhs.to_int(), rhs.to_int());
            let sum = |out: Vec<usize>| terms(&out).map(|(l, r)| a[l].wrapping_mul(b[r])).fold(0i128, i128::wrapping_add);
            Array::int(ty, ty.shape.indices().map(sum).collect())
        }]
    }

    fn vjp<'g>(&self, cx: &Vjp<'g>) -> Derivative<'g> {
        let (lhs, rhs, g) = (cx.inputs[0], cx.inputs[1], cx.ct());
        let swapped = DotGeneral {
            lhs_contracting: self.rhs_contracting.clone(),
            rhs_contracting: self.lhs_contracting.clone(),
            lhs_batch: self.rhs_batch.clone(),
            rhs_batch: self.lhs_batch.clone(),
            accumulate: self.accumulate,
        };
        let nb = self.lhs_batch.len();
        let (lf, rf) = (lhs.rank() - nb - self.lhs_contracting.len(), rhs.rank() - nb - self.rhs_contracting.len());
        // In g the left free dimensions come first: for the right operand's gradient they are the contracted ones.
        let to_lhs = cx.wanted[0].then(|| self.operand_gradient(lhs, rhs, g, nb + lf..nb + lf + rf));
        let to_rhs = cx.wanted[1].then(|| swapped.operand_gradient(rhs, lhs, g, nb..nb + lf));
        Derivative::Rule(vec![to_lhs, to_rhs])
    }

    fn cost(&self, inputs: &[Type], outputs: &[Type]) -> Cost {
        let flops = 2 * outputs[0].elements() as u64 * self.depth(&inputs[0]) as u64;
        Cost { flops, bytes: Cost::traffic(inputs, outputs) }
    }

    fn stablehlo(&self, w: &mut Writer, inputs: &[Value], outputs: &[Type]) -> Vec<Value> {
        let attributes = format!(
            "dot_dimension_numbers = #stablehlo.dot<lhs_batching_dimensions = {:?}, rhs_batching_dimensions = {:?}, \
             lhs_contracting_dimensions = {:?}, rhs_contracting_dimensions = {:?}>, {}",
            self.lhs_batch,
            self.rhs_batch,
            self.lhs_contracting,
            self.rhs_contracting,
            w.precision_config()
        );
        let product = w.op("dot_general", &[&inputs[0], &inputs[1]], &attributes, &Type::new(self.accumulate, &outputs[0].shape));
        vec![w.convert(&product, outputs[0].dtype)]
    }

    fn samples() -> Vec<Sample> {
        let dot = |lc: &[usize], rc: &[usize], lb: &[usize], rb: &[usize], l: &[usize], r: &[usize]| {
            let [lhs_contracting, rhs_contracting, lhs_batch, rhs_batch] = [lc, rc, lb, rb].map(<[usize]>::to_vec);
            let op = DotGeneral { lhs_contracting, rhs_contracting, lhs_batch, rhs_batch, accumulate: DType::F64 };
            Sample::f64(op, &[l, r], Domain::Uniform(0.2, 1.5))
        };
        vec![
            dot(&[1], &[0], &[], &[], &[2, 3], &[3, 4]),
            dot(&[1], &[1], &[], &[], &[5, 3], &[7, 3]),
            dot(&[0], &[0], &[], &[], &[3, 5], &[3, 2]),
            dot(&[0], &[1], &[], &[], &[3, 5], &[2, 3]),
            dot(&[2], &[1], &[0], &[0], &[2, 3, 4], &[2, 4, 5]),
            dot(&[3], &[3], &[0, 2], &[0, 2], &[2, 3, 2, 4], &[2, 5, 2, 4]),
            dot(&[1, 2], &[2, 0], &[], &[], &[2, 3, 4], &[4, 5, 3]),
            dot(&[], &[], &[], &[], &[3], &[2]),
            dot(&[0], &[0], &[], &[], &[1], &[1]),
            dot(&[1], &[0], &[], &[], &[2, 0], &[0, 3]),
            dot(&[1], &[0], &[], &[], &[0, 3], &[3, 4]),
            dot(&[0], &[0], &[1], &[2], &[3, 2], &[3, 5, 2]),
        ]
    }
}

impl DotGeneral {
    /// Gradient of the left operand: g contracted with the right operand over the right's free dimensions.
    fn operand_gradient<'g>(
        &self,
        lhs: Tensor<'g>,
        rhs: Tensor<'g>,
        g: Tensor<'g>,
        g_contracting: std::ops::Range<usize>,
    ) -> Tensor<'g> {
        let nb = self.lhs_batch.len();
        let g_batch: Vec<usize> = (0..nb).collect();
        let g_contracting: Vec<usize> = g_contracting.collect();
        // The right operand's free dimensions that remain are its contracted ones, in ascending order of dimension.
        let mut pairs: Vec<(usize, usize)> =
            self.rhs_contracting.iter().copied().zip(self.lhs_contracting.iter().copied()).collect();
        pairs.sort_unstable();
        let dot = DotGeneral {
            lhs_contracting: g_contracting,
            rhs_contracting: self.rhs_free(rhs.rank()),
            lhs_batch: g_batch,
            rhs_batch: self.rhs_batch.clone(),
            accumulate: self.accumulate,
        };
        let free = self.lhs_free(lhs.rank());
        let forward: Vec<usize> = self.lhs_batch.iter().chain(&free).copied().chain(pairs.iter().map(|&(_, l)| l)).collect();
        // The same product with its operands exchanged; chosen when that saves the transpose.
        let exchanged: Vec<usize> =
            self.lhs_batch.iter().copied().chain(pairs.iter().map(|&(_, l)| l)).chain(free.iter().copied()).collect();
        let identity = |order: &[usize]| order.iter().enumerate().all(|(i, &d)| i == d);
        if identity(&exchanged) && !identity(&forward) {
            let dot = DotGeneral {
                lhs_contracting: dot.rhs_contracting,
                rhs_contracting: dot.lhs_contracting,
                lhs_batch: dot.rhs_batch,
                rhs_batch: dot.lhs_batch,
                accumulate: dot.accumulate,
            };
            return rhs.dot_general(g, dot);
        }
        let product = g.dot_general(rhs, dot);
        if identity(&forward) { product } else { product.transpose(&inverse(&forward)) }
    }
}

/// The permutation that undoes another.
pub(crate) fn inverse(permutation: &[usize]) -> Vec<usize> {
    let mut inverse = vec![0; permutation.len()];
    permutation.iter().enumerate().for_each(|(i, &p)| inverse[p] = i);
    inverse
}
