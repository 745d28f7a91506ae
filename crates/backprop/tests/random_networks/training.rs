//! Steps that train random networks.

use crate::network::{Dice, Example, Network};
use backprop::{prelude::*, step::random_inputs as random_state};
use backprop_check::{Random, random_inputs};
use backprop_core::grad;

/// What the names of directions begin with, and of how gradients change along them.
pub const DIRECTION: &str = "direction/";
/// Classes, of which there are more than random codes.
pub const CLASSES: usize = 10;

/// A step that trains a network, by plain gradient descent or by any optimizer, or evaluates it.
pub fn example(seed: u64, random: &mut Dice, network: Network, plain: bool) -> Example {
    let Network { model, x, y } = network;
    let (loss, y) = loss(random, y);
    let optimizer = optimizer(random, plain);
    let step = step(random, Step::new(model.clone(), loss.clone(), optimizer), y.dtype == DType::I32, plain);
    let (parts, evaluates) = (parts(random, x.shape[0]), random.chance(0.1));
    let in_parts = step.clone().accumulate(parts);
    let trace = |step: &Step, batch: &BatchSpec| {
        let traced = if evaluates { step.evaluate(batch) } else { step.train(batch) };
        traced.unwrap_or_else(|e| panic!("network {seed}: {e}")).graph
    };
    let graph = trace(&in_parts, &BatchSpec { x: x.clone(), y: y.clone() });
    let [x, y] = [x, y].map(|ty| if ty.dtype == DType::F32 { Type::new(DType::F64, ty.shape) } else { ty });
    let slopes = slopes(&model, &loss, [&x, &y]).unwrap_or_else(|e| panic!("network {seed}: {e}"));
    let batch = BatchSpec { x, y };
    let double = trace(&in_parts.dtype(DType::F64), &batch);
    // Batch norm sees the parts.
    let alike = parts > 1 && !evaluates && graph.inputs.iter().all(|input| !input.name.contains("running"));
    let whole = alike.then(|| trace(&step.dtype(DType::F64), &batch));
    let inputs = inputs(seed, &graph, plain);
    Example { graph, inputs, double, whole, slopes }
}

