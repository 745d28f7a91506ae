use super::{Layer, Padding, Pair, Scope, extent::NamedPadding};
use crate::init::{Init, bound_of_fan_in};
use backprop_core::{
    Tensor,
    op::{ConvDims, Convolution},
};
use serde::{Deserialize, Serialize};

/// Two-dimensional convolution of channel-last images: `[N, H, W, in]` to `[N, H', W', out]`.
/// Parameters `weight` `[out, in / groups, kh, kw]`, `bias` `[out]`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Conv2d {
    /// Number of result channels.
    pub out_channels: usize,
    /// Extent of the kernel.
    pub kernel_size: Pair,
    /// Step between positions.
    #[serde(default = "Pair::one")]
    pub stride: Pair,
    /// Zeros around the image.
    #[serde(default)]
    pub padding: Padding,
    /// Distance between the kernel's elements.
    #[serde(default = "Pair::one")]
    pub dilation: Pair,
    /// Groups of channels that do not see each other.
    #[serde(default = "super::spec_one")]
    pub groups: usize,
    /// Whether a bias is added.
    #[serde(default = "super::spec_true")]
    pub bias: bool,
    /// First values of the weight; with it the bias starts at 0. Without: PyTorch's, both uniform within ±1/√(in/groups·kh·kw).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<Init>,
}

impl Conv2d {
    /// Stride 1, no padding, no dilation, one group, with bias.
    pub fn new(out_channels: usize, kernel_size: impl Into<Pair>) -> Conv2d {
        Conv2d {
            out_channels,
            kernel_size: kernel_size.into(),
            stride: Pair::one(),
            padding: Padding::default(),
            dilation: Pair::one(),
            groups: 1,
            bias: true,
            init: None,
        }
    }

    /// Step between positions.
    pub fn stride(mut self, stride: impl Into<Pair>) -> Conv2d {
        self.stride = stride.into();
        self
    }

    /// Zeros around the image.
    pub fn padding(mut self, padding: impl Into<Padding>) -> Conv2d {
        self.padding = padding.into();
        self
    }

    /// Distance between the kernel's elements.
    pub fn dilation(mut self, dilation: impl Into<Pair>) -> Conv2d {
        self.dilation = dilation.into();
        self
    }

    /// Groups of channels that do not see each other.
    pub fn groups(mut self, groups: usize) -> Conv2d {
        self.groups = groups;
        self
    }

    /// With or without bias.
    pub fn bias(mut self, bias: bool) -> Conv2d {
        self.bias = bias;
        self
    }

    /// First values of the weight; the bias then starts at 0.
    pub fn init(mut self, init: Init) -> Conv2d {
        self.init = Some(init);
        self
    }

    /// What is wrong with the layer for an input, if anything.
    fn complaint(&self, x: Tensor<'_>) -> Option<String> {
        let positive = [self.kernel_size, self.stride, self.dilation].iter().all(|p| !p.get().contains(&0));
        if !positive || self.out_channels == 0 || self.groups == 0 {
            return Some("out_channels, kernel_size, stride, dilation and groups must be positive".into());
        }
        if x.rank() != 4 {
            return Some(format!("needs images [N, height, width, channels], got {} dimensions", x.rank()));
        }
        let channels = x.dim(-1);
        if !channels.is_multiple_of(self.groups) || !self.out_channels.is_multiple_of(self.groups) {
            return Some(format!(
                "{channels} input and {} output channels do not divide into {} groups",
                self.out_channels, self.groups
            ));
        }
        if self.padding == Padding::Named(NamedPadding::Same) && self.stride.get() != [1, 1] {
            return Some("padding \"same\" needs stride 1; give the padding as a number".into());
        }
        let ([h, w], window) = ([x.dim(1), x.dim(2)], self.window());
        let padded: Vec<isize> = self.padding.resolve(window).iter().map(|(before, after)| before + after).collect();
        if (h as isize + padded[0]) < window[0] as isize || (w as isize + padded[1]) < window[1] as isize {
            return Some(format!(
                "the kernel covers {}×{}, the image with its padding less; use a smaller kernel",
                window[0], window[1]
            ));
        }
        None
    }

    /// Extent of the kernel with its dilation.
    fn window(&self) -> [usize; 2] {
        let (kernel, dilation) = (self.kernel_size.get(), self.dilation.get());
        [dilation[0] * (kernel[0] - 1) + 1, dilation[1] * (kernel[1] - 1) + 1]
    }
}

impl Layer for Conv2d {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        if let Some(message) = self.complaint(x) {
            return cx.builder().fail("conv2d", &[x.ty()], message);
        }
        let [kh, kw] = self.kernel_size.get();
        let in_features = x.dim(-1) / self.groups;
        let default = Init::uniform(bound_of_fan_in(in_features * kh * kw));
        let shape = [self.out_channels, in_features, kh, kw];
        let weight = cx.param("weight", shape, self.init.as_ref().unwrap_or(&default));
        let mut convolution = Convolution::new(ConvDims::channels_last(2), x.dtype());
        convolution.stride = self.stride.get().to_vec();
        convolution.padding = self.padding.resolve(self.window());
        convolution.rhs_dilation = self.dilation.get().to_vec();
        convolution.feature_groups = self.groups;
        let y = x.convolution(weight, convolution);
        if !self.bias {
            return y;
        }
        let bias_init = if self.init.is_some() { Init::Zeros } else { default };
        y + cx.param("bias", [self.out_channels], &bias_init)
    }
}
