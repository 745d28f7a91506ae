//! Convolutions against a direct loop in f64, and identical bits whatever runs them.

use std::sync::Arc;

use backprop_kernels::conv::{Conv, ConvDim, ConvGeneric, ConvSpec};
use backprop_kernels::gemm::Epilogue;
use backprop_kernels::pool::Pool;
use backprop_kernels::{DType, Isa};

mod common;
use common::layer::Layer;
use common::space::{Most, sizes};
use common::{Dice, run_kernel, uniform};

const LAYERS: [Layer; 11] = [
    Layer { batch: 2, size: 9, channels: 3, features: 10, window: 3, stride: 2, pad: 1, groups: 1 },
    Layer { batch: 5, size: 14, channels: 1, features: 32, window: 3, stride: 1, pad: 0, groups: 1 },
    Layer { batch: 2, size: 8, channels: 40, features: 33, window: 3, stride: 1, pad: 1, groups: 1 },
    Layer { batch: 2, size: 8, channels: 64, features: 48, window: 1, stride: 1, pad: 0, groups: 1 },
    Layer { batch: 2, size: 8, channels: 24, features: 16, window: 1, stride: 2, pad: 0, groups: 1 },
    Layer { batch: 40, size: 16, channels: 16, features: 32, window: 3, stride: 1, pad: 1, groups: 1 },
    // Register tiles go across batches.
    Layer { batch: 13, size: 4, channels: 20, features: 40, window: 3, stride: 1, pad: 1, groups: 1 },
    Layer { batch: 25, size: 7, channels: 70, features: 9, window: 4, stride: 2, pad: 5, groups: 1 },
    // Those of the data gradient, most of whose window lies in the padding.
    Layer { batch: 14, size: 13, channels: 9, features: 21, window: 6, stride: 1, pad: 0, groups: 1 },
    Layer { batch: 32, size: 1, channels: 33, features: 17, window: 3, stride: 1, pad: 1, groups: 1 },
    Layer { batch: 1, size: 11, channels: 300, features: 20, window: 3, stride: 2, pad: 1, groups: 1 },
];

/// Layers of 3 × 3 windows with channels and positions enough for Winograd's algorithm.
const WINOGRAD: [Layer; 8] = [
    Layer { batch: 4, size: 16, channels: 16, features: 20, window: 3, stride: 1, pad: 1, groups: 1 },
    Layer { batch: 3, size: 23, channels: 19, features: 33, window: 3, stride: 1, pad: 0, groups: 1 },
    // A line of patches is cut; chains of channels are; every image is one patch.
    Layer { batch: 1, size: 92, channels: 16, features: 17, window: 3, stride: 1, pad: 1, groups: 1 },
    Layer { batch: 2, size: 23, channels: 260, features: 16, window: 3, stride: 1, pad: 1, groups: 1 },
    Layer { batch: 300, size: 2, channels: 16, features: 16, window: 3, stride: 1, pad: 1, groups: 1 },
    // Enough for weight gradients, too.
    Layer { batch: 5, size: 29, channels: 19, features: 67, window: 3, stride: 1, pad: 1, groups: 1 },
    Layer { batch: 1, size: 130, channels: 17, features: 16, window: 3, stride: 1, pad: 0, groups: 1 },
    Layer { batch: 1100, size: 2, channels: 16, features: 20, window: 3, stride: 1, pad: 1, groups: 1 },
];

/// Layers whose groups hold one channel each.
const DEPTHWISE: [Layer; 4] = [
    Layer { batch: 3, size: 9, channels: 20, features: 20, window: 3, stride: 1, pad: 1, groups: 20 },
    Layer { batch: 2, size: 12, channels: 70, features: 70, window: 3, stride: 2, pad: 1, groups: 70 },
    Layer { batch: 40, size: 14, channels: 64, features: 64, window: 3, stride: 1, pad: 1, groups: 64 },
    Layer { batch: 2, size: 20, channels: 37, features: 37, window: 17, stride: 1, pad: 8, groups: 37 },
];

