use super::{
    Extent, Layer, Scope,
    conv::{Kernel, Parameters},
};
use crate::init::Init;
use backprop_core::{Shape, Tensor};
use serde::{Deserialize, Serialize};

/// Transposed convolution of channel-last inputs with `N` spatial dimensions (`[N, spatial.., in]` to `[N, spatial'.., out]`): the
/// gradient of a convolution that maps the result's shape to the input's. Spatial extents become
/// `(extent − 1)·stride − 2·padding + dilation·(kernel − 1) + output_padding + 1`.
/// Parameters `weight` `[in, out / groups, kernel..]`, `bias` `[out]`; PyTorch's `ConvTranspose`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[schemars(rename = "ConvTranspose{N}d")]
#[serde(deny_unknown_fields)]
pub struct ConvTranspose<const N: usize> {
    /// Number of result channels.
    pub out_channels: usize,
    /// Extent of the kernel.
    pub kernel_size: Extent<N>,
    /// Step between the places where the input's elements put the kernel.
    #[serde(default = "Extent::<N>::one")]
    pub stride: Extent<N>,
    /// Elements cut off each side of the result: the padding of the convolution this is the gradient of.
    #[serde(default = "Extent::<N>::zero")]
    pub padding: Extent<N>,
    /// Elements added at the end of the result; less than the stride or the dilation.
    #[serde(default = "Extent::<N>::zero")]
    pub output_padding: Extent<N>,
    /// Distance between the kernel's elements.
    #[serde(default = "Extent::<N>::one")]
    pub dilation: Extent<N>,
    /// Groups of channels that do not see each other.
    #[serde(default = "super::spec_one")]
    pub groups: usize,
    /// Whether a bias is added.
    #[serde(default = "super::spec_true")]
    pub bias: bool,
    /// First values of the weight; with it the bias starts at 0. Without: PyTorch's, both uniform within ±1/√(out/groups·kernel).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub init: Option<Init>,
}

/// Transposed convolution of sequences: `[N, T, in]` to `[N, T', out]`; weight `[in, out / groups, k]`.
pub type ConvTranspose1d = ConvTranspose<1>;
/// Transposed convolution of images: `[N, H, W, in]` to `[N, H', W', out]`; weight `[in, out / groups, kh, kw]`.
pub type ConvTranspose2d = ConvTranspose<2>;
/// Transposed convolution of volumes: `[N, D, H, W, in]` to `[N, D', H', W', out]`; weight `[in, out / groups, kd, kh, kw]`.
pub type ConvTranspose3d = ConvTranspose<3>;

impl<const N: usize> ConvTranspose<N> {
    /// Stride 1, no padding, no dilation, one group, with bias.
    pub fn new(out_channels: usize, kernel_size: impl Into<Extent<N>>) -> ConvTranspose<N> {
        ConvTranspose {
            out_channels,
            kernel_size: kernel_size.into(),
            stride: Extent::one(),
            padding: Extent::zero(),
            output_padding: Extent::zero(),
            dilation: Extent::one(),
            groups: 1,
            bias: true,
            init: None,
        }
    }

    /// Step between the places where the input's elements put the kernel.
    pub fn stride(mut self, stride: impl Into<Extent<N>>) -> ConvTranspose<N> {
        self.stride = stride.into();
        self
    }

    /// Elements cut off each side of the result.
    pub fn padding(mut self, padding: impl Into<Extent<N>>) -> ConvTranspose<N> {
        self.padding = padding.into();
        self
    }

    /// Elements added at the end of the result.
    pub fn output_padding(mut self, output_padding: impl Into<Extent<N>>) -> ConvTranspose<N> {
        self.output_padding = output_padding.into();
        self
    }

    /// Distance between the kernel's elements.
    pub fn dilation(mut self, dilation: impl Into<Extent<N>>) -> ConvTranspose<N> {
        self.dilation = dilation.into();
        self
    }

    /// Groups of channels that do not see each other.
    pub fn groups(mut self, groups: usize) -> ConvTranspose<N> {
        self.groups = groups;
        self
    }

    /// With or without bias.
    pub fn bias(mut self, bias: bool) -> ConvTranspose<N> {
        self.bias = bias;
        self
    }

    /// First values of the weight; the bias then starts at 0.
    pub fn init(mut self, init: Init) -> ConvTranspose<N> {
        self.init = Some(init);
        self
    }

    fn kernel(&self) -> Kernel<N> {
        Kernel { size: self.kernel_size, stride: self.stride, dilation: self.dilation }
    }

    /// The result's spatial extents, or what is wrong with the layer for an input.
    fn extents(&self, x: Tensor<'_>) -> Result<[usize; N], String> {
        let kernel = self.kernel();
        let paddings = [("padding", self.padding), ("output_padding", self.output_padding)];
        let wrong = paddings.iter().find_map(|(name, extent)| extent.complaint(name, 0));
        if let Some(message) = kernel.complaint(x, self.out_channels, self.groups).or(wrong) {
            return Err(message);
        }
        let [stride, dilation, padding, end] = [self.stride, self.dilation, self.padding, self.output_padding].map(Extent::get);
        if (0..N).any(|d| end[d] >= stride[d].max(dilation[d])) {
            return Err("output_padding must be less than the stride or the dilation".into());
        }
        let window = kernel.window();
        let mut extents = [0; N];
        for d in 0..N {
            let positions =
                x.dim(1 + d as isize).checked_sub(1).ok_or("needs at least one element in every dimension of space")?;
            let whole = positions.saturating_mul(stride[d]).saturating_add(window[d] + end[d]);
            if whole > isize::MAX as usize / 4 {
                return Err("the result is larger than any memory; use a smaller stride".into());
            }
            extents[d] = whole
                .checked_sub(2 * padding[d])
                .filter(|&e| e > 0)
                .ok_or_else(|| format!("padding {} on each side leaves nothing of a result of {whole}; use less", padding[d]))?;
        }
        Ok(extents)
    }
}

impl<const N: usize> Layer for ConvTranspose<N> {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let extents = match self.extents(x) {
            Ok(extents) => extents,
            Err(message) => return cx.builder().fail(&format!("conv_transpose{N}d"), &[x.ty()], message),
        };
        let kernel = self.kernel();
        let padding = self.padding.get().map(|p| (p as isize, p as isize)).to_vec();
        // The convolution from the result's shape to the input's, whose gradient this is.
        let convolution = kernel.convolution(x, padding, self.groups);
        let parameters = Parameters { bias: self.bias, init: self.init.as_ref() };
        let weight = parameters.weight(cx, kernel.shape([x.dim(-1), self.out_channels / self.groups]));
        let shape: Shape = [x.dim(0)].into_iter().chain(extents).chain([self.out_channels]).collect();
        parameters.add_bias(cx, convolution.transpose(x, weight, &shape), weight)
    }

    fn kind(&self) -> String {
        format!("ConvTranspose{N}d")
    }
}
