use super::{Layer, Scope};
use backprop_core::{Shape, Tensor, random};
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
        drop_with(cx, "dropout", self.p, x, x.shape())
    }
}

/// While training, sets each channel of each image to 0 with probability `p` and scales the others by 1/(1 − p); `[N, H, W, C]`. The
/// identity in evaluation. PyTorch's `Dropout2d`; Tompson et al., "Efficient Object Localization".
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SpatialDropout2d {
    /// Probability of dropping, in [0, 1].
    #[serde(default = "default_p")]
    pub p: f64,
}

impl SpatialDropout2d {
    /// Drops channels with probability `p`.
    pub fn new(p: f64) -> SpatialDropout2d {
        SpatialDropout2d { p }
    }
}

impl Layer for SpatialDropout2d {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        if x.rank() != 4 {
            return cx.builder().fail("spatial_dropout2d", &[x.ty()], "needs images [N, height, width, channels]".into());
        }
        drop_with(cx, "spatial_dropout2d", self.p, x, [x.dim(0), 1, 1, x.dim(3)].into())
    }
}

/// Drops with one draw per element of `draws`, a shape that is stretched to that of `x`.
fn drop_with<'g>(cx: &mut Scope<'g>, layer: &str, p: f64, x: Tensor<'g>, draws: Shape) -> Tensor<'g> {
    if !(0.0..=1.0).contains(&p) {
        return cx.builder().fail(layer, &[x.ty()], format!("p must be a probability in [0, 1], got {p}"));
    }
    if !cx.train() || p == 0.0 {
        return x;
    }
    let zeros = cx.builder().zeros(x.ty());
    if p == 1.0 {
        return zeros;
    }
    let Some((randomness, stream)) = cx.random() else { return x };
    let keep = random::bernoulli(randomness, stream, 1.0 - p, draws);
    // select, not a product: a dropped infinity must become 0, not NaN.
    keep.select(x * (1.0 / (1.0 - p)), zeros)
}
