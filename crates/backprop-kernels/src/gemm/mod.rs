//! Matrix products.
//!
//! Every output element is a sum over chunks of [`KC`] terms. A chunk is one sequential chain of fused multiply-adds that starts
//! at zero; chunks are added in order; where a sum is split over tasks, a pure function of the shape, the parts are added in a
//! fixed tree. So the bits depend on neither the threads nor the vector width.

pub(crate) mod driver;
mod epilogue;
pub(crate) mod finish;
pub(crate) mod generic;
pub(crate) mod micro;
#[cfg(target_arch = "x86_64")]
mod micro_x86;
pub(crate) mod pack;
pub(crate) mod parts;
pub(crate) mod plan;
pub(crate) mod source;

use std::sync::Arc;

use crate::{Isa, Kernel};
use driver::{Driver, Mode, Side};
pub use epilogue::Epilogue;
use finish::{Logical, Output};
pub use generic::GemmGeneric;
use micro::Micro;
use parts::Parts;
use plan::Extents;
use source::{Matrix, Runs, Strided};

/// Terms of one sequential chain.
pub const KC: usize = 256;

/// Rounds a size in bytes up to whole cache lines.
pub(crate) fn round64(bytes: usize) -> usize {
    bytes.next_multiple_of(64)
}

/// A batch dimension of a product; strides in elements, 0 where an operand does not have the dimension.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BatchDim {
    /// Size of the dimension.
    pub extent: usize,
    /// Stride of A.
    pub a: isize,
    /// Stride of B.
    pub b: isize,
    /// Stride of C.
    pub c: isize,
}

/// A batched product C[b, i, j] = Σ_l A[b, i, l] · B[b, l, j] with i < m, j < n, l < k; strides in elements.
///
/// Operand addresses are those of element [0, 0, 0]; strides may be negative. Batches, the outermost dimension first, are
/// numbered row-major for the [`Epilogue`].
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GemmSpec {
    /// Rows of A and C.
    pub m: usize,
    /// Columns of B and C.
    pub n: usize,
    /// Terms of each sum; zero gives zeros.
    pub k: usize,
    /// Stride of A between rows.
    pub a_row: isize,
    /// Stride of A between columns (terms).
    pub a_col: isize,
    /// Stride of B between rows (terms).
    pub b_row: isize,
    /// Stride of B between columns.
    pub b_col: isize,
    /// Stride of C between rows.
    pub c_row: isize,
    /// Stride of C between columns.
    pub c_col: isize,
    /// Batch dimensions, outermost first; none means one product.
    pub batch: Vec<BatchDim>,
}

impl GemmSpec {
    /// A product of contiguous row-major matrices.
    pub fn row_major(m: usize, n: usize, k: usize) -> GemmSpec {
        let (n_stride, k_stride) = (n as isize, k as isize);
        GemmSpec { m, n, k, a_row: k_stride, a_col: 1, b_row: n_stride, b_col: 1, c_row: n_stride, c_col: 1, batch: Vec::new() }
    }

    /// Number of products.
    pub fn batches(&self) -> usize {
        self.batch.iter().map(|d| d.extent).product()
    }

    /// The same product as Cᵀ = Bᵀ · Aᵀ.
    fn transposed(&self) -> GemmSpec {
        GemmSpec {
            m: self.n,
            n: self.m,
            k: self.k,
            a_row: self.b_col,
            a_col: self.b_row,
            b_row: self.a_col,
            b_col: self.a_row,
            c_row: self.c_col,
            c_col: self.c_row,
            batch: self.batch.iter().map(|d| BatchDim { extent: d.extent, a: d.b, b: d.a, c: d.c }).collect(),
        }
    }

    /// Batches that only continue the rows of A and C become rows.
    fn flattened(mut self) -> GemmSpec {
        while let Some(&BatchDim { extent, a, b: 0, c }) = self.batch.last() {
            let m = self.m as isize;
            if m != 1 && (a != m * self.a_row || c != m * self.c_row) {
                break;
            }
            if m == 1 {
                (self.a_row, self.c_row) = (a, c);
            }
            self.m *= extent;
            self.batch.pop();
        }
        self
    }
}

