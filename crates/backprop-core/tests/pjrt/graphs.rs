//! Random graphs over all primitives.

use crate::common::{distance, reference};
use backprop_check::{execute, graph_count, plugin, random_graphs, random_inputs, special_inputs};
use backprop_core::{
    DType, Graph, HostTensor,
    exec::pjrt::Pjrt,
    graph::Node,
    op::{Binary, Op},
};

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

/// The tensor with an ordinary number in place of each that is not finite.
fn finite(tensor: &HostTensor) -> HostTensor {
    if !tensor.dtype().is_float() {
        return tensor.clone();
    }
    let values: Vec<f64> = tensor.to_f64().iter().map(|v| if v.is_finite() { *v } else { 1.5 }).collect();
    HostTensor::from_f64(tensor.dtype(), tensor.shape(), &values).unwrap()
}

/// Whether a graph has operations in which XLA for processors treats what is not finite in another way than we do.
///
/// - It multiplies by zeros that are not there: of padding, of gaps between a convolution's inputs, and of kernels between groups, which
///   it joins into one. There a NaN comes out, where we add nothing.
/// - It multiplies by a bool that was converted by choosing between the other factor and 0. There a NaN is lost.
fn differs_where_not_finite(graph: &Graph) -> bool {
    let one = |node: &Node| match &node.op {
        Op::Convolution(c) => {
            let padded = c.padding.iter().any(|p| p.0 > 0 || p.1 > 0) || c.lhs_dilation.iter().any(|&d| d > 1);
            padded || c.feature_groups > 1 || c.batch_groups > 1
        }
        Op::Binary(Binary::Mul) => node.inputs.iter().any(|v| {
            let factor = graph.node(v.node);
            matches!(factor.op, Op::Convert(_)) && graph.ty(factor.inputs[0]).dtype == DType::Bool
        }),
        op => op.regions().into_iter().any(|body| differs_where_not_finite(body)),
    };
    graph.nodes.iter().any(one)
}

/// Compares with the oracle; what differs, if anything.
fn check(pjrt: &Pjrt, graph: &Graph, inputs: &[HostTensor]) -> Result<(), String> {
    let given = execute(pjrt, graph, inputs).map_err(|e| format!("{e}\n{graph}"))?;
    for ((output, wanted), given) in graph.outputs.iter().zip(reference(graph, inputs)).zip(&given) {
        let d = distance(given, &wanted, 1e-3);
        if d > tolerance(wanted.ty.dtype) {
            return Err(format!("`{}`: {d:e}\n{wanted:?}\n{given:?}\n{graph}", output.name));
        }
    }
    Ok(())
}

#[test]
fn random_graphs_give_the_values_of_the_oracle() {
    let Some(pjrt) = plugin("random_graphs_give_the_values_of_the_oracle") else { return };
    // Compiling takes a plugin a hundred times as long as it takes us.
    for (seed, graph) in random_graphs(graph_count() / 10) {
        let [usual, special] = [random_inputs(seed, &graph), special_inputs(seed, &graph)]
            .map(|inputs| inputs.into_iter().map(flushed).collect::<Vec<HostTensor>>());
        check(&pjrt, &graph, &usual).unwrap_or_else(|e| panic!("graph {seed}, usual, {e}"));
        let mut checked = check(&pjrt, &graph, &special);
        if checked.is_err() && differs_where_not_finite(&graph) {
            checked = check(&pjrt, &graph, &special.iter().map(finite).collect::<Vec<_>>());
        }
        checked.unwrap_or_else(|e| panic!("graph {seed}, special, {e}"));
    }
}
