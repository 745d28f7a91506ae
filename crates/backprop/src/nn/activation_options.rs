use super::{Layer, Scope, functional};
use crate::init::Init;
use backprop_core::Tensor;
use serde::{Deserialize, Serialize};

macro_rules! with_options {
    ($(
        $(#[$doc:meta])*
        $layer:ident $name:literal {
            $($(#[$option_doc:meta])* $option:ident = $default:literal),*
        }
        $complaint:expr, $function:expr;
    )*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(deny_unknown_fields, default)]
        pub struct $layer {
            $($(#[$option_doc])* pub $option: f64,)*
        }

        impl Default for $layer {
            fn default() -> $layer {
                $layer { $($option: $default),* }
            }
        }

        impl $layer {
            /// With PyTorch's defaults.
            pub fn new() -> $layer {
                $layer::default()
            }

            $($(#[$option_doc])*
            pub fn $option(mut self, value: f64) -> $layer {
                self.$option = value;
                self
            })*
        }

        impl Layer for $layer {
            fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
                let complaint: fn(&$layer) -> Option<&'static str> = $complaint;
                let function: fn(&$layer, Tensor<'g>) -> Tensor<'g> = $function;
                let finite = [$(self.$option),*].iter().all(|n| n.is_finite());
                match complaint(self).or((!finite).then_some("its numbers must be finite")) {
                    Some(message) => cx.builder().fail($name, &[x.ty()], message.into()),
                    None => function(self, x),
                }
            }
        }
    )* };
}

with_options! {
    /// x where it is positive, negative_slope·x elsewhere.
    LeakyRelu "leaky_relu" {
        /// Factor where x is not positive.
        negative_slope = 0.01
    } |_| None, |layer, x| functional::leaky_relu(x, layer.negative_slope);

    /// x where it is positive, alpha·(eˣ − 1) elsewhere (Clevert et al., "Exponential Linear Units").
    Elu "elu" {
        /// What the result falls to is −alpha.
        alpha = 1.0
    } |_| None, |layer, x| functional::elu(x, layer.alpha);

    /// x where it is positive, alpha·(e^(x/alpha) − 1) elsewhere (Barron, "Continuously Differentiable Exponential Linear Units").
    Celu "celu" {
        /// What the result falls to is −alpha; not 0.
        alpha = 1.0
    } |layer| (layer.alpha == 0.0).then_some("alpha must not be 0"), |layer, x| functional::celu(x, layer.alpha);

    /// ln(1 + e^(beta·x))/beta, a smooth max(x, 0).
    Softplus "softplus" {
        /// Sharpness of the bend, above 0.
        beta = 1.0,
        /// Where beta·x is above it, the result is x.
        threshold = 20.0
    } |layer| (layer.beta <= 0.0).then_some("beta must be above 0"), |layer, x| functional::softplus(x, layer.beta, layer.threshold);

    /// x limited to an interval; derivative 0 at the bounds.
    Hardtanh "hardtanh" {
        /// Lower bound.
        min_val = -1.0,
        /// Upper bound, above the lower one.
        max_val = 1.0
    } |layer| (layer.min_val >= layer.max_val).then_some("min_val must be below max_val"),
    |layer, x| functional::hardtanh(x, layer.min_val, layer.max_val);
}

/// x where it is positive, weight·x elsewhere. Parameter `weight` `[1]`, or `[C]` with one for each channel (last dimension).
/// He et al., "Delving Deep into Rectifiers".
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PRelu {
    /// Whether each channel has a weight of its own.
    #[serde(default)]
    pub per_channel: bool,
    /// First value of the weight.
    #[serde(default = "default_prelu")]
    pub init: f64,
}

fn default_prelu() -> f64 {
    0.25
}

impl Default for PRelu {
    fn default() -> PRelu {
        PRelu { per_channel: false, init: default_prelu() }
    }
}

impl PRelu {
    /// One weight for all channels, 0.25 at first.
    pub fn new() -> PRelu {
        PRelu::default()
    }

    /// One weight for all channels, or one for each.
    pub fn per_channel(mut self, per_channel: bool) -> PRelu {
        self.per_channel = per_channel;
        self
    }

    /// First value of the weight.
    pub fn init(mut self, init: f64) -> PRelu {
        self.init = init;
        self
    }
}

impl Layer for PRelu {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        if !self.init.is_finite() || x.rank() == 0 || (self.per_channel && x.rank() < 2) {
            let message = "needs a finite init and an input [N, .., channels]";
            return cx.builder().fail("prelu", &[x.ty()], message.into());
        }
        let count = if self.per_channel { x.dim(-1) } else { 1 };
        let weight = cx.param("weight", [count], &Init::Constant { value: self.init });
        x.greater(0.0).select(x, x * weight)
    }
}
