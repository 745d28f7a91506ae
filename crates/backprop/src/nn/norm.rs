use super::{Layer, Scope, custom_vjp_with_residuals, functional::spread};
use crate::init::Init;
use backprop_core::{Shape, Tensor};
use serde::{Deserialize, Serialize};

pub(super) fn default_eps() -> f64 {
    1e-5
}

fn default_momentum() -> f64 {
    0.1
}

/// Normalises each channel (last dimension of `[N, C]`, `[N, T, C]` or `[N, H, W, C]`) over all other dimensions: by the batch's mean
/// and variance while training, by running ones in evaluation. Parameters `weight`, `bias`; statistics `running_mean`,
/// `running_var` (unbiased), all `[C]`. PyTorch's `BatchNorm1d`, `2d` and `3d`. Ioffe and Szegedy, "Batch Normalization".
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BatchNorm {
    /// Added to the variance.
    #[serde(default = "default_eps")]
    pub eps: f64,
    /// Share of the batch's statistics in the next running ones.
    #[serde(default = "default_momentum")]
    pub momentum: f64,
    /// Whether there are a weight and a bias.
    #[serde(default = "super::spec_true")]
    pub affine: bool,
    /// Whether there are running statistics; without them evaluation too uses the batch's.
    #[serde(default = "super::spec_true")]
    pub track_running_stats: bool,
}

impl Default for BatchNorm {
    fn default() -> BatchNorm {
        BatchNorm { eps: default_eps(), momentum: default_momentum(), affine: true, track_running_stats: true }
    }
}

impl BatchNorm {
    /// PyTorch's defaults: eps 1e-5, momentum 0.1, affine.
    pub fn new() -> BatchNorm {
        BatchNorm::default()
    }

    /// Added to the variance.
    pub fn eps(mut self, eps: f64) -> BatchNorm {
        self.eps = eps;
        self
    }

    /// Share of the batch's statistics in the next running ones.
    pub fn momentum(mut self, momentum: f64) -> BatchNorm {
        self.momentum = momentum;
        self
    }

    /// With or without weight and bias.
    pub fn affine(mut self, affine: bool) -> BatchNorm {
        self.affine = affine;
        self
    }

    /// With or without running statistics.
    pub fn track_running_stats(mut self, track: bool) -> BatchNorm {
        self.track_running_stats = track;
        self
    }
}

impl Layer for BatchNorm {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let (b, rank) = (cx.builder(), x.rank());
        if rank < 2 || !self.eps.is_finite() || self.eps < 0.0 || !(0.0..=1.0).contains(&self.momentum) {
            let message = "needs an input [N, .., C], eps of at least 0 and momentum in [0, 1]";
            return b.fail("batch_norm", &[x.ty()], message.into());
        }
        let features = x.dim(-1);
        let (weight, bias) = affine(cx, [features].into(), self.affine);
        let tracked = self
            .track_running_stats
            .then(|| (cx.state("running_mean", [features], &Init::Zeros), cx.state("running_var", [features], &Init::Ones)));
        if let (Some((mean, variance)), false) = (tracked, cx.train()) {
            return (x - mean) * ((variance + self.eps).rsqrt() * weight) + bias;
        }
        let n = x.shape()[..rank - 1].iter().product::<usize>();
        if n < 2 {
            let message =
                "needs more than one value per channel to normalise by; use a larger batch, or drop the last, smaller one";
            return b.fail("batch_norm", &[x.ty()], message.into());
        }
        let reduced: Vec<usize> = (0..rank - 1).collect();
        let outputs = normalise("batch_norm", [x, weight, bias], reduced, vec![rank - 1], self.eps);
        if let Some((mean, variance)) = tracked {
            let unbiased = outputs[2] * (n as f64 / (n - 1) as f64);
            let next = |old: Tensor<'g>, new: Tensor<'g>| old * (1.0 - self.momentum) + new.stop_gradient() * self.momentum;
            cx.set_state("running_mean", next(mean, outputs[1]));
            cx.set_state("running_var", next(variance, unbiased));
        }
        outputs[0]
    }
}

