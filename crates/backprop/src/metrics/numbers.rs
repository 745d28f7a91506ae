//! Metrics of numbers.

use super::{Metric, classes::ratio};
use crate::loss::{Loss, Mse};
use backprop_core::Tensor;
use serde::{Deserialize, Serialize};

/// Squared error per element.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MeanSquaredError {}

impl Metric for MeanSquaredError {
    fn name(&self) -> String {
        "mse".into()
    }

    fn higher_is_better(&self) -> bool {
        false
    }

    fn forward<'g>(&self, output: Tensor<'g>, target: Tensor<'g>) -> Vec<Tensor<'g>> {
        let squared = Mse {}.forward(output, target);
        vec![squared.sum, squared.weight]
    }

    fn value(&self, sums: &[f64]) -> f64 {
        ratio(sums)
    }
}
