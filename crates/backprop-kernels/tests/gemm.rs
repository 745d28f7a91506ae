//! Products against plain loops in f64, and identical bits whatever runs them.

use std::sync::Arc;

use backprop_kernels::gemm::{BatchDim, Epilogue, Gemm, GemmGeneric, GemmSpec};
use backprop_kernels::pool::Pool;
use backprop_kernels::{DType, Isa};

mod common;
use common::{run_kernel, uniform};

/// A spec with the buffers it needs: where each operand starts and how long it is.
struct Case {
    spec: GemmSpec,
    a: (usize, usize),
    b: (usize, usize),
    c: (usize, usize),
}

/// First element and length of an operand with these (extent, stride) dimensions, negative strides allowed.
fn span(dims: &[(usize, isize)]) -> (usize, usize) {
    let reach = |sign: isize| -> usize { dims.iter().map(|d| d.0.saturating_sub(1) * (d.1 * sign).max(0) as usize).sum() };
    (reach(-1), reach(-1) + reach(1) + 1)
}

impl Case {
    fn new(spec: GemmSpec) -> Case {
        let dims = |first: (usize, isize), second: (usize, isize), pick: fn(&BatchDim) -> isize| {
            let mut dims = vec![first, second];
            dims.extend(spec.batch.iter().map(|d| (d.extent, pick(d))));
            span(&dims)
        };
        Case {
            a: dims((spec.m, spec.a_row), (spec.k, spec.a_col), |d| d.a),
            b: dims((spec.k, spec.b_row), (spec.n, spec.b_col), |d| d.b),
            c: dims((spec.m, spec.c_row), (spec.n, spec.c_col), |d| d.c),
            spec,
        }
    }

    /// Every (offset in C, offsets of A and B at term 0), row-major over batches, rows, columns.
    fn elements(&self) -> Vec<(isize, isize, isize)> {
        let s = &self.spec;
        let mut out = Vec::new();
        for batch in 0..s.batches() {
            let (mut rest, mut a, mut b, mut c) = (batch, 0, 0, 0);
            for d in s.batch.iter().rev() {
                let i = (rest % d.extent) as isize;
                rest /= d.extent;
                (a, b, c) = (a + i * d.a, b + i * d.b, c + i * d.c);
            }
            for i in 0..s.m as isize {
                for j in 0..s.n as isize {
                    out.push((c + i * s.c_row + j * s.c_col, a + i * s.a_row, b + j * s.b_col));
                }
            }
        }
        out
    }

    fn inputs(&self) -> (Vec<f32>, Vec<f32>) {
        (uniform(self.a.1, 3), uniform(self.b.1, 5))
    }

    /// C after the product over a background of NaN.
    fn run(&self, isa: Isa, pool: &Pool) -> Vec<f32> {
        let (mut a, mut b) = self.inputs();
        let mut c = vec![f32::NAN; self.c.1];
        let kernel = Gemm::new(self.spec.clone(), None, isa);
        let operands = [a[self.a.0..].as_mut_ptr().cast(), b[self.b.0..].as_mut_ptr().cast(), c[self.c.0..].as_mut_ptr().cast()];
        // SAFETY: `span` sized the buffers for the spec; the ISA is available.
        unsafe { run_kernel(&kernel, pool, &operands) };
        c
    }

    fn check(&self, c: &[f32], what: &str) {
        let (a, b) = self.inputs();
        let s = &self.spec;
        for (at, a0, b0) in self.elements() {
            let (mut sum, mut size) = (0f64, 0f64);
            for l in 0..s.k as isize {
                let x = f64::from(a[(self.a.0 as isize + a0 + l * s.a_col) as usize]);
                let y = f64::from(b[(self.b.0 as isize + b0 + l * s.b_row) as usize]);
                sum += x * y;
                size += (x * y).abs();
            }
            let got = f64::from(c[(self.c.0 as isize + at) as usize]);
            let bound = 2.0 * s.k as f64 * f64::from(f32::EPSILON) * size;
            assert!((got - sum).abs() <= bound, "{what} {s:?}: at {at} got {got}, want {sum} ± {bound}");
        }
    }
}

