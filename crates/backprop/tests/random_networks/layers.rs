//! Random layers.

use crate::{custom, network::Dice};
use backprop::{
    nn::{AvgPool, Conv, ConvTranspose, MaxPool, NamedPadding},
    prelude::*,
};
use std::array;

/// Numbers that may be normalised by their own mean and deviation, at least.
const FEW: usize = 8;

/// A layer for samples of some shape, whose last dimension are channels: features, sequences, images or volumes.
pub fn layer(random: &mut Dice, sample: &[usize]) -> AnyLayer {
    let channels = sample.last().copied().unwrap_or(1);
    match (random.below(9), sample.len()) {
        (0..2, _) | (_, ..2) => pointwise(random, channels),
        (2..4, _) => nested(random, sample),
        (4, _) => arrangement(random, sample),
        (_, 2) => sequential(random, sample),
        (_, 3) => planar(random, channels),
        _ => spatial::<3>(random, channels),
    }
}

/// A layer that keeps the number of channels, or changes nothing but that.
fn pointwise(random: &mut Dice, channels: usize) -> AnyLayer {
    let groups = *random.pick(&divisors(channels));
    // What is left of one or two numbers after their mean is rounding, and dividing by its deviation makes it large.
    let norms = usize::from(channels / groups >= FEW) + usize::from(channels >= FEW) * 2;
    match random.below(29 + norms) {
        0..3 => AnyLayer::new(Relu::new()),
        3 => AnyLayer::new(Sigmoid::new()),
        4 => AnyLayer::new(Tanh::new()),
        5 => AnyLayer::new(Silu::new()),
        6 => AnyLayer::new(Gelu::new()),
        7 => AnyLayer::new(Gelu::tanh()),
        8 => AnyLayer::new(LeakyRelu::new()),
        9 => AnyLayer::new(Elu::new()),
        10 => AnyLayer::new(Softplus::new()),
        11 => AnyLayer::new(Hardswish::new()),
        12 => AnyLayer::new(PRelu::new()),
        13 => AnyLayer::new(Mish::new()),
        14 => AnyLayer::new(Softmax::new()),
        15 => AnyLayer::new(Dropout::new(0.25)),
        16 => AnyLayer::new(BatchNorm::new()),
        17 => AnyLayer::new(Glu::new()),
        18..21 => AnyLayer::new(Linear::new(random.features()).bias(random.chance(0.7))),
        21 => AnyLayer::new(Celu::new()),
        22 => AnyLayer::new(Selu::new()),
        23 => AnyLayer::new(Softsign::new()),
        24 => AnyLayer::new(Hardtanh::new()),
        25 => AnyLayer::new(Hardsigmoid::new()),
        26 => AnyLayer::new(LogSoftmax::new()),
        27 => AnyLayer::new(custom::Squash),
        28 => AnyLayer::new(custom::Tied { codes: 3 + random.below(30) }),
        29 => AnyLayer::new(LayerNorm::new()),
        30 => AnyLayer::new(RmsNorm::new()),
        _ => AnyLayer::new(GroupNorm::new(groups)),
    }
}

/// Layers within a layer.
fn nested(random: &mut Dice, sample: &[usize]) -> AnyLayer {
    let channels = sample.last().copied().unwrap_or(1);
    let body = |random: &mut Dice, last: usize| {
        let width = random.features();
        let body = Sequential::new().push(convolution(random, sample.len() - 1, width)).push(pointwise(random, width));
        body.push(AnyLayer::new(Linear::new(last)))
    };
    let (one, two) = (random.features(), random.features());
    match random.below(7) {
        0 => AnyLayer::new(Residual::new(body(random, channels))),
        1 => AnyLayer::new(Concat::new().branch(body(random, one)).branch(body(random, two))),
        2 => AnyLayer::new(Add::new().branch(body(random, one)).branch(body(random, one))),
        3 => AnyLayer::new(Multiply::new().branch(body(random, channels)).branch(Sequential::new())),
        4 => AnyLayer::new(Repeat::new(2, body(random, channels))),
        5 => AnyLayer::new(checkpoint(Sequential::new().push(layer(random, sample)).push(AnyLayer::new(Dropout::new(0.2))))),
        _ => AnyLayer::new(checkpoint(body(random, one))),
    }
}

