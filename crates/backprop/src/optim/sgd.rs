use super::{Hyper, Optimizer, Slot, not_negative};
use crate::schedule::Rates;
use backprop_core::Tensor;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// Stochastic gradient descent with (Nesterov's) momentum and weight decay, as PyTorch's `SGD`.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sgd {
    /// Learning rate.
    pub learning_rate: f64,
    /// Share of the previous direction that is kept.
    #[serde(default)]
    pub momentum: f64,
    /// Share of the gradient that does not enter the direction.
    #[serde(default)]
    pub dampening: f64,
    /// Whether the step looks ahead along the direction.
    #[serde(default)]
    pub nesterov: bool,
    /// Multiple of the parameter added to its gradient.
    #[serde(default)]
    pub weight_decay: f64,
}

impl Sgd {
    /// Without momentum and weight decay.
    pub fn new(learning_rate: f64) -> Sgd {
        Sgd { learning_rate, momentum: 0.0, dampening: 0.0, nesterov: false, weight_decay: 0.0 }
    }

    /// Share of the previous direction that is kept.
    pub fn momentum(mut self, momentum: f64) -> Sgd {
        self.momentum = momentum;
        self
    }

    /// Share of the gradient that does not enter the direction.
    pub fn dampening(mut self, dampening: f64) -> Sgd {
        self.dampening = dampening;
        self
    }

    /// Whether the step looks ahead along the direction.
    pub fn nesterov(mut self, nesterov: bool) -> Sgd {
        self.nesterov = nesterov;
        self
    }

    /// Multiple of the parameter added to its gradient.
    pub fn weight_decay(mut self, weight_decay: f64) -> Sgd {
        self.weight_decay = weight_decay;
        self
    }
}

impl Optimizer for Sgd {
    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn entries(&self, rates: Rates, updates: u64) -> Vec<(&'static str, f64)> {
        // PyTorch starts the direction with the whole gradient.
        let share = if updates == 0 { 1.0 } else { 1.0 - self.dampening };
        vec![
            ("learning_rate", rates.learning_rate),
            ("momentum", rates.momentum.unwrap_or(self.momentum)),
            ("gradient_share", share),
            ("weight_decay", self.weight_decay),
        ]
    }

    fn slots(&self) -> Vec<Slot> {
        if self.momentum == 0.0 { Vec::new() } else { vec![Slot::zeros("momentum")] }
    }

    fn update<'g>(&self, h: &Hyper<'g>, p: Tensor<'g>, g: Tensor<'g>, slots: &[Tensor<'g>]) -> (Tensor<'g>, Vec<Tensor<'g>>) {
        let g = if self.weight_decay == 0.0 { g } else { g + p * h.get("weight_decay", p) };
        let rate = h.get("learning_rate", p);
        let Some(&direction) = slots.first() else { return (p - g * rate, Vec::new()) };
        let momentum = h.get("momentum", p);
        let entering = if self.dampening == 0.0 { g } else { g * h.get("gradient_share", p) };
        let direction = direction * momentum + entering;
        let step = if self.nesterov { g + direction * momentum } else { direction };
        (p - step * rate, vec![direction])
    }

    fn with_weight_decay(&self, weight_decay: f64) -> Option<Arc<dyn Optimizer>> {
        Some(Arc::new(Sgd { weight_decay, ..*self }))
    }

    fn validate(&self) -> Result<(), String> {
        not_negative("learning_rate", self.learning_rate)?;
        not_negative("weight_decay", self.weight_decay)?;
        not_negative("momentum", self.momentum)?;
        not_negative("dampening", self.dampening)?;
        match self.nesterov && (self.momentum == 0.0 || self.dampening != 0.0) {
            true => Err("nesterov needs a positive momentum and no dampening".into()),
            false => Ok(()),
        }
    }
}