/// The mean loss of a network, its gradients with respect to everything that is a number, and how these change along a direction of all
/// numbers.
fn slopes(model: &dyn Layer, loss: &LossSpec, [x, y]: [&Type; 2]) -> Result<Graph, Error> {
    let b = Builder::new();
    let mut cx = Scope::new(&b, DType::F64, Mode::Train).with_randomness(random_state(&b));
    let (x, y) = (b.input("x", Role::Data, x.clone()), b.input("y", Role::Data, y.clone()));
    let output = model.forward(&mut cx, x);
    let loss = loss.forward(output, y).mean();
    let data = [("x".to_owned(), x)].into_iter().filter(|(_, x)| x.dtype().is_float());
    let parameters = cx.parameters().into_iter().map(|(spec, value)| (spec.name, value));
    let (names, numbers): (Vec<String>, Vec<Tensor<'_>>) = data.chain(parameters).unzip();
    let direction = |(name, x): (&String, &Tensor<'_>)| b.input(format!("{DIRECTION}{name}"), Role::Data, x.ty());
    let directions: Vec<Tensor<'_>> = names.iter().zip(&numbers).map(direction).collect();
    b.output("loss", Role::Data, loss);
    for (name, gradient) in names.iter().zip(loss.grad(&numbers)) {
        b.output(name, Role::Data, gradient);
    }
    for (name, change) in names.iter().zip(grad::hvp(loss, &numbers, &directions)) {
        b.output(format!("{DIRECTION}{name}"), Role::Data, change);
    }
    b.finish()
}

/// A loss, and the type of what a network is to give.
fn loss(random: &mut Dice, y: Type) -> (LossSpec, Type) {
    let classes = Type::new(DType::I32, &y.shape[..y.shape.len() - 1]);
    let ignored = *random.pick(&[-100, 2, 3]);
    let weight: Vec<f64> = (0..y.shape[y.shape.len() - 1]).map(|_| random.uniform(0.2, 2.0)).collect();
    let smoothing = *random.pick(&[0.0, 0.1]);
    let entropy = CrossEntropy::new().label_smoothing(smoothing).ignore_index(ignored);
    match random.below(16) {
        0 => (SmoothL1::default().into(), y),
        1 => (Mse::new().into(), y),
        2 => (L1 {}.into(), y),
        3 => (Huber { delta: 0.3 }.into(), y),
        4 => (LogCosh {}.into(), y),
        5 => (Quantile { q: 0.3 }.into(), y),
        6 => (PoissonNll::default().into(), y),
        7 => (BceWithLogits::new().pos_weight(2.0).into(), y),
        8 => (KlDiv { log_target: random.chance(0.5) }.into(), y),
        9 => (Focal { ignore_index: ignored, ..Focal::default() }.into(), classes),
        10 => (Nll { ignore_index: ignored, weight: Some(weight) }.into(), classes),
        11..13 => (entropy.weight(weight).into(), classes),
        _ => (entropy.into(), classes),
    }
}

/// The new momentum of plain descent is the gradient: an optimizer that divides by its size makes much of what rounding leaves of small
/// ones.
fn optimizer(random: &mut Dice, plain: bool) -> OptimizerSpec {
    match if plain { 9 } else { random.below(10) } {
        0 => Adam::new(0.1).into(),
        1 => AdamW::new(0.1).into(),
        2 => RmsProp::new(0.1).into(),
        3 => Lion::new(0.1).into(),
        4 => Adagrad::new(0.1).into(),
        5 => Adadelta::new(0.1).into(),
        6 => Adamax::new(0.1).into(),
        7 => NAdam::new(0.1).into(),
        8 => RAdam::new(0.1).into(),
        _ => Sgd::new(0.1).momentum(0.9).weight_decay(0.01).into(),
    }
}

/// What a step does beside, with classes or numbers.
fn step(random: &mut Dice, mut step: Step, classes: bool, plain: bool) -> Step {
    if random.chance(0.3) {
        // The last layer has both.
        let group = ParameterGroup::new([*random.pick(&["*bias*", "*weight*", "layers.*.weight"])]);
        step = step.group(if random.chance(0.5) { group.frozen() } else { group.learning_rate(0.3) });
    }
    if random.chance(0.4) {
        step = step.clip_norm(1.0);
    }
    if random.chance(0.2) {
        step = step.ema(0.9);
    }
    // Where an element is cut, or one class is as likely as another, rounding makes much of little.
    if plain {
        return step;
    }
    if random.chance(0.2) {
        step = step.clip_value(0.1);
    }
    if random.chance(0.3) {
        step = if classes { step.metric(Accuracy::default()).metric(TopK::new(3)) } else { step.metric(R2::default()) };
    }
    step
}

/// In how many parts a step takes so many rows. Batch norm needs two in each.
fn parts(random: &mut Dice, rows: usize) -> usize {
    let parts = 2 + random.below(3);
    let each = rows.div_ceil(parts);
    if random.chance(0.3) && each > 1 && rows % each != 1 { parts } else { 1 }
}

/// What products and differences make zeros of, or denormal numbers, and what is such a number itself.
const SPECIAL: [f32; 8] = [0.0, -0.0, 1e-40, -1e-40, 2e-20, -1e-20, 1.3e-38, -1.5e-38];

/// Small numbers, no variance and no class below 0. Every third network whose bits are compared has special numbers among them.
fn inputs(seed: u64, graph: &Graph, plain: bool) -> Vec<HostTensor> {
    let mut inputs = random_inputs(seed, graph);
    let mut random = Random::new(seed);
    let special = if !plain && random.chance(0.3) { 0.2 } else { 0.0 };
    for (tensor, input) in inputs.iter_mut().zip(&graph.inputs) {
        let positive = input.name.ends_with("running_var") || input.name.starts_with("optimizer/") || input.name == "hyper";
        for v in tensor.as_mut_slice::<f32>().into_iter().flatten() {
            *v = if positive { v.abs() } else { 0.3 * *v };
            if !positive && random.chance(special) {
                *v = *random.pick(&SPECIAL);
            }
        }
        tensor.as_mut_slice::<i32>().into_iter().flatten().for_each(|v| *v = v.abs());
    }
    inputs
}
