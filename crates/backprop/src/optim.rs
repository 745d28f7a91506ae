//! Optimizers: how a parameter follows from its gradient. Formulas are PyTorch's.
//!
//! Numbers that change during training are computed on the host in f64 for every step and enter as entries of one vector.

use crate::schedule::Rates;
use backprop_core::Tensor;
use serde::{Deserialize, Serialize};
use std::fmt::Debug;

/// The runtime numbers of one update, by name.
pub struct Hyper<'g> {
    pub(crate) entries: Vec<(&'static str, Tensor<'g>)>,
}

impl<'g> Hyper<'g> {
    /// A number the optimizer listed in [`Optimizer::entries`]. One it did not list is an error of the graph.
    #[track_caller]
    pub fn get(&self, name: &str, like: Tensor<'g>) -> Tensor<'g> {
        match self.entries.iter().find(|(entry, _)| *entry == name) {
            Some((_, value)) => *value,
            None => like.builder().fail("optimizer", &[], format!("the optimizer does not list the runtime number `{name}`")),
        }
    }
}

/// An update rule.
pub trait Optimizer: Debug + Send + Sync {
    /// The learning rate that schedules start from.
    fn learning_rate(&self) -> f64;

    /// Names and values of the runtime numbers for a step (from 0). The names are the same for every step.
    fn entries(&self, rates: Rates, step: u64) -> Vec<(&'static str, f64)>;

    /// Names of the tensors kept for every parameter, of its shape, 0 at first.
    fn slots(&self) -> Vec<&'static str>;

    /// Traces the update of one parameter: its next value, and those of its slots.
    fn update<'g>(
        &self,
        hyper: &Hyper<'g>,
        parameter: Tensor<'g>,
        gradient: Tensor<'g>,
        slots: &[Tensor<'g>],
    ) -> (Tensor<'g>, Vec<Tensor<'g>>);

    /// Checks the optimizer's numbers.
    ///
    /// # Errors
    /// A sentence saying which number is wrong.
    fn validate(&self) -> Result<(), String> {
        Ok(())
    }
}

/// The library's optimizers, told apart by `type` in TOML.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum OptimizerSpec {
    /// [`GradientDescent`]
    GradientDescent(GradientDescent),
    /// [`Sgd`]
    Sgd(Sgd),
    /// [`Adam`]
    Adam(Adam),
    /// [`AdamW`]
    #[serde(rename = "adamw")]
    AdamW(AdamW),
}

impl OptimizerSpec {
    /// Names that can stand as `type` in TOML.
    pub const TYPES: &[&str] = &["gradient_descent", "sgd", "adam", "adamw"];

    fn get(&self) -> &dyn Optimizer {
        match self {
            OptimizerSpec::GradientDescent(optimizer) => optimizer,
            OptimizerSpec::Sgd(optimizer) => optimizer,
            OptimizerSpec::Adam(optimizer) => optimizer,
            OptimizerSpec::AdamW(optimizer) => optimizer,
        }
    }
}

impl Optimizer for OptimizerSpec {
    fn learning_rate(&self) -> f64 {
        self.get().learning_rate()
    }
    fn entries(&self, rates: Rates, step: u64) -> Vec<(&'static str, f64)> {
        self.get().entries(rates, step)
    }
    fn slots(&self) -> Vec<&'static str> {
        self.get().slots()
    }
    fn update<'g>(&self, h: &Hyper<'g>, p: Tensor<'g>, g: Tensor<'g>, slots: &[Tensor<'g>]) -> (Tensor<'g>, Vec<Tensor<'g>>) {
        self.get().update(h, p, g, slots)
    }
    fn validate(&self) -> Result<(), String> {
        self.get().validate()
    }
}

fn not_negative(name: &str, value: f64) -> Result<(), String> {
    if value.is_finite() && value >= 0.0 {
        Ok(())
    } else {
        Err(format!("{name} must be a finite number of at least 0, got {value}"))
    }
}

fn below_one(name: &str, value: f64) -> Result<(), String> {
    if (0.0..1.0).contains(&value) { Ok(()) } else { Err(format!("{name} must be at least 0 and below 1, got {value}")) }
}

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
    fn slots(&self) -> Vec<&'static str> {
        Vec::new()
    }
    fn update<'g>(&self, h: &Hyper<'g>, p: Tensor<'g>, g: Tensor<'g>, _: &[Tensor<'g>]) -> (Tensor<'g>, Vec<Tensor<'g>>) {
        (p - g * h.get("learning_rate", p), Vec::new())
    }
    fn validate(&self) -> Result<(), String> {
        not_negative("learning_rate", self.learning_rate)
    }
}

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

    fn entries(&self, rates: Rates, step: u64) -> Vec<(&'static str, f64)> {
        // PyTorch starts the direction with the whole gradient.
        let share = if step == 0 { 1.0 } else { 1.0 - self.dampening };
        vec![
            ("learning_rate", rates.learning_rate),
            ("momentum", rates.momentum.unwrap_or(self.momentum)),
            ("gradient_share", share),
            ("weight_decay", self.weight_decay),
        ]
    }

    fn slots(&self) -> Vec<&'static str> {
        if self.momentum == 0.0 { Vec::new() } else { vec!["momentum"] }
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

