//! Attention and its derivative against plain loops in f64, with the error of plain loops in f32; identical bits whatever runs them.

use backprop_kernels::pool::Pool;
use backprop_kernels::{Attention, AttentionGradient, AttentionSpec, AttentionStrides, DType, Isa};

mod common;
use common::{run_kernel, uniform};

/// Which keys take part, beside causality.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Mask {
    None,
    /// The last keys of each sample are padding, all of the second's.
    Padding,
    /// Of each query and key by itself.
    Each,
}

#[derive(Clone, Debug)]
struct Case {
    /// Samples and heads.
    batch: [usize; 2],
    queries: usize,
    keys: usize,
    features: usize,
    values: usize,
    causal: bool,
    mask: Mask,
    /// Heads stand side by side in a row, as projections make them; else matrices one after the other, K with adjacent rows.
    heads_in_rows: bool,
    /// What the scores are multiplied by beside 1/√d.
    sharpness: f64,
}

/// The operands in memory, and their results: y, log, dq, dk, dv as [sample][head][row][column].
type Results<T> = [Vec<T>; 5];

trait Number: Copy + Default + Into<f64> {
    fn of(x: f64) -> Self;
    fn exp(self) -> Self;
    fn madd(self, a: Self, b: Self) -> Self;
}

impl Number for f32 {
    fn of(x: f64) -> f32 {
        x as f32
    }
    fn exp(self) -> f32 {
        f32::exp(self)
    }
    fn madd(self, a: f32, b: f32) -> f32 {
        self + a * b
    }
}

impl Number for f64 {
    fn of(x: f64) -> f64 {
        x
    }
    fn exp(self) -> f64 {
        f64::exp(self)
    }
    fn madd(self, a: f64, b: f64) -> f64 {
        self + a * b
    }
}

impl Case {
    fn heads(&self) -> usize {
        self.batch[0] * self.batch[1]
    }

    fn scale(&self) -> f64 {
        self.sharpness / (self.features as f64).sqrt()
    }

    fn spec(&self, dtype: DType) -> AttentionSpec {
        let Case { queries, keys, features, values, causal, .. } = *self;
        AttentionSpec { dtype, batch: self.batch.to_vec(), queries, keys, features, values, causal, scale: self.scale() }
    }

    /// Strides of a matrix of each head.
    fn strides(&self, rows: usize, cols: usize, turned: bool) -> AttentionStrides {
        let [_, heads] = self.batch.map(|n| n as isize);
        let (rows, cols) = (rows as isize, cols as isize);
        if self.heads_in_rows {
            AttentionStrides { batch: vec![rows * heads * cols, cols], row: heads * cols, col: 1 }
        } else {
            let (row, col) = if turned { (1, rows) } else { (cols, 1) };
            AttentionStrides { batch: vec![heads * rows * cols, rows * cols], row, col }
        }
    }

    fn mask(&self) -> Option<(Vec<u8>, AttentionStrides)> {
        let [samples, heads] = self.batch;
        let (queries, keys) = (self.queries, self.keys);
        match self.mask {
            Mask::None => None,
            Mask::Padding => {
                let kept = |sample: usize| if sample == 1 { 0 } else { keys - keys / 3 };
                let mask = (0..samples).flat_map(|s| (0..keys).map(move |k| u8::from(k < kept(s)))).collect();
                Some((mask, AttentionStrides { batch: vec![keys as isize, 0], row: 0, col: 1 }))
            }
            Mask::Each => {
                let drawn = uniform(samples * heads * queries * keys, 77);
                let mask = drawn.iter().map(|&x| u8::from(x > -0.4)).collect();
                let size = (queries * keys) as isize;
                // Keys are the outer dimension.
                Some((mask, AttentionStrides { batch: vec![heads as isize * size, size], row: 1, col: queries as isize }))
            }
        }
    }

    /// Operands as [sample][head][row][column]: Q, K, V, the gradient of the result.
    fn drawn(&self) -> [Vec<f32>; 4] {
        let (h, e) = (self.heads(), self.values);
        [
            uniform(h * self.queries * self.features, 3),
            uniform(h * self.keys * self.features, 5),
            uniform(h * self.keys * e, 7),
            uniform(h * self.queries * e, 9),
        ]
    }

