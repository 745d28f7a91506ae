//! Random networks over features, sequences, images, volumes or codes.

use crate::{layers::layer, training};
use backprop::{prelude::*, step::random_inputs};
use backprop_check::Random;
use std::ops::{Deref, DerefMut};

/// A training step of a random network, the same in double precision, and what both are run on.
pub struct Example {
    pub graph: Graph,
    pub inputs: Vec<HostTensor>,
    pub double: Graph,
    /// The same in double precision on the batch as a whole, if it is taken in parts that do not see each other.
    pub whole: Option<Graph>,
    /// The network's loss and every gradient, in double precision.
    pub slopes: Graph,
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

/// What derivatives can be tried out on.
pub const TINY: Sizes = Sizes { elements: 3000, samples: 4, lines: 8, steps: 12, features: 12 };
/// What an oracle can compute.
pub const SMALL: Sizes = Sizes { elements: 20_000, samples: 7, lines: 14, steps: 40, features: 40 };
/// What kernels cut into blocks and parts.
pub const LARGE: Sizes = Sizes { elements: 150_000, samples: 48, lines: 32, steps: 100, features: 64 };

/// What decides a network.
pub struct Dice {
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
    pub fn features(&mut self) -> usize {
        let most = self.sizes.features * *self.random.pick(&[1, 1, 2]);
        1 + self.below(most)
    }
}

/// A network, the type of what it reads, and that of what it gives.
pub struct Network {
    pub model: Sequential,
    pub x: Type,
    pub y: Type,
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
}

/// The type of what a model gives; `None` if it does not fit its input.
fn output(model: &dyn Layer, x: &Type) -> Option<Type> {
    let b = Builder::new();
    let input = b.input("x", Role::Data, x.clone());
    let y = model.forward(&mut Scope::new(&b, DType::F32, Mode::Train).with_randomness(random_inputs(&b)), input);
    b.output("y", Role::Data, y);
    let graph = b.finish().ok()?;
    graph.output_types().first().cloned()
}

/// Extents of space: of images, volumes, sequences, or none.
fn space(random: &mut Dice) -> Vec<usize> {
    let Sizes { lines, steps, .. } = random.sizes;
    let most = match random.below(20) {
        0..10 => vec![lines; 2],
        10..13 => vec![lines / 2; 3],
        13 => Vec::new(),
        _ => vec![steps],
    };
    let mut extents: Vec<usize> = most.iter().map(|most| 2 + random.below(most - 1)).collect();
    // Long lines and sequences, now and then.
    if !extents.is_empty() && random.chance(0.1) {
        let d = random.below(extents.len());
        extents[d] *= 8;
    }
    extents
}

/// A network that reads images, volumes, sequences, features or codes, which it looks up first.
fn network(random: &mut Dice) -> Network {
    let Sizes { elements, samples, steps, .. } = random.sizes;
    let extents = space(random);
    let many = if random.chance(0.1) { 8 } else { 1 };
    let batch = (2 + random.below(many * samples - 1)).min(elements / extents.iter().product::<usize>().max(1)).max(2);
    let lookup = |random: &mut Dice, extents: &[usize], table: AnyLayer| {
        let mut network = Network::new(Type::new(DType::I32, [&[batch], extents].concat()));
        network.push(table, random.sizes);
        network
    };
    if extents.is_empty() && random.chance(0.5) {
        let tables: Vec<usize> = (0..1 + random.below(4)).map(|_| 3 + random.below(12)).collect();
        let width = random.features();
        return lookup(random, &[tables.len()], AnyLayer::new(ColumnsEmbedding::new(tables, width)));
    }
    let most = elements / (batch * extents.iter().product::<usize>());
    if extents.len() == 1 && random.chance(0.4) {
        let table = Embedding::new(4 + random.below(10 * steps), most.clamp(1, random.features()));
        let table = if random.chance(0.5) { table.padding_idx(3).mask(random.chance(0.7)) } else { table };
        return lookup(random, &extents, AnyLayer::new(table));
    }
    let few = *random.pick(&[4, 40]);
    let channels = 1 + random.below(few);
    let shape = [vec![batch], extents, vec![channels.min(most).max(1)]].concat();
    Network::new(Type::new(DType::F32, shape))
}

/// A network of about so many layers, and a step that trains it, by plain gradient descent or by any optimizer, or evaluates it.
pub fn example(seed: u64, layers: usize, sizes: Sizes, plain: bool) -> Example {
    let random = &mut Dice { random: Random::new(seed), sizes };
    let mut network = network(random);
    for _ in 0..layers {
        let layer = layer(random, &network.y.shape[1..]);
        network.push(layer, sizes);
    }
    if random.chance(0.5) {
        let whole = if random.chance(0.7) { AnyLayer::new(GlobalAvgPool::new()) } else { AnyLayer::new(GlobalMaxPool::new()) };
        network.push(whole, sizes);
        network.push(AnyLayer::new(Flatten::new()), sizes);
    }
    let outputs = training::CLASSES + random.below(20);
    network.push(AnyLayer::new(Linear::new(outputs)), Sizes { elements: usize::MAX, ..sizes });
    training::example(seed, random, network, plain)
}
