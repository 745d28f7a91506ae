//! First and second derivatives of layers over space, normalisations, activations and combinators in f64, against central differences
//! of the oracle.

use crate::gradients::{DISTINCT, IMAGES, OFF_ZERO, ROWS, SPREAD, check, check_faults};
use backprop::prelude::*;
use backprop_core::op::Domain;

const SIGNALS: &[&[usize]] = &[&[1, 5, 2], &[2, 4, 4], &[1, 3, 2], &[3, 6, 2], &[1, 7, 4], &[2, 3, 2], &[0, 4, 2], &[1, 9, 2]];
const VOLUMES: &[&[usize]] = &[
    &[1, 2, 2, 2, 2],
    &[2, 2, 3, 2, 2],
    &[1, 3, 2, 3, 2],
    &[1, 2, 2, 4, 2],
    &[0, 2, 2, 2, 2],
    &[1, 4, 2, 2, 2],
    &[1, 3, 3, 2, 2],
    &[3, 2, 2, 2, 2],
];
/// Down to a single element.
const SMALL_IMAGES: &[&[usize]] =
    &[&[1, 1, 1, 2], &[2, 3, 2, 2], &[1, 2, 3, 4], &[3, 3, 3, 2], &[1, 3, 1, 2], &[2, 1, 4, 2], &[0, 2, 2, 2], &[1, 5, 1, 2]];
/// Several elements per channel and sample.
const NORMED: &[&[usize]] =
    &[&[1, 3, 2], &[2, 3, 4], &[3, 4, 2], &[2, 2, 3, 2], &[1, 3, 2, 4], &[0, 3, 2], &[1, 2, 2, 2, 2], &[4, 5, 2]];

#[test]
fn convolutions() {
    check(Conv1d::new(3, 3), &SPREAD, SIGNALS);
    check(Conv1d::new(4, 2).stride(2).padding(1).dilation(2).groups(2).bias(false), &SPREAD, SIGNALS);
    check(Conv3d::new(2, 2), &SPREAD, VOLUMES);
    check(Conv3d::new(2, [1, 2, 2]).stride([2, 1, 2]).padding([0, 1, 1]).groups(2).bias(false), &SPREAD, VOLUMES);
    check(DepthwiseConv2d::new(3).padding(Padding::SAME), &SPREAD, IMAGES);
    check(DepthwiseConv2d::new([2, 1]).multiplier(2).stride(2).bias(false), &SPREAD, IMAGES);
}

#[test]
fn transposed_convolutions() {
    let points: &[&[usize]] = &[&[1, 1, 2], &[2, 3, 2], &[1, 4, 4], &[3, 2, 2], &[1, 5, 2], &[2, 1, 4], &[0, 3, 2], &[1, 7, 2]];
    check(ConvTranspose1d::new(3, 3), &SPREAD, points);
    check(ConvTranspose1d::new(2, 3).stride(2).padding(1).output_padding(1).groups(2), &SPREAD, points);
    check(ConvTranspose2d::new(2, 2).stride(2), &SPREAD, SMALL_IMAGES);
    check(ConvTranspose2d::new(4, [3, 2]).stride([1, 3]).dilation([2, 1]).groups(2).padding([1, 0]), &SPREAD, SMALL_IMAGES);
    check(ConvTranspose3d::new(2, [2, 1, 2]).stride([2, 1, 1]).padding([1, 0, 0]).bias(false), &SPREAD, VOLUMES);
}

#[test]
fn pools() {
    check(MaxPool1d::new(2).stride(1), &DISTINCT, SIGNALS);
    check(MaxPool1d::new(2).padding(1).stride(3).ceil_mode(true), &DISTINCT, SIGNALS);
    check(MaxPool2d::new(2).stride(1).dilation([2, 1]).padding(1), &DISTINCT, IMAGES);
    check(MaxPool3d::new([2, 1, 2]).ceil_mode(true), &DISTINCT, VOLUMES);
    check(AvgPool1d::new(3).stride(2).padding(1), &SPREAD, SIGNALS);
    check(AvgPool2d::new(2).ceil_mode(true), &SPREAD, IMAGES);
    check(AvgPool3d::new(2).stride(1).padding(1).count_include_pad(false), &SPREAD, VOLUMES);
    check(AdaptiveAvgPool1d::new(3), &SPREAD, SIGNALS);
    check(AdaptiveAvgPool2d::new([2, 3]), &SPREAD, SMALL_IMAGES);
    check(AdaptiveMaxPool2d::new([3, 2]), &DISTINCT, SMALL_IMAGES);
    // Means of so few that the derivative is not small.
    check(GlobalAvgPool::new(), &SPREAD, &[SIGNALS, SMALL_IMAGES, &[&[1, 2, 2, 2, 2]]].concat());
    check(GlobalMaxPool::new(), &DISTINCT, &[SIGNALS, SMALL_IMAGES, VOLUMES].concat());
}

