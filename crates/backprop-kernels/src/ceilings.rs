//! What the processor can do at most, measured: the speed that kernels are judged by, and that a step cannot go below.
//!
//! Nothing that is measured here decides how anything is computed.

use crate::{Isa, pool::Pool};
use std::hint::{black_box, spin_loop};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Instant;

/// Turns of the loop of multiply-adds: 1 to 2 ms, long beside the start of a team.
const TURNS: usize = 1_000_000;

/// Runs of which the fastest counts: the machine is seldom quiet.
const RUNS: usize = 9;

/// Bytes that memory is measured with: more than the caches of most processors hold.
const BYTES: usize = 256 << 20;

/// Passes over them of which the fastest counts; the first finds the pages.
const PASSES: usize = 5;

/// Meetings in a row: few, for one lasts milliseconds where there are fewer cores than threads.
const MEETINGS: usize = 200;

/// The most a processor does in a second.
///
/// ```
/// use backprop_kernels::{Isa, ceilings::Ceilings};
///
/// let ceilings = Ceilings::measure(Isa::Portable, 1);
/// assert!(ceilings.flops > 1e6 && ceilings.read > 1e6);
/// ```
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Ceilings {
    /// f32 operations of one thread while no other works; a multiplication and an addition are two.
    pub flops_of_one: f64,
    /// f32 operations of all threads together.
    pub flops: f64,
    /// Bytes that all threads together read from memory.
    pub read: f64,
    /// Bytes that all threads together read and write while they copy in memory.
    pub copy: f64,
    /// Seconds that all threads take to learn that all have arrived: what a phase of a program costs at least beside its work. Longer
    /// where cores share no cache.
    pub meeting: f64,
}

impl Ceilings {
    /// Measures, in about a third of a second and a quarter of a gibibyte, with so many threads (at least one).
    pub fn measure(isa: Isa, threads: usize) -> Ceilings {
        let pool = Pool::new(threads);
        let (flops_of_one, flops) = arithmetic(isa, &pool);
        let meeting = meeting(&pool);
        let (read, copy) = memory(&pool);
        Ceilings { flops_of_one, flops, read, copy, meeting }
    }
}

/// f32 operations in a second of one thread, and of all threads of a team together.
pub fn arithmetic(isa: Isa, pool: &Pool) -> (f64, f64) {
    let (burst, per_turn) = burst(isa);
    let alone = fastest(RUNS, || black_box(burst()));
    let together = fastest(RUNS, || {
        pool.run(pool.threads(), &|_, _| {
            black_box(burst());
        });
    });
    let flops = (per_turn * TURNS) as f64;
    (flops / alone, flops * pool.threads() as f64 / together)
}

/// All threads meet many times; seconds of one meeting. No task ends before every one has begun, so each has a thread of its own.
fn meeting(pool: &Pool) -> f64 {
    let (arrived, fastest) = (AtomicUsize::new(0), AtomicU64::new(u64::MAX));
    for _ in 0..PASSES {
        arrived.store(0, Ordering::Relaxed);
        pool.run(pool.threads(), &|_, _| {
            // The first brings all threads together.
            meet(&arrived, pool.threads());
            let start = Instant::now();
            (2..MEETINGS + 2).for_each(|round| meet(&arrived, round * pool.threads()));
            fastest.fetch_min(start.elapsed().as_nanos() as u64, Ordering::Relaxed);
        });
    }
    fastest.into_inner() as f64 * 1e-9 / MEETINGS as f64
}

/// Arrives, and waits until so many have.
fn meet(arrived: &AtomicUsize, all: usize) {
    arrived.fetch_add(1, Ordering::AcqRel);
    let mut turns = 0u32;
    while arrived.load(Ordering::Acquire) < all {
        turns += 1;
        // A thread without a core must get one.
        if turns.is_multiple_of(1000) { thread::yield_now() } else { spin_loop() }
    }
}

/// Bytes in a second: read, and copied.
fn memory(pool: &Pool) -> (f64, f64) {
    let threads = pool.threads();
    let words = BYTES / size_of::<u64>() / threads;
    let parts: Vec<_> = (0..threads).map(|_| std::sync::Mutex::new(vec![1u64; words])).collect();
    let each = |work: &(dyn Fn(&mut [u64]) + Sync)| {
        fastest(PASSES, || {
            pool.run(threads, &|task, _| work(&mut parts[task].lock().unwrap_or_else(|poisoned| poisoned.into_inner())));
        })
    };
    let bytes = (words * threads * size_of::<u64>()) as f64;
    let read = each(&|part| {
        black_box(sum(part));
    });
    let copy = each(&|part| {
        let (to, from) = part.split_at_mut(words / 2);
        to.copy_from_slice(&from[..to.len()]);
        black_box(to);
    });
    (bytes / read, bytes / copy)
}

