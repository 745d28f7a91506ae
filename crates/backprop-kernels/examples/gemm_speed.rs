//! Speed of products and convolutions as a share of the peak that a loop of multiply-adds reaches.
//!
//! `cargo run --release -p backprop-kernels --example gemm_speed [threads] [avx2|avx512|portable] [gemm|conv] [layer]`

use backprop_kernels::conv::Conv;
use backprop_kernels::gemm::{BatchDim, Gemm, GemmSpec};
use backprop_kernels::pool::Pool;
use backprop_kernels::{Isa, Kernel};

#[path = "../tests/common/mod.rs"]
mod common;
use common::layer::Layer;
use common::{Aligned, uniform};

/// Seconds: of this thread's own work where it is the only one, so that other processes do not count; else of the clock.
#[cfg(target_os = "linux")]
fn now(threads: usize) -> f64 {
    unsafe extern "C" {
        fn clock_gettime(clock: i32, time: *mut [i64; 2]) -> i32;
    }
    const MONOTONIC: i32 = 1;
    const THREAD_CPU: i32 = 3;
    let mut time = [0; 2];
    // SAFETY: `time` has the layout of a timespec on 64-bit Linux.
    unsafe { clock_gettime(if threads == 1 { THREAD_CPU } else { MONOTONIC }, &mut time) };
    time[0] as f64 + time[1] as f64 * 1e-9
}

#[cfg(not(target_os = "linux"))]
fn now(_threads: usize) -> f64 {
    std::time::SystemTime::UNIX_EPOCH.elapsed().map_or(0.0, |t| t.as_secs_f64())
}

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
            let start = now(1);
            // SAFETY: `isa` is one of those the processor has.
            let value = unsafe { if isa == Isa::Avx512 { avx512() } else { avx2() } };
            std::hint::black_box(value);
            now(1) - start
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
    let runs = ((2e10 / flops) as usize / repeat).clamp(5, 500);
    (0..runs)
        .map(|_| {
            let start = now(pool.threads());
            for _ in 0..repeat {
                for stage in 0..kernel.stages() {
                    let memory = &memory;
                    // SAFETY: operands are large enough; stages in order, tasks once, own scratch for each worker.
                    pool.run(kernel.tasks(stage), &|task, worker| unsafe {
                        kernel.run(stage, task, memory.0, memory.1, memory.2[worker]);
                    });
                }
            }
            (now(pool.threads()) - start) / repeat as f64
        })
        .fold(f64::MAX, f64::min)
}

/// Numbers at the start of a cache line, as operands of a training step lie.
fn numbers(len: usize) -> Aligned {
    let mut memory = Aligned::new(4 * len);
    // SAFETY: the memory has room for them.
    unsafe { std::ptr::copy_nonoverlapping(uniform(len, 1).as_ptr(), memory.at().cast(), len) };
    memory
}

/// (m, n, k) of training steps, and squares.
const SHAPES: [(usize, usize, usize); 36] = [
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
    (128, 256, 10),
    (784, 512, 128),
    (512, 256, 128),
    (256, 10, 128),
    (512, 784, 128),
    (128, 512, 256),
    (128, 784, 512),
    (256, 256, 784),
    (256, 64, 256),
    (256, 784, 256),
    (256, 256, 64),
    (784, 256, 256),
    (64, 256, 256),
    (32, 1024, 256),
    (32, 256, 1024),
    (1024, 256, 32),
    (2048, 768, 256),
    (2048, 256, 256),
    (2048, 1024, 256),
    (2048, 256, 1024),
    (2048, 64, 256),
    (1024, 256, 2048),
    (9, 32, 43264),
    (1, 1024, 1024),
    (1024, 1, 1024),
];

/// (batch, m, n, k) of attention.
const BATCHED: [(usize, usize, usize, usize); 2] = [(64, 128, 128, 64), (64, 128, 64, 128)];

/// Layers: batch, size, channels, features, window, stride, padding, groups.
const LAYERS: [[usize; 8]; 12] = [
    [128, 28, 1, 32, 3, 1, 0, 1],
    [128, 26, 32, 64, 3, 1, 0, 1],
    [32, 32, 3, 64, 3, 1, 1, 1],
    [32, 32, 64, 64, 3, 1, 1, 1],
    [32, 32, 64, 128, 3, 2, 1, 1],
    [32, 16, 128, 128, 3, 1, 1, 1],
    [32, 8, 256, 256, 3, 1, 1, 1],
    [32, 4, 512, 512, 3, 1, 1, 1],
    [32, 16, 64, 128, 1, 1, 0, 1],
    [32, 16, 64, 128, 1, 2, 0, 1],
    [32, 32, 32, 32, 3, 1, 1, 32],
    [32, 16, 192, 192, 3, 1, 1, 192],
];

