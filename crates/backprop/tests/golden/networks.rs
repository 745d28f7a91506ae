//! Six networks: values, first gradients, curves of ten steps and final state, from PyTorch's weights and batches.

use crate::{
    store::{Tensors, assert_close, below, load, oracle, row},
    transformer::Transformer,
};
use backprop::prelude::*;
use backprop_check::{check_plan, plugin};
use backprop_core::{
    exec::{
        Backend, Program, Store,
        native::{Native, Options},
    },
    reference::Array,
};
use backprop_kernels::Isa;
use std::collections::HashMap;

const STEPS: usize = 10;
/// Share of the tensor's maximum, and of each loss.
const TOLERANCE: f64 = 1e-4;

/// What runs a training graph: state in and out by name.
trait Engine {
    /// Runs a graph on state and data; returns data outputs by name and replaces the state.
    fn run(&mut self, graph: &Graph, data: &Tensors) -> HashMap<String, Vec<f64>>;
    /// A state tensor.
    fn state(&self, name: &str) -> Vec<f64>;
}

/// The oracle, in f64.
struct Oracle(HashMap<String, Array>);

impl Engine for Oracle {
    fn run(&mut self, graph: &Graph, data: &Tensors) -> HashMap<String, Vec<f64>> {
        let mut inputs = self.0.clone();
        inputs.extend(data.iter().map(|(name, value)| (name.clone(), Array::from_host(value))));
        let outputs = oracle(graph, &inputs);
        let is_state = |name: &str| graph.outputs.iter().any(|o| o.name == name && o.role == Role::State);
        let (state, data): (HashMap<_, _>, HashMap<_, _>) = outputs.into_iter().partition(|(name, _)| is_state(name));
        self.0.extend(state);
        data.into_iter().map(|(name, value)| (name, value.to_f64())).collect()
    }

    fn state(&self, name: &str) -> Vec<f64> {
        self.0[name].to_f64()
    }
}

fn oracle_engine(state: Tensors) -> Box<dyn Engine> {
    Box::new(Oracle(state.iter().map(|(name, value)| (name.clone(), Array::from_host(value))).collect()))
}

/// How a graph becomes a program.
type Compile = dyn Fn(&Graph) -> Box<dyn Program>;

/// A backend, in f32.
struct Backed {
    store: Store,
    compile: Box<Compile>,
    /// The last program with the address of its graph: one step's graph is compiled once.
    program: Option<(*const Graph, Box<dyn Program>)>,
}

impl Engine for Backed {
    fn run(&mut self, graph: &Graph, data: &Tensors) -> HashMap<String, Vec<f64>> {
        if self.program.as_ref().is_none_or(|(of, _)| !std::ptr::eq(*of, graph)) {
            self.program = Some((graph, (self.compile)(graph)));
        }
        let program = &mut self.program.as_mut().unwrap().1;
        let signature = program.signature().clone();
        let inputs: Vec<&HostTensor> = signature.inputs.iter().map(|(name, _)| &data[name]).collect();
        let mut outputs = signature.output_buffers();
        program.run(&mut self.store, &inputs, &mut outputs).unwrap();
        self.store.fetch().unwrap();
        signature.outputs.iter().map(|(name, _)| name.clone()).zip(outputs.iter().map(HostTensor::to_f64)).collect()
    }

    fn state(&self, name: &str) -> Vec<f64> {
        self.store.get(name).unwrap().to_f64()
    }
}

fn backed(state: Tensors, compile: impl Fn(&Graph) -> Box<dyn Program> + 'static) -> Box<dyn Engine> {
    let mut store = Store::new();
    state.into_iter().for_each(|(name, value)| store.insert(name, value));
    Box::new(Backed { store, compile: Box::new(compile), program: None })
}

fn native_engine(state: Tensors) -> Box<dyn Engine> {
    let native = Native::new(2, Isa::detect()).with(Options { poison: true, ..Options::default() });
    backed(state, move |graph| {
        let program = native.build(graph).unwrap();
        let plan = check_plan(&program).unwrap();
        assert!(plan.ratio() <= 1.05, "{plan:?}");
        Box::new(program)
    })
}

