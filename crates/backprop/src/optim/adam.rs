use super::{Hyper, Optimizer, Slot, betas_below_one, decayed, not_negative, shrunk};
use crate::schedule::Rates;
use backprop_core::Tensor;
use std::sync::Arc;

macro_rules! adam {
    ($($(#[$doc:meta])* $optimizer:ident, $decay:expr, $decoupled:expr;)*) => { $(
        options! {
            $(#[$doc])*
            $optimizer at 1e-3 with betas [0.9, 0.999] "Shares of the previous mean and mean square of the gradient that are kept." {
                /// Added to the root of the mean square.
                eps: f64 = 1e-8;
                /// Weight decay.
                weight_decay: f64 = $decay;
                /// Whether the largest mean square so far stands in place of the present one: Reddi, Kale and Kumar, "On the
                /// Convergence of Adam and Beyond".
                amsgrad: bool = false;
            }
        }

        impl Optimizer for $optimizer {
            fn learning_rate(&self) -> f64 {
                self.learning_rate
            }
            fn entries(&self, rates: Rates, updates: u64) -> Vec<(&'static str, f64)> {
                entries(rates, self.betas, self.eps, self.weight_decay, updates)
            }
            fn slots(&self) -> Vec<Slot> {
                let names: &[&'static str] = if self.amsgrad { &["m", "v", "v_max"] } else { &["m", "v"] };
                names.iter().map(|name| Slot::zeros(name)).collect()
            }
            fn update<'g>(
                &self,
                h: &Hyper<'g>,
                p: Tensor<'g>,
                g: Tensor<'g>,
                slots: &[Tensor<'g>],
            ) -> (Tensor<'g>, Vec<Tensor<'g>>) {
                match $decoupled {
                    true => step(h, shrunk(self.weight_decay, h, p), g, slots),
                    false => step(h, p, decayed(self.weight_decay, h, p, g), slots),
                }
            }
            fn with_weight_decay(&self, weight_decay: f64) -> Option<Arc<dyn Optimizer>> {
                Some(Arc::new($optimizer { weight_decay, ..*self }))
            }
            fn validate(&self) -> Result<(), String> {
                not_negative("learning_rate", self.learning_rate)?;
                not_negative("eps", self.eps)?;
                not_negative("weight_decay", self.weight_decay)?;
                betas_below_one(self.betas)
            }
        }
    )* };
}

adam! {
    /// Kingma and Ba, "Adam"; weight decay is added to the gradient.
    Adam, 0.0, false;
    /// Loshchilov and Hutter, "Decoupled Weight Decay Regularization"; weight decay shrinks the parameter.
    AdamW, 0.01, true;
}

/// Differences from 1 and bias corrections are formed here in f64: in f32, 1 − 0.999 is off by 5e-5. The root's is a factor, for divisions are
/// what an update of parameters in the cache takes longest for.
fn entries(rates: Rates, betas: [f64; 2], eps: f64, weight_decay: f64, updates: u64) -> Vec<(&'static str, f64)> {
    let [beta1, beta2] = [rates.momentum.unwrap_or(betas[0]), betas[1]];
    let t = (updates + 1) as f64;
    vec![
        ("step_size", rates.learning_rate / (1.0 - beta1.powf(t))),
        ("root_scale", 1.0 / (1.0 - beta2.powf(t)).sqrt()),
        ("beta1", beta1),
        ("one_minus_beta1", 1.0 - beta1),
        ("beta2", beta2),
        ("one_minus_beta2", 1.0 - beta2),
        ("eps", eps),
        ("weight_decay", weight_decay),
        ("shrink", 1.0 - rates.learning_rate * weight_decay),
    ]
}

fn step<'g>(h: &Hyper<'g>, p: Tensor<'g>, g: Tensor<'g>, slots: &[Tensor<'g>]) -> (Tensor<'g>, Vec<Tensor<'g>>) {
    let &[m, v, ref largest @ ..] = slots else { return (p, slots.to_vec()) };
    let m = m * h.get("beta1", p) + g * h.get("one_minus_beta1", p);
    let v = v * h.get("beta2", p) + g * g * h.get("one_minus_beta2", p);
    let largest: Vec<Tensor<'g>> = largest.iter().map(|&before| before.maximum(v)).collect();
    let square = largest.first().copied().unwrap_or(v);
    let scale = square.sqrt() * h.get("root_scale", p) + h.get("eps", p);
    (p - m / scale * h.get("step_size", p), [vec![m, v], largest].concat())
}
