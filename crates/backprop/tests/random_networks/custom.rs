//! Layers as users write them: with derivatives, masks, first states and loops of their own.

use backprop::prelude::*;
use backprop_core::op::{ScanSpec, scan};

/// x/√(1 + x²), with 1/√(1 + x²) kept for the derivative.
#[derive(Debug)]
pub struct Squash;

impl Layer for Squash {
    fn forward<'g>(&self, _cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        custom_vjp_with_residuals(
            "squash",
            &[x],
            1,
            |x| vec![x[0] * (x[0] * x[0] + 1.0).rsqrt(), (x[0] * x[0] + 1.0).rsqrt()],
            |s| vec![Some(s.cotangents[0] * s.outputs[1] * s.outputs[1] * s.outputs[1])],
        )[0]
    }
}

/// Attention in several heads (of one, without a dimension for them) to the first `keys` positions, under a mask that differs by query
/// and key; values have any number of features.
#[derive(Debug)]
pub struct Masked {
    pub heads: usize,
    pub keys: usize,
    pub values: usize,
    pub causal: bool,
}

impl Layer for Masked {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let (b, [n, t, e]) = (cx.builder(), [x.dim(0), x.dim(1), x.dim(2)]);
        let keys = if self.causal { t } else { self.keys };
        let parts = [("q", t, e / self.heads), ("k", keys, e / self.heads), ("v", keys, self.values)];
        let [q, k, v] = parts.map(|(name, positions, width)| {
            let y = cx.call(name, &Linear::new(self.heads * width), x.slice_dim(1, 0, positions));
            if self.heads == 1 { y } else { y.reshape([n, positions, self.heads, width]).transpose(&[0, 2, 1, 3]) }
        });
        // A third of the keys is left out, and the second query has none.
        let kept = |i: usize| !(i * 7 + i / 5).is_multiple_of(3) && i / keys != 1;
        let kept: Vec<f64> = (0..t * keys).map(|i| f64::from(u8::from(kept(i)))).collect();
        let kept = HostTensor::from_f64(DType::Bool, [t, keys], &kept).ok().map(|kept| b.constant(kept));
        let y = functional::scaled_dot_product_attention(q, k, v, kept, self.causal);
        let y = if self.heads == 1 { y } else { y.transpose(&[0, 2, 1, 3]) };
        y.reshape([n, t, self.heads * self.values])
    }
}

/// One table read in three ways: by code, as weights, and as weights turned.
#[derive(Debug)]
pub struct Tied {
    pub codes: usize,
}

impl Layer for Tied {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let (b, features) = (cx.builder(), x.dim(-1));
        let table = cx.param("table", [self.codes, features], &Init::Ones);
        let scores = x.linear(table).tanh();
        let codes = b.iota(Type::new(DType::I32, scores.shape()), scores.rank() - 1).minimum(2.0);
        let looked_up = table.rows(codes).sum(&[scores.rank() - 1]);
        scores.linear(table.t()) + looked_up
    }
}

/// A sequence in two parts: the second goes on from the states that the first ends with.
#[derive(Debug)]
pub struct Continued {
    pub layer: Lstm,
    /// Where the second part begins.
    pub at: usize,
}

impl Layer for Continued {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let first = cx.child("first", |cx| self.layer.forward_from(cx, x.slice_dim(1, 0, self.at), &[]));
        let states: Vec<_> = first.hidden.into_iter().zip(first.cell).collect();
        let second = cx.child("second", |cx| self.layer.forward_from(cx, x.slice_dim(1, self.at, x.dim(1)), &states));
        first.sequence.concatenate(&[second.sequence], 1)
    }
}

/// A loop over the time steps, forwards or backwards: h' = tanh(w ⊙ h + x).
#[derive(Debug)]
pub struct Looped {
    pub reverse: bool,
}

impl Layer for Looped {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let (b, [n, t, features]) = (cx.builder(), [x.dim(0), x.dim(1), x.dim(2)]);
        let weight = cx.param("weight", [features], &Init::Ones);
        let first = b.zeros(Type::new(x.dtype(), [n, features]));
        let steps = ScanSpec { length: t, reverse: self.reverse };
        let (_, states) = scan(b, steps, &[weight], &[first], &[x.transpose(&[1, 0, 2])], |weight, h, x| {
            let h = (h[0] * weight[0].broadcast_in_dim(h[0].shape(), &[1]) + x[0]).tanh();
            (vec![h], vec![h])
        });
        states[0].transpose(&[1, 0, 2])
    }
}