/// Layers with any number of channels, padding larger than the window and sizes from 1 on; every third one is depthwise.
fn layers(dice: &mut Dice) -> Vec<Layer> {
    let mut all = Vec::new();
    for i in 0..90 {
        let channels = [1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 48, 64, 65, 70][i % 18];
        let (size, window, pad) = (dice.roll(1, 10), dice.roll(1, 4), dice.roll(0, 5));
        let (groups, features) = if i % 3 == 2 { (channels, channels) } else { (1, dice.roll(1, 70)) };
        let layer = Layer { batch: dice.roll(1, 3), size, channels, features, window, stride: dice.roll(1, 3), pad, groups };
        if size + 2 * pad >= window {
            all.push(layer);
        }
    }
    all
}

fn specs() -> Vec<ConvSpec> {
    let mut dice = Dice(1);
    let mut all: Vec<ConvSpec> = (0..300).map(|i| dice.spec(&Most::small(if i % 3 == 0 { 20 } else { 5 }), i % 2 == 0)).collect();
    all.extend(LAYERS.iter().chain(&DEPTHWISE).flat_map(Layer::specs));
    all.extend(LAYERS.iter().chain(&DEPTHWISE).flat_map(Layer::torch_specs));
    all.extend(WINOGRAD.iter().flat_map(Layer::specs).chain(WINOGRAD[1].torch_specs()).chain(WINOGRAD[5].torch_specs()));
    let layers = layers(&mut dice);
    all.extend(layers.iter().enumerate().flat_map(|(i, l)| if i % 2 == 0 { l.specs() } else { l.torch_specs() }));
    let empty = LAYERS[0].specs()[0].clone();
    all.push(ConvSpec { batch: 0, ..empty.clone() });
    all.push(ConvSpec { channels: 0, ..empty.clone() });
    all.push(ConvSpec { features: 0, ..empty });
    all
}

/// Every index of a box, row-major.
fn indices(extents: &[usize]) -> impl Iterator<Item = Vec<usize>> + use<> {
    let extents = extents.to_vec();
    (0..extents.iter().product()).map(move |mut flat: usize| {
        let mut index = vec![0; extents.len()];
        for (i, extent) in index.iter_mut().zip(&extents).rev() {
            *i = flat % extent;
            flat /= extent;
        }
        index
    })
}

/// (index, offset in the output) of every output, row-major over (batch, space, feature).
fn outputs(s: &ConvSpec) -> impl Iterator<Item = (Vec<usize>, usize)> {
    let mut extents = vec![s.batch];
    extents.extend(s.spatial.iter().map(|d| d.output));
    extents.push(s.features);
    let mut strides = vec![s.out_batch];
    strides.extend(s.spatial.iter().map(|d| d.out));
    strides.push(s.out_feature);
    indices(&extents).map(move |index| {
        let offset: isize = index.iter().zip(&strides).map(|(&i, stride)| i as isize * stride).sum();
        (index, offset as usize)
    })
}

/// (offset in the output, sum, sum of magnitudes) of every output, row-major over (batch, space, feature).
fn direct(s: &ConvSpec, lhs: &[f32], rhs: &[f32]) -> Vec<(usize, f64, f64)> {
    let window: Vec<Vec<usize>> = indices(&s.spatial.iter().map(|d| d.window).collect::<Vec<_>>()).collect();
    let mut results = Vec::new();
    for (index, out) in outputs(s) {
        let (b, o, f) = (index[0], &index[1..index.len() - 1], index[index.len() - 1]);
        let lhs_b = b + f * s.batch_groups / s.features * s.batch;
        let lhs_c = f * s.feature_groups / s.features * s.channels;
        let (mut sum, mut size) = (0f64, 0f64);
        'window: for w in &window {
            let (mut l, mut r) = (lhs_b as isize * s.lhs_batch, f as isize * s.rhs_feature);
            for ((&o, &w), d) in o.iter().zip(w).zip(&s.spatial) {
                let at = (o * d.stride + w * d.rhs_dilation) as isize - d.pad_low;
                let holes = d.lhs_dilation as isize;
                if at < 0 || at % holes != 0 || at / holes >= d.input as isize {
                    continue 'window;
                }
                l += at / holes * d.lhs;
                r += (if d.reverse { d.window - 1 - w } else { w }) as isize * d.rhs;
            }
            for c in 0..s.channels {
                let x = f64::from(lhs[(l + (lhs_c + c) as isize * s.lhs_channel) as usize]);
                let y = f64::from(rhs[(r + c as isize * s.rhs_channel) as usize]);
                sum += x * y;
                size += (x * y).abs();
            }
        }
        results.push((out, sum, size));
    }
    results
}

