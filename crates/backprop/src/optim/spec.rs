use super::{Adadelta, Adagrad, Adam, AdamW, Adamax, GradientDescent, Hyper, Lion, NAdam, Optimizer, RAdam, RmsProp, Sgd, Slot};
use crate::schedule::Rates;
use backprop_core::Tensor;
use serde::{Deserialize, Serialize};
use std::sync::Arc;

macro_rules! optimizers {
    ($($name:literal $optimizer:ident,)*) => {
        /// The library's optimizers, told apart by `type` in TOML.
        #[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(tag = "type")]
        #[expect(missing_docs, reason = "an optimizer is documented at its type, which the schema then quotes")]
        pub enum OptimizerSpec {
            $(
                #[serde(rename = $name)]
                $optimizer($optimizer),
            )*
        }

        $(impl From<$optimizer> for OptimizerSpec {
            fn from(optimizer: $optimizer) -> OptimizerSpec {
                OptimizerSpec::$optimizer(optimizer)
            }
        })*

        impl OptimizerSpec {
            /// Names that can stand as `type` in TOML.
            pub const TYPES: &[&str] = &[$($name),*];

            fn get(&self) -> &dyn Optimizer {
                match self {
                    $(OptimizerSpec::$optimizer(optimizer) => optimizer,)*
                }
            }
        }
    };
}

optimizers! {
    "gradient_descent" GradientDescent,
    "sgd" Sgd,
    "adam" Adam,
    "adamw" AdamW,
    "rmsprop" RmsProp,
    "adagrad" Adagrad,
    "adadelta" Adadelta,
    "adamax" Adamax,
    "nadam" NAdam,
    "radam" RAdam,
    "lion" Lion,
}

impl Optimizer for OptimizerSpec {
    fn learning_rate(&self) -> f64 {
        self.get().learning_rate()
    }
    fn entries(&self, rates: Rates, updates: u64) -> Vec<(&'static str, f64)> {
        self.get().entries(rates, updates)
    }
    fn slots(&self) -> Vec<Slot> {
        self.get().slots()
    }
    fn update<'g>(&self, h: &Hyper<'g>, p: Tensor<'g>, g: Tensor<'g>, slots: &[Tensor<'g>]) -> (Tensor<'g>, Vec<Tensor<'g>>) {
        self.get().update(h, p, g, slots)
    }
    fn with_weight_decay(&self, weight_decay: f64) -> Option<Arc<dyn Optimizer>> {
        self.get().with_weight_decay(weight_decay)
    }
    fn validate(&self) -> Result<(), String> {
        self.get().validate()
    }
}
