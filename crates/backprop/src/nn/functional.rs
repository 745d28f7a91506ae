//! Functions without parameters, stable, with derivatives of their own where that saves work or memory. At kinks the derivative is
//! PyTorch's.

pub(crate) use super::functional_attention::attention;
pub use super::functional_attention::scaled_dot_product_attention;

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
fn dimension(x: Tensor<'_>, function: &str, dim: isize) -> Option<usize> {
    let rank = x.rank() as isize;
    let at = if dim < 0 { dim.saturating_add(rank) } else { dim };
    if (0..rank).contains(&at) {
        return Some(at as usize);
    }
    x.builder().fail(function, &[x.ty()], format!("dimension {dim} does not exist"));
    None
}

/// eˣ / Σ eˣ along a dimension (negative counts from the end).
#[track_caller]
pub fn softmax<'g>(x: Tensor<'g>, dim: isize) -> Tensor<'g> {
    let Some(d) = dimension(x, "softmax", dim) else { return x };
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
    let Some(d) = dimension(x, "log_softmax", dim) else { return x };
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
        1,
        |x| {
            let (x, phi) = (x[0], phi(x[0]));
            // The slope is kept, one value in place of x and Φ.
            let density = (x * x * -0.5).exp() * (1.0 / (2.0 * PI).sqrt());
            let slope = phi + x * density;
            vec![x * phi, slope]
        },
        |s| vec![Some(s.cotangents[0] * s.outputs[1])],
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
        1,
        |x| {
            let x = x[0];
            let t = ((x + x * x * x * CUBE) * scale).tanh();
            let inner = (x * x * (3.0 * CUBE) + 1.0) * scale;
            let slope = (t + 1.0) * 0.5 + x * 0.5 * (1.0 - t * t) * inner;
            vec![x * 0.5 * (t + 1.0), slope]
        },
        |s| vec![Some(s.cotangents[0] * s.outputs[1])],
    )[0]
}

/// ln(1 + e^−|x|): what the stable forms of softplus and logistic loss share.
pub(crate) fn log1p_exp_neg_abs(x: Tensor<'_>) -> Tensor<'_> {
    (-x.abs()).exp().log1p()
}

/// A function of one element whose derivative is formed from that element alone, so that nothing else is kept.
#[track_caller]
fn of_element<'g, F, D>(name: &str, x: Tensor<'g>, f: F, derivative: D) -> Tensor<'g>
where
    F: for<'b> Fn(Tensor<'b>) -> Tensor<'b>,
    D: for<'b> Fn(Tensor<'b>) -> Tensor<'b>,
{
    custom_vjp_with_residuals(name, &[x], 0, |x| vec![f(x[0])], |s| vec![Some(s.cotangents[0] * derivative(s.inputs[0]))])[0]
}

/// x where it is positive, `slope`·x elsewhere (the derivative at 0 is `slope`).
#[track_caller]
pub fn leaky_relu(x: Tensor<'_>, slope: f64) -> Tensor<'_> {
    x.greater(0.0).select(x, x * slope)
}

/// scale·x where x is positive, scale·alpha·(e^(rate·x) − 1) elsewhere; the derivative at 0 is the lower part's.
#[track_caller]
fn exponential_linear<'g>(name: &str, x: Tensor<'g>, scale: f64, alpha: f64, rate: f64) -> Tensor<'g> {
    /// min(x, 0), so that no exponential overflows.
    fn lower<'b>(x: Tensor<'b>) -> Tensor<'b> {
        x.greater(0.0).select(x.builder().zeros(x.ty()), x)
    }
    of_element(
        name,
        x,
        |x| x.greater(0.0).select(x * scale, (lower(x) * rate).expm1() * (scale * alpha)),
        |x| x.greater(0.0).select(x.builder().full(x.ty(), scale), (lower(x) * rate).exp() * (scale * alpha * rate)),
    )
}

