//! How a product is cut: pure functions of shape and instruction set, never of threads, caches or time.

use super::KC;
use super::micro::Micro;

/// Multiply-adds of a task that lasts 20 to 50 µs on one core.
const TASK: usize = 1 << 21;
/// Fewer multiply-adds than this, 4 µs on one core, run as one task: barriers would cost more than they win.
pub(crate) const SMALL: usize = 1 << 19;
/// Parts of the sum over k at most: enough for 64 cores.
const MAX_SPLITS: usize = 64;
/// Chunks of a part at least: shorter ones cost more in combining than they win.
const SPLIT_CHUNKS: usize = 4;
/// Elements of the output block that `splits` reckons with.
const BLOCK: usize = 128 * 128;

/// Rows of a block at most that an epilogue finishes by groups of columns.
const GROUP_ROWS: usize = 84;

/// Multiply-adds from which on blocks of packed operands are large.
const PACKED: usize = 1 << 26;
/// Rows that go into one block of packed operands.
const ALL_ROWS: usize = 256;

/// Rows and columns from which on an operand does not fit into the second-level cache.
const LARGE: usize = 768;

/// Extents of a batched product.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extents {
    pub batch: usize,
    pub m: usize,
    pub n: usize,
    pub k: usize,
    /// How often it runs with the same right operand and other left ones.
    pub runs: usize,
    /// In how many parts sums are formed, where that is given.
    pub splits: Option<usize>,
}

impl Extents {
    pub fn multiply_adds(self) -> usize {
        self.batch * self.m * self.n * self.k
    }

    pub fn outputs(self) -> usize {
        self.batch * self.m * self.n
    }

    /// Chunks of the sum; an empty sum has one empty chunk, so that zeros get written.
    pub fn chunks(self) -> usize {
        self.k.div_ceil(KC).max(1)
    }

    /// Parts of the sum over k that are formed independently and added in a fixed tree.
    ///
    /// The bits of the result depend on it, so it looks neither at the instruction set nor at how the outputs are arranged.
    pub fn splits(self) -> usize {
        if let Some(splits) = self.splits {
            return splits;
        }
        let blocks = self.outputs().div_ceil(BLOCK).max(1);
        let wanted = (self.multiply_adds() / TASK).clamp(1, MAX_SPLITS);
        (wanted / blocks).min(self.chunks() / SPLIT_CHUNKS).max(1)
    }
}

/// Which sides of the product are packed anew for every block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Private {
    /// None.
    None,
    /// Rows of A: blocks are wide, so that each is used often.
    A,
    /// Columns of B: blocks are tall.
    B,
    /// Both: blocks are large.
    Both,
}

/// Rows and columns of an output block.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Block {
    pub m: usize,
    pub n: usize,
}

impl Block {
    /// Blocks for an epilogue that needs `group` columns together: of a product that runs again and again, a stage each time.
    pub fn of_groups(x: Extents, micro: &Micro, group: usize) -> Block {
        let even = |extent: usize, most: usize| extent.div_ceil(extent.div_ceil(most).max(1)).max(1);
        let area = (x.multiply_adds() / 8).clamp(SMALL / 2, TASK / 2) / x.k.max(1);
        let panel = even(x.m, micro.rows);
        let m = panel * even(x.m.div_ceil(panel), (GROUP_ROWS / panel).max(1));
        Block { m, n: group * ((area / m + group / 2) / group).clamp(1, (256 / group).max(1)) }
    }

    /// Whether blocks of packed operands are the large ones of [`packed`](Self::packed): there is enough to do for many of them.
    pub fn are_large(x: Extents, micro: &Micro) -> bool {
        x.m > 2 * micro.rows && x.multiply_adds() >= PACKED
    }

    /// Blocks of packed operands: as many columns as the second-level cache has room for. All rows, if they are few: then each column is
    /// needed by one block alone, which packs it.
    pub fn packed(x: Extents, micro: &Micro) -> Block {
        if x.m <= ALL_ROWS {
            return Block { m: x.m, n: round(even(x.n, 128), micro.cols()) };
        }
        let n = round(even(x.n, 256), micro.cols());
        Block { m: even(x.m, (area(x) / n).clamp(6 * micro.rows, 252)), n }
    }

    pub fn choose(x: Extents, micro: &Micro, private: Private) -> Block {
        let area = area(x);
        let (rows, cols) = (micro.rows, micro.cols());
        match private {
            // The speed of memory decides, not that of multiply-adds.
            Private::None if x.m <= 3 => Block { m: x.m, n: round(even(x.n, 384), 192) },
            // What comes from the third-level cache or memory is least for square blocks.
            Private::None if x.m.min(x.n) >= LARGE => {
                let panel = even(x.m, rows);
                let n = round(even(x.n, ((area as f64).sqrt() as usize).clamp(64, 256)), cols);
                Block { m: panel * even(x.m.div_ceil(panel), (area / n / panel).clamp(2, 18)), n }
            }
            Private::A | Private::None => {
                let mut n = round(even(x.n, 256), cols);
                while area / n < 4 * rows && n > 128 {
                    n = round(n / 2, cols);
                }
                Block { m: even(x.m, (area / n).clamp(28, 126)), n }
            }
            Private::B => {
                let mut m = even(x.m, 126);
                let mut n = round(even(x.n, (area / m.max(1)).clamp(64, 256)), cols);
                if area / n > 2 * m {
                    m = even(x.m, 252);
                    n = round(even(x.n, (area / m.max(1)).clamp(64, 256)), cols);
                }
                Block { m, n }
            }
            Private::Both => {
                let n = round(even(x.n, 256), cols);
                Block { m: even(x.m, (area / n).clamp(112, 168)), n }
            }
        }
    }
}

/// Outputs of a task.
fn area(x: Extents) -> usize {
    let all = x.multiply_adds();
    let task = (all / 8).min(3 * TASK / 4).max(all / 64).clamp(SMALL / 2, 32 * TASK);
    task / x.k.div_ceil(x.splits()).max(1)
}

fn round(value: usize, unit: usize) -> usize {
    value.div_ceil(unit).max(1) * unit
}

/// The largest part of as many as even as possible, none above `most`.
fn even(extent: usize, most: usize) -> usize {
    extent.div_ceil(extent.div_ceil(most).max(1))
}
