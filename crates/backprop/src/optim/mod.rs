//! Optimizers: how a parameter follows from its gradient. Formulas and defaults are PyTorch's; each file names the paper.
//!
//! Numbers that change during training are computed on the host in f64 for every step and enter as entries of one vector.

#[macro_use]
mod options;
mod adadelta;
mod adagrad;
mod adam;
mod adamax;
mod gradient_descent;
mod lion;
mod nadam;
mod radam;
mod rmsprop;
mod sgd;
mod spec;

pub use adadelta::Adadelta;
pub use adagrad::Adagrad;
pub use adam::{Adam, AdamW};
pub use adamax::Adamax;
pub use gradient_descent::GradientDescent;
pub use lion::Lion;
pub use nadam::NAdam;
pub use radam::RAdam;
pub use rmsprop::RmsProp;
pub use sgd::Sgd;
pub use spec::OptimizerSpec;

use crate::schedule::Rates;
use backprop_core::Tensor;
use std::{fmt::Debug, sync::Arc};

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

/// A tensor that an optimizer keeps for every parameter, of its shape.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Slot {
    /// Name: the state of parameter `P` is `optimizer/NAME/P`.
    pub name: &'static str,
    /// Every element's first value.
    pub init: f64,
}

impl Slot {
    /// Zeros at first.
    pub const fn zeros(name: &'static str) -> Slot {
        Slot { name, init: 0.0 }
    }
}

/// An update rule.
pub trait Optimizer: Debug + Send + Sync {
    /// The learning rate that schedules start from.
    fn learning_rate(&self) -> f64;

    /// Names and values of the runtime numbers for an update, of which `updates` were made before. Steps that were not finite
    /// made none and do not count. The names are the same for every update.
    fn entries(&self, rates: Rates, updates: u64) -> Vec<(&'static str, f64)>;

    /// The tensors kept for every parameter.
    fn slots(&self) -> Vec<Slot>;

    /// Traces the update of one parameter: its next value, and those of its slots.
    fn update<'g>(
        &self,
        hyper: &Hyper<'g>,
        parameter: Tensor<'g>,
        gradient: Tensor<'g>,
        slots: &[Tensor<'g>],
    ) -> (Tensor<'g>, Vec<Tensor<'g>>);

    /// The same rule with another weight decay, for a [parameter group](crate::step::ParameterGroup); `None` if it has none.
    fn with_weight_decay(&self, weight_decay: f64) -> Option<Arc<dyn Optimizer>> {
        let _ = weight_decay;
        None
    }

    /// Checks the optimizer's numbers.
    ///
    /// # Errors
    /// A sentence saying which number is wrong.
    fn validate(&self) -> Result<(), String> {
        Ok(())
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

fn betas_below_one([beta1, beta2]: [f64; 2]) -> Result<(), String> {
    below_one("betas[0]", beta1)?;
    below_one("betas[1]", beta2)
}

/// The gradient with the weight decay that is added to it (L2), if there is any.
fn decayed<'g>(weight_decay: f64, h: &Hyper<'g>, p: Tensor<'g>, g: Tensor<'g>) -> Tensor<'g> {
    if weight_decay == 0.0 { g } else { g + p * h.get("weight_decay", p) }
}

/// The parameter that decoupled weight decay has shrunk, if there is any.
fn shrunk<'g>(weight_decay: f64, h: &Hyper<'g>, p: Tensor<'g>) -> Tensor<'g> {
    if weight_decay == 0.0 { p } else { p * h.get("shrink", p) }
}