/// x where it is positive, alpha·(eˣ − 1) elsewhere (Clevert et al., "Exponential Linear Units").
#[track_caller]
pub fn elu(x: Tensor<'_>, alpha: f64) -> Tensor<'_> {
    exponential_linear("elu", x, 1.0, alpha, 1.0)
}

/// x where it is positive, alpha·(e^(x/alpha) − 1) elsewhere (Barron, "Continuously Differentiable Exponential Linear Units").
#[track_caller]
pub fn celu(x: Tensor<'_>, alpha: f64) -> Tensor<'_> {
    exponential_linear("celu", x, 1.0, alpha, 1.0 / alpha)
}

/// ELU with the two constants that keep mean 0 and variance 1 (Klambauer et al., "Self-Normalizing Neural Networks").
#[track_caller]
pub fn selu(x: Tensor<'_>) -> Tensor<'_> {
    exponential_linear("selu", x, 1.050_700_987_355_480_5, 1.673_263_242_354_377_2, 1.0)
}

/// x/(1 + e⁻ˣ), also called swish.
#[track_caller]
pub fn silu(x: Tensor<'_>) -> Tensor<'_> {
    of_element(
        "silu",
        x,
        |x| x * x.logistic(),
        |x| {
            let s = x.logistic();
            s * (x * (1.0 - s) + 1.0)
        },
    )
}

/// ln(1 + e^(beta·x))/beta, and x itself where beta·x is above the threshold.
#[track_caller]
pub fn softplus(x: Tensor<'_>, beta: f64, threshold: f64) -> Tensor<'_> {
    of_element(
        "softplus",
        x,
        |x| (x * beta).greater(threshold).select(x, log1p_exp(x * beta) * (1.0 / beta)),
        |x| (x * beta).greater(threshold).select(x.builder().full(x.ty(), 1.0), (x * beta).logistic()),
    )
}

/// x·tanh(ln(1 + eˣ)) (Misra, "Mish").
#[track_caller]
pub fn mish(x: Tensor<'_>) -> Tensor<'_> {
    of_element(
        "mish",
        x,
        |x| x * log1p_exp(x).tanh(),
        |x| {
            let t = log1p_exp(x).tanh();
            t + x * x.logistic() * (1.0 - t * t)
        },
    )
}

/// x·min(max(x + 3, 0), 6)/6 (Howard et al., "MobileNetV3").
#[track_caller]
pub fn hardswish(x: Tensor<'_>) -> Tensor<'_> {
    of_element(
        "hardswish",
        x,
        |x| x * hardtanh(x + 3.0, 0.0, 6.0) * (1.0 / 6.0),
        |x| {
            let [zero, one] = [0.0, 1.0].map(|v| x.builder().full(x.ty(), v));
            x.less_equal(-3.0).select(zero, x.less(3.0).select(x * (1.0 / 3.0) + 0.5, one))
        },
    )
}

/// min(max(x + 3, 0), 6)/6; the derivative at the bounds is 0.
#[track_caller]
pub fn hardsigmoid(x: Tensor<'_>) -> Tensor<'_> {
    hardtanh(x + 3.0, 0.0, 6.0) * (1.0 / 6.0)
}

/// x limited to an interval; the derivative at the bounds is 0.
#[track_caller]
pub fn hardtanh(x: Tensor<'_>, low: f64, high: f64) -> Tensor<'_> {
    x.clamp(x.like(low), x.like(high))
}

/// x/(1 + |x|).
#[track_caller]
pub fn softsign(x: Tensor<'_>) -> Tensor<'_> {
    of_element(
        "softsign",
        x,
        |x| x / (x.abs() + 1.0),
        |x| {
            let r = 1.0 / (x.abs() + 1.0);
            r * r
        },
    )
}

/// The first half of a dimension times the logistic function of its second half (Dauphin et al., "Gated Convolutional Networks").
#[track_caller]
pub fn glu<'g>(x: Tensor<'g>, dim: isize) -> Tensor<'g> {
    let Some(d) = dimension(x, "glu", dim) else { return x };
    let extent = x.shape()[d];
    if !extent.is_multiple_of(2) {
        return x.builder().fail("glu", &[x.ty()], format!("dimension {dim} must have an even extent, got {extent}"));
    }
    x.slice_dim(d, 0, extent / 2) * x.slice_dim(d, extent / 2, extent).logistic()
}

/// ln(1 + eˣ) without overflow.
fn log1p_exp(x: Tensor<'_>) -> Tensor<'_> {
    x.relu() + log1p_exp_neg_abs(x)
}

/// Which positions of sequences of the given lengths `[N]` (integers) are padding: bool `[N, T]` of `length` positions.
#[track_caller]
pub fn padding_mask(lengths: Tensor<'_>, length: usize) -> Tensor<'_> {
    let shape = [lengths.dim(0), length];
    if lengths.rank() != 1 || !lengths.dtype().is_int() {
        return lengths.builder().fail("padding_mask", &[lengths.ty()], "needs lengths [N], whole numbers".into());
    }
    let position = lengths.builder().iota(backprop_core::Type::new(lengths.dtype(), shape), 1);
    position.greater_equal(lengths.broadcast_in_dim(shape, &[0]))
}
