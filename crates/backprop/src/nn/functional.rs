//! Functions without parameters, stable, with derivatives of their own where that saves work or memory.

use super::custom_vjp_with_residuals;
use backprop_core::{Shape, Tensor};
use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// `x` without some dimensions (a reduction's result) spread over them again.
#[track_caller]
pub(crate) fn spread<'g>(reduced: Tensor<'g>, shape: &Shape, dims: &[usize]) -> Tensor<'g> {
    let kept: Vec<usize> = (0..shape.len()).filter(|d| !dims.contains(d)).collect();
    reduced.broadcast_in_dim(shape.clone(), &kept)
}

/// A dimension that may count from the end, or `None` after an error of the graph.
#[track_caller]
fn dimension(x: Tensor<'_>, dim: isize) -> Option<usize> {
    let rank = x.rank() as isize;
    let at = if dim < 0 { dim + rank } else { dim };
    if (0..rank).contains(&at) {
        return Some(at as usize);
    }
    x.builder().fail("softmax", &[x.ty()], format!("dimension {dim} does not exist"));
    None
}

/// eˣ / Σ eˣ along a dimension (negative counts from the end).
#[track_caller]
pub fn softmax<'g>(x: Tensor<'g>, dim: isize) -> Tensor<'g> {
    let Some(d) = dimension(x, dim) else { return x };
    custom_vjp_with_residuals(
        "softmax",
        &[x],
        0,
        |x| {
            let shape = x[0].shape();
            let e = (x[0] - spread(x[0].max(&[d]).stop_gradient(), &shape, &[d])).exp();
            vec![e / spread(e.sum(&[d]), &shape, &[d])]
        },
        |s| {
            let (y, g) = (s.outputs[0], s.cotangents[0]);
            vec![Some(y * (g - spread((g * y).sum(&[d]), &y.shape(), &[d])))]
        },
    )[0]
}

/// x − ln Σ eˣ along a dimension (negative counts from the end).
#[track_caller]
pub fn log_softmax<'g>(x: Tensor<'g>, dim: isize) -> Tensor<'g> {
    let Some(d) = dimension(x, dim) else { return x };
    custom_vjp_with_residuals(
        "log_softmax",
        &[x],
        0,
        |x| {
            let shape = x[0].shape();
            let shifted = x[0] - spread(x[0].max(&[d]).stop_gradient(), &shape, &[d]);
            vec![shifted - spread(shifted.exp().sum(&[d]).log(), &shape, &[d])]
        },
        |s| {
            let (y, g) = (s.outputs[0], s.cotangents[0]);
            vec![Some(g - y.exp() * spread(g.sum(&[d]), &y.shape(), &[d]))]
        },
    )[0]
}

/// x·Φ(x), with the normal distribution function Φ by the error function.
#[track_caller]
pub fn gelu<'g>(x: Tensor<'g>) -> Tensor<'g> {
    fn phi<'b>(x: Tensor<'b>) -> Tensor<'b> {
        ((x * FRAC_1_SQRT_2).erf() + 1.0) * 0.5
    }
    custom_vjp_with_residuals(
        "gelu",
        &[x],
        0,
        |x| vec![x[0] * phi(x[0])],
        |s| {
            let x = s.inputs[0];
            // Only x is kept: Φ is formed again, and the density is its derivative.
            let density = (x * x * -0.5).exp() * (1.0 / (2.0 * PI).sqrt());
            vec![Some(s.cotangents[0] * (phi(x) + x * density))]
        },
    )[0]
}

/// GELU with Φ(x) ≈ (1 + tanh(√(2/π)·(x + 0.044715·x³)))/2.
#[track_caller]
pub fn gelu_tanh<'g>(x: Tensor<'g>) -> Tensor<'g> {
    const CUBE: f64 = 0.044715;
    let scale = (2.0 / PI).sqrt();
    custom_vjp_with_residuals(
        "gelu_tanh",
        &[x],
        0,
        |x| {
            let x = x[0];
            let t = ((x + x * x * x * CUBE) * scale).tanh();
            vec![x * 0.5 * (t + 1.0)]
        },
        |s| {
            let x = s.inputs[0];
            let t = ((x + x * x * x * CUBE) * scale).tanh();
            let slope = (x * x * (3.0 * CUBE) + 1.0) * scale;
            vec![Some(s.cotangents[0] * ((t + 1.0) * 0.5 + x * 0.5 * (1.0 - t * t) * slope))]
        },
    )[0]
}

/// ln(1 + e^−|x|): what the stable forms of softplus and logistic loss share.
pub(crate) fn log1p_exp_neg_abs(x: Tensor<'_>) -> Tensor<'_> {
    (-x.abs()).exp().log1p()
}
