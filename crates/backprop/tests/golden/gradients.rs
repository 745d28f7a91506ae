//! First and second derivatives of every layer and loss in f64, against central differences of the oracle.

use backprop::prelude::*;
use backprop_check::{CheckError, GradientCheck, Random};
use backprop_core::{
    grad::{Fault, FaultKind, with_fault},
    op::Domain,
    random::Randomness,
    reference::Array,
};
use std::collections::HashMap;

pub const SPREAD: Domain = Domain::Uniform(-1.5, 1.5);
/// Away from the kink at 0.
pub const OFF_ZERO: Domain = Domain::AwayFrom { low: -1.5, high: 1.5, offset: 0.0, spacing: 100.0, margin: 0.05 };
/// Without ties, and further apart than the differences reach.
pub const DISTINCT: Domain = Domain::Distinct(-2.0, 2.0);

fn trace<'g>(
    layer: &dyn Layer,
    b: &'g Builder,
    x: Tensor<'g>,
    values: HashMap<String, Tensor<'g>>,
) -> (Tensor<'g>, Vec<StateSpec>) {
    let seed = b.constant(HostTensor::new([2], &[3u32, 4]).unwrap());
    let zero = b.scalar(DType::U32, 0.0);
    let scope = Scope::new(b, DType::F64, Mode::Train).with_randomness(Randomness { seed, step: zero, offset: zero, rows: None });
    let mut cx = scope.with_values(values);
    (layer.forward(&mut cx, x), cx.specs())
}

/// Checks a layer for inputs of several shapes with respect to input and parameters.
pub fn check(layer: impl Layer, domain: &Domain, shapes: &[&[usize]]) {
    assert!(shapes.len() >= 8, "{layer:?}: {} shapes", shapes.len());
    for (seed, &shape) in shapes.iter().enumerate() {
        check_one(&layer, Type::new(DType::F64, shape), domain, seed as u64);
    }
}

/// State a layer asks for on an input of a type.
fn parameters(layer: &dyn Layer, ty: &Type) -> Vec<StateSpec> {
    let b = Builder::new();
    let x = b.input("x", Role::Data, ty.clone());
    let (_, specs) = trace(layer, &b, x, HashMap::new());
    b.finish().unwrap_or_else(|e| panic!("{layer:?} on {ty}: {e}"));
    specs
}

fn check_one(layer: &dyn Layer, ty: Type, domain: &Domain, seed: u64) {
    let mut random = Random::new(seed);
    let specs = parameters(layer, &ty);
    let state = specs.iter().map(|s| random.array(&s.ty, &Domain::Uniform(-0.9, 0.9))).collect::<Vec<Array>>();
    let inputs = [vec![random.array(&ty, domain)], state].concat();
    let report = GradientCheck::default().run(&inputs, |b, xs| {
        let values = specs.iter().map(|s| s.name.clone()).zip(xs[1..].iter().copied()).collect();
        vec![trace(layer, b, xs[0], values).0]
    });
    let report = report.unwrap_or_else(|e| panic!("{layer:?} on {ty}: {e}"));
    let empty = ty.elements() == 0;
    assert!(empty || report.largest_derivative() >= 0.05, "{layer:?} on {ty}: the derivatives vanish");
}

pub const ROWS: &[&[usize]] = &[&[1, 1], &[2, 3], &[5, 4], &[1, 7], &[3, 2, 4], &[2, 1, 3], &[0, 3], &[9, 1]];
pub const IMAGES: &[&[usize]] =
    &[&[1, 4, 4, 2], &[2, 3, 5, 2], &[1, 5, 3, 4], &[3, 4, 4, 2], &[1, 3, 3, 2], &[2, 4, 6, 2], &[0, 4, 4, 2], &[1, 7, 3, 2]];

#[test]
fn linear() {
    check(Linear::new(3), &SPREAD, ROWS);
    check(Linear::new(1).bias(false), &SPREAD, ROWS);
}

#[test]
fn convolutions() {
    check(Conv2d::new(3, 3), &SPREAD, IMAGES);
    check(Conv2d::new(2, [2, 3]).stride([2, 1]).padding([1, 2]).dilation([1, 2]).bias(false), &SPREAD, IMAGES);
    check(Conv2d::new(4, 3).groups(2).padding(Padding::SAME), &SPREAD, IMAGES);
}

