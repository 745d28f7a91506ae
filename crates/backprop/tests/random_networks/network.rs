//! Random networks over images, sequences or codes, and training steps of them.

use backprop::prelude::*;
use backprop_check::{Random, random_inputs};
use std::ops::{Deref, DerefMut};

/// A training step of a random network, the same in double precision, and what both are run on.
pub struct Example {
    pub graph: Graph,
    pub inputs: Vec<HostTensor>,
    pub double: Graph,
}

/// How large networks are.
#[derive(Clone, Copy)]
pub struct Sizes {
    /// Elements between layers, samples, lines of an image, steps of a sequence, and features, at most.
    elements: usize,
    samples: usize,
    lines: usize,
    steps: usize,
    features: usize,
}

/// What an oracle can compute.
pub const SMALL: Sizes = Sizes { elements: 20_000, samples: 7, lines: 14, steps: 40, features: 40 };
/// What kernels cut into blocks and parts.
pub const LARGE: Sizes = Sizes { elements: 150_000, samples: 48, lines: 32, steps: 100, features: 64 };

/// What decides a network.
struct Dice {
    random: Random,
    sizes: Sizes,
}

impl Deref for Dice {
    type Target = Random;

    fn deref(&self) -> &Random {
        &self.random
    }
}

impl DerefMut for Dice {
    fn deref_mut(&mut self) -> &mut Random {
        &mut self.random
    }
}

impl Dice {
    fn features(&mut self) -> usize {
        let most = self.sizes.features * *self.random.pick(&[1, 1, 2]);
        1 + self.below(most)
    }
}

/// A network, the type of what it reads, and that of what it gives.
struct Network {
    model: Sequential,
    x: Type,
    y: Type,
}

impl Network {
    fn new(x: Type) -> Network {
        Network { model: Sequential::new(), y: x.clone(), x }
    }

    /// Adds a layer, unless it does not fit.
    fn push(&mut self, layer: AnyLayer, sizes: Sizes) {
        let model = self.model.clone().push(layer);
        if let Some(y) = output(&model, &self.x).filter(|y| (1..=sizes.elements).contains(&y.elements())) {
            (self.model, self.y) = (model, y);
        }
    }

    fn channels(&self) -> usize {
        self.y.shape.last().copied().unwrap_or(1)
    }
}

/// Numbers that may be normalised by their own mean and deviation, at least.
const FEW: usize = 8;

/// The type of what a model gives; `None` if it does not fit its input.
fn output(model: &dyn Layer, x: &Type) -> Option<Type> {
    let b = Builder::new();
    let input = b.input("x", Role::Data, x.clone());
    let y = model.forward(&mut Scope::new(&b, DType::F32, Mode::Train), input);
    b.output("y", Role::Data, y);
    let graph = b.finish().ok()?;
    graph.output_types().first().cloned()
}

/// A network that reads images, sequences or codes, which it looks up first.
fn network(random: &mut Dice, image: bool) -> Network {
    let Sizes { samples, lines, steps, .. } = random.sizes;
    let batch = 2 + random.below(samples - 1);
    let extents = if image { vec![3 + random.below(lines - 3), 3 + random.below(lines)] } else { vec![2 + random.below(steps)] };
    if !image && random.chance(0.4) {
        let width = (random.sizes.elements / (batch * extents[0])).clamp(1, random.features());
        let table = Embedding::new(4 + random.below(10 * steps), width);
        let table = if random.chance(0.5) { table.padding_idx(3).mask(random.chance(0.5)) } else { table };
        let mut network = Network::new(Type::new(DType::I32, [batch, extents[0]]));
        network.push(AnyLayer::new(table), random.sizes);
        return network;
    }
    let most = *random.pick(&[4, 40]);
    let shape = [vec![batch], extents, vec![1 + random.below(most)]].concat();
    Network::new(Type::new(DType::F32, shape))
}

