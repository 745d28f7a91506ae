//! Scaled dot-product attention with a derivative of its own.

use super::{custom::with_attributes, functional::spread};
use backprop_core::{
    DType, Tensor, Type,
    attention::{self, Attention},
};
use std::collections::BTreeMap;

/// softmax(Q·Kᵀ/√d)·V: queries `[.., T, d]`, keys `[.., S, d]`, values `[.., S, e]` to `[.., T, e]`. `mask` is bool, spread to
/// `[.., T, S]`, true where a key takes part; with `causal`, query t attends to keys 0 to t only. A query to which no key takes part
/// gives zeros, and its gradients are zeros. PyTorch's function of that name; Vaswani et al., "Attention Is All You Need".
#[track_caller]
pub fn scaled_dot_product_attention<'g>(
    q: Tensor<'g>,
    k: Tensor<'g>,
    v: Tensor<'g>,
    mask: Option<Tensor<'g>>,
    causal: bool,
) -> Tensor<'g> {
    attention(q, k, v, mask, None, causal)
}

/// As [`scaled_dot_product_attention`], with factors `[.., T, S]` of the weights after the softmax: 0 where dropped.
///
/// Only the logarithm of each row's sum of exponentials is kept for the derivative, the weights are formed again: Dao et al.,
/// "FlashAttention".
#[track_caller]
pub(crate) fn attention<'g>(
    q: Tensor<'g>,
    k: Tensor<'g>,
    v: Tensor<'g>,
    mask: Option<Tensor<'g>>,
    kept: Option<Tensor<'g>>,
    causal: bool,
) -> Tensor<'g> {
    if let Err(message) = check(q, k, v) {
        return q.builder().fail("attention", &[q.ty(), k.ty(), v.ty()], message);
    }
    let mut shape = q.shape().to_vec();
    let rank = shape.len();
    shape[rank - 1] = k.shape()[rank - 2];
    let operands = [q, k, v].into_iter().chain(mask.map(|m| m.broadcast_to(&shape[..]))).chain(kept).collect::<Vec<_>>();
    let form = Form { masked: mask.is_some(), dropping: kept.is_some(), causal };
    // Factors of the weights are for no kernel.
    let region = if form.dropping { "attention_with_dropout" } else { attention::REGION };
    with_attributes(
        region,
        form.attributes(q),
        &operands,
        1,
        |x| form.forward(x),
        |s| form.derivative(&s.inputs, &s.outputs, &s.cotangents),
    )[0]
}

fn check(q: Tensor<'_>, k: Tensor<'_>, v: Tensor<'_>) -> Result<(), String> {
    let rank = q.rank();
    let same = |a: Tensor<'_>, b: Tensor<'_>, dims: usize| a.shape()[..dims] == b.shape()[..dims];
    if rank < 2 || k.rank() != rank || v.rank() != rank || !q.dtype().is_float() {
        return Err("needs floating-point queries [.., T, d], keys [.., S, d] and values [.., S, e]".into());
    }
    if !same(q, k, rank - 2) || !same(k, v, rank - 1) || q.dim(-1) != k.dim(-1) || q.dim(-1) == 0 {
        return Err("queries [.., T, d], keys [.., S, d] and values [.., S, e] do not fit together".into());
    }
    Ok(())
}

/// Which operands follow queries, keys and values.
#[derive(Clone, Copy)]
struct Form {
    masked: bool,
    dropping: bool,
    causal: bool,
}

impl Form {
    fn attributes(self, q: Tensor<'_>) -> BTreeMap<String, String> {
        Attention { masked: self.masked, causal: self.causal, scale: Form::scale(q) }.attributes()
    }

    /// What Q·Kᵀ is multiplied by.
    fn scale(q: Tensor<'_>) -> f64 {
        1.0 / (q.dim(-1) as f64).sqrt()
    }

    /// Q·Kᵀ/√d, −∞ where a key takes no part.
    fn scores<'b>(self, x: &[Tensor<'b>]) -> Tensor<'b> {
        let mut scores = x[0].matmul(x[1].t()) * Form::scale(x[0]);
        let (rank, shape) = (scores.rank(), scores.shape());
        let nothing = scores.builder().full(scores.ty(), f64::NEG_INFINITY);
        if self.masked {
            scores = x[3].select(scores, nothing);
        }
        if self.causal {
            let position = |d: usize| scores.builder().iota(Type::new(DType::I32, &shape[rank - 2..]), d);
            scores = position(1).greater(position(0)).broadcast_to(shape).select(nothing, scores);
        }
        scores
    }

    fn dropped<'b>(self, weights: Tensor<'b>, x: &[Tensor<'b>]) -> Tensor<'b> {
        if self.dropping { weights * x[x.len() - 1] } else { weights }
    }

    /// The result, and the logarithm of each row's sum of exponentials (0 for a row without a key).
    fn forward<'b>(self, x: &[Tensor<'b>]) -> Vec<Tensor<'b>> {
        let scores = self.scores(x);
        let (shape, keys) = (scores.shape(), scores.rank() - 1);
        let largest = scores.max(&[keys]).stop_gradient();
        // In a row without a key −∞ would be taken from −∞, and 0 divided by 0.
        let largest = largest.equal(f64::NEG_INFINITY).select(largest.builder().zeros(largest.ty()), largest);
        let exponentials = (scores - spread(largest, &shape, &[keys])).exp();
        let sum = exponentials.sum(&[keys]);
        let sum = sum.equal(0.0).select(sum.builder().full(sum.ty(), 1.0), sum);
        let weights = exponentials / spread(sum, &shape, &[keys]);
        vec![self.dropped(weights, x).matmul(x[2]), largest + sum.log()]
    }

    fn derivative<'b>(self, x: &[Tensor<'b>], outputs: &[Tensor<'b>], cotangents: &[Tensor<'b>]) -> Vec<Option<Tensor<'b>>> {
        let (y, log_sum, g) = (outputs[0], outputs[1], cotangents[0]);
        let scores = self.scores(x);
        let (shape, keys) = (scores.shape(), scores.rank() - 1);
        let weights = (scores - spread(log_sum, &shape, &[keys])).exp();
        let of_values = self.dropped(weights, x).t().matmul(g);
        let of_weights = self.dropped(g.matmul(x[2].t()), x);
        // Σ weights·∂weights along a row is Σ g·y.
        let of_scores = weights * (of_weights - spread((g * y).sum(&[keys]), &shape, &[keys])) * Form::scale(x[0]);
        let differentiated = [of_scores.matmul(x[1]), of_scores.t().matmul(x[0]), of_values].map(Some);
        differentiated.into_iter().chain(x[3..].iter().map(|_| None)).collect()
    }
}