/// A layer that only moves or leaves out elements.
fn arrangement(random: &mut Dice, sample: &[usize]) -> AnyLayer {
    let dim = random.below(sample.len());
    let positions = 1 + random.below(2 * sample[dim]);
    match random.below(4) {
        0 => AnyLayer::new(Permute::new(random.permutation(sample.len()).iter().map(|d| 1 + d).collect::<Vec<_>>())),
        1 => {
            let indices: Vec<usize> = (0..positions).map(|_| random.below(sample[dim])).collect();
            AnyLayer::new(Select::indices(indices).dim(1 + dim as isize))
        }
        2 => {
            let start = random.below(sample[dim]);
            AnyLayer::new(Select::range(start, 1 + random.below(sample[dim] - start)).dim(1 + dim as isize))
        }
        _ => {
            let mut shape: Vec<isize> = sample.iter().map(|&extent| extent as isize).collect();
            if shape.len() > 2 && random.chance(0.5) {
                let first = shape.remove(0);
                shape[0] *= first;
            } else {
                shape.reverse();
            }
            AnyLayer::new(Reshape::new(shape))
        }
    }
}

/// A convolution that keeps the extents.
fn convolution(random: &mut Dice, space: usize, width: usize) -> AnyLayer {
    let (size, bias) = (*random.pick(&[1, 3, 3, 5]), random.chance(0.5));
    match space {
        1 => AnyLayer::new(Conv1d::new(width, size).padding(size / 2).bias(bias)),
        2 => AnyLayer::new(Conv2d::new(width, size).padding(size / 2).bias(bias)),
        _ => AnyLayer::new(Conv3d::new(width, size.min(3)).padding(size.min(3) / 2).bias(bias)),
    }
}

/// Windows over some dimensions of space.
struct Windows<const N: usize> {
    size: [usize; N],
    stride: [usize; N],
    padding: [usize; N],
    dilation: [usize; N],
}

/// In every other case the same in every dimension.
fn windows<const N: usize>(random: &mut Dice) -> Windows<N> {
    let alike = random.chance(0.5);
    let mut each = |from: usize, to: usize| {
        let all = from + random.below(to - from);
        array::from_fn(|_| if alike { all } else { from + random.below(to - from) })
    };
    let size: [usize; N] = each(1, if N == 3 { 4 } else { 6 });
    let (stride, padding, dilation) = (each(1, 4), each(0, 3), each(1, 3));
    let often = |random: &mut Dice, from: [usize; N]| if random.chance(0.5) { [1; N] } else { from };
    Windows {
        size,
        stride: often(random, stride),
        padding: array::from_fn(|d| padding[d].min(size[d] / 2)),
        dilation: often(random, dilation),
    }
}

/// Convolutions and pools of any options.
fn spatial<const N: usize>(random: &mut Dice, channels: usize) -> AnyLayer {
    let (width, groups) = (random.features(), *random.pick(&divisors(channels)));
    let Windows { size, stride, padding, dilation } = windows::<N>(random);
    let (bias, ceil) = (random.chance(0.5), random.chance(0.5));
    let conv = Conv::<N>::new(width, size).stride(stride).padding(padding).dilation(dilation).bias(bias);
    let transpose = ConvTranspose::<N>::new(width, size).stride(stride).padding(padding).dilation(dilation).bias(bias);
    let of_groups = groups * (1 + width / groups);
    match random.below(12) {
        0 | 1 => convolution(random, N, width),
        2 => AnyLayer::new(conv.stride(1).padding(NamedPadding::Same)),
        3 | 4 => AnyLayer::new(conv),
        5 => AnyLayer::new(Conv::<N> { out_channels: of_groups, ..conv }.groups(groups)),
        6 => AnyLayer::new(Conv::<N> { out_channels: channels * (1 + random.below(2)), ..conv }.groups(channels)),
        7 => AnyLayer::new(transpose.output_padding(stride.map(|stride| random.below(stride)))),
        8 => AnyLayer::new(ConvTranspose::<N> { out_channels: of_groups, ..transpose }.groups(groups)),
        9 => AnyLayer::new(MaxPool::<N>::new(size).stride(stride).padding(padding).dilation(dilation).ceil_mode(ceil)),
        10 => AnyLayer::new(AvgPool::<N>::new(size).stride(stride).padding(padding).ceil_mode(ceil).count_include_pad(bias)),
        _ => AnyLayer::new(InstanceNorm::new()),
    }
}

