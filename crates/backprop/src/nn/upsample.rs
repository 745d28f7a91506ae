use super::{Extent, Layer, Scope, take::take};
use backprop_core::{HostTensor, Shape, Tensor};
use serde::{Deserialize, Serialize};

/// How values between the input's are formed.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum UpsampleMode {
    /// Each element repeated.
    #[default]
    Nearest,
    /// By the two nearest elements of each dimension, PyTorch's `align_corners=False`.
    Bilinear,
}

/// Images of more elements: `[N, H, W, C]` to `[N, H·scale, W·scale, C]`. PyTorch's `Upsample`.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Upsample {
    /// Result elements per input element along height and width.
    pub scale_factor: Extent<2>,
    /// How values between the input's are formed.
    #[serde(default)]
    pub mode: UpsampleMode,
}

/// Larger factors are mistakes.
const LARGEST: usize = 1 << 10;

impl Upsample {
    /// Each element repeated.
    pub fn nearest(scale_factor: impl Into<Extent<2>>) -> Upsample {
        Upsample { scale_factor: scale_factor.into(), mode: UpsampleMode::Nearest }
    }

    /// By the two nearest elements of each dimension.
    pub fn bilinear(scale_factor: impl Into<Extent<2>>) -> Upsample {
        Upsample { scale_factor: scale_factor.into(), mode: UpsampleMode::Bilinear }
    }

    fn apply<'g>(&self, x: Tensor<'g>) -> Result<Tensor<'g>, String> {
        let [height, width] = self.scale_factor.get();
        if x.rank() != 4 || x.dim(1) == 0 || x.dim(2) == 0 {
            return Err("needs images [N, height, width, channels] of at least one element".into());
        }
        if [height, width].iter().any(|s| !(1..=LARGEST).contains(s)) {
            return Err(format!("scale_factor must be from 1 to {LARGEST}, got {height}×{width}"));
        }
        match self.mode {
            UpsampleMode::Nearest => Ok(repeat(x, height, width)),
            UpsampleMode::Bilinear => between(between(x, 1, height)?, 2, width),
        }
    }
}

impl Layer for Upsample {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        self.apply(x).unwrap_or_else(|message| cx.builder().fail("upsample", &[x.ty()], message))
    }
}

fn repeat(x: Tensor<'_>, height: usize, width: usize) -> Tensor<'_> {
    let [n, h, w, c] = [0, 1, 2, 3].map(|d| x.dim(d));
    x.broadcast_in_dim([n, h, height, w, width, c], &[0, 1, 3, 5]).reshape([n, h * height, w * width, c])
}

/// Linear interpolation along one dimension: the centre of result element i lies at (i + ½)/scale − ½ of the input, or at 0.
fn between(x: Tensor<'_>, dim: usize, scale: usize) -> Result<Tensor<'_>, String> {
    let extent = x.shape()[dim];
    if scale == 1 {
        return Ok(x);
    }
    let places: Vec<f64> = (0..extent * scale).map(|i| ((i as f64 + 0.5) / scale as f64 - 0.5).max(0.0)).collect();
    let low: Vec<usize> = places.iter().map(|p| *p as usize).collect();
    let high: Vec<usize> = low.iter().map(|l| (l + 1).min(extent - 1)).collect();
    let parts: Vec<f64> = places.iter().zip(&low).map(|(place, &low)| place - low as f64).collect();
    let along: Shape = (0..x.rank()).map(|d| if d == dim { parts.len() } else { 1 }).collect();
    let part = x.builder().constant(HostTensor::from_f64(x.dtype(), along, &parts)?);
    Ok(take(x, dim, &low) * (1.0 - part) + take(x, dim, &high) * part)
}
