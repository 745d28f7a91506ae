//! Gradients of random networks beside differences of their losses, and their changes beside differences of gradients. The rules of
//! derivatives are the same in every precision and executor, so nothing else would notice that one of them is wrong in some network.

use crate::{
    examples, is_finite,
    network::{Example, TINY},
    training::DIRECTION,
};
use backprop::prelude::*;
use backprop_check::{Random, execute, graph_count};
use backprop_core::{
    Isa,
    exec::{Backend, Program, Store, native::Native},
};

/// Steps of differences: one for most, and others for where it takes an element past a kink or what it makes is rounding.
const STEPS: [f64; 4] = [1e-6, 1e-7, 1e-5, 1e-8];
/// Gradients of a network that are looked at, about.
const SOME: f64 = 6.0;

/// A program, what it is run on, and how that is moved.
struct Run {
    program: Box<dyn Program>,
    store: Store,
    data: Vec<(String, HostTensor)>,
}

impl Run {
    /// Of a graph's first outputs.
    fn new(native: &Native, graph: &Graph, outputs: usize, inputs: &[HostTensor]) -> Run {
        let mut graph = graph.clone();
        graph.outputs.truncate(outputs);
        let (mut store, mut data) = (Store::new(), Vec::new());
        for (input, value) in graph.inputs.iter().zip(inputs) {
            match input.role {
                Role::State => store.insert(&input.name, value.clone()),
                Role::Data => data.push((input.name.clone(), value.clone())),
            }
        }
        Run { program: native.compile(&graph).unwrap_or_else(|e| panic!("{e}\n{graph}")), store, data }
    }

    fn set(&mut self, input: &str, value: HostTensor) {
        match self.data.iter_mut().find(|(name, _)| name == input) {
            Some((_, old)) => *old = value,
            None => self.store.insert(input, value),
        }
    }

    /// The central differences of all outputs, one after the other, along directions of inputs with these values.
    fn along(&mut self, moved: &[(&str, &HostTensor, &Vec<f64>)], step: f64) -> Vec<f64> {
        let [up, down] = [step, -step].map(|step| {
            for (input, value, direction) in moved {
                let values: Vec<f64> = value.to_f64().iter().zip(*direction).map(|(v, d)| v + step * d).collect();
                self.set(input, HostTensor::from_f64(DType::F64, value.shape(), &values).unwrap_or_else(|e| panic!("{e}")));
            }
            let mut outputs = self.program.signature().output_buffers();
            let data: Vec<&HostTensor> = self.data.iter().map(|(_, value)| value).collect();
            self.program.run(&mut self.store, &data, &mut outputs).unwrap_or_else(|e| panic!("{e}"));
            outputs.iter().flat_map(HostTensor::to_f64).collect::<Vec<f64>>()
        });
        moved.iter().for_each(|(input, value, _)| self.set(input, (*value).clone()));
        up.iter().zip(&down).map(|(up, down)| (up - down) / (2.0 * step)).collect()
    }
}

/// What the inputs of the graph of slopes are in an example. An evaluation has no seed.
fn inputs(seed: u64, example: &Example) -> Vec<HostTensor> {
    let mut random = Random::new(seed);
    let known = |name: &str| {
        let at = example.graph.inputs.iter().position(|input| input.name == name)?;
        Some(example.inputs[at].to_f64())
    };
    let mut values = |name: &str, elements: usize| match known(name) {
        Some(values) => values,
        None if name.starts_with(DIRECTION) => (0..elements).map(|_| random.weight()).collect(),
        None => vec![0.0; elements],
    };
    let graph = &example.slopes;
    let named = graph.inputs.iter().zip(graph.input_types());
    let mut input = |name: &str, ty: Type| HostTensor::from_f64(ty.dtype, &ty.shape, &values(name, ty.elements()));
    named.map(|(known, ty)| input(&known.name, ty).unwrap_or_else(|e| panic!("{e}"))).collect()
}

fn norm(values: &[f64]) -> f64 {
    values.iter().map(|v| v * v).sum::<f64>().sqrt()
}

/// Whether what differences give agrees for any of the steps; NaN agrees with nothing.
fn agrees(mut error: impl FnMut(f64) -> f64, bound: f64) -> Result<(), [f64; 4]> {
    if STEPS.iter().any(|&step| error(step) < bound) { Ok(()) } else { Err(STEPS.map(error)) }
}

