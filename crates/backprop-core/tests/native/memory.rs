//! The plan: disjoint, tight, and honest about its peak.

use crate::{
    common::{assert_same, inputs, native, run},
    steps,
};
use backprop_check::check_plan;
use backprop_core::{
    Builder, DType, Graph, Type,
    exec::{Program, native::Planned},
    graph::Role,
    op::Composite,
};

#[test]
fn plans_are_disjoint_exact_and_tight() {
    for (name, graph) in steps::all() {
        for backend in [native(), native().unfused()] {
            let report = check_plan(&backend.build(&graph).unwrap()).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert!(report.ratio() <= 1.05, "{name}: {report:?}");
        }
    }
}

fn kernels(graph: &Graph) -> Vec<String> {
    native().build(graph).unwrap().kernels().iter().map(|k| k.name.clone()).collect()
}

#[test]
fn an_mlp_step_is_a_few_kernels() {
    let names = kernels(&steps::mlp());
    // Forward: two products with bias and activation; backward: products for one input and two weights.
    assert_eq!(names.iter().filter(|n| n.contains("dot_general")).count(), 5, "{names:#?}");
    assert!(names.iter().any(|n| n.contains("dot_general") && n.contains("tanh")), "{names:#?}");
    assert!(names.len() <= 24, "{} {names:#?}", names.len());
}

/// Ten blocks of three layers over a large batch, their inner values kept or computed again.
fn blocks(recompute: bool) -> Graph {
    let b = Builder::new();
    let x = b.input("x", Role::Data, Type::new(DType::F32, [512, 32]));
    let weights: Vec<_> = (0..10).map(|i| b.input(format!("w{i}"), Role::State, Type::new(DType::F32, [32, 32]))).collect();
    let types = [x.ty(), weights[0].ty()];
    let body = b.trace(&types, |_, v| vec![(0..3).fold(v[0], |h, _| h.linear(v[1]).tanh().exp())]);
    let region = Composite { recompute, ..Composite::new("block", body) };
    let out = weights.iter().fold(x, |h, &w| b.apply(region.clone(), &[h, w])[0]);
    for ((i, &w), g) in weights.iter().enumerate().zip(out.sum_all().grad(&weights)) {
        b.output(format!("w{i}"), Role::State, w - g);
    }
    b.finish().unwrap()
}

#[test]
fn recomputing_saves_memory_and_changes_no_bit() {
    let (kept, again) = (blocks(false), blocks(true));
    let arena = |g: &Graph| native().build(g).unwrap().memory().arena;
    assert!(arena(&again) * 2 < arena(&kept), "{} {}", arena(&again), arena(&kept));
    let values = inputs(&kept, 2);
    assert_same("recomputed", &kept, &run(&native(), &kept, &values), &run(&native(), &again, &values));
}

/// Eight layers with a ReLU each. What a ReLU gives is needed for the next weights' gradient, or, if only scales are trained, what it is
/// given is, but for the scale.
fn rectified(only_scales: bool) -> Graph {
    let b = Builder::new();
    let f32 = |shape: &[usize]| Type::new(DType::F32, shape);
    let x = b.input("x", Role::Data, f32(&[ROWS, 256]));
    let weights: Vec<_> = (0..8).map(|i| b.input(format!("w{i}"), Role::Data, f32(&[256, 256]))).collect();
    let scales: Vec<_> = (0..8).map(|i| b.input(format!("s{i}"), Role::Data, f32(&[256]))).collect();
    let last = (0..8).fold(x, |h, i| {
        let h = h.linear(weights[i]);
        if only_scales { h * scales[i] } else { h }.relu()
    });
    let gradients = last.mean(&[0, 1]).grad(if only_scales { &scales } else { &weights });
    gradients.iter().enumerate().for_each(|(i, &g)| b.output(format!("g{i}"), Role::Data, g));
    b.finish().unwrap()
}

/// So many that four layers' values are more than caches hold.
const ROWS: usize = 4096;

#[test]
fn what_a_relu_let_pass_is_not_kept_for_long() {
    for only_scales in [false, true] {
        let graph = rectified(only_scales);
        let program = native().build(&graph).unwrap();
        // Nothing else has a byte for each element.
        let is_mask = |block: &&Planned| block.bytes == ROWS * 256 && !block.name.contains("workspace");
        let plan = program.plan();
        let masks: Vec<_> = plan.iter().filter(is_mask).collect();
        assert!(masks.len() <= 3, "{only_scales}: {masks:#?}");
        let values = inputs(&graph, 3);
        assert_same("rectified", &graph, &run(&native().unfused(), &graph, &values), &run(&native(), &graph, &values));
    }
}
