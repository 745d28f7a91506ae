//! The same bits whatever was fused, on any number of threads, with any vector width.

use crate::{
    common::{assert_same, run},
    steps,
};
use backprop_core::exec::native::{Native, Options};
use backprop_kernels::Isa;

#[test]
fn fusing_changes_no_bit() {
    let native = Native::new(2, Isa::detect());
    for (name, graph) in steps::all() {
        let values = steps::values(&graph);
        let fused = run(&native, &graph, &values);
        for (fuse, link_all) in [(false, false), (true, false), (true, true)] {
            for optimize in [false, true] {
                let other = native.with(Options { optimize, fuse, link_all, poison: true, ..Options::default() });
                assert_same(name, &graph, &fused, &run(&other, &graph, &values));
            }
        }
    }
}

#[test]
fn threads_change_no_bit() {
    let alone = Native::new(1, Isa::detect());
    for (name, graph) in steps::all() {
        let values = steps::values(&graph);
        let expected = run(&alone, &graph, &values);
        for threads in [2, 3, 8] {
            let shared = Native::new(threads, Isa::detect()).with(Options { share_all: true, ..Options::default() });
            assert_same(name, &graph, &expected, &run(&shared, &graph, &values));
        }
    }
}

#[test]
fn vector_width_changes_no_bit() {
    for (name, graph) in steps::all() {
        let values = steps::values(&graph);
        let results: Vec<_> = [Isa::Avx2, Isa::Avx512]
            .into_iter()
            .filter(|isa| Isa::available().contains(isa))
            .map(|isa| run(&Native::new(2, isa), &graph, &values))
            .collect();
        results.windows(2).for_each(|pair| assert_same(name, &graph, &pair[0], &pair[1]));
    }
}
