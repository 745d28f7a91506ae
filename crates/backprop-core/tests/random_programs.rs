//! Random graphs on the native executor: passes, fusion, threads and vector width change no bit; the oracle agrees; plans are
//! what they claim to be.

use backprop_check::{
    Random, check_plan, compare::same_bits, execute, graph_count, random_graphs, random_inputs, special_inputs,
};
use backprop_core::{
    DType, Graph, HostTensor,
    exec::native::{Link, Native, Options},
    reference::{Array, evaluate},
};
use backprop_kernels::Isa;

fn run(native: &Native, seed: u64, graph: &Graph, inputs: &[HostTensor]) -> Vec<HostTensor> {
    execute(native, graph, inputs).unwrap_or_else(|e| panic!("graph {seed}: {e}\n{graph}"))
}

fn assert_same(what: &str, seed: u64, graph: &Graph, expected: &[HostTensor], got: &[HostTensor]) {
    for ((output, e), g) in graph.outputs.iter().zip(expected).zip(got) {
        let same = same_bits(e, g);
        assert!(same.is_ok(), "graph {seed}, {what}, `{}` {}\n{graph}", output.name, same.unwrap_err());
    }
}

#[test]
fn passes_and_fusion_change_no_bit() {
    let plain = Native::new(1, Isa::detect()).unfused();
    for (seed, graph) in random_graphs(graph_count()) {
        for inputs in [random_inputs(seed, &graph), special_inputs(seed, &graph)] {
            let expected = run(&plain, seed, &graph, &inputs);
            for (optimize, fuse) in [(true, false), (false, true), (true, true)] {
                let native = plain.with(Options { optimize, fuse, poison: true, ..Options::default() });
                let what = format!("optimize {optimize}, fuse {fuse}");
                assert_same(&what, seed, &graph, &expected, &run(&native, seed, &graph, &inputs));
            }
        }
    }
}

#[test]
fn going_sample_by_sample_changes_no_bit() {
    let plain = Native::new(2, Isa::detect()).unfused();
    let with = |link| plain.with(Options { optimize: true, fuse: true, poison: true, link, ..Options::default() });
    let mut chains = [0; 3];
    for (seed, graph) in random_graphs(graph_count()) {
        let mut random = Random::new(seed);
        let mut within = || Link::Within { most: 4 << random.below(12), large: 4 << random.below(12) };
        for (link, chains) in [Link::All, within(), within()].into_iter().zip(&mut chains) {
            let linked = with(link);
            let program = linked.build(&graph).unwrap_or_else(|e| panic!("graph {seed}, {link:?}: {e}"));
            let count = program.kernels().iter().filter(|kernel| kernel.name.contains(" > ")).count();
            *chains += count as u64;
            if count > 0 {
                for inputs in [random_inputs(seed, &graph), special_inputs(seed, &graph)] {
                    let expected = run(&plain, seed, &graph, &inputs);
                    assert_same(&format!("{link:?}"), seed, &graph, &expected, &run(&linked, seed, &graph, &inputs));
                }
            }
        }
    }
    println!("{chains:?} chains");
    assert!(chains[0] > graph_count() / 10 && chains.iter().all(|&n| n > graph_count() / 50));
}

#[test]
fn threads_and_vector_width_change_no_bit() {
    let alone = Native::new(1, Isa::detect());
    let narrow = Isa::available().contains(&Isa::Avx2).then(|| Native::new(1, Isa::Avx2));
    let shared = |&n: &usize| Native::new(n, Isa::detect()).with(Options { share_all: true, ..Options::default() });
    let others: Vec<Native> = [2, 3, 8].iter().map(shared).chain(narrow).collect();
    for (seed, graph) in random_graphs(graph_count()) {
        for inputs in [random_inputs(seed, &graph), special_inputs(seed, &graph)] {
            let expected = run(&alone, seed, &graph, &inputs);
            for native in &others {
                let what = format!("{} threads, {}", native.threads(), native.isa());
                assert_same(&what, seed, &graph, &expected, &run(native, seed, &graph, &inputs));
            }
        }
    }
}

/// Largest error relative to the largest magnitude of the output, at least a thousandth.
fn distance(expected: &Array, got: &HostTensor) -> f64 {
    let (expected, got) = (expected.to_f64(), got.to_f64());
    let scale = expected.iter().filter(|v| v.is_finite()).fold(1e-3, |m: f64, v| m.max(v.abs()));
    let apart = |(e, g): (&f64, &f64)| if e == g || e.is_nan() && g.is_nan() { 0.0 } else { (e - g).abs() / scale };
    expected.iter().zip(&got).map(apart).fold(0.0, |m, d| if d.is_nan() { f64::INFINITY } else { m.max(d) })
}

/// A few hundred roundings of the type, amplified by a few divisions; integers are exact.
fn tolerance(dtype: DType) -> f64 {
    match dtype {
        // Graphs of f64 hold conversions to f32 too: their graphs' type is not the output's.
        DType::F64 | DType::F32 => 1e-5,
        d if d.is_float() => 1e-2,
        _ => 0.0,
    }
}

#[test]
fn the_oracle_agrees() {
    let native = Native::new(1, Isa::detect()).with(Options { poison: true, ..Options::default() });
    let mut worst = 0.0f64;
    for (seed, graph) in random_graphs(graph_count()) {
        let inputs = random_inputs(seed, &graph);
        let got = run(&native, seed, &graph, &inputs);
        let expected = evaluate(&graph, &inputs.iter().map(Array::from_host).collect::<Vec<_>>());
        for ((output, e), g) in graph.outputs.iter().zip(&expected).zip(&got) {
            let tolerance = tolerance(e.ty.dtype);
            let d = distance(e, g);
            worst = worst.max(d / tolerance.max(f64::MIN_POSITIVE));
            assert!(d <= tolerance, "graph {seed}, `{}`: {d:e}\n{e:?}\n{g:?}\n{graph}", output.name);
        }
    }
    println!("worst distance, as a part of the tolerance: {worst:.1e}");
}

#[test]
fn plans_are_exact_and_tight() {
    let native = Native::new(1, Isa::detect());
    let (mut worst, mut arena, mut live) = (0.0f64, 0, 0);
    for (seed, graph) in random_graphs(graph_count()) {
        let linked = native.with(Options { link: Link::All, ..Options::default() });
        for native in [native.clone(), native.unfused(), linked] {
            let program = native.build(&graph).unwrap_or_else(|e| panic!("graph {seed}: {e}"));
            let report = check_plan(&program).unwrap_or_else(|e| panic!("graph {seed}: {e}\n{graph}"));
            worst = worst.max(report.ratio());
            (arena, live) = (arena + report.arena, live + report.live);
        }
    }
    println!("arena / live: {worst:.4} at worst, {:.4} overall", arena as f64 / live as f64);
    assert!(worst <= 1.2 && arena as f64 <= 1.01 * live as f64);
}