/// Shapes at and around every edge: register tiles, vectors, blocks, chunks, splits.
const SHAPES: [(usize, usize, usize); 46] = [
    (0, 3, 4),
    (3, 0, 4),
    (3, 4, 0),
    (1, 1, 1),
    (1, 1, 257),
    (1, 33, 5),
    (2, 16, 4),
    (16, 4, 16),
    (5, 1, 700),
    (7, 9, 11),
    (13, 17, 31),
    (14, 32, 256),
    (15, 33, 257),
    (28, 31, 64),
    (29, 65, 129),
    (6, 16, 8),
    (12, 15, 300),
    (31, 10, 100),
    (64, 64, 64),
    (63, 127, 65),
    (128, 10, 257),
    (127, 129, 128),
    (100, 300, 70),
    (257, 33, 33),
    (1, 700, 300),
    (300, 257, 259),
    (130, 517, 100),
    (9, 32, 8000),
    (3, 5, 20000),
    (64, 48, 5000),
    (200, 200, 1100),
    (32, 1024, 256),
    (512, 2, 512),
    (17, 1040, 40),
    (1, 40, 70),
    (70, 1, 530),
    (40, 700, 512),
    (700, 40, 257),
    (530, 70, 64),
    (1, 1000, 260),
    (2, 531, 40),
    (3, 205, 33),
    (1024, 131, 19),
    (131, 1024, 19),
    (130, 1024, 270),
    (1030, 40, 530),
];

fn layouts(m: usize, n: usize, k: usize) -> Vec<GemmSpec> {
    let plain = GemmSpec::row_major(m, n, k);
    let (mi, ni, ki) = (m as isize, n as isize, k as isize);
    vec![
        GemmSpec { b_row: 1, b_col: ki, ..plain.clone() },
        GemmSpec { a_row: 1, a_col: mi, ..plain.clone() },
        GemmSpec { a_row: 1, a_col: mi, b_row: 1, b_col: ki, c_row: 1, c_col: mi, ..plain.clone() },
        GemmSpec { a_row: 3 * ki + 2, a_col: 3, b_row: 2 * ni + 1, b_col: 2, c_row: 3 * ni, c_col: 3, ..plain.clone() },
        GemmSpec { a_row: -ki, a_col: 1, b_row: -ni, b_col: 1, c_row: -ni, c_col: 1, ..plain.clone() },
        plain,
    ]
}

fn cases() -> Vec<Case> {
    let mut all: Vec<Case> = SHAPES.iter().flat_map(|&(m, n, k)| layouts(m, n, k)).map(Case::new).collect();
    for (m, n, k, batch) in [(5, 7, 9, [2, 3]), (64, 64, 32, [3, 4]), (40, 33, 300, [2, 2]), (1, 8, 3, [5, 1]), (2, 2, 2, [0, 3])]
    {
        let (a, b, c) = ((m * k) as isize, (k * n) as isize, (m * n) as isize);
        let inner = batch[1] as isize;
        let plain = GemmSpec::row_major(m, n, k);
        let dims = |a: [isize; 2], b: [isize; 2]| {
            vec![
                BatchDim { extent: batch[0], a: a[0], b: b[0], c: inner * c },
                BatchDim { extent: batch[1], a: a[1], b: b[1], c },
            ]
        };
        for batch in [
            dims([inner * a, a], [inner * b, b]),
            dims([inner * a, a], [0, 0]),
            dims([0, a], [b, 0]),
            dims([a, batch[0] as isize * a], [b, batch[0] as isize * b]),
        ] {
            all.push(Case::new(GemmSpec { batch, ..plain.clone() }));
        }
    }
    all
}