/// Normalises over the last dimensions. Parameters `weight`, `bias` of the shape of those dimensions.
/// Ba, Kiros and Hinton, "Layer Normalization".
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LayerNorm {
    /// Extents of the dimensions normalised over; the last one unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normalized_shape: Option<Vec<usize>>,
    /// Added to the variance.
    #[serde(default = "default_eps")]
    pub eps: f64,
    /// Whether there are a weight and a bias.
    #[serde(default = "super::spec_true")]
    pub elementwise_affine: bool,
}

impl Default for LayerNorm {
    fn default() -> LayerNorm {
        LayerNorm { normalized_shape: None, eps: default_eps(), elementwise_affine: true }
    }
}

impl LayerNorm {
    /// Over the last dimension, eps 1e-5, affine.
    pub fn new() -> LayerNorm {
        LayerNorm::default()
    }

    /// Extents of the dimensions normalised over.
    pub fn normalized_shape(mut self, shape: impl Into<Vec<usize>>) -> LayerNorm {
        self.normalized_shape = Some(shape.into());
        self
    }

    /// Added to the variance.
    pub fn eps(mut self, eps: f64) -> LayerNorm {
        self.eps = eps;
        self
    }

    /// With or without weight and bias.
    pub fn elementwise_affine(mut self, affine: bool) -> LayerNorm {
        self.elementwise_affine = affine;
        self
    }
}

impl Layer for LayerNorm {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let dims = match last_dims(x, self.normalized_shape.as_deref(), self.eps) {
            Ok(dims) => dims,
            Err(message) => return cx.builder().fail("layer_norm", &[x.ty()], message),
        };
        let own = x.shape()[dims[0]..].into();
        let (weight, bias) = affine(cx, own, self.elementwise_affine);
        normalise("layer_norm", [x, weight, bias], dims.clone(), dims, self.eps)[0]
    }
}

/// The last dimensions, whose extents must be the given ones if there are any; or what is wrong.
pub(super) fn last_dims(x: Tensor<'_>, extents: Option<&[usize]>, eps: f64) -> Result<Vec<usize>, String> {
    let shape = x.shape();
    let count = extents.map_or(1, <[usize]>::len);
    let split = shape.len().checked_sub(count).filter(|_| count > 0);
    let Some(split) = split.filter(|&s| extents.is_none_or(|e| *e == shape[s..])) else {
        return Err(format!("the input's last dimensions must be {:?}", extents.unwrap_or(&[])));
    };
    if !eps.is_finite() || eps < 0.0 {
        return Err(format!("eps must be a number of at least 0, got {eps}"));
    }
    Ok((split..shape.len()).collect())
}

/// Weight and bias, or the constants 1 and 0.
pub(super) fn affine<'g>(cx: &mut Scope<'g>, shape: Shape, affine: bool) -> (Tensor<'g>, Tensor<'g>) {
    if affine {
        return (cx.param("weight", shape.clone(), &Init::Ones), cx.param("bias", shape, &Init::Zeros));
    }
    let ty = backprop_core::Type::new(cx.dtype(), shape);
    (cx.builder().full(ty.clone(), 1.0), cx.builder().zeros(ty))
}

