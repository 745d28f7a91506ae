use super::{Hyper, Optimizer, Slot, below_one, decayed, not_negative};
use crate::schedule::Rates;
use backprop_core::Tensor;
use std::sync::Arc;

options! {
    /// The gradient divided by the root of its mean square: Tieleman and Hinton, "Lecture 6.5"; centred: Graves, "Generating
    /// Sequences With Recurrent Neural Networks". Weight decay is added to the gradient.
    RmsProp at 1e-2 {
        /// Share of the previous mean square that is kept.
        alpha: f64 = 0.99;
        /// Added to the root of the mean square.
        eps: f64 = 1e-8;
        /// Weight decay.
        weight_decay: f64 = 0.0;
        /// Share of the previous direction that is kept.
        momentum: f64 = 0.0;
        /// Whether the gradient is divided by its standard deviation instead.
        centered: bool = false;
    }
}

impl Optimizer for RmsProp {
    fn learning_rate(&self) -> f64 {
        self.learning_rate
    }

    fn entries(&self, rates: Rates, _: u64) -> Vec<(&'static str, f64)> {
        vec![
            ("learning_rate", rates.learning_rate),
            ("alpha", self.alpha),
            ("one_minus_alpha", 1.0 - self.alpha),
            ("eps", self.eps),
            ("weight_decay", self.weight_decay),
            ("momentum", rates.momentum.unwrap_or(self.momentum)),
        ]
    }

    fn slots(&self) -> Vec<Slot> {
        let mut slots = vec![Slot::zeros("square_avg")];
        slots.extend(self.centered.then(|| Slot::zeros("grad_avg")));
        slots.extend((self.momentum != 0.0).then(|| Slot::zeros("momentum_buffer")));
        slots
    }

    fn update<'g>(&self, h: &Hyper<'g>, p: Tensor<'g>, g: Tensor<'g>, slots: &[Tensor<'g>]) -> (Tensor<'g>, Vec<Tensor<'g>>) {
        let Some((&square, mut rest)) = slots.split_first() else { return (p, Vec::new()) };
        let g = decayed(self.weight_decay, h, p, g);
        let (kept, entering) = (h.get("alpha", p), h.get("one_minus_alpha", p));
        let square = square * kept + g * g * entering;
        let (mut next, mut variance) = (vec![square], square);
        if let (true, Some((&mean, others))) = (self.centered, rest.split_first()) {
            let mean = mean * kept + g * entering;
            // Rounding can make the difference negative; PyTorch's root is then NaN.
            variance = (square - mean * mean).maximum(0.0);
            next.push(mean);
            rest = others;
        }
        let mut step = g / (variance.sqrt() + h.get("eps", p));
        if let Some(&before) = rest.first() {
            step = before * h.get("momentum", p) + step;
            next.push(step);
        }
        (p - step * h.get("learning_rate", p), next)
    }

    fn with_weight_decay(&self, weight_decay: f64) -> Option<Arc<dyn Optimizer>> {
        Some(Arc::new(RmsProp { weight_decay, ..*self }))
    }

    fn validate(&self) -> Result<(), String> {
        not_negative("learning_rate", self.learning_rate)?;
        not_negative("eps", self.eps)?;
        not_negative("weight_decay", self.weight_decay)?;
        not_negative("momentum", self.momentum)?;
        below_one("alpha", self.alpha)
    }
}
