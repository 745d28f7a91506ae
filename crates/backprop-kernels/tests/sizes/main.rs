//! Kernels at the sizes of training steps, at which they are cut into blocks, parts and tasks, against generic ones that sum in f64, or
//! obvious loops.

mod convolutions;
mod movement;
mod reductions;
mod windows;

#[path = "../common/mod.rs"]
mod common;

use backprop_kernels::gemm::{BatchDim, Gemm, GemmGeneric, GemmSpec};
use backprop_kernels::pool::Pool;
use backprop_kernels::{DType, Isa, Kernel};
use common::{Dice, run_kernel, uniform};
use std::ops::Range;

/// Multiply-adds of a case.
const WORK: Range<usize> = 1 << 17..1 << 23;
/// Elements of what is only read or moved.
const ELEMENTS: Range<usize> = 1 << 12..1 << 19;
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

    /// Extents up to such powers of two, every fourth one 1, that make as many elements as are enough and not too many.
    fn extents<const N: usize>(&mut self, most: [usize; N], elements: impl Fn([usize; N]) -> usize) -> [usize; N] {
        loop {
            let extents = most.map(|most| if self.roll(0, 3) == 0 { 1 } else { self.extent(most) });
            if ELEMENTS.contains(&elements(extents)) {
                return extents;
            }
        }
    }
}

/// The address of an operand that is only read.
fn address<T>(operand: &[T]) -> *mut u8 {
    operand.as_ptr().cast_mut().cast()
}

/// Runs a kernel on operands; what it gives, after seeing that it wrote nothing beside that.
fn run(kernel: &dyn Kernel, pool: &Pool, operands: &[*mut u8], outputs: usize, what: &str) -> Vec<f32> {
    let mut out = vec![f32::NAN; outputs + 2 * GUARD];
    let operands = [operands, &[out[GUARD..].as_mut_ptr().cast()]].concat();
    // SAFETY: the buffers have the sizes of the kernel's spec.
    unsafe { run_kernel(kernel, pool, &operands) };
    let beside = out[..GUARD].iter().chain(&out[GUARD + outputs..]);
    assert!(beside.into_iter().all(|v| v.is_nan()), "{what}: writes beside its result");
    out[GUARD..GUARD + outputs].to_vec()
}

/// One thread, and two: which instruction set takes which changes from case to case.
fn pools() -> [Pool; 2] {
    [1, 2].map(Pool::new)
}

/// What a kernel gives on every instruction set: the same bits on all that fuse multiply-adds, on one thread and on two.
fn results(
    kernel: impl Fn(Isa) -> Box<dyn Kernel>,
    pools: &[Pool; 2],
    operands: &[*mut u8],
    outputs: usize,
    what: &str,
) -> Vec<Vec<f32>> {
    let mut all: Vec<Vec<f32>> = Vec::new();
    for (number, &isa) in Isa::available().iter().enumerate() {
        let what = format!("{what}, {isa}");
        all.push(run(&*kernel(isa), &pools[number % 2], operands, outputs, &what));
    }
    // The portable loops, which come first, do not fuse.
    for others in all[1..].windows(2) {
        assert!(others[0].iter().zip(&others[1]).all(|(a, b)| a.to_bits() == b.to_bits()), "{what}: bits of an instruction set");
    }
    all
}

/// Sums of `terms` products of numbers from -1 to 1 are about the root of a ninth of `terms`. A few ten-thousandths of that are far more than
/// rounding makes, and far less than one missing term: a third.
fn assert_near(expected: &[f32], got: &[f32], terms: usize, what: &str) {
    let bound = 1e-4 * (terms.max(1) as f32).sqrt();
    for (i, (e, g)) in expected.iter().zip(got).enumerate() {
        assert!((e - g).abs() <= bound, "{what}: element {i} is {g}, not {e}");
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
    let (pools, mut dice) = (pools(), Dice(6));
    for case in 0..cases() {
        let spec = product(&mut dice);
        let [a, b, c] = [spec.m * spec.k, spec.k * spec.n, spec.m * spec.n].map(|size| size * spec.batches().max(1));
        let (lhs, rhs) = (uniform(a, 11), uniform(b, 12));
        let (what, operands) = (format!("case {case}, {spec:?}"), [address(&lhs), address(&rhs)]);
        let generic = GemmGeneric::new(spec.clone(), DType::F32, DType::F64).unwrap();
        let expected = run(&generic, &pools[1], &operands, c, &what);
        for got in results(|isa| Box::new(Gemm::new(spec.clone(), None, isa)), &pools, &operands, c, &what) {
            assert_near(&expected, &got, spec.k, &what);
        }
    }
}