/// Calls `each(logical index, offset)` for the elements of a tensor with such dimensions.
fn elements(dims: &[(usize, isize)], mut each: impl FnMut(usize, usize)) {
    for index in 0..dims.iter().map(|d| d.0).product() {
        let (mut offset, mut rest) = (0, index);
        for &(extent, stride) in dims.iter().rev() {
            offset += (rest % extent) as isize * stride;
            rest /= extent;
        }
        each(index, offset as usize);
    }
}

/// Dimensions of lhs, rhs and output with their strides.
fn dimensions(s: &ConvSpec) -> [Vec<(usize, isize)>; 3] {
    let all = |dims: [(usize, isize); 2], spatial: fn(&ConvDim) -> (usize, isize)| {
        dims.into_iter().chain(s.spatial.iter().map(spatial)).collect()
    };
    [
        all([(s.batch * s.batch_groups, s.lhs_batch), (s.channels * s.feature_groups, s.lhs_channel)], |d| (d.input, d.lhs)),
        all([(s.channels, s.rhs_channel), (s.features, s.rhs_feature)], |d| (d.window, d.rhs)),
        all([(s.batch, s.out_batch), (s.features, s.out_feature)], |d| (d.output, d.out)),
    ]
}

/// The same convolution of operands that lie otherwise in memory.
fn rearranged(s: &ConvSpec, dice: &mut Dice) -> ConvSpec {
    let mut other = s.clone();
    let [lhs, rhs, out] = dimensions(s).map(|dims| dice.dense(&dims.iter().map(|d| d.0).collect::<Vec<_>>()));
    (other.lhs_batch, other.lhs_channel) = (lhs[0], lhs[1]);
    (other.rhs_channel, other.rhs_feature) = (rhs[0], rhs[1]);
    (other.out_batch, other.out_feature) = (out[0], out[1]);
    for (d, dim) in other.spatial.iter_mut().enumerate() {
        (dim.lhs, dim.rhs, dim.out) = (lhs[d + 2], rhs[d + 2], out[d + 2]);
    }
    other
}

/// The bits of the output's elements in logical order, for operands that are the same numbers in logical order.
fn logical_bits(s: &ConvSpec, isa: Isa, pool: &Pool) -> Vec<u32> {
    let [lhs_dims, rhs_dims, out_dims] = dimensions(s);
    let operand = |dims: &[(usize, isize)], size: usize, seed: u64| {
        let numbers = uniform(dims.iter().map(|d| d.0).product(), seed);
        let mut memory = vec![0f32; size];
        elements(dims, |index, offset| memory[offset] = numbers[index]);
        memory
    };
    let [lhs_size, rhs_size, out_size] = sizes(s);
    let (mut lhs, mut rhs) = (operand(&lhs_dims, lhs_size, 11), operand(&rhs_dims, rhs_size, 12));
    let mut out = vec![f32::NAN; out_size];
    let kernel = Conv::new(s, None, isa).unwrap();
    // SAFETY: the buffers have the spec's sizes; the ISA is available.
    unsafe { run_kernel(&kernel, pool, &[lhs.as_mut_ptr().cast(), rhs.as_mut_ptr().cast(), out.as_mut_ptr().cast()]) };
    let mut bits = Vec::new();
    elements(&out_dims, |_, offset| bits.push(out[offset].to_bits()));
    bits
}

#[test]
fn where_the_operands_lie_changes_no_bit() {
    let (pool, mut dice) = (Pool::new(2), Dice(5));
    for s in specs() {
        let other = rearranged(&s, &mut dice);
        for &isa in Isa::available() {
            assert!(logical_bits(&s, isa, &pool) == logical_bits(&other, isa, &pool), "{isa}: {s:#?}\n{other:#?}");
        }
    }
}

fn inputs(s: &ConvSpec) -> (Vec<f32>, Vec<f32>) {
    let [lhs, rhs, _] = sizes(s);
    (uniform(lhs, 11), uniform(rhs, 12))
}

