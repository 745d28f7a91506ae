use super::{
    Extent, Layer, NamedPadding, Padding, Scope,
    extent::{by, spatial_input},
};
use crate::init::{Init, bound_of_fan_in};
use backprop_core::{
    Shape, Tensor,
    op::{ConvDims, Convolution},
};
use serde::{Deserialize, Serialize};

/// Convolution of channel-last inputs with `N` spatial dimensions (`[N, spatial.., in]` to `[N, spatial'.., out]`).
/// Parameters `weight` `[out, in / groups, kernel..]`, `bias` `[out]`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(rename = "Conv{N}d")]
#[serde(deny_unknown_fields)]
pub struct Conv<const N: usize> {
    /// Number of result channels.
    pub out_channels: usize,
    /// Extent of the kernel.
    pub kernel_size: Extent<N>,
    /// Step between positions.
    #[serde(default = "Extent::<N>::one")]
    pub stride: Extent<N>,
    /// Zeros around the input.
    #[serde(default)]
    pub padding: Padding<N>,
    /// Distance between the kernel's elements.
    #[serde(default = "Extent::<N>::one")]
    pub dilation: Extent<N>,
    /// Groups of channels that do not see each other.
    #[serde(default = "super::spec_one")]
    pub groups: usize,
    /// Whether a bias is added.
    #[serde(default = "super::spec_true")]
    pub bias: bool,
    /// First values of the weight; with it the bias starts at 0. Without: PyTorch's, both uniform within ±1/√(in/groups·kernel).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<Init>,
}

/// Convolution of sequences: `[N, T, in]` to `[N, T', out]`; weight `[out, in / groups, k]`.
pub type Conv1d = Conv<1>;
/// Convolution of images: `[N, H, W, in]` to `[N, H', W', out]`; weight `[out, in / groups, kh, kw]`.
pub type Conv2d = Conv<2>;
/// Convolution of volumes: `[N, D, H, W, in]` to `[N, D', H', W', out]`; weight `[out, in / groups, kd, kh, kw]`.
pub type Conv3d = Conv<3>;

impl<const N: usize> Conv<N> {
    /// Stride 1, no padding, no dilation, one group, with bias.
    pub fn new(out_channels: usize, kernel_size: impl Into<Extent<N>>) -> Conv<N> {
        Conv {
            out_channels,
            kernel_size: kernel_size.into(),
            stride: Extent::one(),
            padding: Padding::default(),
            dilation: Extent::one(),
            groups: 1,
            bias: true,
            init: None,
        }
    }

    /// Step between positions.
    pub fn stride(mut self, stride: impl Into<Extent<N>>) -> Conv<N> {
        self.stride = stride.into();
        self
    }

    /// Zeros around the input.
    pub fn padding(mut self, padding: impl Into<Padding<N>>) -> Conv<N> {
        self.padding = padding.into();
        self
    }

    /// Distance between the kernel's elements.
    pub fn dilation(mut self, dilation: impl Into<Extent<N>>) -> Conv<N> {
        self.dilation = dilation.into();
        self
    }

    /// Groups of channels that do not see each other.
    pub fn groups(mut self, groups: usize) -> Conv<N> {
        self.groups = groups;
        self
    }

    /// With or without bias.
    pub fn bias(mut self, bias: bool) -> Conv<N> {
        self.bias = bias;
        self
    }

    /// First values of the weight; the bias then starts at 0.
    pub fn init(mut self, init: Init) -> Conv<N> {
        self.init = Some(init);
        self
    }

    /// What is wrong with the layer for an input, if anything.
    fn complaint(&self, x: Tensor<'_>) -> Option<String> {
        let kernel = Kernel { size: self.kernel_size, stride: self.stride, dilation: self.dilation };
        kernel
            .complaint(x, self.out_channels, self.groups)
            .or_else(|| self.padding.complaint())
            .or_else(|| same_complaint(self.padding, self.stride))
            .or_else(|| {
                let window = kernel.window();
                let padding = self.padding.resolve(window);
                let padded = |d: usize| x.dim(1 + d as isize) as isize + padding[d].0 + padding[d].1;
                (0..N)
                    .any(|d| padded(d) < window[d] as isize)
                    .then(|| format!("the kernel covers {}, the input with its padding less; use a smaller kernel", by(&window)))
            })
    }
}