/// A network of about so many layers, and a step that trains it, by plain gradient descent or by any optimizer.
pub fn example(seed: u64, layers: usize, sizes: Sizes, plain: bool) -> Example {
    let random = &mut Dice { random: Random::new(seed), sizes };
    let image = random.chance(0.6);
    let mut network = network(random, image);
    for _ in 0..layers {
        let layer = layer(random, image, network.channels());
        network.push(layer, sizes);
    }
    if random.chance(0.5) {
        network.push(AnyLayer::new(GlobalAvgPool::new()), sizes);
        network.push(AnyLayer::new(Flatten::new()), sizes);
    }
    let outputs = CLASSES + random.below(20);
    network.push(AnyLayer::new(Linear::new(outputs)), Sizes { elements: usize::MAX, ..sizes });
    let Network { model, x, y } = network;
    let (loss, y) = loss(random, y);
    let step = Step::new(model, loss, optimizer(random, plain));
    let step = if random.chance(0.4) { step.clip_norm(1.0) } else { step };
    let step = if random.chance(0.2) { step.ema(0.9) } else { step };
    let trace = |step: &Step, batch: &BatchSpec| step.trace(batch).unwrap_or_else(|e| panic!("network {seed}: {e}")).train;
    let graph = trace(&step, &BatchSpec { x: x.clone(), y: y.clone() });
    let [x, y] = [x, y].map(|ty| if ty.dtype == DType::F32 { Type::new(DType::F64, ty.shape) } else { ty });
    let double = trace(&step.dtype(DType::F64), &BatchSpec { x, y });
    let inputs = inputs(seed, &graph);
    Example { graph, inputs, double }
}

/// A loss, and the type of what a network is to give.
fn loss(random: &mut Dice, y: Type) -> (LossSpec, Type) {
    match random.below(4) {
        0 => (SmoothL1::default().into(), y),
        1 => (Mse::new().into(), y),
        _ => (CrossEntropy::new().label_smoothing(0.1).into(), Type::new(DType::I32, &y.shape[..y.shape.len() - 1])),
    }
}

/// The new momentum of plain descent is the gradient: an optimizer that divides by its size makes much of what rounding leaves of small
/// ones.
fn optimizer(random: &mut Dice, plain: bool) -> OptimizerSpec {
    match if plain { 5 } else { random.below(6) } {
        0 => Adam::new(0.1).into(),
        1 => AdamW::new(0.1).into(),
        2 => RmsProp::new(0.1).into(),
        3 => Lion::new(0.1).into(),
        4 => Adagrad::new(0.1).into(),
        _ => Sgd::new(0.1).momentum(0.9).into(),
    }
}

/// Classes, of which there are more than random codes.
const CLASSES: usize = 10;

/// Small numbers, no variance and no class below 0.
fn inputs(seed: u64, graph: &Graph) -> Vec<HostTensor> {
    let mut inputs = random_inputs(seed, graph);
    for (tensor, input) in inputs.iter_mut().zip(&graph.inputs) {
        let positive = input.name.ends_with("running_var") || input.name.starts_with("optimizer/") || input.name == "hyper";
        for v in tensor.as_mut_slice::<f32>().into_iter().flatten() {
            *v = if positive { v.abs() } else { 0.3 * *v };
        }
        tensor.as_mut_slice::<i32>().into_iter().flatten().for_each(|v| *v = v.abs());
    }
    inputs
}

fn layer(random: &mut Dice, image: bool, channels: usize) -> AnyLayer {
    match (random.below(4), image) {
        (0, _) => pointwise(random, channels),
        (1, _) => nested(random, image, channels),
        (_, true) => spatial(random, channels),
        (_, false) => sequential(random, channels),
    }
}

/// A layer that keeps the number of channels, or changes nothing but that.
fn pointwise(random: &mut Dice, channels: usize) -> AnyLayer {
    let groups = *random.pick(&divisors(channels));
    // What is left of one or two numbers after their mean is rounding, and dividing by its deviation makes it large.
    let norms = usize::from(channels / groups >= FEW) + usize::from(channels >= FEW) * 2;
    match random.below(20 + norms) {
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
        18 | 19 => AnyLayer::new(Linear::new(random.features())),
        20 => AnyLayer::new(LayerNorm::new()),
        21 => AnyLayer::new(RmsNorm::new()),
        _ => AnyLayer::new(GroupNorm::new(groups)),
    }
}