/// What the graph of slopes gives.
struct Given<'a> {
    seed: u64,
    graph: &'a Graph,
    inputs: Vec<HostTensor>,
    /// Of everything that is a number: its name, its gradient, a direction, and how gradients change along all directions.
    numbers: Vec<(&'a str, [Vec<f64>; 3])>,
}

impl<'a> Given<'a> {
    /// `None` if there is anything that is not finite.
    fn new(native: &Native, seed: u64, example: &'a Example) -> Option<Given<'a>> {
        let (graph, inputs) = (&example.slopes, inputs(seed, example));
        let results = execute(native, graph, &inputs).unwrap_or_else(|e| panic!("network {seed}: {e}\n{graph}"));
        let mut given = Given { seed, graph, inputs, numbers: Vec::new() };
        let (gradients, changes) = results[1..].split_at((results.len() - 1) / 2);
        for ((output, gradient), change) in graph.outputs[1..].iter().zip(gradients).zip(changes) {
            let direction = given.input(&format!("{DIRECTION}{}", output.name)).to_f64();
            given.numbers.push((&output.name, [gradient.to_f64(), direction, change.to_f64()]));
        }
        is_finite(&results).then_some(given)
    }

    fn input(&self, name: &str) -> &HostTensor {
        let at = self.graph.inputs.iter().position(|input| input.name == name);
        at.map(|at| &self.inputs[at]).unwrap_or_else(|| panic!("no input `{name}`"))
    }

    /// The norm of all gradients together.
    fn whole(&self) -> f64 {
        norm(&self.numbers.iter().map(|(_, [gradient, ..])| norm(gradient)).collect::<Vec<_>>())
    }

    /// Compares some gradients with the slopes of the loss; how many.
    fn check_gradients(&self, native: &Native) -> usize {
        let (mut run, mut random, mut count) = (Run::new(native, self.graph, 1, &self.inputs), Random::new(self.seed), 0);
        for (name, [gradient, direction, _]) in &self.numbers {
            let size = norm(gradient) + 1e-4 * self.whole();
            if size == 0.0 || !random.chance(SOME / self.numbers.len() as f64) {
                continue;
            }
            let expected: f64 = gradient.iter().zip(direction).map(|(g, d)| g * d).sum();
            let moved = [(*name, self.input(name), direction)];
            let result = agrees(|step| (run.along(&moved, step)[0] - expected).abs() / size, 1e-4);
            assert!(result.is_ok(), "network {}, `{name}`: {:?} of {size:e}\n{}", self.seed, result.unwrap_err(), self.graph);
            count += 1;
        }
        count
    }

    /// Compares the changes of all gradients with differences of them.
    fn check_changes(&self, native: &Native) {
        let mut run = Run::new(native, self.graph, 1 + self.numbers.len(), &self.inputs);
        let moved: Vec<_> = self.numbers.iter().map(|(name, [_, direction, _])| (*name, self.input(name), direction)).collect();
        let expected: Vec<f64> = self.numbers.iter().flat_map(|(_, [.., changes])| changes).copied().collect();
        let size = norm(&expected) + 1e-4 * self.whole();
        let error = |step: f64| {
            let got = run.along(&moved, step);
            norm(&got[1..].iter().zip(&expected).map(|(a, b)| a - b).collect::<Vec<_>>()) / size
        };
        if size > 0.0
            && let Err(errors) = agrees(error, 1e-3)
        {
            panic!("network {}: {errors:?} of {size:e}\n{}", self.seed, self.graph);
        }
    }
}

#[test]
fn gradients_are_slopes_of_the_loss() {
    let native = Native::new(2, Isa::detect());
    let (mut count, mut finite, mut networks) = (0, 0, 0);
    for (seed, example) in examples(graph_count() / 10, TINY, true) {
        networks += 1;
        if let Some(given) = Given::new(&native, seed, &example) {
            count += given.check_gradients(&native);
            given.check_changes(&native);
            finite += 1;
        }
    }
    println!("{count} gradients of {finite} finite networks of {networks}");
    assert!(finite * 10 > 9 * networks && count > 2 * networks);
}
