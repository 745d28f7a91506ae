//! Properties of random graphs: passes keep every bit, the verifier accepts what they make, the text form parses back.

use backprop_check::{graph_count, random_graphs, random_inputs, special_inputs};
use backprop_core::{
    Graph, HostTensor,
    graph::verify,
    op::Op,
    pass::{optimize, pipeline},
    reference::{Array, Elements, evaluate},
};
use std::collections::BTreeSet;

fn arrays(inputs: Vec<HostTensor>) -> Vec<Array> {
    inputs.iter().map(Array::from_host).collect()
}

/// Bits as numbers, any NaN equal to any other.
fn bits(array: &Array) -> Vec<i128> {
    match &array.elements {
        Elements::Float(v) => v.iter().map(|x| if x.is_nan() { -1 } else { x.to_bits().into() }).collect(),
        Elements::Int(v) => v.clone(),
    }
}

fn result_bits(graph: &Graph, inputs: &[Array]) -> Vec<Vec<i128>> {
    evaluate(graph, inputs).iter().map(bits).collect()
}

fn check_passes(seed: u64, graph: &Graph, inputs: &[Array]) {
    let expected = result_bits(graph, inputs);
    optimize(graph, &pipeline(|_| false), &mut |pass, _, after| {
        verify(after).unwrap_or_else(|e| panic!("graph {seed} after {}: {e}\n{graph}", pass.name()));
        let now = result_bits(after, inputs);
        let changed: Vec<usize> = (0..now.len()).filter(|&i| now[i] != expected[i]).collect();
        assert!(changed.is_empty(), "graph {seed}: {} changes outputs {changed:?} of\n{graph}", pass.name());
    });
}

#[test]
fn passes_keep_every_bit_of_the_oracle() {
    for (seed, graph) in random_graphs(graph_count()) {
        check_passes(seed, &graph, &arrays(random_inputs(seed, &graph)));
        check_passes(seed, &graph, &arrays(special_inputs(seed, &graph)));
    }
}

#[test]
fn the_text_form_parses_back_to_an_equal_graph() {
    for (seed, graph) in random_graphs(graph_count()) {
        let text = graph.to_string();
        let parsed: Graph = text.parse().unwrap_or_else(|e| panic!("graph {seed}: {e}\n{text}"));
        assert!(parsed == graph, "graph {seed} becomes\n{parsed}\nfrom\n{text}");
    }
}

fn names(graph: &Graph, found: &mut BTreeSet<&'static str>) {
    for node in &graph.nodes {
        found.insert(node.op.name());
        node.op.regions().iter().for_each(|body| names(body, found));
    }
}

/// The generator reaches every primitive, so that the other tests mean something.
#[test]
fn every_primitive_occurs() {
    let mut found = BTreeSet::new();
    random_graphs(graph_count()).for_each(|(_, graph)| names(&graph, &mut found));
    let all: BTreeSet<&str> = Op::all_samples().iter().map(|s| s.op.name()).collect();
    let missing: Vec<_> = all.difference(&found).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn values_are_finite_and_moderate() {
    let (mut finite, mut all) = (0, 0);
    for (seed, graph) in random_graphs(graph_count()) {
        let results = evaluate(&graph, &arrays(random_inputs(seed, &graph)));
        for array in results.into_iter().filter(|array| array.ty.dtype.is_float()) {
            all += array.ty.elements();
            finite += array.to_f64().iter().filter(|v| v.is_finite() && v.abs() < 1e6).count();
        }
    }
    assert!(finite * 1000 >= all * 999, "{finite} of {all} values are so");
}