fn run(s: &ConvSpec, isa: Isa, pool: &Pool) -> Vec<f32> {
    let (mut lhs, mut rhs) = inputs(s);
    let mut out = vec![f32::NAN; sizes(s)[2]];
    let kernel = Conv::new(s, None, isa).unwrap();
    // SAFETY: the buffers have the spec's sizes; the ISA is available.
    unsafe {
        run_kernel(&kernel, pool, &[lhs.as_mut_ptr().cast(), rhs.as_mut_ptr().cast(), out.as_mut_ptr().cast()]);
    }
    out
}

fn check(s: &ConvSpec, want: &[(usize, f64, f64)], got: &[f32], what: &str) {
    let terms = s.channels * s.spatial.iter().map(|d| d.window).product::<usize>();
    for &(at, sum, size) in want {
        let bound = 2.0 * terms as f64 * f64::from(f32::EPSILON) * size;
        let got = f64::from(got[at]);
        assert!((got - sum).abs() <= bound, "{what}: at {at} got {got}, want {sum} ± {bound}: {s:#?}");
    }
}

#[test]
fn within_the_bound_of_the_sum_in_f64() {
    let pool = Pool::new(2);
    for s in specs() {
        let (mut lhs, mut rhs) = inputs(&s);
        let want = direct(&s, &lhs, &rhs);
        for &isa in Isa::available() {
            check(&s, &want, &run(&s, isa, &pool), isa.name());
        }
        let mut out = vec![f32::NAN; sizes(&s)[2]];
        let generic = ConvGeneric::new(&s, DType::F32, DType::F64).unwrap();
        // SAFETY: the buffers have the spec's sizes.
        unsafe {
            run_kernel(&generic, &pool, &[lhs.as_mut_ptr().cast(), rhs.as_mut_ptr().cast(), out.as_mut_ptr().cast()]);
        }
        check(&s, &want, &out, "generic");
    }
}

/// The largest and the mean square of the errors of an output.
fn errors(want: &[(usize, f64, f64)], got: &[f32]) -> [f64; 2] {
    let error = |(at, sum, _): &(usize, f64, f64)| (f64::from(got[*at]) - sum).abs();
    let squares: f64 = want.iter().map(|w| error(w).powi(2)).sum();
    [want.iter().map(error).fold(0.0, f64::max), squares / want.len() as f64]
}

#[test]
fn few_multiplications_err_at_most_four_times_as_much_as_direct_sums() {
    let pool = Pool::new(2);
    for s in WINOGRAD.iter().flat_map(Layer::specs) {
        let (mut lhs, mut rhs) = inputs(&s);
        let want = direct(&s, &lhs, &rhs);
        let mut out = vec![f32::NAN; sizes(&s)[2]];
        let kernel = ConvGeneric::new(&s, DType::F32, DType::F32).unwrap();
        // SAFETY: the buffers have the spec's sizes.
        unsafe {
            run_kernel(&kernel, &pool, &[lhs.as_mut_ptr().cast(), rhs.as_mut_ptr().cast(), out.as_mut_ptr().cast()]);
        }
        let [largest, square] = errors(&want, &out);
        for &isa in Isa::available() {
            let [l, q] = errors(&want, &run(&s, isa, &pool));
            assert!(l <= 4.0 * largest && q <= 16.0 * square, "{isa}: {l} to {largest}, {q} to {square}: {s:#?}");
        }
    }
}

#[test]
fn identical_bits_for_every_isa_with_fma_and_any_number_of_threads() {
    let pools = [1, 2, 3, 8].map(Pool::new);
    let bits = |s: &ConvSpec, isa: Isa, pool: &Pool| run(s, isa, pool).iter().map(|v| v.to_bits()).collect::<Vec<_>>();
    for s in specs() {
        for isas in [&Isa::available()[..1], &Isa::available()[1..]] {
            let Some(&first) = isas.first() else { continue };
            let want = bits(&s, first, &pools[0]);
            for &isa in isas {
                for pool in &pools {
                    assert!(bits(&s, isa, pool) == want, "{isa} on {} threads: {s:#?}", pool.threads());
                }
            }
        }
    }
}

/// Adds a vector over features (operand 2) and stores to operand 3, dense [rows, features].
struct AddBias {
    rows: usize,
    features: usize,
}

