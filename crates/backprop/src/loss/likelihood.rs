//! Losses of log-probabilities, and a cross-entropy that looks at what is hard.

use super::{Loss, Weighted, default_ignore_index, same_type};
use crate::nn::functional::{log_softmax, spread};
use backprop_core::{HostTensor, Shape, Tensor, Type};
use serde::{Deserialize, Serialize};

/// Negative log-likelihood: minus the log-probability `[.., classes]` (a `log_softmax` layer's) of the target class `[..]`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Nll {
    /// Positions with this target count neither in the sum nor in the weight.
    pub ignore_index: i32,
    /// Weight of each class; all 1 unless given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<Vec<f64>>,
}

/// Cross-entropy of logits that counts positions the less the surer they are right: −α(1 − p)^γ ln p for the probability p of the target
/// class. Lin et al., "Focal loss for dense object detection".
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Focal {
    /// How much less: 0, which is the cross-entropy, or 1 or more.
    pub gamma: f64,
    /// Factor on everything.
    pub alpha: f64,
    /// Positions with this target count neither in the sum nor in the weight.
    pub ignore_index: i32,
}

/// Kullback-Leibler divergence Σ q (ln q − ŷ) of log-probabilities ŷ from target probabilities q, both `[N, …]`; the weight is the
/// number of rows N, as PyTorch's `batchmean`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct KlDiv {
    /// Whether targets are logarithms of probabilities.
    pub log_target: bool,
}

impl Default for Nll {
    fn default() -> Nll {
        Nll { ignore_index: default_ignore_index(), weight: None }
    }
}

impl Default for Focal {
    fn default() -> Focal {
        Focal { gamma: 2.0, alpha: 1.0, ignore_index: default_ignore_index() }
    }
}

/// Score of the target class of each position, `[positions]`, and its weight: 0 where ignored, NaN for what is no class.
#[track_caller]
fn of_target<'g>(
    name: &str,
    output: Tensor<'g>,
    target: Tensor<'g>,
    ignore_index: i32,
    weights: Option<&[f64]>,
    score: impl Fn(Tensor<'g>) -> Tensor<'g>,
) -> Result<[Tensor<'g>; 2], Weighted<'g>> {
    let (b, shape) = (output.builder(), output.shape());
    let fits = output.dtype().is_float() && !shape.is_empty() && shape[..shape.len() - 1] == target.shape()[..];
    let classes = shape.last().copied().unwrap_or(0);
    let message = match weights {
        _ if !fits || !target.dtype().is_int() => "needs outputs [.., classes] and one class index for each position [..]".into(),
        Some(w) if w.len() != classes => format!("{} class weights for {classes} classes", w.len()),
        _ => String::new(),
    };
    if !message.is_empty() {
        let stand_in = b.fail(name, &[output.ty(), target.ty()], message);
        return Err(Weighted { sum: stand_in, weight: stand_in });
    }
    let positions = target.shape().elements();
    let (scores, target) = (score(output.reshape([positions, classes])), target.reshape([positions]));
    let all = Shape::from([positions, classes]);
    let here = b.iota(Type::new(target.dtype(), &all), 1).equal(spread(target, &all, &[1]));
    let of_class = |x: Tensor<'g>| here.select(x, b.zeros(x.ty())).sum(&[1]);
    let constant = weights.and_then(|w| HostTensor::from_f64(output.dtype(), [classes], w).ok());
    let own = match constant {
        Some(weights) => of_class(b.constant(weights).broadcast_to(&all)),
        None => b.full(Type::new(output.dtype(), [positions]), 1.0),
    };
    let known = target.greater_equal(0.0) & target.less(classes as f64);
    let weight = target.not_equal(f64::from(ignore_index)).select(known.select(own, own * 0.0 + f64::NAN), own * 0.0);
    Ok([of_class(scores), weight])
}

/// Sum of weighted terms; where the weight is 0 nothing counts.
fn weigh<'g>(terms: Tensor<'g>, weight: Tensor<'g>) -> Weighted<'g> {
    let counted = weight.equal(0.0).select(terms.builder().zeros(terms.ty()), terms * weight);
    Weighted { sum: counted.sum_all(), weight: weight.sum_all() }
}

impl Loss for Nll {
    fn forward<'g>(&self, output: Tensor<'g>, target: Tensor<'g>) -> Weighted<'g> {
        match of_target("nll", output, target, self.ignore_index, self.weight.as_deref(), |x| x) {
            Ok([score, weight]) => weigh(-score, weight),
            Err(failed) => failed,
        }
    }

    fn validate(&self) -> Result<(), String> {
        super::check_class_weights(self.weight.as_deref())
    }
}

impl Loss for Focal {
    fn forward<'g>(&self, output: Tensor<'g>, target: Tensor<'g>) -> Weighted<'g> {
        match of_target("focal", output, target, self.ignore_index, None, |x| log_softmax(x, -1)) {
            Ok([score, weight]) if self.gamma == 0.0 => weigh(-score * self.alpha, weight),
            Ok([score, weight]) => {
                let gamma = score.like(self.gamma);
                let hard = (1.0 - score.exp()).maximum(0.0).pow(gamma.broadcast_to(score.shape()));
                weigh(-(hard * score) * self.alpha, weight)
            }
            Err(failed) => failed,
        }
    }

    fn validate(&self) -> Result<(), String> {
        if self.gamma > 0.0 && self.gamma < 1.0 {
            return Err(format!("gamma must be 0, or 1 or more, got {}: between them the gradient has no bound", self.gamma));
        }
        match [("gamma", self.gamma), ("alpha", self.alpha)].iter().find(|(_, v)| !v.is_finite() || *v < 0.0) {
            Some((name, v)) => Err(format!("{name} must be a number of 0 or more, got {v}")),
            None => Ok(()),
        }
    }
}

impl Loss for KlDiv {
    fn forward<'g>(&self, output: Tensor<'g>, target: Tensor<'g>) -> Weighted<'g> {
        if let Some(failed) = same_type("kl_div", output, target) {
            return failed;
        }
        let terms = if self.log_target {
            target.exp() * (target - output)
        } else {
            // q ln q is 0 at 0.
            let entropy = target.equal(0.0).select(target * 0.0, target * target.maximum(f64::from(f32::MIN_POSITIVE)).log());
            entropy - target * output
        };
        Weighted { sum: terms.sum_all(), weight: output.like(output.dim(0) as f64) }
    }

    fn prediction<'g>(&self, output: Tensor<'g>, _classes: bool) -> Tensor<'g> {
        if self.log_target { output } else { output.exp() }
    }

    fn allows_scaled_targets(&self) -> bool {
        false
    }
}
