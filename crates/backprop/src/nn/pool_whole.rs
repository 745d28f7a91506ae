use super::{
    Extent, Layer, Scope,
    extent::{by, spatial_input},
    recurrent::keep_positions,
    take::take,
};
use backprop_core::{
    HostTensor, Tensor,
    op::{Reducer, Window},
};
use serde::{Deserialize, Serialize};

/// Largest extent of an adaptive pool's result.
const LARGEST: usize = 1 << 16;

/// Mean over all spatial dimensions: `[N, spatial.., C]` to `[N, C]`. Of sequences `[N, T, C]` with a
/// [padding mask](Scope::padding_mask), over the positions that are no padding; 0 where there are none.
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
        match spatial(x).and_then(|dims| Ok((dims, cx.keep_in_pool(x)?))) {
            Ok((_, Some(keep))) => masked_mean(keep, x),
            Ok((dims, None)) => x.mean(&dims),
            Err(message) => cx.builder().fail("global_avg_pool", &[x.ty()], message),
        }
    }
}

/// Largest value over all spatial dimensions: `[N, spatial.., C]` to `[N, C]`. Equal values share the gradient, as in PyTorch's `amax`. Of
/// sequences `[N, T, C]` with a [padding mask](Scope::padding_mask), over the positions that are no padding; 0 where there are none.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GlobalMaxPool {}

impl GlobalMaxPool {
    /// The layer.
    pub fn new() -> GlobalMaxPool {
        GlobalMaxPool {}
    }
}

impl Layer for GlobalMaxPool {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        match spatial(x).and_then(|dims| Ok((dims, cx.keep_in_pool(x)?))) {
            Ok((_, Some(keep))) => masked_max(keep, x),
            Ok((dims, None)) => x.max(&dims),
            Err(message) => cx.builder().fail("global_max_pool", &[x.ty()], message),
        }
    }
}

/// Mean over the positions of `[N, T, C]` where `keep` `[N, T]` is true.
fn masked_mean<'g>(keep: Tensor<'g>, x: Tensor<'g>) -> Tensor<'g> {
    let sum = keep_positions(keep, x).sum(&[1]);
    let count = keep.convert(x.dtype()).sum(&[1]).maximum(1.0);
    sum / count.broadcast_in_dim(sum.shape(), &[0])
}

/// Largest value over the positions of `[N, T, C]` where `keep` `[N, T]` is true.
fn masked_max<'g>(keep: Tensor<'g>, x: Tensor<'g>) -> Tensor<'g> {
    let lowest = x.builder().full(x.ty(), f64::NEG_INFINITY);
    let largest = keep.broadcast_in_dim(x.shape(), &[0, 1]).select(x, lowest).max(&[1]);
    let any = keep.convert(x.dtype()).max(&[1]).greater(0.0);
    any.broadcast_in_dim(largest.shape(), &[0]).select(largest, x.builder().zeros(largest.ty()))
}

/// The spatial dimensions of an input, or why there are none.
fn spatial(x: Tensor<'_>) -> Result<Vec<usize>, String> {
    let dims: Vec<usize> = (1..x.rank().saturating_sub(1)).collect();
    if dims.is_empty() {
        return Err(format!("needs an input [N, spatial.., channels] of at least 3 dimensions, got {}", x.rank()));
    }
    if dims.iter().any(|&d| x.shape()[d] == 0) {
        return Err("needs at least one element in every dimension of space".into());
    }
    Ok(dims)
}

macro_rules! adaptive {
    ($($(#[$doc:meta])* $layer:ident $name:literal $n:literal $reducer:ident;)*) => { $(
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(deny_unknown_fields)]
        pub struct $layer {
            /// Extent of the result.
            pub output_size: Extent<$n>,
        }

        impl $layer {
            /// To a result of an extent.
            pub fn new(output_size: impl Into<Extent<$n>>) -> $layer {
                $layer { output_size: output_size.into() }
            }
        }

        impl Layer for $layer {
            fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
                match adaptive_pool(x, self.output_size, Reducer::$reducer) {
                    Ok(y) => y,
                    Err(message) => cx.builder().fail($name, &[x.ty()], message),
                }
            }
        }
    )* };
}