#[test]
fn normalisations() {
    check(GroupNorm::new(2).eps(1e-2), &DISTINCT, NORMED);
    check(GroupNorm::new(1).affine(false).eps(1e-2), &DISTINCT, NORMED);
    check(InstanceNorm::new().eps(1e-2), &DISTINCT, NORMED);
    check(InstanceNorm::new().affine(true).eps(1e-2), &DISTINCT, NORMED);
    check(RmsNorm::new().eps(1e-3), &DISTINCT, NORMED);
    let planes: &[&[usize]] =
        &[&[2, 3], &[1, 2, 3], &[4, 2, 3], &[2, 2, 2, 3], &[0, 2, 3], &[3, 2, 3], &[1, 1, 2, 3], &[5, 2, 3]];
    check(RmsNorm::new().normalized_shape([2, 3]).elementwise_affine(false).eps(1e-3), &DISTINCT, planes);
    let batches: &[&[usize]] = &[&[4, 1], &[3, 2], &[5, 4], &[7, 3], &[3, 2, 4], &[2, 2, 3, 2], &[1, 3, 2, 3], &[9, 1]];
    check(BatchNorm::new().track_running_stats(false).eps(1e-2), &DISTINCT, batches);
}

#[test]
fn activations() {
    check(LeakyRelu::new().negative_slope(0.2), &OFF_ZERO, ROWS);
    check(PRelu::new(), &OFF_ZERO, ROWS);
    let rows: &[&[usize]] = &[&[1, 1], &[2, 3], &[5, 4], &[1, 7], &[3, 2, 4], &[2, 1, 3], &[9, 1], &[0, 3]];
    check(PRelu::new().per_channel(true), &OFF_ZERO, rows);
    check(Elu::new().alpha(0.7), &OFF_ZERO, ROWS);
    check(Celu::new().alpha(1.5), &OFF_ZERO, ROWS);
    check(Selu::new(), &OFF_ZERO, ROWS);
    check(Silu::new(), &SPREAD, ROWS);
    check(Mish::new(), &SPREAD, ROWS);
    check(Softplus::new(), &SPREAD, ROWS);
    check(Softplus::new().beta(2.0).threshold(100.0), &SPREAD, ROWS);
    check(Softsign::new(), &OFF_ZERO, ROWS);
    check(Glu::new(), &SPREAD, &[&[1, 2], &[2, 4], &[5, 4], &[1, 6], &[3, 2, 4], &[2, 1, 2], &[0, 4], &[9, 2]]);
    check(Glu { dim: 1 }, &SPREAD, &[&[1, 2], &[2, 4, 1], &[5, 2, 3], &[1, 6], &[3, 2, 4], &[2, 2, 2], &[0, 4], &[9, 2]]);
    // Within ±2 of the middle, away from the bounds, where the derivative is not 0.
    let inside = Domain::AwayFrom { low: 0.0, high: 2.5, offset: 0.0, spacing: 3.0, margin: 0.05 };
    check(Relu6::new(), &inside, ROWS);
    check(Hardsigmoid::new(), &inside, ROWS);
    check(Hardswish::new(), &inside, ROWS);
    check(Hardtanh::new().min_val(-0.5).max_val(2.9), &inside, ROWS);
}

#[test]
fn combinators() {
    let linear = || Sequential::new().push(Linear::new(3)).push(Tanh::new());
    let rows: &[&[usize]] = &[&[1, 3], &[2, 3], &[5, 3], &[1, 1, 3], &[3, 2, 3], &[2, 1, 3], &[0, 3], &[9, 3]];
    check(Concat::new().branch(linear()).branch(Sequential::new()).branch(linear()), &SPREAD, rows);
    check(Add::new().branch(linear()).branch(Sequential::new()).branch(linear()), &SPREAD, rows);
    check(Multiply::new().branch(linear()).branch(Sequential::new()).branch(linear()), &SPREAD, rows);
    check(Repeat::new(2, linear()), &SPREAD, ROWS);
    let images: &[&[usize]] =
        &[&[1, 1, 1, 2], &[2, 3, 2, 2], &[1, 2, 3, 4], &[3, 3, 3, 2], &[1, 3, 1, 2], &[2, 1, 4, 2], &[0, 2, 2, 2], &[1, 5, 1, 2]];
    let conv = |channels| Sequential::new().push(Conv2d::new(channels, 1));
    check(Concat::new().dim(1).branch(conv(2)).branch(conv(2)), &SPREAD, images);
}

