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
#[cfg(target_arch = "x86_64")]
mod pack_x86;
pub(crate) mod parts;
pub(crate) mod plan;
mod reading;
pub(crate) mod source;
mod transposed;

use std::sync::Arc;

use crate::{Isa, Kernel};
use driver::{Driver, Mode, Side};
pub use epilogue::Epilogue;
use finish::{Logical, Output};
pub use generic::GemmGeneric;
use micro::Micro;
use parts::Parts;
use plan::{Block, Extents};
use reading::Reading;
use source::{Matrix, Runs, Strided};
use transposed::Transposed;

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

    /// What the product costs in this orientation, in multiply-adds. The bits are the same in both.
    fn cost(&self, reading: Reading, micro: &Micro, store: usize) -> usize {
        // Tiles of one vector load as often as they multiply: they take the time of two.
        let cols = if self.n > 1 { self.n.next_multiple_of(micro.cols()) } else { micro.lanes };
        let compute = self.m * cols * self.k;
        let pack = reading.packing(self, self.m) * self.n + reading.packing_left(self) * self.m;
        compute + pack * self.k + store * self.m * self.n
    }

    /// Multiply-adds that an element of C costs which is not stored by whole vectors.
    fn store(&self) -> usize {
        if self.c_col == 1 || self.n == 1 { 0 } else { STORE }
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
        Gemm::repeated(spec, epilogue, isa, 1)
    }

    /// Plans a product that will run so often with the same B and other A's: see [`Kernel::shared_stages`].
    pub fn repeated(spec: GemmSpec, epilogue: Option<Arc<dyn Epilogue>>, isa: Isa, runs: usize) -> Gemm {
        Gemm::read(spec, epilogue, isa, runs, Reading::here())
    }

    fn read(spec: GemmSpec, epilogue: Option<Arc<dyn Epilogue>>, isa: Isa, runs: usize, reading: Reading) -> Gemm {
        let plain = epilogue.is_none();
        let spec = if plain { spec.flattened() } else { spec };
        let micro = Micro::of(isa);
        let turned = spec.transposed();
        let stores = if plain { [spec.store(), turned.store()] } else { [0, STORE] };
        let swapped = turned.cost(reading, micro, stores[1]) < spec.cost(reading, micro, stores[0]);
        let spec = if swapped { turned } else { spec };
        let x = Extents { batch: spec.batches(), m: spec.m, n: spec.n, k: spec.k, runs, splits: None };
        let strided = |pick: fn(&BatchDim) -> isize| Strided::new(spec.batch.iter().map(|d| (d.extent, pick(d))));
        let side = |batch: Strided, row: isize, term: isize, operand: usize, mode: Mode| Side {
            source: Box::new(Matrix { offset: 0, batch, row, runs: Runs::One(term), isa }),
            operand,
            mode,
        };
        let rows = if swapped { x.m } else { x.m * runs };
        let (a_mode, b_mode) = reading.modes(&spec, x, rows, micro);
        let a = side(strided(|d| d.a), spec.a_row, spec.a_col, usize::from(swapped), a_mode);
        let b = side(strided(|d| d.b), spec.b_col, spec.b_row, usize::from(!swapped), b_mode);
        let out = Output {
            offset: 0,
            batch: strided(|d| d.c),
            row: Strided::new([(spec.m, spec.c_row)]),
            col: Strided::new([(spec.n, spec.c_col)]),
            logical: Logical::default(),
        };
        let packed = reading == Reading::Packed && a_mode != Mode::Direct && Block::are_large(x, micro);
        let driver = |[a, b]: [Side; 2], out: Output, epilogue: Option<Arc<dyn Epilogue>>| match packed {
            true => Driver::cut(x, micro, Block::packed(x, micro), [a, b], out, epilogue),
            false => Driver::new(x, micro, a, b, out, epilogue),
        };
        let driver = match epilogue {
            Some(inner) if swapped => {
                let epilogue = Transposed { inner, simd: micro.simd() };
                driver([a, b], out, Some(Arc::new(epilogue))).by_blocks()
            }
            _ => driver([a, b], out, epilogue),
        };
        Gemm { parts: Parts::new(vec![Box::new(driver)]) }
    }
}

/// Multiply-adds in the time of packing an element of B whose columns are not adjacent: a fifth of a cycle.
const PACK: usize = 6;
/// Multiply-adds in the time of turning an element of C: half a cycle.
const STORE: usize = 16;

impl Kernel for Gemm {
    fn stages(&self) -> usize {
        self.parts.stages()
    }

    fn tasks(&self, stage: usize) -> usize {
        self.parts.tasks(stage)
    }

    fn shared_stages(&self) -> usize {
        self.parts.shared_stages()
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