    /// Places dense values by strides, or takes them from there.
    fn positions(&self, rows: usize, cols: usize, strides: &AttentionStrides) -> Vec<usize> {
        let mut at = Vec::new();
        for (s, h) in (0..self.batch[0]).flat_map(|s| (0..self.batch[1]).map(move |h| (s, h))) {
            for (r, c) in (0..rows).flat_map(|r| (0..cols).map(move |c| (r, c))) {
                let offset = s as isize * strides.batch[0] + h as isize * strides.batch[1];
                at.push((offset + r as isize * strides.row + c as isize * strides.col) as usize);
            }
        }
        at
    }

    fn place<T: Number>(&self, dense: &[f32], rows: usize, cols: usize, strides: &AttentionStrides) -> Vec<T> {
        let mut placed = vec![T::default(); dense.len()];
        self.positions(rows, cols, strides).into_iter().zip(dense).for_each(|(at, &x)| placed[at] = T::of(f64::from(x)));
        placed
    }

    fn run<T: Number>(&self, dtype: DType, isa: Isa, pool: &Pool) -> Results<T> {
        let Case { queries, keys, features, values, .. } = *self;
        let [q_s, o_s] = [features, values].map(|cols| self.strides(queries, cols, false));
        let (k_s, v_s) = (self.strides(keys, features, true), self.strides(keys, values, true));
        let [q, k, v, g] = self.drawn();
        let mut q = self.place::<T>(&q, queries, features, &q_s);
        let mut k = self.place::<T>(&k, keys, features, &k_s);
        let mut v = self.place::<T>(&v, keys, values, &v_s);
        let mut g = self.place::<T>(&g, queries, values, &o_s);
        let mut mask = self.mask();
        let nan = |n: usize| vec![T::of(f64::NAN); n];
        let (mut y, mut log) = (nan(g.len()), nan(self.heads() * queries));
        let spec = self.spec(dtype);
        let mask_strides = mask.as_ref().map(|(_, strides)| strides.clone());
        let mut operands = vec![q.as_mut_ptr().cast(), k.as_mut_ptr().cast(), v.as_mut_ptr().cast()];
        operands.extend(mask.iter_mut().map(|(mask, _)| mask.as_mut_ptr()));
        operands.extend([y.as_mut_ptr().cast::<u8>(), log.as_mut_ptr().cast()]);
        let forward = Attention::new(&spec, [&q_s, &k_s, &v_s], mask_strides.as_ref(), &o_s, isa).unwrap();
        // SAFETY: the buffers are those of the spec and the strides; the ISA is available.
        unsafe { run_kernel(&forward, pool, &operands) };
        let [dk_s, dv_s] = [features, values].map(|cols| self.strides(keys, cols, false));
        let (mut dq, mut dk, mut dv) = (nan(q.len()), nan(k.len()), nan(v.len()));
        let gradients = [dq.as_mut_ptr().cast::<u8>(), dk.as_mut_ptr().cast(), dv.as_mut_ptr().cast()];
        operands.push(g.as_mut_ptr().cast());
        operands.extend(gradients);
        let outputs = [&q_s, &dk_s, &dv_s];
        let backward =
            AttentionGradient::new(&spec, [&q_s, &k_s, &v_s], mask_strides.as_ref(), [&o_s, &o_s], outputs, isa).unwrap();
        // SAFETY: as above.
        unsafe { run_kernel(&backward, pool, &operands) };
        let take = |from: &[T], rows: usize, cols: usize, strides: &AttentionStrides| -> Vec<T> {
            self.positions(rows, cols, strides).into_iter().map(|at| from[at]).collect()
        };
        [
            take(&y, queries, values, &o_s),
            log,
            take(&dq, queries, features, &q_s),
            take(&dk, keys, features, &dk_s),
            take(&dv, keys, values, &dv_s),
        ]
    }

    fn takes_part(&self, mask: Option<&(Vec<u8>, AttentionStrides)>, head: usize, q: usize, k: usize) -> bool {
        let of_mask = mask.is_none_or(|(mask, s)| {
            let (sample, head) = ((head / self.batch[1]) as isize, (head % self.batch[1]) as isize);
            let at = sample * s.batch[0] + head * s.batch[1] + q as isize * s.row + k as isize * s.col;
            mask[at as usize] != 0
        });
        of_mask && (!self.causal || k <= q)
    }