/// A batched f32 product. Operands: A, B, the epilogue's inputs, outputs.
///
/// Without an epilogue there is one output, C, which must overlap no other operand. With one, C's strides in the spec
/// are not used.
pub struct Gemm {
    parts: Parts,
}

impl Gemm {
    /// Plans a product.
    pub fn new(spec: GemmSpec, epilogue: Option<Arc<dyn Epilogue>>, isa: Isa) -> Gemm {
        let (spec, swapped) = if epilogue.is_some() {
            (spec, false)
        } else {
            let spec = spec.flattened();
            let swap = spec.c_row == 1 && (spec.c_col != 1 || spec.n == 1) && spec.m > 1;
            (if swap { spec.transposed() } else { spec }, swap)
        };
        let micro = Micro::of(isa);
        let x = Extents { batch: spec.batches(), m: spec.m, n: spec.n, k: spec.k };
        let strided = |pick: fn(&BatchDim) -> isize| Strided::new(spec.batch.iter().map(|d| (d.extent, pick(d))));
        let side = |batch: Strided, row: isize, term: isize, operand: usize, mode: Mode| Side {
            source: Box::new(Matrix { offset: 0, batch, row, runs: Runs::One(term), simd: isa != Isa::Portable }),
            operand,
            mode,
        };
        let (a_mode, b_mode) = modes(&spec, x, micro);
        let a = side(strided(|d| d.a), spec.a_row, spec.a_col, usize::from(swapped), a_mode);
        let b = side(strided(|d| d.b), spec.b_col, spec.b_row, usize::from(!swapped), b_mode);
        let out = Output {
            offset: 0,
            batch: strided(|d| d.c),
            row: Strided::new([(spec.m, spec.c_row)]),
            col: Strided::new([(spec.n, spec.c_col)]),
            logical: Logical::default(),
        };
        let driver = Driver::new(x, micro, a, b, out, epilogue);
        Gemm { parts: Parts::new(vec![Box::new(driver)]) }
    }
}

/// Products of so few multiply-adds are not worth packing A.
const TINY: usize = 1 << 16;

/// Elements of A up to which it is packed once for all blocks of columns rather than by each of them.
const SHARED_A: usize = 1 << 20;

/// How the operands of a plain product are read.
fn modes(spec: &GemmSpec, x: Extents, micro: &Micro) -> (Mode, Mode) {
    // Rows a multiple of 2 KiB apart share so few sets of the first-level cache that they evict each other.
    let aliased = spec.a_row % 512 == 0 && x.k > 32 && x.m > 8;
    let few_cols = x.n <= micro.cols() || x.m * x.n * x.k <= TINY;
    let b = if spec.b_col == 1 && x.m <= 2 * micro.rows { Mode::Direct } else { Mode::Shared };
    // Adjacent rows are packed at the speed of a copy; only a transposition is worth a place in the workspace.
    let transposes = spec.a_row != 1 && b == Mode::Shared;
    let a = if few_cols && !aliased {
        Mode::Direct
    } else if transposes && x.batch * x.m * x.k <= SHARED_A {
        Mode::Shared
    } else {
        Mode::Private
    };
    (a, b)
}

impl Kernel for Gemm {
    fn stages(&self) -> usize {
        self.parts.stages()
    }

    fn tasks(&self, stage: usize) -> usize {
        self.parts.tasks(stage)
    }

    fn workspace(&self) -> usize {
        self.parts.workspace()
    }

    fn scratch(&self) -> usize {
        self.parts.scratch()
    }

    unsafe fn run(&self, stage: usize, task: usize, operands: &[*mut u8], workspace: *mut u8, scratch: *mut u8) {
        // SAFETY: as the caller vouches.
        unsafe { self.parts.run(stage, task, operands, workspace, scratch) }
    }
}
