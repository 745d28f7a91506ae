use super::{Layer, Scope};
use backprop_core::{Tensor, random};
use serde::{Deserialize, Serialize};

/// While training, sets each element to 0 with probability `p` and scales the others by 1/(1 − p). The identity in evaluation.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Dropout {
    /// Probability of dropping, in [0, 1].
    #[serde(default = "default_p")]
    pub p: f64,
}

fn default_p() -> f64 {
    0.5
}

impl Dropout {
    /// Drops with probability `p`.
    pub fn new(p: f64) -> Dropout {
        Dropout { p }
    }
}

impl Layer for Dropout {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        if !(0.0..=1.0).contains(&self.p) {
            return cx.builder().fail("dropout", &[x.ty()], format!("p must be a probability in [0, 1], got {}", self.p));
        }
        if !cx.train() || self.p == 0.0 {
            return x;
        }
        let zeros = cx.builder().zeros(x.ty());
        if self.p == 1.0 {
            return zeros;
        }
        let Some((randomness, stream)) = cx.random() else { return x };
        let keep = random::bernoulli(randomness, stream, 1.0 - self.p, x.shape());
        // select, not a product: a dropped infinity must become 0, not NaN.
        keep.select(x * (1.0 / (1.0 - self.p)), zeros)
    }
}
