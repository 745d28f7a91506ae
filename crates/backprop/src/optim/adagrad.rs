use super::{Hyper, Optimizer, Slot, decayed, not_negative};
use crate::schedule::Rates;
use backprop_core::Tensor;
use std::sync::Arc;

options! {
    /// The gradient divided by the root of the sum of its squares: Duchi, Hazan and Singer, "Adaptive Subgradient Methods". Weight
    /// decay is added to the gradient.
    Adagrad at 1e-2 {
        /// After t updates the rate is divided by 1 + t · this.
        lr_decay: f64 = 0.0;
        /// Weight decay.
        weight_decay: f64 = 0.0;
        /// First value of the sum of squares.
        initial_accumulator_value: f64 = 0.0;
        /// Added to the root of the sum.
        eps: f64 = 1e-10;
    }
}

impl Optimizer for Adagrad {
    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn entries(&self, rates: Rates, updates: u64) -> Vec<(&'static str, f64)> {
        vec![
            ("step_size", rates.learning_rate / (1.0 + updates as f64 * self.lr_decay)),
            ("eps", self.eps),
            ("weight_decay", self.weight_decay),
        ]
    }

    fn slots(&self) -> Vec<Slot> {
        vec![Slot { name: "sum", init: self.initial_accumulator_value }]
    }

    fn update<'g>(&self, h: &Hyper<'g>, p: Tensor<'g>, g: Tensor<'g>, slots: &[Tensor<'g>]) -> (Tensor<'g>, Vec<Tensor<'g>>) {
        let &[sum] = slots else { return (p, slots.to_vec()) };
        let g = decayed(self.weight_decay, h, p, g);
        let sum = sum + g * g;
        (p - g / (sum.sqrt() + h.get("eps", p)) * h.get("step_size", p), vec![sum])
    }

    fn with_weight_decay(&self, weight_decay: f64) -> Option<Arc<dyn Optimizer>> {
        Some(Arc::new(Adagrad { weight_decay, ..*self }))
    }

    fn validate(&self) -> Result<(), String> {
        not_negative("learning_rate", self.learning_rate)?;
        not_negative("lr_decay", self.lr_decay)?;
        not_negative("weight_decay", self.weight_decay)?;
        not_negative("initial_accumulator_value", self.initial_accumulator_value)?;
        not_negative("eps", self.eps)
    }
}