#[test]
fn pools() {
    check(MaxPool2d::new(2), &DISTINCT, IMAGES);
    check(MaxPool2d::new([3, 2]).stride([1, 2]).padding([1, 0]), &DISTINCT, IMAGES);
    check(AvgPool2d::new(2).stride(1), &SPREAD, IMAGES);
    check(AvgPool2d::new(3).stride(2).padding(1).count_include_pad(false), &SPREAD, IMAGES);
    let small: &[&[usize]] =
        &[&[1, 1, 1, 1], &[2, 3, 2, 2], &[1, 2, 3, 4], &[3, 3, 3, 2], &[1, 3, 1, 2], &[2, 1, 5, 1], &[0, 2, 2, 2], &[1, 7, 1, 2]];
    check(GlobalAvgPool::new(), &SPREAD, small);
    check(Flatten::new(), &SPREAD, IMAGES);
}

#[test]
fn normalisations() {
    let batches: &[&[usize]] = &[&[4, 1], &[3, 2], &[5, 4], &[7, 3], &[3, 2, 4], &[2, 2, 3, 2], &[1, 3, 2, 3], &[9, 1]];
    check(BatchNorm::new().eps(1e-3), &DISTINCT, batches);
    check(BatchNorm::new().affine(false).eps(1e-2), &DISTINCT, batches);
    let rows: &[&[usize]] = &[&[1, 3], &[2, 3], &[5, 4], &[1, 7], &[3, 2, 4], &[2, 1, 3], &[0, 3], &[9, 2]];
    check(LayerNorm::new().eps(1e-3), &DISTINCT, rows);
    let planes: &[&[usize]] =
        &[&[2, 3], &[1, 2, 3], &[4, 2, 3], &[2, 2, 2, 3], &[0, 2, 3], &[3, 2, 3], &[1, 1, 2, 3], &[5, 2, 3]];
    check(LayerNorm::new().normalized_shape([2, 3]).eps(1e-3), &DISTINCT, planes);
}

#[test]
fn activations() {
    check(Relu::new(), &OFF_ZERO, ROWS);
    check(Sigmoid::new(), &SPREAD, ROWS);
    check(Tanh::new(), &SPREAD, ROWS);
    check(Gelu::new(), &SPREAD, ROWS);
    check(Gelu::tanh(), &SPREAD, ROWS);
    // Over one element a softmax is constant.
    let several: &[&[usize]] = &[&[1, 3], &[2, 3], &[5, 4], &[1, 7], &[3, 2, 4], &[2, 1, 3], &[0, 3], &[9, 2]];
    check(Softmax::new(), &SPREAD, several);
    check(LogSoftmax::new(), &SPREAD, several);
    let columns: &[&[usize]] = &[&[3, 1], &[2, 3], &[5, 4], &[7, 1], &[3, 2, 4], &[2, 1, 3], &[3, 0], &[9, 2]];
    check(Softmax { dim: 0 }, &SPREAD, columns);
    check(LogSoftmax { dim: 0 }, &SPREAD, columns);
}

#[test]
fn dropout_and_recomputation() {
    check(Dropout::new(0.3), &SPREAD, &[&[8, 4], &[4, 3], &[5, 4], &[1, 7], &[3, 2, 4], &[4, 1, 3], &[0, 3], &[9, 1]]);
    let body = || Sequential::new().push(Linear::new(4)).push(Dropout::new(0.3)).push(Tanh::new()).push(Linear::new(2));
    check(checkpoint(body()), &SPREAD, &[&[2, 2], &[2, 3], &[5, 4], &[2, 7], &[3, 2, 4], &[2, 1, 3], &[0, 3], &[9, 1]]);
}

#[test]
fn residual() {
    let body = Sequential::new().push(Conv2d::new(3, 3).padding(1)).push(Tanh::new()).push(Conv2d::new(2, 1));
    check(Residual::new(body).shortcut(Sequential::new().push(Conv2d::new(2, 1).bias(false))), &SPREAD, IMAGES);
}

#[test]
fn sequences() {
    let sequences: &[&[usize]] =
        &[&[1, 1, 1], &[2, 3, 2], &[1, 5, 3], &[3, 2, 1], &[2, 1, 4], &[0, 3, 2], &[1, 7, 1], &[4, 2, 2]];
    check(Lstm::new(2), &SPREAD, sequences);
    let longer: &[&[usize]] = &[&[2, 2, 1], &[2, 3, 2], &[1, 5, 3], &[3, 2, 1], &[2, 1, 4], &[0, 3, 2], &[1, 7, 1], &[4, 2, 2]];
    check(Lstm::new(3).num_layers(2).last_step(true), &SPREAD, longer);
    check(Lstm::new(2).bias(false), &SPREAD, sequences);
}

/// Indices are not differentiated: the input is a constant of the layer here.
#[derive(Debug)]
struct Lookup(Embedding);

impl Layer for Lookup {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let indices = cx.builder().iota(Type::new(DType::I32, x.shape()), 0);
        self.0.forward(cx, indices).sum_all() + x.sum_all()
    }
}

