//! Random bits of the graph against Philox on the host, and what they may depend on.

use backprop_core::{
    Builder, DType, Graph, HostTensor, Type,
    exec::{Backend, Store, native::Native},
    graph::Role,
    random::{Randomness, bernoulli, bits, stream},
    reference::{Array, evaluate},
};
use backprop_kernels::philox::philox4x32;

const SEED: [u32; 2] = [0xDEAD_BEEF, 7];
const STEP: u32 = 41;

fn draw(trace: impl for<'b> FnOnce(&'b Builder, Randomness<'b>)) -> Graph {
    let b = Builder::new();
    let seed = b.input("seed", Role::Data, Type::new(DType::U32, [2]));
    let step = b.input("step", Role::Data, Type::scalar(DType::U32));
    let offset = b.input("offset", Role::Data, Type::scalar(DType::U32));
    trace(&b, Randomness { seed, step, offset, rows: None });
    b.finish().unwrap()
}

fn inputs(offset: u32) -> [HostTensor; 3] {
    [HostTensor::new([2], &SEED).unwrap(), HostTensor::scalar(STEP), HostTensor::scalar(offset)]
}

fn run(graph: &Graph, offset: u32) -> Vec<Vec<f64>> {
    let native = Native::default();
    let mut program = native.compile(graph).unwrap();
    let mut outputs = program.signature().output_buffers();
    let inputs = inputs(offset);
    program.run(&mut Store::new(), &inputs.each_ref(), &mut outputs).unwrap();
    let oracle = evaluate(graph, &inputs.each_ref().map(Array::from_host));
    for (native, oracle) in outputs.iter().zip(&oracle) {
        assert_eq!(native.to_f64(), oracle.to_f64(), "the native bits are not those of the definition in primitives");
    }
    outputs.iter().map(HostTensor::to_f64).collect()
}

#[test]
fn bits_are_philox_of_the_element_index() {
    let stream = stream("layers.3", 1);
    let graph = draw(|b, r| b.output("bits", Role::Data, bits(r, stream, [3, 7])));
    for offset in [0u32, 5] {
        let drawn = &run(&graph, offset)[0];
        for (i, &word) in drawn.iter().enumerate() {
            let index = i as u32 + offset;
            let block = philox4x32(SEED, [index / 4, stream as u32, (stream >> 32) as u32, STEP]);
            assert_eq!(word, f64::from(block[index as usize % 4]), "element {i}");
        }
    }
}

#[test]
fn a_draw_depends_on_nothing_else_in_the_graph() {
    let (ours, other) = (stream("layers.1", 0), stream("layers.1", 1));
    let alone = draw(|b, r| b.output("mask", Role::Data, bits(r, ours, [5, 4])));
    let among_others = draw(|b, r| {
        let more = bits(r, other, [5, 4]);
        b.output("mask", Role::Data, bits(r, ours, [5, 4]));
        b.output("larger batch", Role::Data, bits(r, ours, [9, 4]));
        b.output("more", Role::Data, more);
    });
    let (alone, among) = (run(&alone, 0), run(&among_others, 0));
    assert_eq!(alone[0], among[0]);
    assert_eq!(alone[0][..], among[1][..20]);
    assert_ne!(alone[0], among[2], "two calls drew the same bits");
}

#[test]
fn bernoulli_compares_integers_and_meets_its_bounds() {
    let graph = draw(|b, r| {
        for (i, p) in [0.0, 0.3, 1.0].into_iter().enumerate() {
            b.output(format!("{i}"), Role::Data, bernoulli(r, stream("dropout", 0), p, [100, 100]));
        }
    });
    let counts: Vec<f64> = run(&graph, 0).iter().map(|m| m.iter().sum()).collect();
    assert_eq!((counts[0], counts[2]), (0.0, 10_000.0));
    // Five standard deviations of a binomial distribution.
    assert!((counts[1] - 3_000.0).abs() < 5.0 * (10_000.0 * 0.3 * 0.7f64).sqrt(), "{}", counts[1]);
}
