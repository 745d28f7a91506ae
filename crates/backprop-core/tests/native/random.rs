//! Random graphs: every option gives the same bits, every plan is sound, and the oracle agrees.

use crate::{
    common::{distance, reference, run},
    memory::walk,
};
use backprop_check::{GraphOptions, random_graph, random_inputs, special_inputs};
use backprop_core::{
    DType, Graph, HostTensor,
    exec::{
        Program,
        native::{Native, Options},
    },
};
use backprop_kernels::Isa;

const GRAPHS: u64 = 500;

fn graphs() -> impl Iterator<Item = (u64, Graph)> {
    (0..GRAPHS).map(|seed| {
        let options = GraphOptions { steps: 1 + (seed / 25) as usize, ..GraphOptions::default() };
        (seed, random_graph(seed, &options))
    })
}

/// Bits as numbers, any NaN equal to any other: payloads are unspecified.
fn bits(tensor: &HostTensor) -> Vec<u64> {
    let canonical = |x: f64| if x.is_nan() { u64::MAX } else { x.to_bits() };
    match tensor.dtype() {
        DType::I64 | DType::U64 => bytemuck::cast_slice::<u8, u64>(tensor.bytes()).to_vec(),
        _ => tensor.to_f64().into_iter().map(canonical).collect(),
    }
}

fn assert_same_bits(seed: u64, graph: &Graph, what: &str, a: &[HostTensor], b: &[HostTensor]) {
    for ((output, a), b) in graph.outputs.iter().zip(a).zip(b) {
        assert!(bits(a) == bits(b), "graph {seed}, {what}: `{}` is {a:?} or {b:?} of\n{graph}", output.name);
    }
}

#[test]
fn fusion_passes_threads_and_width_change_no_bit() {
    let plain = Native::new(1, Isa::detect()).unfused();
    let fused = Native::new(3, Isa::detect()).with(Options { poison: true, ..Options::default() });
    let narrow = Native::new(2, Isa::Avx2).with(Options { optimize: false, ..Options::default() });
    for (seed, graph) in graphs() {
        for values in [random_inputs(seed, &graph), special_inputs(seed, &graph)] {
            let expected = run(&plain, &graph, &values);
            assert_same_bits(seed, &graph, "fused", &expected, &run(&fused, &graph, &values));
            assert_same_bits(seed, &graph, "avx2", &expected, &run(&narrow, &graph, &values));
        }
    }
}

#[test]
fn plans_are_disjoint_and_exact() {
    let native = Native::new(1, Isa::detect());
    let (mut arena, mut live) = (0, 0);
    for (seed, graph) in graphs() {
        let program = native.build(&graph).unwrap();
        let memory = program.memory();
        assert_eq!(walk(&program.plan()), (memory.arena, memory.live), "graph {seed}");
        (arena, live) = (arena + memory.arena, live + memory.live);
    }
    assert!(arena as f64 <= 1.01 * live as f64, "{arena} {live}");
}

#[test]
fn the_oracle_agrees() {
    let native = Native::new(2, Isa::detect());
    for (seed, graph) in graphs() {
        let values = random_inputs(seed, &graph);
        for (given, wanted) in run(&native, &graph, &values).iter().zip(reference(&graph, &values)) {
            let d = distance(given, &wanted, 1.0);
            assert!(d <= 1e-4, "graph {seed}: {d:e}\n{given:?}\n{graph}");
        }
    }
}
