//! The plan: disjoint, tight, and honest about its peak.

use crate::{common::native, steps};
use backprop_core::{
    Graph,
    exec::{Program, native::Planned},
};

/// Walks a plan phase by phase: nothing that is alive together overlaps; the high-water mark and the largest live set.
pub fn walk(plan: &[Planned]) -> (usize, usize) {
    let phases = plan.iter().map(|b| b.last + 1).max().unwrap_or(0);
    let (mut high, mut most) = (0, 0);
    for phase in 0..phases {
        let mut alive: Vec<&Planned> = plan.iter().filter(|b| b.first <= phase && phase <= b.last && b.bytes > 0).collect();
        alive.sort_by_key(|b| b.offset);
        for pair in alive.windows(2) {
            assert!(pair[0].offset + pair[0].bytes <= pair[1].offset, "phase {phase}: {:?} and {:?}", pair[0], pair[1]);
        }
        assert!(alive.iter().all(|b| b.offset % 64 == 0));
        high = alive.iter().map(|b| b.offset + b.bytes.next_multiple_of(64)).fold(high, usize::max);
        most = most.max(alive.iter().map(|b| b.bytes.next_multiple_of(64)).sum());
    }
    (high, most)
}

#[test]
fn plans_are_disjoint_exact_and_tight() {
    for (name, graph) in steps::all() {
        for backend in [native(), native().unfused()] {
            let program = backend.build(&graph).unwrap();
            let (high, live) = walk(&program.plan());
            let memory = program.memory();
            assert_eq!((memory.arena, memory.live), (high, live), "{name}");
            assert!(memory.arena as f64 <= 1.05 * memory.live as f64, "{name}: {memory:?}");
        }
    }
}

#[test]
fn every_kernel_finds_its_values_alive() {
    for (name, graph) in steps::all() {
        let program = native().build(&graph).unwrap();
        let plan = program.plan();
        let mut seen = 0;
        for (number, phase) in program.phases().iter().enumerate() {
            for &k in &phase.kernels {
                let kernel = &program.kernels()[k];
                for &block in kernel.reads.iter().chain(&kernel.writes) {
                    let Planned { first, last, .. } = plan[block];
                    assert!(first <= number && number <= last, "{name}: {} in phase {number}: {:?}", kernel.name, plan[block]);
                }
                seen += 1;
            }
        }
        assert_eq!(seen, program.kernels().len());
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
