use super::{Layer, Pair, Scope};
use backprop_core::{
    HostTensor, Tensor,
    op::{Reducer, Window},
};
use serde::{Deserialize, Serialize};

/// Largest value of each window, per channel: `[N, H, W, C]` to `[N, H', W', C]`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MaxPool2d {
    /// Extent of the window.
    pub kernel_size: Pair,
    /// Step between windows; the kernel size unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stride: Option<Pair>,
    /// −∞ around the image, at most half the kernel size.
    #[serde(default)]
    pub padding: Pair,
}

impl MaxPool2d {
    /// Windows side by side, no padding.
    pub fn new(kernel_size: impl Into<Pair>) -> MaxPool2d {
        MaxPool2d { kernel_size: kernel_size.into(), stride: None, padding: Pair::default() }
    }

    /// Step between windows.
    pub fn stride(mut self, stride: impl Into<Pair>) -> MaxPool2d {
        self.stride = Some(stride.into());
        self
    }

    /// −∞ around the image.
    pub fn padding(mut self, padding: impl Into<Pair>) -> MaxPool2d {
        self.padding = padding.into();
        self
    }
}

impl Layer for MaxPool2d {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        match window(x, self.kernel_size, self.stride, self.padding) {
            Ok(window) => x.reduce_window(Reducer::Max, window),
            Err(message) => cx.builder().fail("max_pool2d", &[x.ty()], message),
        }
    }
}

/// Mean of each window, per channel: `[N, H, W, C]` to `[N, H', W', C]`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AvgPool2d {
    /// Extent of the window.
    pub kernel_size: Pair,
    /// Step between windows; the kernel size unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stride: Option<Pair>,
    /// Zeros around the image, at most half the kernel size.
    #[serde(default)]
    pub padding: Pair,
    /// Whether the zeros of the padding count as elements.
    #[serde(default = "super::spec_true")]
    pub count_include_pad: bool,
}

impl AvgPool2d {
    /// Windows side by side, no padding.
    pub fn new(kernel_size: impl Into<Pair>) -> AvgPool2d {
        AvgPool2d { kernel_size: kernel_size.into(), stride: None, padding: Pair::default(), count_include_pad: true }
    }

    /// Step between windows.
    pub fn stride(mut self, stride: impl Into<Pair>) -> AvgPool2d {
        self.stride = Some(stride.into());
        self
    }

    /// Zeros around the image.
    pub fn padding(mut self, padding: impl Into<Pair>) -> AvgPool2d {
        self.padding = padding.into();
        self
    }

    /// Whether the zeros of the padding count as elements.
    pub fn count_include_pad(mut self, count: bool) -> AvgPool2d {
        self.count_include_pad = count;
        self
    }
}

impl Layer for AvgPool2d {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let window = match window(x, self.kernel_size, self.stride, self.padding) {
            Ok(window) => window,
            Err(message) => return cx.builder().fail("avg_pool2d", &[x.ty()], message),
        };
        let [kh, kw] = self.kernel_size.get();
        let sum = x.reduce_window(Reducer::Sum, window.clone());
        if self.count_include_pad || self.padding.get() == [0, 0] {
            return sum * (1.0 / (kh * kw) as f64);
        }
        let [h, w] = [1, 2].map(|d| reciprocal_counts(&window, d, x.dim(d as isize), sum.dim(d as isize)));
        let scales: Vec<f64> = h.iter().flat_map(|a| w.iter().map(move |b| a * b)).collect();
        match HostTensor::from_f64(x.dtype(), [h.len(), w.len(), 1], &scales) {
            Ok(scales) => sum * cx.builder().constant(scales),
            Err(message) => cx.builder().fail("avg_pool2d", &[x.ty()], message),
        }
    }
}

/// Mean over height and width: `[N, H, W, C]` to `[N, C]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GlobalAvgPool {}

impl GlobalAvgPool {
    /// The layer.
    pub fn new() -> GlobalAvgPool {
        GlobalAvgPool {}
    }
}

impl Layer for GlobalAvgPool {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        if x.rank() != 4 {
            return cx.builder().fail("global_avg_pool", &[x.ty()], "needs images [N, height, width, channels]".into());
        }
        x.mean(&[1, 2])
    }
}

/// The windows of a pooling layer over channel-last images.
fn window(x: Tensor<'_>, kernel_size: Pair, stride: Option<Pair>, padding: Pair) -> Result<Window, String> {
    let ([kh, kw], [ph, pw]) = (kernel_size.get(), padding.get());
    let [sh, sw] = stride.unwrap_or(kernel_size).get();
    if [kh, kw, sh, sw].contains(&0) {
        return Err("kernel_size and stride must be positive".into());
    }
    if x.rank() != 4 {
        return Err(format!("needs images [N, height, width, channels], got {} dimensions", x.rank()));
    }
    if 2 * ph > kh || 2 * pw > kw {
        return Err("padding must be at most half the kernel size: a window would hold nothing but padding".into());
    }
    if x.dim(1) + 2 * ph < kh || x.dim(2) + 2 * pw < kw {
        return Err(format!("the window {kh}×{kw} is larger than the image"));
    }
    let mut window = Window::new([1, kh, kw, 1]);
    window.stride = vec![1, sh, sw, 1];
    window.padding = [0, ph, pw, 0].map(|p| (p as isize, p as isize)).to_vec();
    Ok(window)
}

/// 1 / (number of the image's elements under the window), by position along a dimension.
fn reciprocal_counts(window: &Window, dim: usize, extent: usize, positions: usize) -> Vec<f64> {
    let count = |position: usize| {
        let start = (position * window.stride[dim]) as isize - window.padding[dim].0;
        let end = start + window.size[dim] as isize;
        end.min(extent as isize) - start.max(0)
    };
    (0..positions).map(|p| 1.0 / count(p) as f64).collect()
}