/// Adds with as many chains as hide the latency of an addition.
fn sum(part: &[u64]) -> u64 {
    let mut sums = [0u64; 32];
    for words in part.chunks_exact(32) {
        sums.iter_mut().zip(words).for_each(|(sum, word)| *sum = sum.wrapping_add(*word));
    }
    sums.iter().fold(0, |a, b| a.wrapping_add(*b))
}

/// Seconds of the fastest run.
fn fastest<R>(runs: usize, mut run: impl FnMut() -> R) -> f64 {
    let time = |_| {
        let start = Instant::now();
        black_box(run());
        start.elapsed().as_secs_f64()
    };
    (0..runs).map(time).fold(f64::MAX, f64::min)
}

/// A loop of independent chains of multiply-adds, and how many operations a turn of it has. Values stay near 2, far from anything slow.
fn burst(isa: Isa) -> (fn() -> f32, usize) {
    #[cfg(target_arch = "x86_64")]
    match isa {
        // SAFETY: the processor has the instruction set, or nobody could have asked for it.
        Isa::Avx512 if Isa::available().contains(&isa) => return (|| unsafe { x86::avx512() }, x86::CHAINS_512 * 32),
        // SAFETY: as above.
        Isa::Avx2 if Isa::available().contains(&isa) => return (|| unsafe { x86::avx2() }, x86::CHAINS_256 * 16),
        _ => {}
    }
    let _ = isa;
    (portable, CHAINS * 2)
}

/// Chains of the portable loop, one number each: what the compiler makes of them depends on the target.
const CHAINS: usize = 32;

fn portable() -> f32 {
    let (x, y) = (black_box(0.5f32), black_box(1.0f32));
    let mut sums = [y; CHAINS];
    for _ in 0..TURNS {
        sums.iter_mut().for_each(|a| *a = *a * x + y);
    }
    sums.iter().sum()
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use super::TURNS;
    use std::arch::x86_64::*;
    use std::hint::black_box;

    /// Chains that fill both multiply-add units for the latency of one, with registers left.
    pub(super) const CHAINS_512: usize = 14;
    /// The same where there are sixteen registers.
    pub(super) const CHAINS_256: usize = 12;

    /// # Safety
    /// The processor has AVX-512 F.
    #[target_feature(enable = "avx512f")]
    pub(super) unsafe fn avx512() -> f32 {
        let (x, y) = (_mm512_set1_ps(black_box(0.5)), _mm512_set1_ps(black_box(1.0)));
        let mut sums = [y; CHAINS_512];
        for _ in 0..TURNS {
            sums.iter_mut().for_each(|a| *a = _mm512_fmadd_ps(*a, x, y));
        }
        sums.into_iter().map(|a| _mm512_reduce_add_ps(a)).sum()
    }

    /// # Safety
    /// The processor has AVX2 and FMA.
    #[target_feature(enable = "avx2,fma")]
    pub(super) unsafe fn avx2() -> f32 {
        let (x, y) = (_mm256_set1_ps(black_box(0.5)), _mm256_set1_ps(black_box(1.0)));
        let mut sums = [y; CHAINS_256];
        for _ in 0..TURNS {
            sums.iter_mut().for_each(|a| *a = _mm256_fmadd_ps(*a, x, y));
        }
        sums.into_iter().map(|a| _mm256_cvtss_f32(a)).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every chain ends where it must: none was taken out of the loop.
    #[test]
    fn bursts_compute_what_they_count() {
        for &isa in Isa::available() {
            let (burst, per_turn) = burst(isa);
            let added = match isa {
                Isa::Portable => CHAINS,
                Isa::Avx2 => per_turn / 16,
                Isa::Avx512 => per_turn / 2,
            };
            assert_eq!(burst(), 2.0 * added as f32, "{isa}");
        }
    }

    #[test]
    fn sums_are_of_all_words() {
        assert_eq!(sum(&(0..64).collect::<Vec<_>>()), 63 * 32);
    }

    #[test]
    fn ceilings_are_numbers() {
        let Ceilings { flops_of_one, flops, read, copy, meeting } = Ceilings::measure(Isa::detect(), 2);
        assert!([flops_of_one, flops, read, copy, meeting].iter().all(|rate| rate.is_finite() && *rate > 0.0));
    }
}