fn convolutions(isa: Isa, pool: &Pool, peak: f64) {
    println!("  batch size chan feat win str groups  share of peak (microseconds): forward, data, weight");
    // A fourth argument picks one layer by its number.
    let only = std::env::args().nth(4).and_then(|a| a.parse().ok());
    for (_, [batch, size, channels, features, window, stride, pad, groups]) in
        LAYERS.into_iter().enumerate().filter(|(i, _)| only.is_none_or(|o: usize| o == *i))
    {
        let layer = Layer { batch, size, channels, features, window, stride, pad, groups };
        let out = layer.out();
        let [forward, data, weight] = layer.torch_specs();
        let x = batch * size * size * channels;
        let w = window * window * channels / groups * features;
        let y = batch * out * out * features;
        let flops = 2.0 * (y * window * window * channels / groups) as f64;
        let mut line = String::new();
        for (spec, sizes) in [(forward, [x, w, y]), (data, [y, w, x]), (weight, [x, y, w])] {
            let [mut lhs, mut rhs, mut out] = sizes.map(|len| uniform(len, 1));
            let operands = [lhs.as_mut_ptr().cast(), rhs.as_mut_ptr().cast(), out.as_mut_ptr().cast()];
            let Some(kernel) = Conv::new(&spec, None, isa) else { continue };
            let time = seconds(&kernel, pool, &operands, flops);
            let tasks: Vec<_> = (0..kernel.stages()).map(|s| kernel.tasks(s)).collect();
            let share = 100.0 * flops / time / 1e9 / peak / pool.threads() as f64;
            line += &format!(" {share:6.1} % ({:8.1}) {tasks:?}", time * 1e6);
        }
        println!("  {batch:>5} {size:>4} {channels:>4} {features:>4} {window:>3} {stride:>3} {groups:>6} {line}");
    }
}

fn main() {
    let threads = std::env::args().nth(1).and_then(|a| a.parse().ok()).unwrap_or(1);
    let wanted = std::env::args().nth(2);
    let only = std::env::args().nth(3);
    let isa = Isa::available().iter().copied().find(|i| Some(i.name()) == wanted.as_deref()).unwrap_or(Isa::detect());
    let pool = Pool::new(threads);
    let peak = peak(isa);
    println!("{isa}, {threads} threads, peak {peak:.0} GFLOP/s each");
    let empty = (0..10_000).map(|_| {
        let start = std::time::Instant::now();
        pool.run(pool.threads(), &|_, _| {});
        start.elapsed().as_nanos()
    });
    let mut empty: Vec<u128> = empty.collect();
    empty.sort_unstable();
    println!("empty run of the pool: {} ns (median of 10,000)", empty[empty.len() / 2]);
    if only.as_deref() != Some("conv") {
        products(isa, &pool, peak);
    }
    if only.as_deref() != Some("gemm") {
        convolutions(isa, &pool, peak);
    }
}

fn products(isa: Isa, pool: &Pool, peak: f64) {
    println!("{:>6} {:>6} {:>6}  share of peak: AB, AB', A'B  microseconds of AB; tasks", "m", "n", "k");
    let wanted: Option<Vec<usize>> = std::env::args().nth(4).map(|s| s.split('x').filter_map(|n| n.parse().ok()).collect());
    let wanted = wanted.and_then(|w| <[usize; 3]>::try_from(w).ok()).map(|[m, n, k]| vec![(m, n, k)]);
    for (m, n, k) in wanted.unwrap_or(SHAPES.to_vec()) {
        let (mut a, mut b, mut c) = (numbers(m * k), numbers(k * n), Aligned::new(4 * m * n));
        let operands = [a.at(), b.at(), c.at()];
        let plain = GemmSpec::row_major(m, n, k);
        let b_transposed = GemmSpec { b_row: 1, b_col: k as isize, ..plain.clone() };
        let a_transposed = GemmSpec { a_row: 1, a_col: m as isize, ..plain.clone() };
        line(&format!("{m:>6} {n:>6} {k:>6}"), [plain, b_transposed, a_transposed], &operands, isa, pool, peak);
    }
    for (batch, m, n, k) in BATCHED {
        let (mut a, mut b, mut c) = (numbers(batch * m * k), numbers(batch * k * n), Aligned::new(4 * batch * m * n));
        let operands = [a.at(), b.at(), c.at()];
        let dims = vec![BatchDim { extent: batch, a: (m * k) as isize, b: (k * n) as isize, c: (m * n) as isize }];
        let plain = GemmSpec { batch: dims, ..GemmSpec::row_major(m, n, k) };
        let b_transposed = GemmSpec { b_row: 1, b_col: k as isize, ..plain.clone() };
        let a_transposed = GemmSpec { a_row: 1, a_col: m as isize, ..plain.clone() };
        line(&format!("{batch:>6}x{m:>3}x{n:>3} {k:>5}"), [plain, b_transposed, a_transposed], &operands, isa, pool, peak);
    }
}

fn line(name: &str, specs: [GemmSpec; 3], operands: &[*mut u8], isa: Isa, pool: &Pool, peak: f64) {
    let flops = 2.0 * (specs[0].batches() * specs[0].m * specs[0].n * specs[0].k) as f64;
    let (mut shares, mut first, mut tasks) = (String::new(), 0.0, Vec::new());
    for spec in specs {
        let kernel = Gemm::new(spec, None, isa);
        let time = seconds(&kernel, pool, operands, flops);
        if first == 0.0 {
            first = time;
            tasks = (0..kernel.stages()).map(|s| kernel.tasks(s)).collect();
        }
        shares += &format!(" {:6.1} %", 100.0 * flops / time / 1e9 / peak / pool.threads() as f64);
    }
    println!("{name} {shares} {:9.2}  {tasks:?}", first * 1e6);
}