fn same_complaint<const N: usize>(padding: Padding<N>, stride: Extent<N>) -> Option<String> {
    let same = padding == Padding::Named(NamedPadding::Same) && stride != Extent::one();
    same.then(|| "padding \"same\" needs stride 1; give the padding as a number".into())
}

impl<const N: usize> Layer for Conv<N> {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        if let Some(message) = self.complaint(x) {
            return cx.builder().fail(&format!("conv{N}d"), &[x.ty()], message);
        }
        let kernel = Kernel { size: self.kernel_size, stride: self.stride, dilation: self.dilation };
        let convolution = kernel.convolution(x, self.padding.resolve(kernel.window()), self.groups);
        let parameters = Parameters { bias: self.bias, init: self.init.as_ref() };
        let weight = parameters.weight(cx, kernel.shape([self.out_channels, x.dim(-1) / self.groups]));
        parameters.add_bias(cx, x.convolution(weight, convolution), weight)
    }

    fn kind(&self) -> String {
        format!("Conv{N}d")
    }
}

/// Convolution of each image channel for itself: `[N, H, W, in]` to `[N, H', W', in · multiplier]`, where the channels made of one
/// input channel lie together. Parameters `weight` `[in · multiplier, 1, kh, kw]`, `bias` `[in · multiplier]`: PyTorch's `Conv2d` with as
/// many groups as input channels.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DepthwiseConv2d {
    /// Extent of the kernel.
    pub kernel_size: Extent<2>,
    /// Number of result channels per input channel.
    #[serde(default = "super::spec_one")]
    pub multiplier: usize,
    /// Step between positions.
    #[serde(default = "Extent::<2>::one")]
    pub stride: Extent<2>,
    /// Zeros around the image.
    #[serde(default)]
    pub padding: Padding<2>,
    /// Distance between the kernel's elements.
    #[serde(default = "Extent::<2>::one")]
    pub dilation: Extent<2>,
    /// Whether a bias is added.
    #[serde(default = "super::spec_true")]
    pub bias: bool,
    /// First values of the weight; with it the bias starts at 0. Without: PyTorch's, both uniform within ±1/√(kh·kw).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<Init>,
}

impl DepthwiseConv2d {
    /// One result channel per input channel, stride 1, no padding, no dilation, with bias.
    pub fn new(kernel_size: impl Into<Extent<2>>) -> DepthwiseConv2d {
        DepthwiseConv2d {
            kernel_size: kernel_size.into(),
            multiplier: 1,
            stride: Extent::one(),
            padding: Padding::default(),
            dilation: Extent::one(),
            bias: true,
            init: None,
        }
    }

    /// Number of result channels per input channel.
    pub fn multiplier(mut self, multiplier: usize) -> DepthwiseConv2d {
        self.multiplier = multiplier;
        self
    }

    /// Step between positions.
    pub fn stride(mut self, stride: impl Into<Extent<2>>) -> DepthwiseConv2d {
        self.stride = stride.into();
        self
    }

    /// Zeros around the image.
    pub fn padding(mut self, padding: impl Into<Padding<2>>) -> DepthwiseConv2d {
        self.padding = padding.into();
        self
    }

    /// Distance between the kernel's elements.
    pub fn dilation(mut self, dilation: impl Into<Extent<2>>) -> DepthwiseConv2d {
        self.dilation = dilation.into();
        self
    }

    /// With or without bias.
    pub fn bias(mut self, bias: bool) -> DepthwiseConv2d {
        self.bias = bias;
        self
    }

    /// First values of the weight; the bias then starts at 0.
    pub fn init(mut self, init: Init) -> DepthwiseConv2d {
        self.init = Some(init);
        self
    }
}