fn bits(values: &[f32]) -> Vec<u32> {
    values.iter().map(|v| v.to_bits()).collect()
}

#[test]
fn within_the_bound_of_the_sum_in_f64() {
    let pool = Pool::new(2);
    for case in cases() {
        for &isa in Isa::available() {
            case.check(&case.run(isa, &pool), isa.name());
        }
    }
}

#[test]
fn identical_bits_for_every_isa_with_fma_and_any_number_of_threads() {
    let pools = [1, 2, 3, 8].map(Pool::new);
    for case in cases() {
        for isas in [&Isa::available()[..1], &Isa::available()[1..]] {
            let Some(&first) = isas.first() else { continue };
            let want = bits(&case.run(first, &pools[0]));
            for &isa in isas {
                for pool in &pools {
                    assert!(bits(&case.run(isa, pool)) == want, "{isa} on {} threads: {:?}", pool.threads(), case.spec);
                }
            }
        }
    }
}

#[test]
fn identical_bits_for_every_layout() {
    let pool = Pool::new(2);
    for &isa in Isa::available() {
        for (m, n, k) in SHAPES {
            // The same logical operands in other layouts.
            let (a, b) = (uniform(m * k, 7), uniform(k * n, 8));
            let mut results = layouts(m, n, k).into_iter().map(|spec| {
                let case = Case::new(spec);
                let s = &case.spec;
                let (mut pa, mut pb, mut pc) = (vec![0f32; case.a.1], vec![0f32; case.b.1], vec![0f32; case.c.1]);
                let at = |origin: usize, offset: isize| (origin as isize + offset) as usize;
                for i in 0..m * k {
                    pa[at(case.a.0, (i / k) as isize * s.a_row + (i % k) as isize * s.a_col)] = a[i];
                }
                for i in 0..k * n {
                    pb[at(case.b.0, (i / n) as isize * s.b_row + (i % n) as isize * s.b_col)] = b[i];
                }
                let kernel = Gemm::new(s.clone(), None, isa);
                let operands =
                    [pa[case.a.0..].as_mut_ptr().cast(), pb[case.b.0..].as_mut_ptr().cast(), pc[case.c.0..].as_mut_ptr().cast()];
                // SAFETY: `span` sized the buffers for the spec; the ISA is available.
                unsafe { run_kernel(&kernel, &pool, &operands) };
                let value = |i: usize| pc[at(case.c.0, (i / n) as isize * s.c_row + (i % n) as isize * s.c_col)];
                (0..m * n).map(|i| value(i).to_bits()).collect::<Vec<_>>()
            });
            let want = results.next();
            assert!(results.all(|r| Some(r) == want), "{isa} {m} {n} {k}");
        }
    }
}

/// Adds a column vector (operand 2) and stores densely to operand 3.
struct AddBias {
    m: usize,
    n: usize,
}

impl Epilogue for AddBias {
    fn scratch(&self) -> usize {
        64
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
        scratch: *mut u8,
    ) {
        assert!(row0 + rows <= self.m && col0 + cols <= self.n && ld >= cols);
        // SAFETY: the operands are dense buffers of the spec's size; the scratch has the 64 bytes asked for.
        unsafe {
            scratch.write_bytes(1, 64);
            let (bias, out) = (operands[2].cast::<f32>(), operands[3].cast::<f32>());
            for r in 0..rows {
                for c in 0..cols {
                    let to = out.add((batch * self.m + row0 + r) * self.n + col0 + c);
                    assert!((*to).is_nan(), "stored twice");
                    *to = *tile.add(r * ld + c) + *bias.add(col0 + c);
                }
            }
        }
    }
}

