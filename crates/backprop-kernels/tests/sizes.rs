//! Products and convolutions of the sizes of training steps, at which kernels cut them into blocks, parts and tasks, against generic ones
//! that sum in f64.

use backprop_kernels::conv::{Conv, ConvGeneric, ConvSpec};
use backprop_kernels::gemm::{BatchDim, Gemm, GemmGeneric, GemmSpec};
use backprop_kernels::pool::Pool;
use backprop_kernels::{DType, Isa, Kernel};
use std::ops::Range;

mod common;
use common::layer::Layer;
use common::{Dice, run_kernel, uniform};

/// Multiply-adds of a case.
const WORK: Range<usize> = 1 << 17..1 << 23;
/// Elements around a result that nobody may touch.
const GUARD: usize = 4096;

/// How many cases of each kind: `BACKPROP_RANDOM_SIZES`, else 40.
fn cases() -> u64 {
    std::env::var("BACKPROP_RANDOM_SIZES").ok().and_then(|n| n.parse().ok()).unwrap_or(40)
}

impl Dice {
    /// From 1 to `2^most`, each power of two as likely as the next; a multiple of 16 every other time.
    fn extent(&mut self, most: usize) -> usize {
        let power = self.roll(0, most);
        let extent = (1 << power) + self.roll(0, (1 << power) - 1);
        if self.roll(0, 1) == 0 { extent.next_multiple_of(16) } else { extent }
    }
}

/// Runs a kernel on two operands; what it gives, after seeing that it wrote nothing beside that.
fn run(kernel: &dyn Kernel, pool: &Pool, operands: [&[f32]; 2], outputs: usize, what: &str) -> Vec<f32> {
    let mut out = vec![f32::NAN; outputs + 2 * GUARD];
    let [lhs, rhs] = operands.map(|o| o.as_ptr().cast_mut().cast());
    // SAFETY: the buffers have the sizes of the kernel's spec.
    unsafe { run_kernel(kernel, pool, &[lhs, rhs, out[GUARD..].as_mut_ptr().cast()]) };
    let beside = out[..GUARD].iter().chain(&out[GUARD + outputs..]);
    assert!(beside.into_iter().all(|v| v.is_nan()), "{what}: writes beside its result");
    out[GUARD..GUARD + outputs].to_vec()
}

/// Sums of `terms` products of numbers from -1 to 1 are about the root of a ninth of `terms`. A few ten-thousandths of that are far more than
/// rounding makes, and far less than one missing term: a third.
fn assert_near(expected: &[f32], got: &[f32], terms: usize, what: &str) {
    let bound = 1e-4 * (terms.max(1) as f32).sqrt();
    for (i, (e, g)) in expected.iter().zip(got).enumerate() {
        assert!((e - g).abs() <= bound, "{what}: element {i} is {g}, not {e}");
    }
}

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

/// Elements of (lhs, rhs, out).
fn sizes(s: &ConvSpec) -> [usize; 3] {
    let spatial = |pick: fn(&backprop_kernels::conv::ConvDim) -> usize| s.spatial.iter().map(pick).product::<usize>();
    [
        s.batch * s.batch_groups * s.channels * s.feature_groups * spatial(|d| d.input),
        s.channels * s.features * spatial(|d| d.window),
        s.batch * s.features * spatial(|d| d.output),
    ]
}

#[test]
fn convolutions() {
    let (pool, mut dice) = (Pool::new(2), Dice(5));
    let random = (0..cases()).map(|_| layer(&mut dice));
    for (case, layer) in LAYERS.into_iter().chain(random).enumerate() {
        let specs = if case % 2 == 0 { layer.specs() } else { layer.torch_specs() };
        for (spec, name) in specs.iter().zip(["forward", "data gradient", "weight gradient"]) {
            let [lhs, rhs, out] = sizes(spec);
            let (lhs, rhs) = (uniform(lhs, 11), uniform(rhs, 12));
            let what = format!("case {case}, {name} of {layer:?}");
            let generic = ConvGeneric::new(spec, DType::F32, DType::F64).unwrap();
            let expected = run(&generic, &pool, [&lhs, &rhs], out, &what);
            let terms = spec.channels * spec.spatial.iter().map(|d| d.window).product::<usize>();
            for &isa in Isa::available() {
                let got = run(&Conv::new(spec, None, isa).unwrap(), &pool, [&lhs, &rhs], out, &what);
                assert_near(&expected, &got, terms, &format!("{what}, {isa}"));
            }
        }
    }
}

fn product(dice: &mut Dice) -> GemmSpec {
    loop {
        let batches = if dice.roll(0, 2) == 0 { dice.extent(5) } else { 1 };
        let (m, n, k) = (dice.extent(11), dice.extent(11), dice.extent(13));
        if !WORK.contains(&(batches * m * n * k)) {
            continue;
        }
        let mut strides = |rows: usize, cols: usize| {
            let [rows, cols] = [rows, cols].map(|extent| extent as isize);
            if dice.roll(0, 1) == 0 { (cols, 1) } else { (1, rows) }
        };
        let [(a_row, a_col), (b_row, b_col), (c_row, c_col)] = [strides(m, k), strides(k, n), strides(m, n)];
        let [a, b, c] = [m * k, k * n, m * n].map(|size| size as isize);
        let batch = if batches > 1 { vec![BatchDim { extent: batches, a, b, c }] } else { Vec::new() };
        return GemmSpec { m, n, k, a_row, a_col, b_row, b_col, c_row, c_col, batch };
    }
}

#[test]
fn products() {
    let (pool, mut dice) = (Pool::new(2), Dice(6));
    for case in 0..cases() {
        let spec = product(&mut dice);
        let [a, b, c] = [spec.m * spec.k, spec.k * spec.n, spec.m * spec.n].map(|size| size * spec.batches().max(1));
        let (lhs, rhs) = (uniform(a, 11), uniform(b, 12));
        let what = format!("case {case}, {spec:?}");
        let generic = GemmGeneric::new(spec.clone(), DType::F32, DType::F64).unwrap();
        let expected = run(&generic, &pool, [&lhs, &rhs], c, &what);
        for &isa in Isa::available() {
            let got = run(&Gemm::new(spec.clone(), None, isa), &pool, [&lhs, &rhs], c, &what);
            assert_near(&expected, &got, spec.k, &format!("{what}, {isa}"));
        }
    }
}