#[test]
fn embedding() {
    check(Lookup(Embedding::new(5, 3)), &SPREAD, &[&[1], &[3], &[2, 2], &[0], &[5], &[4, 1], &[2, 3, 1], &[7]]);
}

fn check_loss(loss: impl Loss, shapes: &[&[usize]], target: impl Fn(&mut Random, &[usize]) -> Array) {
    for (seed, &shape) in shapes.iter().enumerate() {
        let mut random = Random::new(seed as u64);
        let output = random.array(&Type::new(DType::F64, shape), &SPREAD);
        let target = target(&mut random, shape);
        let report = GradientCheck::default().run(&[output, target], |_, xs| vec![loss.forward(xs[0], xs[1]).mean()]);
        report.unwrap_or_else(|e| panic!("{loss:?} on {shape:?}: {e}"));
    }
}

#[test]
fn losses() {
    let classes = |random: &mut Random, shape: &[usize]| {
        let (classes, ty) = (shape[shape.len() - 1], Type::new(DType::I32, &shape[..shape.len() - 1]));
        // The first position counts in any case: a mean over nothing has no derivative.
        let draw = |i: usize, random: &mut Random| if i % 4 == 3 { -100 } else { random.below(classes) as i128 };
        let values = (0..ty.elements()).map(|i| draw(i, random)).collect();
        Array::int(&ty, values)
    };
    let logits: &[&[usize]] = &[&[1, 2], &[2, 3], &[5, 4], &[1, 7], &[3, 2, 4], &[2, 1, 3], &[9, 3], &[3]];
    check_loss(CrossEntropy::new(), logits, classes);
    check_loss(CrossEntropy::new().label_smoothing(0.2), logits, classes);
    let three: &[&[usize]] = &[&[1, 3], &[2, 3], &[5, 3], &[7, 3], &[3, 2, 3], &[2, 1, 3], &[9, 3], &[3]];
    check_loss(CrossEntropy::new().weight([0.5, 2.0, 1.25]).label_smoothing(0.1), three, classes);
    let numbers = |random: &mut Random, shape: &[usize]| random.array(&Type::new(DType::F64, shape), &Domain::Uniform(0.1, 0.9));
    let shapes: &[&[usize]] = &[&[1], &[2, 3], &[5, 4], &[1, 7], &[3, 2, 4], &[2, 1, 3], &[9, 1], &[3]];
    check_loss(Mse::new(), shapes, numbers);
    check_loss(BceWithLogits::new(), shapes, numbers);
    check_loss(BceWithLogits::new().pos_weight(2.5), shapes, numbers);
}

/// A layer's own derivative (of a composite) that is scaled, dropped or overwrites what other readers contribute.
#[test]
fn wrong_derivatives_of_layers_are_noticed() {
    let layers: [(&str, Box<dyn Layer>, &[usize]); 7] = [
        ("composite", Box::new(Softmax::new()), &[2, 3]),
        ("composite", Box::new(LogSoftmax::new()), &[2, 3]),
        ("composite", Box::new(Gelu::new()), &[2, 3]),
        ("composite", Box::new(LayerNorm::new().eps(1e-3)), &[2, 5]),
        ("convolution", Box::new(Conv2d::new(3, 3)), &[1, 4, 4, 2]),
        ("dot_general", Box::new(Linear::new(3)), &[2, 3]),
        ("composite", Box::new(Lstm::new(2)), &[2, 3, 2]),
    ];
    layers.iter().for_each(|(op, layer, shape)| check_faults(op, &**layer, shape));
}

/// Fails unless the check notices a primitive's rule within a layer that is wrong.
pub fn check_faults(op: &str, layer: &dyn Layer, shape: &[usize]) {
    let x = Random::new(1).array(&Type::new(DType::F64, shape), &SPREAD);
    for kind in [FaultKind::Scale, FaultKind::Drop, FaultKind::Overwrite] {
        let fault = Fault { op: op.into(), kind };
        let specs = parameters(layer, &x.ty);
        let mut random = Random::new(2);
        let state: Vec<Array> = specs.iter().map(|s| random.array(&s.ty, &Domain::Uniform(-0.9, 0.9))).collect();
        let inputs = [vec![x.clone()], state].concat();
        let result = with_fault(fault, || {
            GradientCheck::default().run(&inputs, |b, xs| {
                let values = specs.iter().map(|s| s.name.clone()).zip(xs[1..].iter().copied()).collect();
                let y = trace(layer, b, xs[0], values).0;
                [vec![y], xs.iter().map(|&x| x * 0.3).collect()].concat()
            })
        });
        assert!(matches!(result, Err(CheckError::Mismatch { .. })), "{layer:?}: {kind:?} of {op} was not noticed");
    }
}
