use super::{Hyper, Optimizer, Slot, betas_below_one, decayed, not_negative, shrunk};
use crate::schedule::Rates;
use backprop_core::Tensor;
use std::sync::Arc;

options! {
    /// Adam that looks ahead along its direction: Dozat, "Incorporating Nesterov Momentum into Adam". Where a schedule changes β₁,
    /// the bias correction is that of the present β₁ throughout.
    NAdam at 2e-3 with betas [0.9, 0.999] "Shares of the previous mean and mean square of the gradient that are kept." {
        /// Added to the root of the mean square.
        eps: f64 = 1e-8;
        /// Weight decay.
        weight_decay: f64 = 0.0;
        /// How fast β₁ grows to its full value: at update t it is β₁ · (1 − 0.5 · 0.96^(t · this)).
        momentum_decay: f64 = 4e-3;
        /// Whether weight decay shrinks the parameter instead of being added to the gradient.
        decoupled_weight_decay: bool = false;
    }
}

impl NAdam {
    /// β₁ of update `t`, from 1.
    fn momentum(&self, beta1: f64, t: u64) -> f64 {
        beta1 * (1.0 - 0.5 * 0.96_f64.powf(t as f64 * self.momentum_decay))
    }

    /// The product of β₁ over updates 1 to `t`. It ends where the rest no longer shows in 1 − product.
    fn product(&self, beta1: f64, t: u64) -> f64 {
        let mut product = 1.0;
        for i in 1..=t {
            product *= self.momentum(beta1, i);
            if product < f64::EPSILON / 4.0 {
                break;
            }
        }
        product
    }
}

impl Optimizer for NAdam {
    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn entries(&self, rates: Rates, updates: u64) -> Vec<(&'static str, f64)> {
        let [beta1, beta2] = [rates.momentum.unwrap_or(self.betas[0]), self.betas[1]];
        let t = updates + 1;
        let (now, next, product) = (self.momentum(beta1, t), self.momentum(beta1, t + 1), self.product(beta1, t));
        vec![
            ("gradient_size", rates.learning_rate * (1.0 - now) / (1.0 - product)),
            ("mean_size", rates.learning_rate * next / (1.0 - product * next)),
            ("correction", 1.0 - beta2.powf(t as f64)),
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
        let scale = (v / h.get("correction", p)).sqrt() + h.get("eps", p);
        let next = p - g / scale * h.get("gradient_size", p) - m / scale * h.get("mean_size", p);
        (next, vec![m, v])
    }

    fn with_weight_decay(&self, weight_decay: f64) -> Option<Arc<dyn Optimizer>> {
        Some(Arc::new(NAdam { weight_decay, ..*self }))
    }

    fn validate(&self) -> Result<(), String> {
        not_negative("learning_rate", self.learning_rate)?;
        not_negative("eps", self.eps)?;
        not_negative("weight_decay", self.weight_decay)?;
        not_negative("momentum_decay", self.momentum_decay)?;
        betas_below_one(self.betas)
    }
}