    /// The definition, sums in `T` from the first term to the last.
    fn direct<T: Number>(&self) -> Results<T> {
        let Case { queries, keys, features: d, values: e, .. } = *self;
        let drawn = self.drawn().map(|x| x.iter().map(|&x| T::of(f64::from(x))).collect::<Vec<T>>());
        let [q, k, v, g] = &drawn;
        let mask = self.mask();
        let mut out: Results<T> = [g.len(), self.heads() * queries, q.len(), k.len(), v.len()].map(|n| vec![T::default(); n]);
        let dot = |a: &[T], b: &[T]| a.iter().zip(b).fold(T::default(), |sum, (&a, &b)| sum.madd(a, b));
        let of = |x: f64| T::of(x);
        for (head, i) in (0..self.heads()).flat_map(|h| (0..queries).map(move |i| (h, i))) {
            let row = |x: &[T], r: usize, n: usize, rows: usize| x[(head * rows + r) * n..][..n].to_vec();
            let (qi, gi) = (row(q, i, d, queries), row(g, i, e, queries));
            let part: Vec<usize> = (0..keys).filter(|&j| self.takes_part(mask.as_ref(), head, i, j)).collect();
            let scores: Vec<T> = part.iter().map(|&j| of(wide(dot(&qi, &row(k, j, d, keys))) * self.scale())).collect();
            let largest = scores.iter().map(|&s| wide(s)).fold(f64::NEG_INFINITY, f64::max);
            let weights: Vec<T> = scores.iter().map(|&s| of(wide(s) - largest).exp()).collect();
            let sum = weights.iter().fold(T::default(), |sum, &w| sum.madd(w, of(1.0)));
            if part.is_empty() {
                continue;
            }
            let weights: Vec<T> = weights.iter().map(|&w| of(wide(w) / wide(sum))).collect();
            let mut y = vec![T::default(); e];
            for (&j, &w) in part.iter().zip(&weights) {
                y.iter_mut().zip(row(v, j, e, keys)).for_each(|(y, v)| *y = y.madd(w, v));
            }
            let mean = wide(dot(&gi, &y));
            for (&j, &w) in part.iter().zip(&weights) {
                let of_weight = wide(dot(&gi, &row(v, j, e, keys)));
                let of_score = of(wide(w) * (of_weight - mean) * self.scale());
                let kj = row(k, j, d, keys);
                let add = |to: &mut [T], x: &[T], by: T| to.iter_mut().zip(x).for_each(|(to, &x)| *to = to.madd(by, x));
                add(&mut out[2][(head * queries + i) * d..][..d], &kj, of_score);
                add(&mut out[3][(head * keys + j) * d..][..d], &qi, of_score);
                add(&mut out[4][(head * keys + j) * e..][..e], &gi, w);
            }
            out[0][(head * queries + i) * e..][..e].copy_from_slice(&y);
            out[1][head * queries + i] = of(largest + wide(sum).ln());
        }
        out
    }
}

fn wide<T: Number>(x: T) -> f64 {
    x.into()
}

/// Largest and mean square difference.
fn errors<T: Number>(given: &[T], wanted: &[f64]) -> [f64; 2] {
    assert_eq!(given.len(), wanted.len());
    let of = |(&g, &w): (&T, &f64)| {
        let g: f64 = g.into();
        assert!(g.is_finite(), "{g} for {w}");
        (g - w).abs()
    };
    let all: Vec<f64> = given.iter().zip(wanted).map(of).collect();
    let squares = all.iter().map(|e| e * e).sum::<f64>() / all.len().max(1) as f64;
    [all.iter().copied().fold(0.0, f64::max), squares.sqrt()]
}

fn cases() -> Vec<Case> {
    let base = Case {
        batch: [2, 3],
        queries: 40,
        keys: 40,
        features: 8,
        values: 8,
        causal: false,
        mask: Mask::None,
        heads_in_rows: true,
        sharpness: 1.0,
    };
    let sizes = |queries, keys, features, values| Case { queries, keys, features, values, ..base.clone() };
    let shapes = [
        sizes(1, 1, 1, 1),
        sizes(0, 5, 4, 3),
        sizes(5, 0, 4, 3),
        sizes(5, 4, 3, 0),
        sizes(7, 7, 5, 6),
        sizes(12, 16, 16, 16),
        sizes(13, 17, 33, 40),
        sizes(40, 40, 8, 8),
        sizes(25, 130, 20, 12),
        sizes(145, 31, 64, 64),
        sizes(300, 290, 64, 24),
        sizes(129, 257, 300, 33),
    ];
    let mut all = Vec::new();
    for (i, shape) in shapes.iter().enumerate() {
        for (j, mask) in [Mask::None, Mask::Padding, Mask::Each].into_iter().enumerate() {
            for causal in [false, true] {
                let heads_in_rows = (i + j + usize::from(causal)) % 2 == 0;
                all.push(Case { causal, mask, heads_in_rows, ..shape.clone() });
            }
        }
    }
    // Several groups of keys meet several of queries, and weights that are nearly 0 or 1.
    all.push(Case { batch: [1, 1], queries: 900, keys: 700, causal: true, ..base.clone() });
    all.push(Case { batch: [1, 2], queries: 600, keys: 800, mask: Mask::Padding, ..base.clone() });
    all.push(Case { queries: 200, keys: 200, causal: true, sharpness: 30.0, ..base });
    all
}

