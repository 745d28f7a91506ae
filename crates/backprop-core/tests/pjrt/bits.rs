//! What must be the same bits on every backend: random numbers.

use crate::common::native;
use backprop_check::{execute, plugin};
use backprop_core::{
    Builder, DType, HostTensor, Type,
    graph::Role,
    random::{Randomness, bernoulli, bits, uniform},
};

#[test]
fn random_numbers_have_the_bits_of_the_native_ones() {
    let Some(pjrt) = plugin("random_numbers_have_the_bits_of_the_native_ones") else { return };
    let b = Builder::new();
    let seed = b.input("seed", Role::Data, Type::new(DType::U32, [2]));
    let [step, offset] = ["step", "offset"].map(|name| b.input(name, Role::Data, Type::scalar(DType::U32)));
    let random = Randomness { seed, step, offset, rows: None };
    b.output("bits", Role::Data, bits(random, 0x1234_5678_9abc_def0, [3, 67]));
    b.output("uniform", Role::Data, uniform(random, 1, [129]));
    b.output("mask", Role::Data, bernoulli(random, 2, 0.3, [5, 41]));
    b.output("parts", Role::Data, bits(Randomness { rows: Some(4), ..random }, 3, [4, 9]));
    let graph = b.finish().unwrap();
    for (step, offset) in [(0u32, 0u32), (77, 5), (u32::MAX, 1 << 20)] {
        let seed = HostTensor::new([2], &[0xdead_beef_u32, 0x89ab_cdef]).unwrap();
        let values = [seed, HostTensor::scalar(step), HostTensor::scalar(offset)];
        let (here, there) = (execute(&native(), &graph, &values).unwrap(), execute(&pjrt, &graph, &values).unwrap());
        for ((output, here), there) in graph.outputs.iter().zip(&here).zip(&there) {
            assert!(here.bytes() == there.bytes(), "`{}` at step {step}: {here:?} and {there:?}", output.name);
        }
    }
}
