use super::{Hyper, Optimizer, Slot, betas_below_one, not_negative};
use crate::schedule::Rates;
use backprop_core::Tensor;
use std::sync::Arc;

options! {
    /// Steps of one size, by the sign of the direction: Chen et al., "Symbolic Discovery of Optimization Algorithms" (arXiv
    /// 2302.06675), Algorithm 2. Weight decay shrinks the parameter. A rate 3 to 10 times smaller than AdamW's, and a weight decay as
    /// many times larger, suit it.
    Lion at 1e-4 with betas [0.9, 0.99] "Share of the mean gradient in the direction, and share of the previous mean that is kept." {
        /// Weight decay.
        weight_decay: f64 = 0.0;
    }
}

impl Optimizer for Lion {
    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn entries(&self, rates: Rates, _: u64) -> Vec<(&'static str, f64)> {
        let [beta1, beta2] = [rates.momentum.unwrap_or(self.betas[0]), self.betas[1]];
        vec![
            ("learning_rate", rates.learning_rate),
            ("beta1", beta1),
            ("one_minus_beta1", 1.0 - beta1),
            ("beta2", beta2),
            ("one_minus_beta2", 1.0 - beta2),
            ("weight_decay", self.weight_decay),
        ]
    }

    fn slots(&self) -> Vec<Slot> {
        vec![Slot::zeros("m")]
    }

    fn update<'g>(&self, h: &Hyper<'g>, p: Tensor<'g>, g: Tensor<'g>, slots: &[Tensor<'g>]) -> (Tensor<'g>, Vec<Tensor<'g>>) {
        let &[m] = slots else { return (p, slots.to_vec()) };
        let direction = (m * h.get("beta1", p) + g * h.get("one_minus_beta1", p)).sign();
        let step = if self.weight_decay == 0.0 { direction } else { direction + p * h.get("weight_decay", p) };
        let m = m * h.get("beta2", p) + g * h.get("one_minus_beta2", p);
        (p - step * h.get("learning_rate", p), vec![m])
    }

    fn with_weight_decay(&self, weight_decay: f64) -> Option<Arc<dyn Optimizer>> {
        Some(Arc::new(Lion { weight_decay, ..*self }))
    }

    fn validate(&self) -> Result<(), String> {
        not_negative("learning_rate", self.learning_rate)?;
        not_negative("weight_decay", self.weight_decay)?;
        betas_below_one(self.betas)
    }
}
