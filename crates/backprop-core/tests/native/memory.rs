//! The plan: disjoint, tight, and honest about its peak.

use crate::{common::native, steps};
use backprop_check::check_plan;
use backprop_core::Graph;

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
