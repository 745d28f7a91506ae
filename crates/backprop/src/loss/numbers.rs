//! Losses of numbers against numbers of the same shape; the weight is the number of elements.

use super::{Loss, Weighted, same_type};
use crate::nn::functional::log1p_exp_neg_abs;
use backprop_core::Tensor;
use serde::{Deserialize, Serialize};

/// Absolute error, |ŷ − y|. Its derivative at 0 is 0.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct L1 {}

/// Squared below `delta`, linear above: ½e² where |e| ≤ δ, else δ(|e| − ½δ). Huber, "Robust estimation of a location parameter".
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Huber {
    /// Where the parabola becomes a line.
    pub delta: f64,
}

/// As [`Huber`] divided by its knee: ½e²/β where |e| < β, else |e| − ½β.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SmoothL1 {
    /// Where the parabola becomes a line; 0 is [`L1`].
    pub beta: f64,
}

/// ln cosh(ŷ − y): squared near 0, linear far off, smooth everywhere.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LogCosh {}

/// Pinball loss, whose minimum is a quantile: q·e where the target is e above, (1 − q)·e where it is e below the output.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quantile {
    /// The share of targets that is to lie below the output, between 0 and 1.
    pub q: f64,
}

/// Negative log-likelihood of counts under a Poisson distribution, without the term that depends on the target alone: e^ŷ − y·ŷ for the
/// logarithm ŷ of the rate.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct PoissonNll {
    /// Whether the output is the logarithm of the rate; else it is the rate r, with the loss r − y·ln(r + eps).
    pub log_input: bool,
    /// Keeps the logarithm of a rate finite.
    pub eps: f64,
}

impl Default for Huber {
    fn default() -> Huber {
        Huber { delta: 1.0 }
    }
}

impl Default for SmoothL1 {
    fn default() -> SmoothL1 {
        SmoothL1 { beta: 1.0 }
    }
}

impl Default for PoissonNll {
    fn default() -> PoissonNll {
        PoissonNll { log_input: true, eps: 1e-8 }
    }
}

/// Sum over all elements of what a function makes of them.
#[track_caller]
fn elementwise<'g>(
    name: &str,
    output: Tensor<'g>,
    target: Tensor<'g>,
    f: impl Fn(Tensor<'g>, Tensor<'g>) -> Tensor<'g>,
) -> Weighted<'g> {
    match same_type(name, output, target) {
        Some(failed) => failed,
        None => Weighted { sum: f(output, target).sum_all(), weight: output.like(output.shape().elements() as f64) },
    }
}

/// The parabola near 0 and the lines beside it, whichever holds.
fn with_knee<'g>(error: Tensor<'g>, knee: f64, parabola: f64, slope: f64) -> Tensor<'g> {
    let size = error.abs();
    size.less(knee).select(error * error * parabola, (size - 0.5 * knee) * slope)
}

impl Loss for L1 {
    fn forward<'g>(&self, output: Tensor<'g>, target: Tensor<'g>) -> Weighted<'g> {
        elementwise("l1", output, target, |o, t| (o - t).abs())
    }
}

impl Loss for Huber {
    fn forward<'g>(&self, output: Tensor<'g>, target: Tensor<'g>) -> Weighted<'g> {
        elementwise("huber", output, target, |o, t| with_knee(o - t, self.delta, 0.5, self.delta))
    }

    fn validate(&self) -> Result<(), String> {
        match self.delta {
            d if d.is_finite() && d > 0.0 => Ok(()),
            d => Err(format!("delta must be a number above 0, got {d}")),
        }
    }
}

impl Loss for SmoothL1 {
    fn forward<'g>(&self, output: Tensor<'g>, target: Tensor<'g>) -> Weighted<'g> {
        if self.beta == 0.0 {
            return L1 {}.forward(output, target);
        }
        elementwise("smooth_l1", output, target, |o, t| with_knee(o - t, self.beta, 0.5 / self.beta, 1.0))
    }

    fn validate(&self) -> Result<(), String> {
        match self.beta {
            b if b.is_finite() && b >= 0.0 => Ok(()),
            b => Err(format!("beta must be a number of 0 or more, got {b}")),
        }
    }
}

impl Loss for LogCosh {
    /// |e| + ln(1 + e^−2|e|) − ln 2, which cannot overflow.
    fn forward<'g>(&self, output: Tensor<'g>, target: Tensor<'g>) -> Weighted<'g> {
        elementwise("log_cosh", output, target, |o, t| {
            let error = o - t;
            error.abs() + log1p_exp_neg_abs(error * 2.0) - std::f64::consts::LN_2
        })
    }
}

impl Loss for Quantile {
    fn forward<'g>(&self, output: Tensor<'g>, target: Tensor<'g>) -> Weighted<'g> {
        elementwise("quantile", output, target, |o, t| {
            let above = t - o;
            above.greater(0.0).select(above * self.q, above * (self.q - 1.0))
        })
    }

    fn validate(&self) -> Result<(), String> {
        match self.q {
            q if q > 0.0 && q < 1.0 => Ok(()),
            q => Err(format!("q must lie between 0 and 1, got {q}")),
        }
    }
}

impl Loss for PoissonNll {
    fn forward<'g>(&self, output: Tensor<'g>, target: Tensor<'g>) -> Weighted<'g> {
        elementwise(
            "poisson_nll",
            output,
            target,
            |o, t| {
                if self.log_input { o.exp() - t * o } else { o - t * (o + self.eps).log() }
            },
        )
    }

    fn prediction<'g>(&self, output: Tensor<'g>, _classes: bool) -> Tensor<'g> {
        if self.log_input { output.exp() } else { output }
    }

    fn allows_scaled_targets(&self) -> bool {
        false
    }

    fn validate(&self) -> Result<(), String> {
        if self.eps.is_finite() && self.eps > 0.0 { Ok(()) } else { Err(format!("eps must be above 0, got {}", self.eps)) }
    }
}