#[test]
fn arrangements() {
    check(Select::range(1, 1), &SPREAD, IMAGES);
    check(Select::indices([1, 0, 1, 1]), &SPREAD, IMAGES);
    check(Select::indices([2, 0]).dim(1), &SPREAD, IMAGES);
    check(Reshape::new([-1, 2]), &SPREAD, IMAGES);
    check(Permute::new([3, 1, 2]), &SPREAD, IMAGES);
    check(ZeroPad2d::new([1, 0, 2, 1]), &SPREAD, SMALL_IMAGES);
    check(Upsample::nearest([2, 3]), &SPREAD, SMALL_IMAGES);
    check(Upsample::bilinear(2), &SPREAD, SMALL_IMAGES);
    check(Upsample::bilinear([3, 1]), &SPREAD, SMALL_IMAGES);
    check(Flatten::new(), &SPREAD, VOLUMES);
    check(Flatten::new().order(FlattenOrder::ChannelsFirst), &SPREAD, SIGNALS);
    let dropped: &[&[usize]] =
        &[&[2, 2, 1, 8], &[4, 1, 2, 4], &[3, 1, 1, 6], &[2, 3, 2, 5], &[5, 1, 1, 3], &[2, 2, 2, 7], &[0, 2, 2, 2], &[9, 1, 1, 2]];
    check(SpatialDropout2d::new(0.3), &SPREAD, dropped);
}

/// Codes are not differentiated: the input is a summand beside the tables here.
#[derive(Debug)]
struct Lookup<L>(L, usize);

impl<L: Layer> Layer for Lookup<L> {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let shape = [x.shape().elements(), self.1];
        let codes = cx.builder().iota(Type::new(x.dtype(), shape), 0);
        self.0.forward(cx, codes).sum_all() + x.sum_all()
    }
}

#[test]
fn embeddings() {
    let shapes: &[&[usize]] = &[&[1], &[3], &[2, 2], &[5], &[4, 1], &[2, 3, 1], &[7], &[0]];
    check(Lookup(Embedding::new(5, 3), 1), &SPREAD, shapes);
    check(Lookup(ColumnsEmbedding::new([5, 2, 3], [3, 1, 2]), 3), &SPREAD, shapes);
}

#[test]
fn wrong_derivatives_are_noticed() {
    let cases: [(&str, Box<dyn Layer>, &[usize]); 16] = [
        ("convolution", Box::new(Conv1d::new(3, 3)), &[1, 5, 2]),
        ("convolution", Box::new(Conv3d::new(2, 2)), &[1, 2, 2, 2, 2]),
        ("convolution", Box::new(ConvTranspose2d::new(2, 2).stride(2)), &[1, 2, 2, 2]),
        ("convolution", Box::new(DepthwiseConv2d::new(2)), &[1, 3, 3, 2]),
        ("reduce_window", Box::new(MaxPool3d::new(2)), &[1, 2, 2, 4, 2]),
        ("reduce_window", Box::new(AvgPool1d::new(3).stride(2)), &[1, 7, 2]),
        ("gather", Box::new(AdaptiveAvgPool1d::new(3)), &[1, 5, 2]),
        ("gather", Box::new(Upsample::bilinear(2)), &[1, 2, 3, 2]),
        ("reduce", Box::new(GlobalMaxPool::new()), &[2, 3, 2]),
        ("composite", Box::new(GroupNorm::new(2).eps(1e-2)), &[2, 3, 4]),
        ("composite", Box::new(RmsNorm::new().eps(1e-2)), &[2, 5]),
        ("composite", Box::new(Mish::new()), &[2, 3]),
        ("composite", Box::new(Elu::new()), &[2, 3]),
        ("clamp", Box::new(Hardtanh::new()), &[2, 3]),
        ("concatenate", Box::new(Concat::new().branch(Sequential::new()).branch(Sequential::new())), &[2, 3]),
        ("pad", Box::new(ZeroPad2d::new(1)), &[1, 2, 2, 1]),
    ];
    cases.iter().for_each(|(op, layer, shape)| check_faults(op, &**layer, shape));
}