/// `(x − mean)·rstd·weight + bias` with mean and (biased) variance over `dims`; weight and bias lie along `own`.
/// Results: y, and as residuals mean, variance and rstd.
///
/// The derivative is `dx = rstd·(d̂ − mean(d̂) − x̂·mean(d̂·x̂))` with `d̂ = g·weight` and `x̂ = (x − mean)·rstd`: both papers' formula.
/// A weight that is the same for all that is averaged stands before the brackets, so that the means are those of the parameters'
/// gradients. Factors that a whole mean shares are multiplied first, once for all its elements.
#[track_caller]
pub(crate) fn normalise<'g>(
    region: &str,
    operands: [Tensor<'g>; 3],
    dims: Vec<usize>,
    own: Vec<usize>,
    eps: f64,
) -> Vec<Tensor<'g>> {
    let shape = operands[0].shape();
    let others: Vec<usize> = (0..shape.len()).filter(|d| !own.contains(d)).collect();
    let (over, along) = (&dims, &own);
    custom_vjp_with_residuals(
        region,
        &operands,
        3,
        |x| {
            let whole = |t| spread(t, &shape, over);
            let [mean, variance] = moments(x[0], over);
            let centred = x[0] - whole(mean);
            let rstd = (variance + eps).rsqrt();
            let [weight, bias] = [x[1], x[2]].map(|p| p.broadcast_in_dim(shape.clone(), along));
            let scaled = if others == *over { centred * whole(rstd * x[1]) } else { centred * whole(rstd) * weight };
            vec![scaled + bias, mean, variance, rstd]
        },
        |s| {
            let (x, weight, g) = (s.inputs[0], s.inputs[1], s.cotangents[0]);
            let (mean, rstd) = (s.outputs[1], s.outputs[3]);
            let whole = |t| spread(t, &shape, over);
            let centred = x - whole(mean);
            if others == *over {
                let sums = [(g * centred).sum(over) * rstd, g.sum(over)];
                let dx = whole(rstd * weight) * pull(g, centred, rstd, sums, over);
                return vec![Some(dx), Some(sums[0]), Some(sums[1])];
            }
            let scaled = g * weight.broadcast_in_dim(shape.clone(), along);
            let sums = [(scaled * centred).sum(over) * rstd, scaled.sum(over)];
            let dx = whole(rstd) * pull(scaled, centred, rstd, sums, over);
            vec![Some(dx), Some((g * (centred * whole(rstd))).sum(&others)), Some(g.sum(&others))]
        },
    )
}

/// Mean and (biased) variance over dimensions. What goes over samples and within each is formed within the samples first, so that a
/// sample is read once: the squares of a sample's distances from its own mean, and of the means' distances from the mean of all. Chan,
/// Golub and LeVeque, "Algorithms for computing the sample variance".
fn moments<'g>(x: Tensor<'g>, over: &[usize]) -> [Tensor<'g>; 2] {
    let shape = x.shape();
    let count = |dims: &[usize]| dims.iter().map(|&d| shape[d]).product::<usize>() as f64;
    let (&[0, ref within @ ..], true) = (over, over.len() > 1) else {
        let mean = x.mean(over);
        let centred = x - spread(mean, &shape, over);
        return [mean, (centred * centred).mean(over)];
    };
    let sums = x.sum(within);
    let centred = x - spread(sums, &shape, within) * (1.0 / count(within));
    let squares = (centred * centred).sum(within).sum(&[0]);
    let mean = sums.sum(&[0]) * (1.0 / count(over));
    let apart = sums * (1.0 / count(within)) - spread(mean, &sums.shape(), &[0]);
    [mean, (squares + (apart * apart).sum(&[0]) * count(within)) * (1.0 / count(over))]
}

/// `g − mean(g) − x̂·mean(g·x̂)` with `x̂ = centred·rstd`, given the sums of `g·x̂` and `g` over `over`.
fn pull<'g>(g: Tensor<'g>, centred: Tensor<'g>, rstd: Tensor<'g>, sums: [Tensor<'g>; 2], over: &[usize]) -> Tensor<'g> {
    let shape = g.shape();
    let n = over.iter().map(|&d| shape[d]).product::<usize>() as f64;
    let whole = |t| spread(t, &shape, over);
    g - whole(sums[1] * (1.0 / n)) - centred * whole(rstd * (sums[0] * (1.0 / n)))
}