macro_rules! adaptive {
    ($($(#[$doc:meta])* $optimizer:ident, $decay:expr, $update:path;)*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct $optimizer {
            /// Learning rate.
            pub learning_rate: f64,
            /// Shares of the previous mean and mean square of the gradient that are kept.
            pub betas: [f64; 2],
            /// Added to the root of the mean square.
            pub eps: f64,
            /// Weight decay.
            pub weight_decay: f64,
        }

        impl Default for $optimizer {
            fn default() -> $optimizer {
                $optimizer { learning_rate: 1e-3, betas: [0.9, 0.999], eps: 1e-8, weight_decay: $decay }
            }
        }

        impl $optimizer {
            /// PyTorch's defaults at a learning rate.
            pub fn new(learning_rate: f64) -> $optimizer {
                $optimizer { learning_rate, ..$optimizer::default() }
            }

            /// Shares of the previous mean and mean square of the gradient that are kept.
            pub fn betas(mut self, beta1: f64, beta2: f64) -> $optimizer {
                self.betas = [beta1, beta2];
                self
            }

            /// Added to the root of the mean square.
            pub fn eps(mut self, eps: f64) -> $optimizer {
                self.eps = eps;
                self
            }

            /// Weight decay.
            pub fn weight_decay(mut self, weight_decay: f64) -> $optimizer {
                self.weight_decay = weight_decay;
                self
            }
        }

        impl Optimizer for $optimizer {
            fn learning_rate(&self) -> f64 {
                self.learning_rate
            }
            fn entries(&self, rates: Rates, step: u64) -> Vec<(&'static str, f64)> {
                adam_entries(rates, self.betas, self.eps, self.weight_decay, step)
            }
            fn slots(&self) -> Vec<&'static str> {
                vec!["m", "v"]
            }
            fn update<'g>(
                &self,
                h: &Hyper<'g>,
                p: Tensor<'g>,
                g: Tensor<'g>,
                slots: &[Tensor<'g>],
            ) -> (Tensor<'g>, Vec<Tensor<'g>>) {
                $update(self.weight_decay != 0.0, h, p, g, slots)
            }
            fn validate(&self) -> Result<(), String> {
                not_negative("learning_rate", self.learning_rate)?;
                not_negative("eps", self.eps)?;
                not_negative("weight_decay", self.weight_decay)?;
                below_one("betas[0]", self.betas[0])?;
                below_one("betas[1]", self.betas[1])
            }
        }
    )* };
}

adaptive! {
    /// Kingma and Ba, "Adam"; weight decay is added to the gradient.
    Adam, 0.0, adam_update;
    /// Loshchilov and Hutter, "Decoupled Weight Decay Regularization"; weight decay shrinks the parameter.
    AdamW, 0.01, adamw_update;
}

/// Differences from 1 and bias corrections are formed here in f64: in f32, 1 − 0.999 is off by 5e-5.
fn adam_entries(rates: Rates, betas: [f64; 2], eps: f64, weight_decay: f64, step: u64) -> Vec<(&'static str, f64)> {
    let [beta1, beta2] = [rates.momentum.unwrap_or(betas[0]), betas[1]];
    let t = (step + 1) as f64;
    vec![
        ("step_size", rates.learning_rate / (1.0 - beta1.powf(t))),
        ("root_correction", (1.0 - beta2.powf(t)).sqrt()),
        ("beta1", beta1),
        ("one_minus_beta1", 1.0 - beta1),
        ("beta2", beta2),
        ("one_minus_beta2", 1.0 - beta2),
        ("eps", eps),
        ("weight_decay", weight_decay),
        ("shrink", 1.0 - rates.learning_rate * weight_decay),
    ]
}

fn adam_update<'g>(
    decays: bool,
    h: &Hyper<'g>,
    p: Tensor<'g>,
    g: Tensor<'g>,
    slots: &[Tensor<'g>],
) -> (Tensor<'g>, Vec<Tensor<'g>>) {
    let g = if decays { g + p * h.get("weight_decay", p) } else { g };
    adam_step(h, p, g, slots)
}

fn adamw_update<'g>(
    decays: bool,
    h: &Hyper<'g>,
    p: Tensor<'g>,
    g: Tensor<'g>,
    slots: &[Tensor<'g>],
) -> (Tensor<'g>, Vec<Tensor<'g>>) {
    adam_step(h, if decays { p * h.get("shrink", p) } else { p }, g, slots)
}

fn adam_step<'g>(h: &Hyper<'g>, p: Tensor<'g>, g: Tensor<'g>, slots: &[Tensor<'g>]) -> (Tensor<'g>, Vec<Tensor<'g>>) {
    let &[m, v] = slots else { return (p, slots.to_vec()) };
    let m = m * h.get("beta1", p) + g * h.get("one_minus_beta1", p);
    let v = v * h.get("beta2", p) + g * g * h.get("one_minus_beta2", p);
    let scale = v.sqrt() / h.get("root_correction", p) + h.get("eps", p);
    (p - m / scale * h.get("step_size", p), vec![m, v])
}