adaptive! {
    /// Means of as many windows as the result shall have: window i of `out` covers the elements from ⌊i·in/out⌋ to before
    /// ⌈(i+1)·in/out⌉. `[N, T, C]` to `[N, out, C]`.
    AdaptiveAvgPool1d "adaptive_avg_pool1d" 1 Sum;
    /// Means of as many windows as the result shall have; along each dimension window i of `out` covers the elements from
    /// ⌊i·in/out⌋ to before ⌈(i+1)·in/out⌉. `[N, H, W, C]` to `[N, out, out, C]`.
    AdaptiveAvgPool2d "adaptive_avg_pool2d" 2 Sum;
    /// Largest values of as many windows as the result shall have; along each dimension window i of `out` covers the elements from
    /// ⌊i·in/out⌋ to before ⌈(i+1)·in/out⌉. Of equal values the first takes the gradient. `[N, H, W, C]` to `[N, out, out, C]`.
    AdaptiveMaxPool2d "adaptive_max_pool2d" 2 Max;
}

/// Pools each spatial dimension in turn, the last one first: so the first of equal maxima in row-major order is chosen.
fn adaptive_pool<'g, const N: usize>(x: Tensor<'g>, output: Extent<N>, reducer: Reducer) -> Result<Tensor<'g>, String> {
    if x.rank() != N + 2 {
        return Err(format!("needs an input {}, got {} dimensions", spatial_input(N), x.rank()));
    }
    spatial(x)?;
    let output = output.get();
    if output.iter().any(|out| !(1..=LARGEST).contains(out)) {
        return Err(format!("output_size must be from 1 to {LARGEST}, got {}", by(&output)));
    }
    (0..N).rev().try_fold(x, |x, d| adaptive_dim(x, 1 + d, output[d], reducer))
}

/// Pools one dimension to `out` windows. They differ in length, so each window's elements are laid out side by side, up to the longest.
fn adaptive_dim(x: Tensor<'_>, dim: usize, out: usize, reducer: Reducer) -> Result<Tensor<'_>, String> {
    let extent = x.shape()[dim];
    let bounds: Vec<(usize, usize)> = (0..out).map(|i| (i * extent / out, ((i + 1) * extent).div_ceil(out))).collect();
    let longest = bounds.iter().map(|(start, end)| end - start).max().unwrap_or(1);
    // Beyond a window's end its last element again: no first maximum, and for means not counted.
    let index = bounds.iter().flat_map(|&(start, end)| (0..longest).map(move |k| (start + k).min(end - 1)));
    let laid_out = if extent.is_multiple_of(out) { x } else { take(x, dim, &index.collect::<Vec<_>>()) };
    let mut shape = laid_out.shape().to_vec();
    shape.splice(dim..=dim, [out, longest]);
    let windows = laid_out.reshape(shape.clone());
    if reducer == Reducer::Max {
        let mut size = vec![1; shape.len()];
        size[dim + 1] = longest;
        let largest = windows.reduce_window(reducer, Window::new(size));
        shape.remove(dim + 1);
        return Ok(largest.reshape(shape));
    }
    if bounds.iter().all(|(start, end)| end - start == longest) {
        return Ok(windows.mean(&[dim + 1]));
    }
    let mut along = vec![1; shape.len()];
    (along[dim], along[dim + 1]) = (out, longest);
    let share = bounds
        .iter()
        .flat_map(|&(start, end)| (0..longest).map(move |k| if k < end - start { 1.0 / (end - start) as f64 } else { 0.0 }));
    let share = x.builder().constant(HostTensor::from_f64(x.dtype(), along, &share.collect::<Vec<_>>())?);
    let zeros = x.builder().zeros(windows.ty());
    // select, not the product alone: an infinity that does not count would give NaN.
    Ok(share.greater(0.0).select(windows * share, zeros).sum(&[dim + 1]))
}