/// Layers over images.
fn planar(random: &mut Dice, channels: usize) -> AnyLayer {
    let Windows { size, stride, padding, dilation } = windows::<2>(random);
    let output = [1 + random.below(6), 1 + random.below(6)];
    match random.below(18) {
        0 => AnyLayer::new(Upsample::nearest(stride)),
        1 => AnyLayer::new(Upsample::bilinear(stride)),
        2 => AnyLayer::new(SpatialDropout2d::new(0.25)),
        3 => AnyLayer::new(AdaptiveAvgPool2d::new(output)),
        4 => AnyLayer::new(AdaptiveMaxPool2d::new(output)),
        5 => AnyLayer::new(ZeroPad2d::new([0; 4].map(|_| random.below(3)))),
        6 => {
            let depthwise = DepthwiseConv2d::new(size).multiplier(1 + random.below(2)).stride(stride);
            AnyLayer::new(depthwise.padding(padding).dilation(dilation))
        }
        _ => spatial::<2>(random, channels),
    }
}

/// Layers over sequences.
fn sequential(random: &mut Dice, sample: &[usize]) -> AnyLayer {
    let (steps, channels) = (sample[0], sample[1]);
    let (width, heads) = (random.features(), *random.pick(&divisors(channels)));
    let [yes, both, biased, last] = [0.5, 0.4, 0.8, 0.2].map(|p| random.chance(p));
    let (layers, dropout) = (1 + random.below(2), *random.pick(&[0.0, 0.0, 0.3]));
    match random.below(17) {
        0..4 => spatial::<1>(random, channels),
        4 => AnyLayer::new(AdaptiveAvgPool1d::new(1 + random.below(9))),
        5 | 6 => {
            AnyLayer::new(Lstm::new(width).num_layers(layers).bidirectional(both).bias(biased).last_step(last).dropout(dropout))
        }
        7 | 8 => {
            AnyLayer::new(Gru::new(width).num_layers(layers).bidirectional(both).bias(biased).last_step(last).dropout(dropout))
        }
        9 => {
            let kind = if yes { Nonlinearity::Tanh } else { Nonlinearity::Relu };
            AnyLayer::new(Rnn::new(width).num_layers(layers).bidirectional(both).bias(biased).last_step(last).nonlinearity(kind))
        }
        10 => AnyLayer::new(PositionalEmbedding::new(steps + random.below(4))),
        11 => AnyLayer::new(SinusoidalPositions::new()),
        12 => {
            let layer = Lstm::new(width).num_layers(layers).bidirectional(both).bias(biased);
            AnyLayer::new(custom::Continued { layer, at: random.below(steps + 1) })
        }
        13 => AnyLayer::new(custom::Looped { reverse: yes }),
        _ if channels < FEW => convolution(random, 1, width),
        14 => AnyLayer::new(custom::Masked { heads, keys: 1 + random.below(steps), values: 1 + random.below(20), causal: yes }),
        15 => AnyLayer::new(MultiHeadAttention::new(heads).causal(yes).bias(biased).dropout(dropout)),
        _ => {
            let block = TransformerBlock::new(heads).dim_feedforward(width).dropout(dropout).causal(yes).norm_first(both);
            AnyLayer::new(block.activation(if last { FeedForwardActivation::Gelu } else { FeedForwardActivation::Relu }))
        }
    }
}

pub fn divisors(n: usize) -> Vec<usize> {
    (1..=n).filter(|d| n.is_multiple_of(*d)).collect()
}