fn plugin_engine(state: Tensors) -> Box<dyn Engine> {
    let pjrt = plugin("a network").unwrap();
    backed(state, move |graph| pjrt.compile(graph).unwrap_or_else(|e| panic!("{e}")))
}

/// Runs one case: gradients of the first step (from a graph of their own), then the curve.
fn check(file: &str, step: &Step, model: &dyn Layer, loss: &dyn Loss, engine: fn(Tensors) -> Box<dyn Engine>) {
    let (golden, _) = load(file);
    let (inputs, targets) = (&golden["inputs"], &golden["targets"]);
    let batch = BatchSpec { x: row(inputs, 0).ty().clone(), y: row(targets, 0).ty().clone() };
    let traced = step.trace(&batch).unwrap();
    let init = below(&golden, "init/");
    let mut state: Tensors = traced.initial_state(0).unwrap().into_iter().collect();
    for spec in traced.state.iter().filter(|s| s.kind != StateKind::Optimizer) {
        let value = init.get(&spec.name).unwrap_or_else(|| panic!("{file}: PyTorch has no `{}`", spec.name));
        assert_eq!(*value.ty(), spec.ty, "{file} {}", spec.name);
        state.insert(spec.name.clone(), value.clone());
    }
    assert!(init.keys().all(|name| state.contains_key(name)), "{file}: a parameter of PyTorch's is missing");

    first_step(file, &golden, &batch, model, loss, engine(state.clone()));
    let mut engine = engine(state);
    for i in 0..STEPS {
        let data = Tensors::from([
            ("x".into(), row(inputs, i)),
            ("y".into(), row(targets, i)),
            ("hyper".into(), step.groups().hyper(i as u64, STEPS as u64)),
            ("seed".into(), HostTensor::new([2], &[7u32, 0]).unwrap()),
            ("step".into(), HostTensor::scalar(i as u32)),
        ]);
        let outputs = engine.run(&traced.train, &data);
        let loss = outputs["loss_sum"][0] / outputs["loss_weight"][0];
        let expected = golden["losses"].to_f64()[i];
        assert!((loss - expected).abs() <= TOLERANCE * expected.abs(), "{file}, step {i}: loss {loss}, expected {expected}");
        assert_close(&format!("{file}, step {i}: norm"), &outputs["grad_norm"], &[golden["norms"].to_f64()[i]], TOLERANCE);
    }
    for (name, expected) in below(&golden, "final/") {
        assert_close(&format!("{file} final {name}"), &engine.state(&name), &expected.to_f64(), TOLERANCE);
    }
}

fn first_step(file: &str, golden: &Tensors, batch: &BatchSpec, model: &dyn Layer, loss: &dyn Loss, mut engine: Box<dyn Engine>) {
    let b = Builder::new();
    let [x, y] = [("x", &batch.x), ("y", &batch.y)].map(|(name, ty)| b.input(name, Role::Data, ty.clone()));
    let mut cx = Scope::new(&b, DType::F32, Mode::Train);
    let output = model.forward(&mut cx, x);
    let parameters = cx.parameters();
    let gradients = loss.forward(output, y).mean().grad(&parameters.iter().map(|p| p.1).collect::<Vec<_>>());
    b.output("output", Role::Data, output);
    for ((spec, _), gradient) in parameters.iter().zip(gradients) {
        b.output(format!("grad/{}", spec.name), Role::Data, gradient);
    }
    drop((cx, parameters));
    let data = Tensors::from([("x".into(), row(&golden["inputs"], 0)), ("y".into(), row(&golden["targets"], 0))]);
    let outputs = engine.run(&b.finish().unwrap(), &data);
    assert_eq!(outputs.len(), 1 + below(golden, "grad/").len());
    for (name, value) in &outputs {
        assert_close(&format!("{file} {name}"), value, &golden[name].to_f64(), TOLERANCE);
    }
}

