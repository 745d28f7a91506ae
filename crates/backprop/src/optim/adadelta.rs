use super::{Hyper, Optimizer, Slot, below_one, decayed, not_negative};
use crate::schedule::Rates;
use backprop_core::Tensor;
use std::sync::Arc;

options! {
    /// Steps in the parameter's unit, from the mean squares of gradients and of earlier steps: Zeiler, "ADADELTA". Weight decay is
    /// added to the gradient.
    Adadelta at 1.0 {
        /// Share of the previous mean squares that is kept.
        rho: f64 = 0.9;
        /// Added to both mean squares before their roots.
        eps: f64 = 1e-6;
        /// Weight decay.
        weight_decay: f64 = 0.0;
    }
}

impl Optimizer for Adadelta {
    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn entries(&self, rates: Rates, _: u64) -> Vec<(&'static str, f64)> {
        vec![
            ("learning_rate", rates.learning_rate),
            ("rho", self.rho),
            ("one_minus_rho", 1.0 - self.rho),
            ("eps", self.eps),
            ("weight_decay", self.weight_decay),
        ]
    }

    fn slots(&self) -> Vec<Slot> {
        vec![Slot::zeros("square_avg"), Slot::zeros("acc_delta")]
    }

    fn update<'g>(&self, h: &Hyper<'g>, p: Tensor<'g>, g: Tensor<'g>, slots: &[Tensor<'g>]) -> (Tensor<'g>, Vec<Tensor<'g>>) {
        let &[square, steps] = slots else { return (p, slots.to_vec()) };
        let g = decayed(self.weight_decay, h, p, g);
        let (kept, entering, eps) = (h.get("rho", p), h.get("one_minus_rho", p), h.get("eps", p));
        let square = square * kept + g * g * entering;
        let step = (steps + eps).sqrt() / (square + eps).sqrt() * g;
        let steps = steps * kept + step * step * entering;
        (p - step * h.get("learning_rate", p), vec![square, steps])
    }

    fn with_weight_decay(&self, weight_decay: f64) -> Option<Arc<dyn Optimizer>> {
        Some(Arc::new(Adadelta { weight_decay, ..*self }))
    }

    fn validate(&self) -> Result<(), String> {
        not_negative("learning_rate", self.learning_rate)?;
        not_negative("eps", self.eps)?;
        not_negative("weight_decay", self.weight_decay)?;
        below_one("rho", self.rho)
    }
}