/// Layers within a layer.
fn nested(random: &mut Dice, image: bool, channels: usize) -> AnyLayer {
    let body = |random: &mut Dice, last: usize| {
        let width = random.features();
        let body = Sequential::new().push(convolution(random, image, width)).push(pointwise(random, width));
        body.push(AnyLayer::new(Linear::new(last)))
    };
    match random.below(3) {
        0 => AnyLayer::new(Residual::new(body(random, channels))),
        1 => {
            let (one, two) = (random.features(), random.features());
            AnyLayer::new(Concat::new().branch(body(random, one)).branch(body(random, two)))
        }
        _ => {
            let last = random.features();
            AnyLayer::new(checkpoint(body(random, last)))
        }
    }
}

/// A convolution that keeps the extents.
fn convolution(random: &mut Dice, image: bool, width: usize) -> AnyLayer {
    let (size, bias) = (*random.pick(&[1, 3, 3, 5]), random.chance(0.5));
    match image {
        true => AnyLayer::new(Conv2d::new(width, size).padding(size / 2).bias(bias)),
        false => AnyLayer::new(Conv1d::new(width, size).padding(size / 2).bias(bias)),
    }
}

fn spatial(random: &mut Dice, channels: usize) -> AnyLayer {
    let (width, size) = (random.features(), 1 + random.below(5));
    let (stride, dilation) = (1 + random.below(2), 1 + random.below(2));
    let groups = *random.pick(&divisors(channels));
    let conv = |width: usize| Conv2d::new(width, size).stride(stride).padding(size / 2);
    match random.below(14) {
        0..3 => convolution(random, true, width),
        3 => AnyLayer::new(conv(width)),
        4 => AnyLayer::new(conv(width).dilation(dilation).bias(false)),
        5 => AnyLayer::new(conv(groups * (1 + width / groups)).groups(groups)),
        6 => AnyLayer::new(DepthwiseConv2d::new(size).multiplier(1 + random.below(2)).stride(stride).padding(size / 2)),
        7 => AnyLayer::new(ConvTranspose2d::new(width, size).stride(stride)),
        8 => AnyLayer::new(MaxPool2d::new(2).stride(stride)),
        9 => AnyLayer::new(MaxPool2d::new(3).stride(2).padding(1)),
        10 => AnyLayer::new(AvgPool2d::new(2)),
        11 => AnyLayer::new(if random.chance(0.5) { Upsample::nearest(2) } else { Upsample::bilinear(2) }),
        12 => AnyLayer::new(InstanceNorm::new()),
        _ => AnyLayer::new(SpatialDropout2d::new(0.25)),
    }
}

fn sequential(random: &mut Dice, channels: usize) -> AnyLayer {
    let (width, size) = (random.features(), 1 + random.below(5));
    let heads = *random.pick(&divisors(channels));
    let causal = random.chance(0.5);
    match random.below(9) {
        0 | 1 => convolution(random, false, width),
        2 => AnyLayer::new(Conv1d::new(width, size).dilation(1 + random.below(3)).stride(1 + random.below(2))),
        3 => AnyLayer::new(MaxPool1d::new(2)),
        4 => AnyLayer::new(Lstm::new(width).bidirectional(causal)),
        5 => AnyLayer::new(Gru::new(width).bidirectional(causal).num_layers(1 + random.below(2))),
        6 => AnyLayer::new(Rnn::new(width)),
        _ if channels < FEW => convolution(random, false, width),
        7 => AnyLayer::new(MultiHeadAttention::new(heads).causal(causal)),
        _ => AnyLayer::new(TransformerBlock::new(heads).dim_feedforward(width).dropout(0.0).causal(causal)),
    }
}

fn divisors(n: usize) -> Vec<usize> {
    (1..=n).filter(|d| n.is_multiple_of(*d)).collect()
}
