use super::{Hyper, Optimizer, Slot, not_negative};
use crate::schedule::Rates;
use backprop_core::Tensor;
use serde::{Deserialize, Serialize};

/// p − rate·gradient: meant for the whole training set as one batch.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GradientDescent {
    /// Learning rate.
    pub learning_rate: f64,
}

impl GradientDescent {
    /// With a learning rate.
    pub fn new(learning_rate: f64) -> GradientDescent {
        GradientDescent { learning_rate }
    }
}

impl Optimizer for GradientDescent {
    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }
    fn entries(&self, rates: Rates, _: u64) -> Vec<(&'static str, f64)> {
        vec![("learning_rate", rates.learning_rate)]
    }
    fn slots(&self) -> Vec<Slot> {
        Vec::new()
    }
    fn update<'g>(&self, h: &Hyper<'g>, p: Tensor<'g>, g: Tensor<'g>, _: &[Tensor<'g>]) -> (Tensor<'g>, Vec<Tensor<'g>>) {
        (p - g * h.get("learning_rate", p), Vec::new())
    }
    fn validate(&self) -> Result<(), String> {
        not_negative("learning_rate", self.learning_rate)
    }
}
