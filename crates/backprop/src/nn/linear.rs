use super::{Layer, Scope};
use crate::init::{Init, bound_of_fan_in};
use backprop_core::Tensor;
use serde::{Deserialize, Serialize};

/// `y = x·Wᵀ + b` on the last dimension: `[.., in]` to `[.., out]`. Parameters `weight` `[out, in]`, `bias` `[out]`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Linear {
    /// Extent of the result's last dimension.
    pub out_features: usize,
    /// Whether a bias is added.
    #[serde(default = "super::spec_true")]
    pub bias: bool,
    /// First values of the weight; with it the bias starts at 0. Without: PyTorch's, both uniform within ±1/√in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<Init>,
}

impl Linear {
    /// A layer with bias.
    pub fn new(out_features: usize) -> Linear {
        Linear { out_features, bias: true, init: None }
    }

    /// With or without bias.
    pub fn bias(mut self, bias: bool) -> Linear {
        self.bias = bias;
        self
    }

    /// First values of the weight; the bias then starts at 0.
    pub fn init(mut self, init: Init) -> Linear {
        self.init = Some(init);
        self
    }
}

impl Layer for Linear {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        if self.out_features == 0 || x.rank() == 0 || x.dtype() != cx.dtype() {
            let message = "needs a positive out_features and a floating-point input of at least one dimension";
            return cx.builder().fail("linear", &[x.ty()], message.into());
        }
        let features = x.dim(-1);
        let default = Init::uniform(bound_of_fan_in(features));
        let weight = cx.param("weight", [self.out_features, features], self.init.as_ref().unwrap_or(&default));
        let y = x.linear(weight);
        if !self.bias {
            return y;
        }
        let bias_init = if self.init.is_some() { Init::Zeros } else { default };
        y + cx.param("bias", [self.out_features], &bias_init)
    }
}
