use super::{Hyper, Optimizer, Slot, betas_below_one, decayed, not_negative, shrunk};
use crate::schedule::Rates;
use backprop_core::Tensor;
use std::sync::Arc;

options! {
    /// Adam that uses the mean square only once enough gradients are in it: Liu et al., "On the Variance of the Adaptive Learning
    /// Rate and Beyond".
    RAdam at 1e-3 with betas [0.9, 0.999] "Shares of the previous mean and mean square of the gradient that are kept." {
        /// Added to the root of the mean square.
        eps: f64 = 1e-8;
        /// Weight decay.
        weight_decay: f64 = 0.0;
        /// Whether weight decay shrinks the parameter instead of being added to the gradient.
        decoupled_weight_decay: bool = false;
    }
}

/// Factor on the adaptive step after `t` updates; `None` while the mean square is of too few gradients.
fn rectification(beta2: f64, t: f64) -> Option<f64> {
    let longest = 2.0 / (1.0 - beta2) - 1.0;
    let length = longest - 2.0 * t * beta2.powf(t) / (1.0 - beta2.powf(t));
    let ratio = (length - 4.0) * (length - 2.0) * longest / ((longest - 4.0) * (longest - 2.0) * length);
    (length > 5.0).then(|| ratio.sqrt())
}

impl Optimizer for RAdam {
    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn entries(&self, rates: Rates, updates: u64) -> Vec<(&'static str, f64)> {
        let [beta1, beta2] = [rates.momentum.unwrap_or(self.betas[0]), self.betas[1]];
        let t = (updates + 1) as f64;
        let size = rates.learning_rate / (1.0 - beta1.powf(t));
        // One of the two sizes is 0, so that one program serves both phases.
        let (adaptive, plain) = match rectification(beta2, t) {
            Some(factor) => (size * factor * (1.0 - beta2.powf(t)).sqrt(), 0.0),
            None => (0.0, size),
        };
        vec![
            ("adaptive_size", adaptive),
            ("plain_size", plain),
            ("beta1", beta1),
            ("one_minus_beta1", 1.0 - beta1),
            ("beta2", beta2),
            ("one_minus_beta2", 1.0 - beta2),
            ("eps", self.eps),
            ("weight_decay", self.weight_decay),
            ("shrink", 1.0 - rates.learning_rate * self.weight_decay),
        ]
    }

    fn slots(&self) -> Vec<Slot> {
        vec![Slot::zeros("m"), Slot::zeros("v")]
    }

    fn update<'g>(&self, h: &Hyper<'g>, p: Tensor<'g>, g: Tensor<'g>, slots: &[Tensor<'g>]) -> (Tensor<'g>, Vec<Tensor<'g>>) {
        let &[m, v] = slots else { return (p, slots.to_vec()) };
        let (p, g) = match self.decoupled_weight_decay {
            true => (shrunk(self.weight_decay, h, p), g),
            false => (p, decayed(self.weight_decay, h, p, g)),
        };
        let m = m * h.get("beta1", p) + g * h.get("one_minus_beta1", p);
        let v = v * h.get("beta2", p) + g * g * h.get("one_minus_beta2", p);
        let size = h.get("adaptive_size", p) / (v.sqrt() + h.get("eps", p)) + h.get("plain_size", p);
        (p - m * size, vec![m, v])
    }

    fn with_weight_decay(&self, weight_decay: f64) -> Option<Arc<dyn Optimizer>> {
        Some(Arc::new(RAdam { weight_decay, ..*self }))
    }

    fn validate(&self) -> Result<(), String> {
        not_negative("learning_rate", self.learning_rate)?;
        not_negative("weight_decay", self.weight_decay)?;
        if !self.eps.is_finite() || self.eps <= 0.0 {
            return Err(format!("eps must be a finite number above 0, got {}", self.eps));
        }
        betas_below_one(self.betas)
    }
}
