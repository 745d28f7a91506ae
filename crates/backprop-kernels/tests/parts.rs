//! Weight gradients sample by sample.

use backprop_kernels::conv::{Conv, ConvSpec};
use backprop_kernels::pool::Pool;
use backprop_kernels::{Isa, Kernel};

mod common;
use common::layer::Layer;
use common::{Aligned, run_kernel, uniform};

/// Samples of one chunk of terms and of several; one block of a gradient and several, of whole vectors and not.
const LAYERS: [Layer; 6] = [
    Layer { batch: 5, size: 16, channels: 40, features: 33, window: 1, stride: 1, pad: 0, groups: 1 },
    Layer { batch: 2, size: 32, channels: 128, features: 64, window: 1, stride: 1, pad: 0, groups: 1 },
    Layer { batch: 3, size: 31, channels: 20, features: 150, window: 1, stride: 2, pad: 0, groups: 1 },
    Layer { batch: 4, size: 16, channels: 70, features: 70, window: 3, stride: 1, pad: 1, groups: 70 },
    Layer { batch: 4, size: 32, channels: 64, features: 64, window: 3, stride: 2, pad: 1, groups: 64 },
    Layer { batch: 33, size: 32, channels: 48, features: 48, window: 3, stride: 1, pad: 1, groups: 48 },
];

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

fn address(values: &[f32]) -> *mut u8 {
    values.as_ptr().cast_mut().cast()
}

/// The gradient in one run, and from its parts, last part first, each with a copy of the operands that has numbers in that part alone.
fn both(spec: &ConvSpec, sizes: [usize; 3], isa: Isa) -> [Vec<f32>; 2] {
    let kernel = Conv::new(spec, None, isa).unwrap();
    let parts = kernel.sum_parts();
    let [x, y] = [uniform(sizes[0], 1), uniform(sizes[1], 2)];
    let [mut whole, mut pieces] = [0, 1].map(|_| vec![f32::NAN; sizes[2]]);
    // SAFETY: the buffers have the spec's sizes; the ISA is available.
    unsafe { run_kernel(&kernel, &Pool::new(3), &[address(&x), address(&y), whole.as_mut_ptr().cast()]) };
    let (mut workspace, mut scratch) = (Aligned::new(kernel.workspace()), Aligned::new(kernel.scratch()));
    let tasks = kernel.tasks(0) / parts;
    assert_eq!(tasks * parts, kernel.tasks(0));
    for part in (0..parts).rev() {
        let only = |all: &[f32]| {
            let size = all.len() / parts;
            let mut copy = vec![f32::NAN; all.len()];
            copy[part * size..(part + 1) * size].copy_from_slice(&all[part * size..(part + 1) * size]);
            copy
        };
        let (x, y) = (only(&x), only(&y));
        let operands = [address(&x), address(&y), pieces.as_mut_ptr().cast()];
        for task in part * tasks..(part + 1) * tasks {
            // SAFETY: as above.
            unsafe { kernel.run(0, task, &operands, workspace.at(), scratch.at()) };
        }
    }
    for stage in 1..kernel.stages() {
        for task in 0..kernel.tasks(stage) {
            let operands = [address(&x), address(&y), pieces.as_mut_ptr().cast()];
            // SAFETY: as above.
            unsafe { kernel.run(stage, task, &operands, workspace.at(), scratch.at()) };
        }
    }
    [whole, pieces]
}

#[test]
fn parts_of_a_sum_read_nothing_of_other_parts() {
    for layer in LAYERS {
        let (spec, out) = (&layer.specs()[2], layer.out());
        let x = layer.batch * layer.size * layer.size * layer.channels;
        let y = layer.batch * out * out * layer.features;
        let weights = layer.window * layer.window * layer.channels / layer.groups * layer.features;
        for &isa in Isa::available() {
            assert_eq!(Conv::new(spec, None, isa).unwrap().sum_parts(), layer.batch, "{layer:?} on {isa}");
            let [whole, pieces] = both(spec, [x, y, weights], isa);
            assert!(whole.iter().all(|v| v.is_finite()), "{layer:?} on {isa}");
            assert_eq!(bits(&whole), bits(&pieces), "{layer:?} on {isa}");
        }
    }
}

/// A sample that is no whole number of chunks, one sample, more samples than there may be parts, large gradients, and little to do.
#[test]
fn other_sums_have_one_part() {
    let layer = LAYERS[0];
    let others = [
        Layer { size: 15, ..layer },
        Layer { batch: 1, ..layer },
        Layer { batch: 65, ..layer },
        Layer { batch: 8, channels: 512, features: 256, ..layer },
        Layer { channels: 4, ..layer },
    ];
    for layer in others {
        assert_eq!(Conv::new(&layer.specs()[2], None, Isa::Portable).unwrap().sum_parts(), 1, "{layer:?}");
    }
}
