//! Convolutions.

use crate::common::layer::Layer;
use crate::common::space::{Most, sizes};
use crate::common::{Dice, uniform};
use crate::{WORK, address, assert_near, cases, pools, results, run};
use backprop_kernels::DType;
use backprop_kernels::conv::{Conv, ConvGeneric, ConvSpec};
use backprop_kernels::pool::Pool;

/// The weight gradients' blocks have fewer rows than a tap's few channels and columns together, had they not to stay whole.
const LAYERS: [Layer; 2] = [
    Layer { batch: 9, size: 30, channels: 3, features: 16, window: 3, stride: 1, pad: 1, groups: 1 },
    Layer { batch: 64, size: 19, channels: 4, features: 16, window: 3, stride: 2, pad: 1, groups: 1 },
];

fn layer(dice: &mut Dice) -> Layer {
    loop {
        let channels = dice.extent(8);
        let (groups, features) = if dice.roll(0, 5) == 0 { (channels, channels) } else { (1, dice.extent(8)) };
        let (window, stride, pad) = (dice.roll(1, 6), dice.roll(1, 3), dice.roll(0, 3));
        let layer = Layer { batch: dice.extent(6), size: dice.roll(1, 48), channels, features, window, stride, pad, groups };
        let fits = layer.size + 2 * pad >= window && pad < window;
        if fits && WORK.contains(&(layer.batch * layer.out().pow(2) * channels / groups * features * window * window)) {
            return layer;
        }
    }
}

/// A convolution of one to three dimensions with strides, holes and groups, that is no layer's but could be one's.
fn space(dice: &mut Dice) -> ConvSpec {
    loop {
        let (input, window, output) = (dice.extent(5), dice.roll(1, 4), dice.extent(5));
        // In every other case the window is large and the result small, as in weight gradients.
        let (window, output) = if dice.roll(0, 1) == 0 { (window, output) } else { (output, window) };
        let most = Most { batch: dice.extent(6), channels: dice.extent(7), features: dice.extent(7), input, window, output };
        let channel_last = dice.roll(0, 1) == 0;
        let spec = dice.spec(&most, channel_last);
        let positions: usize = spec.spatial.iter().map(|d| d.output).product();
        if WORK.contains(&(spec.batch * positions * spec.features * spec.terms())) {
            return spec;
        }
    }
}

/// Checks a convolution on every instruction set.
fn check(spec: &ConvSpec, pools: &[Pool; 2], what: &str) {
    let [lhs, rhs, out] = sizes(spec);
    let (lhs, rhs) = (uniform(lhs, 11), uniform(rhs, 12));
    let operands = [address(&lhs), address(&rhs)];
    let generic = ConvGeneric::new(spec, DType::F32, DType::F64).unwrap();
    let expected = run(&generic, &pools[1], &operands, out, what);
    for got in results(|isa| Box::new(Conv::new(spec, None, isa).unwrap()), pools, &operands, out, what) {
        assert_near(&expected, &got, spec.terms(), what);
    }
}

#[test]
fn convolutions_of_layers() {
    let (pools, mut dice) = (pools(), Dice(5));
    let random = (0..cases()).map(|_| layer(&mut dice));
    for (case, layer) in LAYERS.into_iter().chain(random).enumerate() {
        let specs = if case % 2 == 0 { layer.specs() } else { layer.torch_specs() };
        for (spec, name) in specs.iter().zip(["forward", "data gradient", "weight gradient"]) {
            check(spec, &pools, &format!("case {case}, {name} of {layer:?}"));
        }
    }
}

#[test]
fn convolutions_of_any_kind() {
    let (pools, mut dice) = (pools(), Dice(7));
    for case in 0..cases() {
        let spec = space(&mut dice);
        check(&spec, &pools, &format!("case {case}, {spec:?}"));
    }
}
