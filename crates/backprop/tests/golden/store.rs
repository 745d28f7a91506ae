//! Golden files, and the engines they judge.

use backprop::prelude::*;
use backprop_check::plugin;
use backprop_core::{
    exec::{
        Backend, Store,
        native::{Native, Options},
    },
    reference::{Array, evaluate},
};
use backprop_kernels::Isa;
use safetensors::{Dtype, SafeTensors};
use serde_json::Value;
use std::{collections::HashMap, path::Path};

/// Tensors by name.
pub type Tensors = HashMap<String, HostTensor>;

/// The tensors of a golden file, and the JSON description in its header.
pub fn load(file: &str) -> (Tensors, Value) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("../../tests/golden/{file}.safetensors"));
    let bytes = std::fs::read(path).unwrap();
    let (_, header) = SafeTensors::read_metadata(&bytes).unwrap();
    let meta = serde_json::from_str(&header.metadata().as_ref().unwrap()["meta"]).unwrap();
    let tensor = |(name, view): (String, safetensors::tensor::TensorView)| {
        let dtype = match view.dtype() {
            Dtype::F32 => DType::F32,
            Dtype::I32 => DType::I32,
            other => panic!("{name} is {other:?}"),
        };
        let value = HostTensor::from_bytes(Type::new(dtype, view.shape()), view.data()).unwrap();
        (name, value)
    };
    (SafeTensors::deserialize(&bytes).unwrap().tensors().into_iter().map(tensor).collect(), meta)
}

/// The tensors below a prefix, without it.
pub fn below(tensors: &Tensors, prefix: &str) -> Tensors {
    tensors.iter().filter_map(|(name, t)| Some((name.strip_prefix(prefix)?.to_owned(), t.clone()))).collect()
}

/// Row `i` of a tensor along its first dimension.
pub fn row(tensor: &HostTensor, i: usize) -> HostTensor {
    let ty = Type::new(tensor.dtype(), &tensor.shape()[1..]);
    HostTensor::from_bytes(ty.clone(), &tensor.bytes()[i * ty.bytes()..(i + 1) * ty.bytes()]).unwrap()
}

/// Evaluates a graph by the oracle, in f64, for inputs by name; returns the outputs by name.
pub fn oracle(graph: &Graph, inputs: &HashMap<String, Array>) -> HashMap<String, Array> {
    let given = |name: &String| inputs.get(name).unwrap_or_else(|| panic!("no value for input `{name}`")).clone();
    let arguments: Vec<Array> = graph.inputs.iter().map(|i| given(&i.name)).collect();
    graph.outputs.iter().map(|o| o.name.clone()).zip(evaluate(graph, &arguments)).collect()
}

/// Evaluates a graph by the oracle for inputs by name; returns the outputs by name.
pub fn by_oracle(graph: &Graph, inputs: &Tensors) -> HashMap<String, Vec<f64>> {
    oracle(graph, &arrays(inputs)).into_iter().map(|(name, value)| (name, value.to_f64())).collect()
}

/// Runs a graph by the native executor, with freed memory poisoned, for inputs by name; returns the outputs by name.
pub fn natively(graph: &Graph, inputs: &Tensors) -> HashMap<String, Vec<f64>> {
    let options = Options { poison: true, ..Options::default() };
    run(&Native::new(2, Isa::detect()).with(options), graph, inputs)
}

/// Runs a graph by the plugin that [`backprop_check::plugin`] gives.
pub fn by_plugin(graph: &Graph, inputs: &Tensors) -> HashMap<String, Vec<f64>> {
    run(&plugin("a golden file").unwrap(), graph, inputs)
}

fn run(backend: &dyn Backend, graph: &Graph, inputs: &Tensors) -> HashMap<String, Vec<f64>> {
    let mut program = backend.compile(graph).unwrap_or_else(|e| panic!("{e}\n{graph}"));
    let mut store = Store::new();
    inputs.iter().for_each(|(name, value)| store.insert(name.clone(), value.clone()));
    let signature = program.signature().clone();
    let data: Vec<&HostTensor> = signature.inputs.iter().map(|(name, _)| &inputs[name]).collect();
    let mut outputs = signature.output_buffers();
    program.run(&mut store, &data, &mut outputs).unwrap();
    signature.outputs.iter().map(|(name, _)| name.clone()).zip(outputs.iter().map(HostTensor::to_f64)).collect()
}

/// As arrays of the oracle.
pub fn arrays(tensors: &Tensors) -> HashMap<String, Array> {
    tensors.iter().map(|(name, t)| (name.clone(), Array::from_host(t))).collect()
}

/// Fails unless the two agree within `tolerance` of the largest expected magnitude.
pub fn assert_close(what: &str, actual: &[f64], expected: &[f64], tolerance: f64) {
    assert_eq!(actual.len(), expected.len(), "{what}: number of elements");
    let scale = expected.iter().fold(0.0f64, |m, x| m.max(x.abs())).max(1e-30);
    for (i, (a, e)) in actual.iter().zip(expected).enumerate() {
        assert!((a - e).abs() <= tolerance * scale, "{what}[{i}]: {a}, expected {e} (tolerance {:e})", tolerance * scale);
    }
}
