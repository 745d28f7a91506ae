//! The same bits whatever was fused, on any number of threads, with any vector width.

use crate::{
    common::{assert_same, inputs, run},
    steps,
};
use backprop_core::{
    Builder, DType, Graph, HostTensor, Type,
    exec::native::{Link, Native, Options},
    graph::Role,
    op::{ConvDims, Convolution},
};
use backprop_kernels::Isa;

#[test]
fn fusing_changes_no_bit() {
    let native = Native::new(2, Isa::detect());
    for (name, graph) in steps::all() {
        let values = steps::values(&graph);
        let fused = run(&native, &graph, &values);
        for (fuse, link) in [(false, Link::Paying), (true, Link::Paying), (true, Link::All)] {
            for optimize in [false, true] {
                let other = native.with(Options { optimize, fuse, link, poison: true, ..Options::default() });
                assert_same(name, &graph, &fused, &run(&other, &graph, &values));
            }
        }
    }
}

/// A sum over all samples of what one chain makes, and of what follows from that by way of another kernel.
#[test]
fn a_sum_waits_for_all_that_it_reads() {
    let b = Builder::new();
    let f32 = |shape: &[usize]| Type::new(DType::F32, shape);
    let x = b.input("x", Role::Data, f32(&[16, 4096, 1]));
    let kernels = [b.input("k1", Role::State, f32(&[64, 1, 3])), b.input("k2", Role::State, f32(&[1, 64, 1]))];
    let alone = Convolution::new(ConvDims::channels_last(1), DType::F32);
    // A mebibyte of each sample: all that a chain may make, so that the next convolution is in none.
    let h = x.convolution(kernels[0], Convolution { padding: vec![(1, 1)], ..alone.clone() });
    let y = h.convolution(kernels[1], alone);
    let gradients = (y * y).mean(&[0, 1, 2]).grad(&kernels);
    gradients.iter().enumerate().for_each(|(i, &g)| b.output(format!("g{i}"), Role::Data, g));
    let graph = b.finish().unwrap();
    let (native, values) = (Native::new(2, Isa::detect()), inputs(&graph, 5));
    assert_same("sum", &graph, &run(&native.unfused(), &graph, &values), &run(&native, &graph, &values));
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

/// Runs a graph with vectors of each width there is.
fn assert_same_for_all_widths(name: &str, graph: &Graph, values: &[HostTensor]) {
    let results: Vec<_> = [Isa::Avx2, Isa::Avx512]
        .into_iter()
        .filter(|isa| Isa::available().contains(isa))
        .map(|isa| run(&Native::new(2, isa), graph, values))
        .collect();
    results.windows(2).for_each(|pair| assert_same(name, graph, &pair[0], &pair[1]));
}

#[test]
fn vector_width_changes_no_bit() {
    for (name, graph) in steps::all() {
        assert_same_for_all_widths(name, &graph, &steps::values(&graph));
    }
}

/// Wide vectors write results of 32 MiB and more past the caches, where that is faster.
#[test]
fn large_results_have_the_same_bits_however_they_are_written() {
    let [rows, columns, terms] = [8192, 1072, 8];
    let b = Builder::new();
    let input = |name: &str, shape: &[usize]| b.input(name, Role::Data, Type::new(DType::F32, shape.to_vec()));
    let (x, w, large) = (input("x", &[rows, terms]), input("w", &[columns, terms]), input("large", &[rows, columns]));
    // The epilogue of a product, and kernels of their own that read what went past the caches.
    let y = x.linear(w).exp();
    b.output("y", Role::Data, y);
    b.output("z", Role::Data, large * y.sum(&[1]).broadcast_in_dim([rows, columns], &[0]));
    let graph = b.with_graph(Clone::clone);
    assert_same_for_all_widths("large results", &graph, &inputs(&graph, 5));
}
