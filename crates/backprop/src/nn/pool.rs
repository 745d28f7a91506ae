use super::{
    Extent, Layer, Scope,
    extent::{by, spatial_input},
};
use backprop_core::{
    HostTensor, Tensor,
    op::{Reducer, Window},
};
use serde::{Deserialize, Serialize};

/// Largest value of each window, per channel, of channel-last inputs with `N` spatial dimensions: `[N, spatial.., C]` to
/// `[N, spatial'.., C]`. Of equal values the first takes the gradient.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(rename = "MaxPool{N}d")]
#[serde(deny_unknown_fields)]
pub struct MaxPool<const N: usize> {
    /// Extent of the window.
    pub kernel_size: Extent<N>,
    /// Step between windows; the kernel size unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stride: Option<Extent<N>>,
    /// −∞ around the input, at most half the kernel size.
    #[serde(default = "Extent::<N>::zero")]
    pub padding: Extent<N>,
    /// Distance between the window's elements.
    #[serde(default = "Extent::<N>::one")]
    pub dilation: Extent<N>,
    /// Whether a last window counts that starts within the input or its left padding and reaches beyond the right one.
    #[serde(default)]
    pub ceil_mode: bool,
}

/// Largest value of each window of a sequence: `[N, T, C]` to `[N, T', C]`.
pub type MaxPool1d = MaxPool<1>;
/// Largest value of each window of an image: `[N, H, W, C]` to `[N, H', W', C]`.
pub type MaxPool2d = MaxPool<2>;
/// Largest value of each window of a volume: `[N, D, H, W, C]` to `[N, D', H', W', C]`.
pub type MaxPool3d = MaxPool<3>;

impl<const N: usize> MaxPool<N> {
    /// Windows side by side, no padding.
    pub fn new(kernel_size: impl Into<Extent<N>>) -> MaxPool<N> {
        MaxPool {
            kernel_size: kernel_size.into(),
            stride: None,
            padding: Extent::zero(),
            dilation: Extent::one(),
            ceil_mode: false,
        }
    }

    /// Step between windows.
    pub fn stride(mut self, stride: impl Into<Extent<N>>) -> MaxPool<N> {
        self.stride = Some(stride.into());
        self
    }

    /// −∞ around the input.
    pub fn padding(mut self, padding: impl Into<Extent<N>>) -> MaxPool<N> {
        self.padding = padding.into();
        self
    }

    /// Distance between the window's elements.
    pub fn dilation(mut self, dilation: impl Into<Extent<N>>) -> MaxPool<N> {
        self.dilation = dilation.into();
        self
    }

    /// Whether a last window that reaches beyond the padding counts.
    pub fn ceil_mode(mut self, ceil_mode: bool) -> MaxPool<N> {
        self.ceil_mode = ceil_mode;
        self
    }
}

impl<const N: usize> Layer for MaxPool<N> {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let windows = Windows {
            kernel: self.kernel_size,
            stride: self.stride.unwrap_or(self.kernel_size),
            padding: self.padding,
            dilation: self.dilation,
            ceil: self.ceil_mode,
        };
        match windows.over(x) {
            Ok(window) => x.reduce_window(Reducer::Max, window),
            Err(message) => cx.builder().fail(&format!("max_pool{N}d"), &[x.ty()], message),
        }
    }

    fn kind(&self) -> String {
        format!("MaxPool{N}d")
    }
}

/// Mean of each window, per channel, of channel-last inputs with `N` spatial dimensions: `[N, spatial.., C]` to `[N, spatial'.., C]`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(rename = "AvgPool{N}d")]
#[serde(deny_unknown_fields)]
pub struct AvgPool<const N: usize> {
    /// Extent of the window.
    pub kernel_size: Extent<N>,
    /// Step between windows; the kernel size unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stride: Option<Extent<N>>,
    /// Zeros around the input, at most half the kernel size.
    #[serde(default = "Extent::<N>::zero")]
    pub padding: Extent<N>,
    /// Whether a last window counts that starts within the input or its left padding and reaches beyond the right one.
    #[serde(default)]
    pub ceil_mode: bool,
    /// Whether the zeros of the padding count as elements.
    #[serde(default = "super::spec_true")]
    pub count_include_pad: bool,
}

/// Mean of each window of a sequence: `[N, T, C]` to `[N, T', C]`.
pub type AvgPool1d = AvgPool<1>;
/// Mean of each window of an image: `[N, H, W, C]` to `[N, H', W', C]`.
pub type AvgPool2d = AvgPool<2>;
/// Mean of each window of a volume: `[N, D, H, W, C]` to `[N, D', H', W', C]`.
pub type AvgPool3d = AvgPool<3>;

impl<const N: usize> AvgPool<N> {
    /// Windows side by side, no padding.
    pub fn new(kernel_size: impl Into<Extent<N>>) -> AvgPool<N> {
        AvgPool {
            kernel_size: kernel_size.into(),
            stride: None,
            padding: Extent::zero(),
            ceil_mode: false,
            count_include_pad: true,
        }
    }

