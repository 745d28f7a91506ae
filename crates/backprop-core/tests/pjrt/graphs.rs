//! Random graphs over all primitives.

use crate::common::{distance, reference};
use backprop_check::{execute, graph_count, plugin, random_graphs, random_inputs, special_inputs};
use backprop_core::{DType, HostTensor};

/// As the native executor's bounds: a few hundred roundings of the type, amplified by a few divisions; integers are exact.
fn tolerance(dtype: DType) -> f64 {
    match dtype {
        DType::F64 | DType::F32 => 1e-5,
        d if d.is_float() => 1e-2,
        _ => 0.0,
    }
}

/// The tensor without denormal numbers, which plugins take for zero.
fn flushed(tensor: HostTensor) -> HostTensor {
    let smallest = match tensor.dtype() {
        DType::F16 => half::f16::MIN_POSITIVE.to_f64(),
        DType::F64 => f64::MIN_POSITIVE,
        d if d.is_float() => f64::from(f32::MIN_POSITIVE),
        _ => return tensor,
    };
    let values: Vec<f64> = tensor.to_f64().iter().map(|&v| if v.abs() < smallest { 0.0 } else { v }).collect();
    HostTensor::from_f64(tensor.dtype(), tensor.shape(), &values).unwrap()
}

#[test]
fn random_graphs_give_the_values_of_the_oracle() {
    let Some(pjrt) = plugin("random_graphs_give_the_values_of_the_oracle") else { return };
    // Compiling takes a plugin a hundred times as long as it takes us.
    for (seed, graph) in random_graphs(graph_count() / 10) {
        for (kind, inputs) in [("usual", random_inputs(seed, &graph)), ("special", special_inputs(seed, &graph))] {
            let inputs: Vec<HostTensor> = inputs.into_iter().map(flushed).collect();
            let given = execute(&pjrt, &graph, &inputs).unwrap_or_else(|e| panic!("graph {seed}: {e}\n{graph}"));
            for ((output, wanted), given) in graph.outputs.iter().zip(reference(&graph, &inputs)).zip(&given) {
                let d = distance(given, &wanted, 1e-3);
                let limit = tolerance(wanted.ty.dtype);
                assert!(d <= limit, "graph {seed}, {kind}, `{}`: {d:e}\n{wanted:?}\n{given:?}\n{graph}", output.name);
            }
        }
    }
}
