//! Metrics of class logits.

use super::Metric;
use crate::loss::default_ignore_index;
use backprop_core::Tensor;
use serde::{Deserialize, Serialize};

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

    fn higher_is_better(&self) -> bool {
        true
    }

    fn forward<'g>(&self, output: Tensor<'g>, target: Tensor<'g>) -> Vec<Tensor<'g>> {
        if let Some(failed) = class_complaint("accuracy", output, target) {
            return vec![failed];
        }
        let shape = output.shape();
        let dims: Vec<usize> = (0..target.rank()).collect();
        let chosen = output.arg_max(shape.len() - 1).1.convert(target.dtype());
        let counted = target.not_equal(f64::from(self.ignore_index));
        let count = |which: Tensor<'g>| which.convert(output.dtype()).sum(&dims);
        vec![count(chosen.equal(target) & counted), count(counted)]
    }

    fn value(&self, sums: &[f64]) -> f64 {
        ratio(sums)
    }
}

/// An error of the graph if these are not outputs `[.., classes]` and a class for each position.
#[track_caller]
pub(super) fn class_complaint<'g>(metric: &str, output: Tensor<'g>, target: Tensor<'g>) -> Option<Tensor<'g>> {
    let shape = output.shape();
    if !shape.is_empty() && shape[..shape.len() - 1] == target.shape()[..] && target.dtype().is_int() {
        return None;
    }
    let message = "needs outputs [.., classes] and one class index for each position [..]";
    Some(output.builder().fail(metric, &[output.ty(), target.ty()], message.into()))
}

/// The first sum divided by the second; NaN if nothing was added.
pub(super) fn ratio(sums: &[f64]) -> f64 {
    match sums {
        [sum, weight] => sum / weight,
        _ => f64::NAN,
    }
}
