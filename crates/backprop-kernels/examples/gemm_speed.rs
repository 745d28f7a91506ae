//! Speed of products as a share of the peak that a loop of multiply-adds reaches.
//!
//! `cargo run --release -p backprop-kernels --example gemm_speed [threads] [avx2|avx512|portable]`

use std::time::Instant;

use backprop_kernels::gemm::{Gemm, GemmSpec};
use backprop_kernels::pool::Pool;
use backprop_kernels::{Isa, Kernel};

#[path = "../tests/common/mod.rs"]
mod common;
use common::{Aligned, uniform};

/// Multiply-adds of 14 independent vector chains, GFLOP/s of one thread.
#[cfg(target_arch = "x86_64")]
fn peak(isa: Isa) -> f64 {
    use std::arch::x86_64::*;
    const TURNS: usize = 1_000_000;
    #[target_feature(enable = "avx512f")]
    fn avx512() -> f32 {
        let (x, y) = (_mm512_set1_ps(std::hint::black_box(0.5)), _mm512_set1_ps(std::hint::black_box(1.0)));
        let mut acc = [y; 14];
        for _ in 0..TURNS {
            acc.iter_mut().for_each(|a| *a = _mm512_fmadd_ps(*a, x, y));
        }
        acc.into_iter().map(|a| _mm512_reduce_add_ps(a)).sum()
    }
    #[target_feature(enable = "avx2,fma")]
    fn avx2() -> f32 {
        let (x, y) = (_mm256_set1_ps(std::hint::black_box(0.5)), _mm256_set1_ps(std::hint::black_box(1.0)));
        let mut acc = [y; 12];
        for _ in 0..TURNS {
            acc.iter_mut().for_each(|a| *a = _mm256_fmadd_ps(*a, x, y));
        }
        acc.into_iter().map(|a| _mm256_cvtss_f32(a)).sum()
    }
    let best = (0..9)
        .map(|_| {
            let start = Instant::now();
            // SAFETY: `isa` is one of those the processor has.
            let value = unsafe { if isa == Isa::Avx512 { avx512() } else { avx2() } };
            std::hint::black_box(value);
            start.elapsed().as_secs_f64()
        })
        .fold(f64::MAX, f64::min);
    let flops = if isa == Isa::Avx512 { 14 * 32 } else { 12 * 16 };
    (flops * TURNS) as f64 / best / 1e9
}

#[cfg(not(target_arch = "x86_64"))]
fn peak(_isa: Isa) -> f64 {
    f64::NAN
}

struct Memory<'a>(&'a [*mut u8], *mut u8, Vec<*mut u8>);
// SAFETY: the kernel's contract keeps the tasks apart.
unsafe impl Sync for Memory<'_> {}

/// Seconds of the fastest of many runs.
fn seconds(kernel: &dyn Kernel, pool: &Pool, operands: &[*mut u8], flops: f64) -> f64 {
    let mut workspace = Aligned::new(kernel.workspace());
    let mut scratch: Vec<Aligned> = (0..pool.threads()).map(|_| Aligned::new(kernel.scratch())).collect();
    let memory = Memory(operands, workspace.at(), scratch.iter_mut().map(Aligned::at).collect());
    let repeat = ((2e6 / flops) as usize).max(1);
    let runs = ((2e10 / flops) as usize / repeat).clamp(5, 2000);
    (0..runs)
        .map(|_| {
            let start = Instant::now();
            for _ in 0..repeat {
                for stage in 0..kernel.stages() {
                    let memory = &memory;
                    // SAFETY: operands are large enough; stages in order, tasks once, own scratch for each worker.
                    pool.run(kernel.tasks(stage), &|task, worker| unsafe {
                        kernel.run(stage, task, memory.0, memory.1, memory.2[worker]);
                    });
                }
            }
            start.elapsed().as_secs_f64() / repeat as f64
        })
        .fold(f64::MAX, f64::min)
}

/// (m, n, k) of training steps, and squares.
const SHAPES: [(usize, usize, usize); 24] = [
    (16, 4, 16),
    (16, 16, 4),
    (64, 64, 64),
    (128, 128, 128),
    (256, 256, 256),
    (512, 512, 512),
    (1024, 1024, 1024),
    (2048, 2048, 2048),
    (128, 512, 784),
    (128, 256, 512),
    (128, 10, 256),
    (784, 512, 128),
    (512, 784, 128),
    (128, 784, 512),
    (32, 1024, 256),
    (32, 256, 1024),
    (1024, 256, 32),
    (2048, 1024, 256),
    (1024, 384, 384),
    (1024, 1536, 384),
    (384, 1536, 1024),
    (9, 32, 43264),
    (1, 1024, 1024),
    (1024, 1, 1024),
];

fn main() {
    let threads = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(1);
    let wanted = std::env::args().nth(2);
    let isa = Isa::available().iter().copied().find(|i| Some(i.name()) == wanted.as_deref()).unwrap_or(Isa::detect());
    let pool = Pool::new(threads);
    let peak = peak(isa);
    println!("{isa}, {threads} threads, peak {peak:.0} GFLOP/s each");
    println!("{:>6} {:>6} {:>6}  share of peak: AB, AB', A'B  microseconds of AB; tasks", "m", "n", "k");
    for (m, n, k) in SHAPES {
        let (mut a, mut b, mut c) = (uniform(m * k, 1), uniform(k * n, 2), vec![0f32; m * n]);
        let operands = [a.as_mut_ptr().cast(), b.as_mut_ptr().cast(), c.as_mut_ptr().cast()];
        let plain = GemmSpec::row_major(m, n, k);
        let b_transposed = GemmSpec { b_row: 1, b_col: k as isize, ..plain.clone() };
        let a_transposed = GemmSpec { a_row: 1, a_col: m as isize, ..plain.clone() };
        let flops = 2.0 * (m * n * k) as f64;
        let (mut shares, mut first, mut tasks) = (String::new(), 0.0, Vec::new());
        for spec in [plain, b_transposed, a_transposed] {
            let kernel = Gemm::new(spec, None, isa);
            let time = seconds(&kernel, &pool, &operands, flops);
            if first == 0.0 {
                first = time;
                tasks = (0..kernel.stages()).map(|s| kernel.tasks(s)).collect();
            }
            shares += &format!(" {:6.1} %", 100.0 * flops / time / 1e9 / peak / threads as f64);
        }
        println!("{m:>6} {n:>6} {k:>6} {shares} {:9.2}  {tasks:?}", first * 1e6);
    }
}
