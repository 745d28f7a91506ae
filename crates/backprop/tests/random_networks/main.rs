//! Training steps of random networks: what kernels are joined, linked and cut into parts changes no bit, the oracle agrees, and gradients
//! are the slopes of the loss.

mod custom;
mod layers;
mod network;
mod slopes;
mod training;

use backprop::prelude::*;
use backprop_check::{Random, check_plan, compare::same_bits, execute, graph_count};
use backprop_core::{
    exec::native::{Link, Native, Options},
    reference::{Array, evaluate},
};
use backprop_kernels::Isa;
use network::{Example, LARGE, SMALL, Sizes, TINY, example};
use std::collections::BTreeMap;

/// Random networks of one to twelve layers, trained by plain gradient descent or by any optimizer.
fn examples(count: u64, sizes: Sizes, plain: bool) -> impl Iterator<Item = (u64, Example)> {
    (0..count).map(move |seed| (seed, example(seed, 1 + (seed * 12 / count) as usize, sizes, plain)))
}

fn run(native: &Native, what: &str, Example { graph, inputs, .. }: &Example) -> Vec<HostTensor> {
    execute(native, graph, inputs).unwrap_or_else(|e| panic!("{what}: {e}\n{graph}"))
}

/// A step that is not finite changes nothing, and so would show nothing.
fn is_finite(outputs: &[HostTensor]) -> bool {
    outputs.iter().all(|output| output.to_f64().iter().all(|v| v.is_finite()))
}

/// Which kernels are linked depends on how large values are: here every size is large to some networks, and too large to others.
#[test]
fn joining_and_linking_change_no_bit() {
    let plain = Native::new(1, Isa::detect()).unfused();
    let others: Vec<Native> =
        Isa::available().iter().filter(|isa| **isa != Isa::Portable).map(|&isa| Native::new(2, isa)).collect();
    let (mut chains, mut finite, mut count) = (0, 0, 0);
    for (seed, example) in examples(graph_count() / 10, SMALL, false) {
        let mut random = Random::new(seed);
        let expected = run(&plain, &format!("network {seed}"), &example);
        (finite, count) = (finite + u64::from(is_finite(&expected)), count + 1);
        let mut within = || Link::Within { most: 16 << random.below(14), large: 16 << random.below(14) };
        for link in [Link::Paying, Link::All, within(), within(), within()] {
            for native in &others {
                let what = format!("network {seed}, {link:?}, {}", native.isa());
                let native = native.with(Options { link, share_all: true, poison: true, ..Options::default() });
                let program = native.build(&example.graph).unwrap_or_else(|e| panic!("{what}: {e}"));
                check_plan(&program).unwrap_or_else(|e| panic!("{what}: {e}"));
                chains += program.kernels().iter().filter(|kernel| kernel.name.contains(" > ")).count();
                for ((output, expected), got) in example.graph.outputs.iter().zip(&expected).zip(&run(&native, &what, &example)) {
                    let same = same_bits(expected, got);
                    assert!(same.is_ok(), "{what}, `{}`: {}\n{}", output.name, same.unwrap_err(), example.graph);
                }
            }
        }
    }
    println!("{chains} chains in {count} networks, {finite} of them finite");
    assert!(chains > count && finite * 10 > 9 * count as u64);
}

/// An example's inputs in double precision, `parts` of themselves away, up or down.
fn moved(seed: u64, example: &Example, parts: f64) -> Vec<HostTensor> {
    let mut random = Random::new(seed);
    let mut moved = |(input, ty): (&HostTensor, &Type)| {
        if ty.dtype != DType::F64 {
            return input.clone();
        }
        let mut values = input.to_f64();
        values.iter_mut().for_each(|v| *v *= 1.0 + if random.chance(0.5) { parts } else { -parts });
        HostTensor::from_f64(ty.dtype, &ty.shape, &values).unwrap_or_else(|e| panic!("{e}"))
    };
    example.inputs.iter().zip(&example.double.input_types()).map(&mut moved).collect()
}

/// The largest distance between elements of each output, as a part of its largest one, or of what counts beside the gradient's norm:
/// biases before a normalisation have no gradient but rounding. What is no number is infinitely far.
fn distances(graph: &Graph, a: &[HostTensor], b: &[HostTensor]) -> Vec<f64> {
    let size = |v: &f64| if v.is_nan() { f64::INFINITY } else { v.abs() };
    let largest = |values: &[f64]| values.iter().map(size).fold(0.0, f64::max);
    let norm = graph.outputs.iter().position(|output| output.name == "grad_norm").map_or(0.0, |i| largest(&a[i].to_f64()));
    let distance = |(a, b): (&HostTensor, &HostTensor)| {
        let (a, b) = (a.to_f64(), b.to_f64());
        let apart: Vec<f64> = a.iter().zip(&b).map(|(a, b)| a - b).collect();
        largest(&apart) / largest(&a).max(0.1 * norm).max(f64::MIN_POSITIVE)
    };
    a.iter().zip(b).map(distance).collect()
}