#[test]
fn an_epilogue_sees_every_element_once_with_the_bits_of_the_plain_product() {
    let pool = Pool::new(3);
    for &isa in Isa::available() {
        for (m, n, k) in SHAPES {
            for (batch, layout) in [(1, 0), (3, 0), (3, 1), (3, 2)] {
                let dims = vec![BatchDim { extent: batch, a: (m * k) as isize, b: 0, c: (m * n) as isize }];
                let plain = GemmSpec { batch: dims, ..GemmSpec::row_major(m, n, k) };
                let spec = match layout {
                    0 => plain,
                    1 => GemmSpec { b_row: 1, b_col: k as isize, ..plain },
                    _ => GemmSpec { a_row: 1, a_col: m as isize, ..plain },
                };
                let (mut a, mut b, mut bias) = (uniform(batch * m * k, 1), uniform(k * n, 2), uniform(n, 4));
                let (mut plain, mut fused) = (vec![f32::NAN; batch * m * n], vec![f32::NAN; batch * m * n]);
                let (pa, pb) = (a.as_mut_ptr().cast(), b.as_mut_ptr().cast());
                // SAFETY: dense operands of the spec's size; the ISA is available.
                unsafe {
                    run_kernel(&Gemm::new(spec.clone(), None, isa), &pool, &[pa, pb, plain.as_mut_ptr().cast()]);
                    let kernel = Gemm::new(spec, Some(Arc::new(AddBias { m, n })), isa);
                    run_kernel(&kernel, &pool, &[pa, pb, bias.as_mut_ptr().cast(), fused.as_mut_ptr().cast()]);
                }
                for (i, (p, f)) in plain.iter().zip(&fused).enumerate() {
                    assert_eq!((p + bias[i % n]).to_bits(), f.to_bits(), "{isa} {batch} {layout} {m} {n} {k} at {i}");
                }
            }
        }
    }
}

fn generic<T: Copy + Default>(spec: &GemmSpec, a: &[T], b: &[T], dtype: DType, sum: DType) -> Vec<T> {
    let (mut a, mut b) = (a.to_vec(), b.to_vec());
    let mut c = vec![T::default(); spec.batches() * spec.m * spec.n];
    let kernel = GemmGeneric::new(spec.clone(), dtype, sum).unwrap();
    // SAFETY: dense operands of the spec's size.
    unsafe {
        let operands = [a.as_mut_ptr().cast(), b.as_mut_ptr().cast(), c.as_mut_ptr().cast()];
        run_kernel(&kernel, &Pool::new(2), &operands);
    }
    c
}

#[test]
fn generic_products_of_integers_wrap_and_of_floats_are_close() {
    let (m, n, k) = (5, 37, 300);
    let spec = GemmSpec::row_major(m, n, k);
    let (a, b) = (uniform(m * k, 1), uniform(k * n, 2));
    let ints = |v: &[f32]| -> Vec<i32> { v.iter().map(|x| (x * 1e9) as i32).collect() };
    let (ia, ib) = (ints(&a), ints(&b));
    let wide = |v: &[f32]| -> Vec<f64> { v.iter().map(|x| f64::from(*x)).collect() };
    let products = generic(&spec, &ia, &ib, DType::I32, DType::I32);
    let doubles = generic(&spec, &wide(&a), &wide(&b), DType::F64, DType::F64);
    let mixed = generic(&spec, &a, &b, DType::F32, DType::F64);
    for i in 0..m * n {
        let terms = |l: usize| (i / n * k + l, l * n + i % n);
        let int = (0..k).map(terms).fold(0i32, |s, (x, y)| s.wrapping_add(ia[x].wrapping_mul(ib[y])));
        let float: f64 = (0..k).map(terms).map(|(x, y)| f64::from(a[x]) * f64::from(b[y])).sum();
        assert_eq!(products[i], int);
        assert!((doubles[i] - float).abs() <= 1e-12);
        assert!((f64::from(mixed[i]) - float).abs() <= 1e-6 * float.abs().max(1e-3));
    }
    assert!(GemmGeneric::new(spec, DType::Bool, DType::Bool).is_none());
}