const NAMES: [&str; 5] = ["y", "log", "dq", "dk", "dv"];

#[test]
fn the_error_is_at_most_four_times_that_of_direct_sums() {
    let pool = Pool::new(2);
    for case in cases() {
        let exact = case.direct::<f64>();
        let direct = case.direct::<f32>();
        for &isa in Isa::available() {
            let given = case.run::<f32>(DType::F32, isa, &pool);
            for (i, name) in NAMES.iter().enumerate() {
                let ([largest, mean], [bound, mean_bound]) = (errors(&given[i], &exact[i]), errors(&direct[i], &exact[i]));
                // Sums of few terms can come out exact by chance.
                let floor = exact[i].iter().fold(0.0, |most: f64, x| most.max(x.abs())) * f64::from(f32::EPSILON);
                let message =
                    format!("{isa}, {name} of {case:?}: {largest:e} where direct sums give {bound:e}, on average {mean:e}");
                assert!(largest <= 4.0 * bound.max(floor), "{message}");
                assert!(mean <= 4.0 * mean_bound.max(floor / 4.0), "{message}, {mean_bound:e}");
            }
        }
    }
}

#[test]
fn f64_is_exact() {
    let pool = Pool::new(2);
    for case in cases() {
        let exact = case.direct::<f64>();
        let given = case.run::<f64>(DType::F64, Isa::detect(), &pool);
        for (i, name) in NAMES.iter().enumerate() {
            let size = exact[i].iter().fold(1.0, |most: f64, x| most.max(x.abs()));
            let [largest, _] = errors(&given[i], &exact[i]);
            assert!(largest <= 1e-13 * size, "{name} of {case:?}: {largest:e}");
        }
    }
}

#[test]
fn identical_bits_for_every_isa_with_fma_and_any_number_of_threads() {
    let pools = [1, 2, 3, 8].map(Pool::new);
    let bits = |results: Results<f32>| results.map(|x| x.iter().map(|x| x.to_bits()).collect::<Vec<u32>>());
    for case in cases() {
        for isas in [&[Isa::Portable][..], &Isa::available()[1..]] {
            let Some(&first) = isas.first() else { continue };
            let wanted = bits(case.run(DType::F32, first, &pools[0]));
            for (&isa, pool) in isas.iter().flat_map(|isa| pools.iter().map(move |pool| (isa, pool))) {
                assert_eq!(bits(case.run(DType::F32, isa, pool)), wanted, "{isa}, {} threads: {case:?}", pool.threads());
            }
        }
    }
}

#[test]
fn what_is_not_finite_shows() {
    let pool = Pool::new(1);
    let case = Case { batch: [1, 1], queries: 20, keys: 20, causal: true, ..cases()[12].clone() };
    let strides = case.strides(20, 8, false);
    let [mut q, mut k, mut v, _] = Case { features: 8, values: 8, ..case.clone() }.drawn();
    let spec = AttentionSpec { features: 8, values: 8, ..case.spec(DType::F32) };
    q[3 * 8] = f32::NAN;
    let (mut y, mut log) = (vec![0f32; 160], vec![0f32; 20]);
    let kernel = Attention::new(&spec, [&strides; 3], None, &strides, Isa::detect()).unwrap();
    let mut run = |q: &mut [f32]| {
        let (k, v) = (k.as_mut_ptr().cast(), v.as_mut_ptr().cast());
        let operands = [q.as_mut_ptr().cast(), k, v, y.as_mut_ptr().cast(), log.as_mut_ptr().cast()];
        // SAFETY: the buffers are those of the spec.
        unsafe { run_kernel(&kernel, &pool, &operands) };
        y.chunks(8).map(|row| row.iter().all(|y| y.is_finite())).collect::<Vec<bool>>()
    };
    assert_eq!(run(&mut q), (0..20).map(|row| row != 3).collect::<Vec<bool>>());
    q[3 * 8] = f32::INFINITY;
    assert!(!run(&mut q)[3]);
}
