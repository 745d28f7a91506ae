//! Attention in tiles: softmax(Q·Kᵀ·scale)·V and its derivative, without the weights ever being in memory. Dao, "FlashAttention-2:
//! faster attention with better parallelism and work partitioning".
//!
//! A block of queries meets one block of keys after the other. The largest score and the sum of exponentials of a row are kept up to
//! date, and what was summed before is rescaled (Milakov and Gimelshein, "Online normalizer calculation for softmax"). The derivative
//! forms the weights again from each row's logarithm of the sum of exponentials.
//!
//! Extents of blocks are pure functions of the shape, every sum within a block is one chain of multiply-adds, blocks are added in order:
//! the bits depend on neither the threads nor the vector width. The error is at most four times that of direct sums.

mod forward;
mod gradient;
mod real;
mod rows;

pub use forward::Attention;
pub use gradient::AttentionGradient;

use real::fetch_rows;

use crate::DType;
use crate::gemm::round64;
use crate::gemm::source::Strided;
use std::ops::Range;

/// What attention is computed of.
#[derive(Clone, PartialEq, Debug)]
pub struct AttentionSpec {
    /// `F32` or `F64`.
    pub dtype: DType,
    /// Extents of the dimensions that repeat it (samples, heads), outermost first.
    pub batch: Vec<usize>,
    /// Rows of Q.
    pub queries: usize,
    /// Rows of K and V.
    pub keys: usize,
    /// Columns of Q and K.
    pub features: usize,
    /// Columns of V.
    pub values: usize,
    /// Whether query t attends to keys 0 to t only.
    pub causal: bool,
    /// What Q·Kᵀ is multiplied by: positive.
    pub scale: f64,
}

/// Strides of an operand, in elements.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AttentionStrides {
    /// Of the dimensions that repeat it.
    pub batch: Vec<isize>,
    /// Between rows: of the mask, between queries.
    pub row: isize,
    /// Between columns: of the mask, between keys; of no meaning for the logarithms.
    pub col: isize,
}

/// Rows that are worked on together; where attention is causal, rows that share the keys which are left out. Two tiles of AVX2, one of
/// AVX-512.
const ROWS: usize = 12;
/// Queries of a block: with the keys, so many that weights, operands and gradients fit the second-level cache.
const QUERIES: usize = 12 * ROWS;
/// Keys of a block.
const KEYS: usize = 128;
/// Virtual lanes of sums and maxima along a row.
const LANES: usize = 16;
/// Columns of a panel of transposed keys or values.
const PANEL: usize = 32;
/// Multiply-adds of a task at least: 4 µs on one core.
const TASK: usize = 1 << 19;

/// How an extent is cut into blocks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Blocks {
    extent: usize,
    size: usize,
    count: usize,
}

impl Blocks {
    /// As even as multiples of a unit allow.
    fn even(extent: usize, most: usize, unit: usize) -> Blocks {
        let size = extent.div_ceil(extent.div_ceil(most).max(1)).max(1).next_multiple_of(unit);
        Blocks { extent, size, count: extent.div_ceil(size) }
    }

    /// First element and length of a block.
    fn at(self, block: usize) -> (usize, usize) {
        let first = block * self.size;
        (first, (self.extent - first).min(self.size))
    }
}

/// An operand with its strides.
#[derive(Clone, Debug)]
struct Matrix {
    batch: Strided,
    row: isize,
    col: isize,
}

impl Matrix {
    fn new(spec: &AttentionSpec, strides: &AttentionStrides) -> Matrix {
        let batch = Strided::new(spec.batch.iter().copied().zip(strides.batch.iter().copied()));
        Matrix { batch, row: strides.row, col: strides.col }
    }

    /// Asks for rows of a batch, of so many columns.
    fn fetch<T>(&self, base: *mut u8, batch: usize, rows: &Range<usize>, cols: usize) {
        fetch_rows(self.at::<T>(base, batch, rows.start), [self.row, self.col], rows.len(), cols);
    }

    /// A row of a batch.
    fn at<T>(&self, base: *mut u8, batch: usize, row: usize) -> *mut T {
        base.cast::<T>().wrapping_offset(self.batch.offset(batch) + row as isize * self.row)
    }
}

/// The parts of a spec that kernels look at.
#[derive(Clone, Debug)]
struct Shape {
    batches: usize,
    queries: Blocks,
    keys: Blocks,
    features: usize,
    values: usize,
    causal: bool,
    scale: f64,
}

impl Shape {
    fn new(spec: &AttentionSpec) -> Shape {
        Shape {
            batches: spec.batch.iter().product(),
            queries: Blocks::even(spec.queries, QUERIES, ROWS),
            keys: Blocks::even(spec.keys, KEYS, LANES),
            features: spec.features,
            values: spec.values,
            causal: spec.causal,
            scale: spec.scale,
        }
    }

    /// Distance between rows of scores: not a power of two, so that they do not share few sets of a cache.
    fn score_row(&self) -> usize {
        self.keys.size + LANES
    }

    /// Columns of a block of keys, of which so many exist, that any of the rows before `end` attends to, rounded up to whole lanes.
    fn columns(&self, end: usize, key0: usize, keys: usize) -> usize {
        let keys = if self.causal { keys.min(end.saturating_sub(key0)) } else { keys };
        keys.next_multiple_of(LANES)
    }

    /// Panels of rows of a block: (first, rows). Where attention is causal all but the last have [`ROWS`], else they are even.
    fn panels(&self, rows: usize) -> impl Iterator<Item = (usize, usize)> {
        let (count, causal) = (rows.div_ceil(ROWS), self.causal);
        let start = move |panel: usize| if causal { (panel * ROWS).min(rows) } else { panel * rows / count };
        (0..count).map(move |panel| (start(panel), start(panel + 1) - start(panel)))
    }

    /// The batch after one, if each is a single block of queries and one of keys.
    fn next(&self, batch: usize) -> Option<usize> {
        (self.queries.count == 1 && self.keys.count == 1 && batch + 1 < self.batches).then_some(batch + 1)
    }

    /// The keys that go with queries where both are a single block: as large a share.
    fn keys_of(&self, queries: &Range<usize>) -> Range<usize> {
        let key = |query: usize| query * self.keys.extent / self.queries.extent;
        key(queries.start)..key(queries.end)
    }
}

/// Pieces of private memory, one after the other.
struct Pieces<const N: usize>([usize; N]);

impl<const N: usize> Pieces<N> {
    /// Of so many elements each, of a size in bytes.
    fn new(elements: [usize; N], size: usize) -> Pieces<N> {
        Pieces(elements.map(|n| round64(n * size)))
    }

    fn bytes(&self) -> usize {
        self.0.iter().sum()
    }

    fn at<T>(&self, scratch: *mut u8) -> [*mut T; N] {
        let mut next = scratch;
        self.0.map(|bytes| {
            let at = next;
            next = next.wrapping_add(bytes);
            at.cast()
        })
    }
}