/// Deep networks of any layers can make much of little: what rounding may do is judged by what inputs do that are a few roundings away.
/// Where it takes one of a few thousand elements past a kink, gradients jump. Gives whether all is near, and finite.
fn assert_agree(what: &str, graph: &Graph, [expected, moved, got]: [&[HostTensor]; 3]) -> bool {
    if !is_finite(got) {
        // In double precision there is no end to numbers of which single precision has no squares. NaN proves nothing.
        let overflows = |output: &HostTensor| output.to_f64().iter().any(|v| v.abs() > TOO_LARGE);
        assert!(expected.iter().any(overflows), "{what} is not finite\n{graph}");
        return false;
    }
    let effect = distances(graph, expected, moved).into_iter().fold(0.0, f64::max);
    let errors = distances(graph, expected, got);
    for (output, error) in graph.outputs.iter().zip(&errors) {
        assert!(*error <= 1e-3 + effect, "{what}, `{}`: {error:e}, {effect:e}\n{graph}", output.name);
    }
    errors.iter().all(|&error| error < 1e-4)
}

/// Numbers whose squares, or sums of them, may be too large for single precision.
const TOO_LARGE: f64 = 1e18;

/// How far inputs are moved, as a part of themselves: so many roundings.
const ROUNDINGS: f64 = 32.0;
const MOVED: f64 = ROUNDINGS * f32::EPSILON as f64;

#[test]
fn the_oracle_agrees() {
    let native = Native::new(2, Isa::detect()).with(Options { poison: true, ..Options::default() });
    let (mut near, mut count) = (0, 0);
    for (seed, example) in examples(graph_count() / 10, SMALL, true) {
        let what = format!("network {seed}");
        let got = run(&native, &what, &example);
        let [expected, moved] = [0.0, MOVED].map(|parts| {
            let inputs: Vec<Array> = moved(seed, &example, parts).iter().map(Array::from_host).collect();
            evaluate(&example.double, &inputs).iter().map(Array::to_host).collect::<Vec<_>>()
        });
        near += u64::from(assert_agree(&what, &example.graph, [&expected, &moved, &got]));
        count += 1;
    }
    println!("{near} of {count} networks within 1e-4");
    assert!(near * 10 > 9 * count);
}

/// Of double precision there is one obvious loop for each kernel, and it is fast enough for what kernels cut into blocks and parts.
#[test]
fn double_precision_agrees() {
    let native = Native::new(2, Isa::detect());
    let (mut near, mut count) = (0, 0);
    for (seed, example) in examples(graph_count() / 100, LARGE, true) {
        let what = format!("large network {seed}");
        let got = run(&native, &what, &example);
        let [expected, moved] = [0.0, MOVED].map(|parts| {
            let inputs = moved(seed, &example, parts);
            execute(&native.unfused(), &example.double, &inputs).unwrap_or_else(|e| panic!("{what}: {e}"))
        });
        near += u64::from(assert_agree(&what, &example.graph, [&expected, &moved, &got]));
        count += 1;
    }
    println!("{near} of {count} large networks within 1e-4");
    assert!(near * 10 > 9 * count);
}

/// Values by names, in the order of other names.
fn in_order<'n>(
    names: impl Iterator<Item = &'n String>,
    from: impl Iterator<Item = &'n String>,
    values: &[HostTensor],
) -> Vec<HostTensor> {
    let by_name: BTreeMap<&String, &HostTensor> = from.zip(values).collect();
    names.map(|name| by_name[name].clone()).collect()
}

/// Sums over the parts of a batch are those over the batch, and dropout draws what it draws there. Where nothing but rounding is left,
/// it is what inputs make of it that are a few roundings away.
#[test]
fn parts_give_what_the_whole_gives() {
    let native = Native::new(2, Isa::detect());
    let (mut near, mut parted, mut count) = (0, 0, 0);
    for (seed, example) in examples(graph_count() / 2, TINY, true) {
        count += 1;
        let (parts, Some(whole)) = (&example.double, &example.whole) else { continue };
        let run = |graph: &Graph, inputs: &[HostTensor]| {
            execute(&native, graph, inputs).unwrap_or_else(|e| panic!("network {seed}: {e}\n{graph}"))
        };
        let [expected, apart] = [0.0, ROUNDINGS * f64::EPSILON].map(|by| {
            let inputs = moved(seed, &example, by);
            run(whole, &in_order(whole.inputs.iter().map(|i| &i.name), parts.inputs.iter().map(|i| &i.name), &inputs))
        });
        let got = run(parts, &moved(seed, &example, 0.0));
        let got = in_order(whole.outputs.iter().map(|o| &o.name), parts.outputs.iter().map(|o| &o.name), &got);
        let effect = distances(whole, &expected, &apart).into_iter().fold(0.0, f64::max);
        let errors = distances(whole, &expected, &got);
        for (output, error) in whole.outputs.iter().zip(&errors) {
            assert!(*error < 1e-9 + 10.0 * effect, "network {seed}, `{}`: {error:e}, {effect:e}\n{parts}", output.name);
        }
        near += u64::from(errors.iter().all(|&error| error < 1e-9));
        parted += 1;
    }
    println!("{near} of {parted} networks in parts within 1e-9, of {count}");
    assert!(near * 10 > 9 * parted && parted * 20 > count);
}
