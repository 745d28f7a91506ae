use super::{Layer, Scope, functional};
use backprop_core::Tensor;
use serde::{Deserialize, Serialize};

macro_rules! activations {
    ($($(#[$doc:meta])* $layer:ident => $function:expr;)*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $layer {}

        impl $layer {
            /// The layer.
            pub fn new() -> $layer {
                $layer {}
            }
        }

        impl Layer for $layer {
            fn forward<'g>(&self, _: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
                let function: fn(Tensor<'g>) -> Tensor<'g> = $function;
                function(x)
            }
        }
    )* };
}

activations! {
    /// max(x, 0); derivative 0 at 0.
    Relu => |x| x.relu();
    /// 1/(1 + e⁻ˣ).
    Sigmoid => |x| x.logistic();
    /// Hyperbolic tangent.
    Tanh => |x| x.tanh();
    /// x·1/(1 + e⁻ˣ), also called swish.
    Silu => functional::silu;
    /// ELU with the constants that keep mean 0 and variance 1 (Klambauer et al., "Self-Normalizing Neural Networks").
    Selu => functional::selu;
    /// x·tanh(ln(1 + eˣ)) (Misra, "Mish").
    Mish => functional::mish;
    /// x/(1 + |x|).
    Softsign => functional::softsign;
    /// x·min(max(x + 3, 0), 6)/6 (Howard et al., "MobileNetV3").
    Hardswish => functional::hardswish;
    /// min(max(x + 3, 0), 6)/6; derivative 0 at the bounds.
    Hardsigmoid => functional::hardsigmoid;
    /// min(max(x, 0), 6); derivative 0 at the bounds.
    Relu6 => |x| functional::hardtanh(x, 0.0, 6.0);
}

/// How Φ, the normal distribution function in GELU, is formed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum GeluApproximation {
    /// By the error function.
    #[default]
    None,
    /// By tanh(√(2/π)·(x + 0.044715·x³)).
    Tanh,
}

/// x·Φ(x) with the normal distribution function Φ (Hendrycks and Gimpel, "Gaussian Error Linear Units").
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Gelu {
    /// How Φ is formed.
    #[serde(default)]
    pub approximate: GeluApproximation,
}

impl Gelu {
    /// By the error function.
    pub fn new() -> Gelu {
        Gelu::default()
    }

    /// By the hyperbolic tangent.
    pub fn tanh() -> Gelu {
        Gelu { approximate: GeluApproximation::Tanh }
    }
}

impl Layer for Gelu {
    fn forward<'g>(&self, _: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        match self.approximate {
            GeluApproximation::None => functional::gelu(x),
            GeluApproximation::Tanh => functional::gelu_tanh(x),
        }
    }
}

macro_rules! over_a_dimension {
    ($($(#[$doc:meta])* $layer:ident => $function:path;)*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $layer {
            /// Dimension; negative counts from the end.
            #[serde(default = "super::spec_last")]
            pub dim: isize,
        }

        impl $layer {
            /// Over the last dimension.
            pub fn new() -> $layer {
                $layer { dim: -1 }
            }
        }

        impl Default for $layer {
            fn default() -> $layer {
                $layer::new()
            }
        }

        impl Layer for $layer {
            fn forward<'g>(&self, _: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
                $function(x, self.dim)
            }
        }
    )* };
}

over_a_dimension! {
    /// eˣ / Σ eˣ along a dimension.
    Softmax => functional::softmax;
    /// Logarithm of the softmax along a dimension.
    LogSoftmax => functional::log_softmax;
    /// The first half of a dimension times the logistic function of its second half (Dauphin et al., "Gated Convolutional Networks").
    Glu => functional::glu;
}