    /// Step between windows.
    pub fn stride(mut self, stride: impl Into<Extent<N>>) -> AvgPool<N> {
        self.stride = Some(stride.into());
        self
    }

    /// Zeros around the input.
    pub fn padding(mut self, padding: impl Into<Extent<N>>) -> AvgPool<N> {
        self.padding = padding.into();
        self
    }

    /// Whether a last window that reaches beyond the padding counts.
    pub fn ceil_mode(mut self, ceil_mode: bool) -> AvgPool<N> {
        self.ceil_mode = ceil_mode;
        self
    }

    /// Whether the zeros of the padding count as elements.
    pub fn count_include_pad(mut self, count: bool) -> AvgPool<N> {
        self.count_include_pad = count;
        self
    }

    /// Number of elements that count, by position along spatial dimension `d`.
    fn counts(&self, window: &Window, d: usize, extent: usize, positions: usize) -> Vec<f64> {
        let padding = self.padding.get()[d] as isize;
        let (low, high) = if self.count_include_pad { (-padding, extent as isize + padding) } else { (0, extent as isize) };
        let count = |position: usize| {
            let start = (position * window.stride[1 + d]) as isize - padding;
            (start + window.size[1 + d] as isize).min(high) - start.max(low)
        };
        (0..positions).map(|p| count(p) as f64).collect()
    }
}

impl<const N: usize> Layer for AvgPool<N> {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let fail = |message| cx.builder().fail(&format!("avg_pool{N}d"), &[x.ty()], message);
        let windows = Windows {
            kernel: self.kernel_size,
            stride: self.stride.unwrap_or(self.kernel_size),
            padding: self.padding,
            dilation: Extent::one(),
            ceil: self.ceil_mode,
        };
        let window = match windows.over(x) {
            Ok(window) => window,
            Err(message) => return fail(message),
        };
        let sum = x.reduce_window(Reducer::Sum, window.clone());
        let counts = (0..N).fold(vec![1.0], |counts, d| {
            let [extent, positions] = [x, sum].map(|t| t.dim(1 + d as isize));
            let along = self.counts(&window, d, extent, positions);
            counts.iter().flat_map(|a| along.iter().map(move |b| a * b)).collect()
        });
        let whole: f64 = self.kernel_size.get().iter().map(|&k| k as f64).product();
        if counts.iter().all(|&count| count == whole) {
            return sum * (1.0 / whole);
        }
        let scales: Vec<f64> = counts.iter().map(|count| 1.0 / count).collect();
        let shape = [&sum.shape()[1..=N], &[1]].concat();
        match HostTensor::from_f64(x.dtype(), shape, &scales) {
            Ok(scales) => sum * cx.builder().constant(scales),
            Err(message) => fail(message),
        }
    }

    fn kind(&self) -> String {
        format!("AvgPool{N}d")
    }
}

/// The windows of a pooling layer over channel-last inputs.
struct Windows<const N: usize> {
    kernel: Extent<N>,
    stride: Extent<N>,
    padding: Extent<N>,
    dilation: Extent<N>,
    ceil: bool,
}

impl<const N: usize> Windows<N> {
    fn complaint(&self, x: Tensor<'_>) -> Option<String> {
        let positive = [("kernel_size", self.kernel), ("stride", self.stride), ("dilation", self.dilation)];
        let wrong = positive.iter().find_map(|(name, extent)| extent.complaint(name, 1));
        if let Some(message) = wrong.or_else(|| self.padding.complaint("padding", 0)) {
            return Some(message);
        }
        if x.rank() != N + 2 {
            return Some(format!("needs an input {}, got {} dimensions", spatial_input(N), x.rank()));
        }
        let (kernel, padding) = (self.kernel.get(), self.padding.get());
        if (0..N).any(|d| 2 * padding[d] > kernel[d]) {
            return Some("padding must be at most half the kernel size: a window would hold nothing but padding".into());
        }
        None
    }

    /// The windows over `x`, or what is wrong.
    fn over(&self, x: Tensor<'_>) -> Result<Window, String> {
        if let Some(message) = self.complaint(x) {
            return Err(message);
        }
        let [kernel, stride, padding, dilation] = [self.kernel, self.stride, self.padding, self.dilation].map(Extent::get);
        let ones = |inner: &[usize]| [&[1], inner, &[1]].concat();
        let mut window = Window::new(ones(&kernel));
        window.stride = ones(&stride);
        window.window_dilation = ones(&dilation);
        for d in 0..N {
            let (extent, span) = (x.dim(1 + d as isize), dilation[d] * (kernel[d] - 1) + 1);
            let free = (extent + 2 * padding[d])
                .checked_sub(span)
                .ok_or_else(|| format!("the window {} is larger than the input with its padding", by(&kernel)))?;
            let mut last = if self.ceil { free.div_ceil(stride[d]) } else { free / stride[d] };
            if last * stride[d] >= extent + padding[d] {
                // PyTorch's rule: no window starts in the right padding.
                last -= 1;
            }
            let beyond = (last * stride[d]).saturating_sub(free);
            window.padding[1 + d] = (padding[d] as isize, (padding[d] + beyond) as isize);
        }
        Ok(window)
    }
}