fn mlp() -> Sequential {
    Sequential::new().push(Linear::new(32)).push(Relu::new()).push(Linear::new(16)).push(Tanh::new()).push(Linear::new(5))
}

fn cnn() -> Sequential {
    Sequential::new()
        .push(Conv2d::new(8, 3).padding(1).bias(false))
        .push(BatchNorm::new())
        .push(Relu::new())
        .push(MaxPool2d::new(2))
        .push(Conv2d::new(12, 3).stride(2).padding(2).groups(2))
        .push(Gelu::new())
        .push(AvgPool2d::new(3).stride(1))
        .push(Flatten::new())
        .push(Linear::new(7))
}

fn lstm() -> Sequential {
    Sequential::new().push(Embedding::new(11, 6)).push(Lstm::new(10).num_layers(2)).push(Linear::new(11))
}

fn autoencoder(last_sigmoid: bool) -> Sequential {
    let coder = [12, 4, 12].iter().fold(Sequential::new(), |s, &n| s.push(Linear::new(n)).push(Sigmoid::new()));
    let coder = coder.push(Linear::new(30));
    if last_sigmoid { coder.push(Sigmoid::new()) } else { coder }
}

/// Runs every network on an engine.
fn check_network(file: &str, engine: fn(Tensors) -> Box<dyn Engine>) {
    match file {
        "mlp" => check(file, &Step::new(mlp(), CrossEntropy::new(), Adam::new(1e-2)), &mlp(), &CrossEntropy::new(), engine),
        "cnn" => {
            let sgd = Sgd::new(0.05).momentum(0.9).nesterov(true).weight_decay(1e-3);
            check(file, &Step::new(cnn(), CrossEntropy::new(), sgd), &cnn(), &CrossEntropy::new(), engine);
        }
        "lstm" => {
            let adamw = AdamW::new(1e-2).weight_decay(0.05);
            let step = Step::new(lstm(), CrossEntropy::new(), adamw).clip_norm(0.5);
            check(file, &step, &lstm(), &CrossEntropy::new(), engine);
        }
        "autoencoder" => {
            let step = Step::new(autoencoder(true), Mse::new(), GradientDescent::new(0.5));
            check(file, &step, &autoencoder(true), &Mse::new(), engine);
        }
        "autoencoder_bce" => {
            let step = Step::new(autoencoder(false), BceWithLogits::new(), Sgd::new(0.5));
            check(file, &step, &autoencoder(false), &BceWithLogits::new(), engine);
        }
        _ => {
            let model = || Transformer { vocabulary: 13, length: 8, width: 16, heads: 2, depth: 2 };
            let step = Step::new(model(), CrossEntropy::new(), AdamW::new(3e-3));
            check(file, &step, &model(), &CrossEntropy::new(), engine);
        }
    }
}

macro_rules! networks {
    ($module:ident, $engine:path) => {
        mod $module {
            #[test]
            fn mlp() {
                super::check_network("mlp", $engine);
            }
            #[test]
            fn cnn() {
                super::check_network("cnn", $engine);
            }
            #[test]
            fn lstm() {
                super::check_network("lstm", $engine);
            }
            #[test]
            fn autoencoder() {
                super::check_network("autoencoder", $engine);
            }
            #[test]
            fn autoencoder_bce() {
                super::check_network("autoencoder_bce", $engine);
            }
            #[test]
            fn transformer() {
                super::check_network("transformer", $engine);
            }
        }
    };
}

networks!(reference, super::oracle_engine);
networks!(native, super::native_engine);

#[test]
fn a_plugin_trains_every_network_as_pytorch() {
    if plugin("networks::a_plugin_trains_every_network_as_pytorch").is_some() {
        for file in ["mlp", "cnn", "lstm", "autoencoder", "autoencoder_bce", "transformer"] {
            check_network(file, plugin_engine);
        }
    }
}
