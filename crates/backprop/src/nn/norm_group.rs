use super::{
    Layer, Scope, custom_vjp_with_residuals,
    functional::spread,
    norm::{affine, default_eps, last_dims, normalise},
};
use crate::init::Init;
use backprop_core::{Shape, Tensor};
use serde::{Deserialize, Serialize};

/// Normalises each sample over space and the channels of each of `num_groups` groups; channels lie last: `[N, spatial.., C]`.
/// Parameters `weight`, `bias` `[C]`. Wu and He, "Group Normalization".
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GroupNorm {
    /// Number of groups the channels are divided into.
    pub num_groups: usize,
    /// Added to the variance.
    #[serde(default = "default_eps")]
    pub eps: f64,
    /// Whether there are a weight and a bias.
    #[serde(default = "super::spec_true")]
    pub affine: bool,
}

impl GroupNorm {
    /// A number of groups, eps 1e-5, affine.
    pub fn new(num_groups: usize) -> GroupNorm {
        GroupNorm { num_groups, eps: default_eps(), affine: true }
    }

    /// Added to the variance.
    pub fn eps(mut self, eps: f64) -> GroupNorm {
        self.eps = eps;
        self
    }

    /// With or without weight and bias.
    pub fn affine(mut self, affine: bool) -> GroupNorm {
        self.affine = affine;
        self
    }
}

impl Layer for GroupNorm {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let groups = self.num_groups;
        if groups > 0 && x.rank() >= 2 && !x.dim(-1).is_multiple_of(groups) {
            let message = format!("{} channels do not divide into {groups} groups", x.dim(-1));
            return cx.builder().fail("group_norm", &[x.ty()], message);
        }
        if let Some(message) = group_complaint(x, groups, self.eps) {
            return cx.builder().fail("group_norm", &[x.ty()], message);
        }
        over_groups(cx, "group_norm", x, groups, self.eps, self.affine)
    }
}

/// Normalises each channel of each sample over space: group norm with one channel per group. `[N, spatial.., C]`.
/// Parameters, if affine, `weight`, `bias` `[C]`. Ulyanov et al., "Instance Normalization".
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct InstanceNorm {
    /// Added to the variance.
    #[serde(default = "default_eps")]
    pub eps: f64,
    /// Whether there are a weight and a bias; as in PyTorch there are none unless wanted.
    #[serde(default)]
    pub affine: bool,
}

impl Default for InstanceNorm {
    fn default() -> InstanceNorm {
        InstanceNorm { eps: default_eps(), affine: false }
    }
}

impl InstanceNorm {
    /// PyTorch's defaults: eps 1e-5, not affine.
    pub fn new() -> InstanceNorm {
        InstanceNorm::default()
    }

    /// Added to the variance.
    pub fn eps(mut self, eps: f64) -> InstanceNorm {
        self.eps = eps;
        self
    }

    /// With or without weight and bias.
    pub fn affine(mut self, affine: bool) -> InstanceNorm {
        self.affine = affine;
        self
    }
}

impl Layer for InstanceNorm {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let channels = if x.rank() == 0 { 0 } else { x.dim(-1) };
        if let Some(message) = group_complaint(x, channels, self.eps) {
            return cx.builder().fail("instance_norm", &[x.ty()], message);
        }
        over_groups(cx, "instance_norm", x, channels, self.eps, self.affine)
    }
}

/// What is wrong with normalising groups of the channels of `x`, if anything; the groups divide the channels.
fn group_complaint(x: Tensor<'_>, groups: usize, eps: f64) -> Option<String> {
    if x.rank() < 2 || groups == 0 || !x.dtype().is_float() || !eps.is_finite() || eps < 0.0 {
        let message =
            "needs an input [N, spatial.., channels] of floating-point numbers, at least one group, and eps of at least 0";
        return Some(message.into());
    }
    let values = Shape::from(&x.shape()[1..]).elements() / groups;
    (values < 2).then(|| "needs more than one value per group to normalise by; use fewer groups or larger inputs".into())
}

fn over_groups<'g>(cx: &mut Scope<'g>, region: &str, x: Tensor<'g>, groups: usize, eps: f64, with: bool) -> Tensor<'g> {
    let (shape, last) = (x.shape(), x.rank() - 1);
    let channels = shape[last];
    let (weight, bias) = affine(cx, [channels].into(), with);
    let own = [groups, channels / groups];
    let split = x.reshape([&shape[..last], &own].concat());
    let dims = (1..last).chain([last + 1]).collect();
    let [weight, bias] = [weight, bias].map(|p| p.reshape(own));
    normalise(region, [split, weight, bias], dims, vec![last, last + 1], eps)[0].reshape(shape)
}

/// Divides by the root of the mean square over the last dimensions: `x / √(mean(x²) + eps) · weight`. Parameter `weight` of the
/// shape of those dimensions. PyTorch's `RMSNorm`; Zhang and Sennrich, "Root Mean Square Layer Normalization".
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RmsNorm {
    /// Extents of the dimensions normalised over; the last one unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalized_shape: Option<Vec<usize>>,
    /// Added to the mean square; unless given 2⁻²³, the distance from 1 to the next number of 32 bits.
    #[serde(default = "smallest_step")]
    pub eps: f64,
    /// Whether there is a weight.
    #[serde(default = "super::spec_true")]
    pub elementwise_affine: bool,
}

fn smallest_step() -> f64 {
    f64::from(f32::EPSILON)
}

impl Default for RmsNorm {
    fn default() -> RmsNorm {
        RmsNorm { normalized_shape: None, eps: smallest_step(), elementwise_affine: true }
    }
}

impl RmsNorm {
    /// Over the last dimension, eps 2⁻²³, with weight.
    pub fn new() -> RmsNorm {
        RmsNorm::default()
    }

    /// Extents of the dimensions normalised over.
    pub fn normalized_shape(mut self, shape: impl Into<Vec<usize>>) -> RmsNorm {
        self.normalized_shape = Some(shape.into());
        self
    }

    /// Added to the mean square.
    pub fn eps(mut self, eps: f64) -> RmsNorm {
        self.eps = eps;
        self
    }

    /// With or without weight.
    pub fn elementwise_affine(mut self, affine: bool) -> RmsNorm {
        self.elementwise_affine = affine;
        self
    }
}

impl Layer for RmsNorm {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let dims = match last_dims(x, self.normalized_shape.as_deref(), self.eps) {
            Ok(dims) => dims,
            Err(message) => return cx.builder().fail("rms_norm", &[x.ty()], message),
        };
        let y = by_root_mean_square(x, dims.clone(), self.eps);
        if !self.elementwise_affine {
            return y;
        }
        let own = &x.shape()[dims[0]..];
        y * cx.param("weight", own, &Init::Ones)
    }
}

/// `x·r` with `r = 1/√(mean(x²) + eps)` over `dims`. The derivative is `r·(g − y·mean(g·y))`.
#[track_caller]
fn by_root_mean_square<'g>(x: Tensor<'g>, dims: Vec<usize>, eps: f64) -> Tensor<'g> {
    let (shape, over) = (x.shape(), &dims);
    custom_vjp_with_residuals(
        "rms_norm",
        &[x],
        1,
        |x| {
            let r = ((x[0] * x[0]).mean(over) + eps).rsqrt();
            vec![x[0] * spread(r, &shape, over), r]
        },
        |s| {
            let (g, r) = (s.cotangents[0], spread(s.outputs[1], &shape, over));
            let y = s.inputs[0] * r;
            vec![Some(r * (g - y * spread((g * y).mean(over), &shape, over)))]
        },
    )[0]
}
