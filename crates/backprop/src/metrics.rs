//! Metrics: like losses they give a sum and the weight it stands for, formed inside the step.

use crate::loss::{Loss, Mse, Weighted, default_ignore_index};
use backprop_core::Tensor;
use serde::{Deserialize, Serialize};
use std::fmt::Debug;

/// What is reported beside the loss.
pub trait Metric: Debug + Send + Sync {
    /// Name in reports.
    fn name(&self) -> String;

    /// Traces the metric of a model's output against the targets. No gradient is taken of it.
    fn forward<'g>(&self, output: Tensor<'g>, target: Tensor<'g>) -> Weighted<'g>;
}

/// The library's metrics, told apart by `type` in TOML.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum MetricSpec {
    /// [`Accuracy`]
    Accuracy(Accuracy),
    /// [`MeanSquaredError`]
    Mse(MeanSquaredError),
}

impl MetricSpec {
    /// Names that can stand as `type` in TOML.
    pub const TYPES: &[&str] = &["accuracy", "mse"];

    fn get(&self) -> &dyn Metric {
        match self {
            MetricSpec::Accuracy(metric) => metric,
            MetricSpec::Mse(metric) => metric,
        }
    }
}

impl Metric for MetricSpec {
    fn name(&self) -> String {
        self.get().name()
    }
    fn forward<'g>(&self, output: Tensor<'g>, target: Tensor<'g>) -> Weighted<'g> {
        self.get().forward(output, target)
    }
}

/// Share of positions whose largest output is that of the target class: outputs `[.., classes]`, targets `[..]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Accuracy {
    /// Positions with this target do not count.
    #[serde(default = "default_ignore_index")]
    pub ignore_index: i32,
}

impl Default for Accuracy {
    fn default() -> Accuracy {
        Accuracy { ignore_index: default_ignore_index() }
    }
}

impl Metric for Accuracy {
    fn name(&self) -> String {
        "accuracy".into()
    }

    fn forward<'g>(&self, output: Tensor<'g>, target: Tensor<'g>) -> Weighted<'g> {
        let shape = output.shape();
        if shape.is_empty() || shape[..shape.len() - 1] != target.shape()[..] || !target.dtype().is_int() {
            let message = "needs outputs [.., classes] and one class index for each position [..]";
            let stand_in = output.builder().fail("accuracy", &[output.ty(), target.ty()], message.into());
            return Weighted { sum: stand_in, weight: stand_in };
        }
        let dims: Vec<usize> = (0..target.rank()).collect();
        let chosen = output.arg_max(shape.len() - 1).1.convert(target.dtype());
        let counted = target.not_equal(f64::from(self.ignore_index));
        let count = |which: Tensor<'g>| which.convert(output.dtype()).sum(&dims);
        Weighted { sum: count(chosen.equal(target) & counted), weight: count(counted) }
    }
}

/// Squared error per element.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MeanSquaredError {}

impl Metric for MeanSquaredError {
    fn name(&self) -> String {
        "mse".into()
    }

    fn forward<'g>(&self, output: Tensor<'g>, target: Tensor<'g>) -> Weighted<'g> {
        Mse {}.forward(output, target)
    }
}
