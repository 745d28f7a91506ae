use super::{Hyper, Optimizer, Slot, betas_below_one, decayed, not_negative};
use crate::schedule::Rates;
use backprop_core::Tensor;
use std::sync::Arc;

options! {
    /// Adam with the largest gradient in place of the mean square: Kingma and Ba, "Adam", section 7.1. Weight decay is added to the
    /// gradient.
    Adamax at 2e-3 with betas [0.9, 0.999] "Shares of the previous mean and of the previous largest gradient that are kept." {
        /// Added to the gradient's magnitude.
        eps: f64 = 1e-8;
        /// Weight decay.
        weight_decay: f64 = 0.0;
    }
}

impl Optimizer for Adamax {
    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn entries(&self, rates: Rates, updates: u64) -> Vec<(&'static str, f64)> {
        let beta1 = rates.momentum.unwrap_or(self.betas[0]);
        vec![
            ("step_size", rates.learning_rate / (1.0 - beta1.powf((updates + 1) as f64))),
            ("beta1", beta1),
            ("one_minus_beta1", 1.0 - beta1),
            ("beta2", self.betas[1]),
            ("eps", self.eps),
            ("weight_decay", self.weight_decay),
        ]
    }

    fn slots(&self) -> Vec<Slot> {
        vec![Slot::zeros("exp_avg"), Slot::zeros("exp_inf")]
    }

    fn update<'g>(&self, h: &Hyper<'g>, p: Tensor<'g>, g: Tensor<'g>, slots: &[Tensor<'g>]) -> (Tensor<'g>, Vec<Tensor<'g>>) {
        let &[mean, largest] = slots else { return (p, slots.to_vec()) };
        let g = decayed(self.weight_decay, h, p, g);
        let mean = mean * h.get("beta1", p) + g * h.get("one_minus_beta1", p);
        let largest = (largest * h.get("beta2", p)).maximum(g.abs() + h.get("eps", p));
        (p - mean / largest * h.get("step_size", p), vec![mean, largest])
    }

    fn with_weight_decay(&self, weight_decay: f64) -> Option<Arc<dyn Optimizer>> {
        Some(Arc::new(Adamax { weight_decay, ..*self }))
    }

    fn validate(&self) -> Result<(), String> {
        not_negative("learning_rate", self.learning_rate)?;
        not_negative("eps", self.eps)?;
        not_negative("weight_decay", self.weight_decay)?;
        betas_below_one(self.betas)
    }
}