impl Epilogue for AddBias {
    fn scratch(&self) -> usize {
        0
    }

    unsafe fn apply(
        &self,
        batch: usize,
        row0: usize,
        rows: usize,
        col0: usize,
        cols: usize,
        tile: *const f32,
        ld: usize,
        operands: &[*mut u8],
        _scratch: *mut u8,
    ) {
        assert!(batch == 0 && row0 + rows <= self.rows && col0 + cols <= self.features);
        for r in 0..rows {
            for c in 0..cols {
                // SAFETY: the operands are dense buffers of the spec's size.
                unsafe {
                    let to = operands[3].cast::<f32>().add((row0 + r) * self.features + col0 + c);
                    assert!((*to).is_nan(), "stored twice");
                    *to = *tile.add(r * ld + c) + *operands[2].cast::<f32>().add(col0 + c);
                }
            }
        }
    }
}

#[test]
fn an_epilogue_sees_every_element_once_with_the_bits_of_the_plain_convolution() {
    let pool = Pool::new(3);
    for s in specs() {
        let (mut lhs, mut rhs) = inputs(&s);
        let order: Vec<usize> = outputs(&s).map(|(_, offset)| offset).collect();
        let rows = order.len() / s.features.max(1);
        let mut bias = uniform(s.features, 9);
        for &isa in Isa::available() {
            let plain = run(&s, isa, &pool);
            let mut fused = vec![f32::NAN; order.len()];
            let kernel = Conv::new(&s, Some(Arc::new(AddBias { rows, features: s.features })), isa).unwrap();
            let operands =
                [lhs.as_mut_ptr().cast(), rhs.as_mut_ptr().cast(), bias.as_mut_ptr().cast(), fused.as_mut_ptr().cast()];
            // SAFETY: the buffers have the spec's sizes; the ISA is available.
            unsafe { run_kernel(&kernel, &pool, &operands) };
            for (i, at) in order.iter().enumerate() {
                assert_eq!((plain[*at] + bias[i % s.features]).to_bits(), fused[i].to_bits(), "{isa} at {i}: {s:#?}");
            }
        }
    }
}

/// Three groups of one channel, channels first: samples of a part are adjacent, those of all are not. A weight that is infinite makes NaN of
/// padding that is read, and nothing of padding that is left out.
#[test]
fn parts_meet_the_padding_as_the_whole_does() {
    const SAMPLE: usize = 3 * 4 * 5;
    let dim = |extent, stride, rhs| {
        let strides = ConvDim { lhs: stride, out: stride, rhs, ..ConvDim::UNIT };
        ConvDim { input: extent, output: extent, window: 3, pad_low: 1, ..strides }
    };
    let spec = |batch: usize| ConvSpec {
        batch,
        lhs_batch: SAMPLE as isize,
        out_batch: SAMPLE as isize,
        channels: 1,
        lhs_channel: 20,
        rhs_channel: 9,
        features: 3,
        rhs_feature: 9,
        out_feature: 20,
        feature_groups: 3,
        batch_groups: 1,
        spatial: vec![dim(4, 5, 3), dim(5, 1, 1)],
    };
    let (mut lhs, mut rhs) = (uniform(2 * SAMPLE, 5), uniform(27, 6));
    rhs[9] = f32::INFINITY;
    for &isa in Isa::available() {
        let mut result = |kernel: &Conv, samples: &[usize]| {
            let mut out = vec![0f32; 2 * SAMPLE];
            for &sample in samples {
                let [from, to] = [&mut lhs, &mut out].map(|numbers| numbers[sample * SAMPLE..].as_mut_ptr().cast());
                // SAFETY: the operands hold the samples from there on.
                unsafe { run_kernel(kernel, &Pool::new(1), &[from, rhs.as_mut_ptr().cast(), to]) };
            }
            out.into_iter().map(f32::is_nan).collect::<Vec<_>>()
        };
        let whole = result(&Conv::new(&spec(2), None, isa).unwrap(), &[0]);
        let parts = result(&Conv::repeated(&spec(1), None, isa, 2).unwrap(), &[0, 1]);
        assert_eq!(whole, parts, "{isa}");
    }
}