impl Layer for DepthwiseConv2d {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let channels = if x.rank() == 0 { 0 } else { x.dim(-1) };
        let whole = Conv {
            out_channels: channels.saturating_mul(self.multiplier),
            kernel_size: self.kernel_size,
            stride: self.stride,
            padding: self.padding,
            dilation: self.dilation,
            groups: channels,
            bias: self.bias,
            init: self.init.clone(),
        };
        if self.multiplier == 0 || (x.rank() == 4 && channels == 0) {
            let message = "multiplier must be positive, and the image must have channels";
            return cx.builder().fail("depthwise_conv2d", &[x.ty()], message.into());
        }
        whole.forward(cx, x)
    }
}

/// What every convolution has.
pub(super) struct Kernel<const N: usize> {
    pub size: Extent<N>,
    pub stride: Extent<N>,
    pub dilation: Extent<N>,
}

impl<const N: usize> Kernel<N> {
    /// What is wrong with the numbers or with the input's rank and channels, if anything.
    pub fn complaint(&self, x: Tensor<'_>, out_channels: usize, groups: usize) -> Option<String> {
        let numbers = [("kernel_size", self.size), ("stride", self.stride), ("dilation", self.dilation)];
        if let Some(message) = numbers.iter().find_map(|(name, extent)| extent.complaint(name, 1)) {
            return Some(message);
        }
        if x.rank() != N + 2 {
            return Some(format!("needs an input {}, got {} dimensions", spatial_input(N), x.rank()));
        }
        if out_channels == 0 || groups == 0 {
            return Some("out_channels and groups must be positive".into());
        }
        let channels = x.dim(-1);
        let divide = channels.is_multiple_of(groups) && out_channels.is_multiple_of(groups);
        (!divide).then(|| format!("{channels} input and {out_channels} output channels do not divide into {groups} groups"))
    }

    /// Extent of the kernel with its dilation.
    pub fn window(&self) -> [usize; N] {
        let (size, dilation) = (self.size.get(), self.dilation.get());
        std::array::from_fn(|d| dilation[d] * (size[d] - 1) + 1)
    }

    /// Shape of the weight, after the two extents of its features.
    pub fn shape(&self, features: [usize; 2]) -> Shape {
        features.into_iter().chain(self.size.get()).collect()
    }

    /// The convolution as a primitive.
    pub fn convolution(&self, x: Tensor<'_>, padding: Vec<(isize, isize)>, groups: usize) -> Convolution {
        let mut convolution = Convolution::new(ConvDims::channels_last(N), x.dtype());
        convolution.stride = self.stride.get().to_vec();
        convolution.padding = padding;
        convolution.rhs_dilation = self.dilation.get().to_vec();
        convolution.feature_groups = groups;
        convolution
    }
}

/// Weight and bias with their first values.
pub(super) struct Parameters<'a> {
    pub bias: bool,
    pub init: Option<&'a Init>,
}

impl Parameters<'_> {
    /// PyTorch's: uniform within ±1/√fan-in, where the fan-in is all but the weight's first dimension.
    fn default_init(weight: &[usize]) -> Init {
        Init::uniform(bound_of_fan_in(Shape::from(&weight[1..]).elements()))
    }

    pub fn weight<'g>(&self, cx: &mut Scope<'g>, shape: Shape) -> Tensor<'g> {
        let init = self.init.cloned().unwrap_or_else(|| Self::default_init(&shape));
        cx.param("weight", shape, &init)
    }

    /// Adds the bias, if there is one, to the convolution's result.
    pub fn add_bias<'g>(&self, cx: &mut Scope<'g>, y: Tensor<'g>, weight: Tensor<'g>) -> Tensor<'g> {
        if !self.bias {
            return y;
        }
        let init = if self.init.is_some() { Init::Zeros } else { Self::default_init(&weight.shape()) };
        y + cx.param("bias", [y.dim(-1)], &init)
    }
}
