//! How the operands of a plain product are read: where they lie, or packed.
//!
//! What is faster depends on the caches behind the second level. Where those answer quickly, as on processors of AMD, reading in place
//! wins 5 to 20 %; where a core gets a quarter of that from them, as on Intel's servers, packed operands win 5 to 80 %, and more where
//! another thread shares the core. No bit of a result depends on it.

use super::driver::Mode;
use super::micro::Micro;
use super::plan::Extents;
use super::{GemmSpec, PACK};
use crate::isa::is_intel;

/// What pays on a processor.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Reading {
    /// Reading operands where they lie, if that is possible.
    InPlace,
    /// Packing all that is used more than a few times.
    Packed,
}

impl Reading {
    /// What pays on this processor.
    pub fn here() -> Reading {
        if is_intel() { Reading::Packed } else { Reading::InPlace }
    }

    /// Multiply-adds in the time of packing an element of B, where so many rows use it.
    pub(super) fn packing(self, spec: &GemmSpec, rows: usize) -> usize {
        match (self, spec.b_col) {
            _ if spec.n == 1 => 0,
            (Reading::InPlace, 1) if spec.b_row % ALIASED == 0 && rows > FEW_ROWS_ALIASED => PACK_ALIASED,
            (Reading::Packed, 1) if !stays(spec, rows) => COPY,
            (_, 1) => 0,
            _ => PACK,
        }
    }

    /// The same of A.
    pub(super) fn packing_left(self, spec: &GemmSpec) -> usize {
        match self {
            Reading::Packed if spec.n >= MANY_COLUMNS => COPY,
            _ => 0,
        }
    }

    /// How A and B are read; so many rows, of all runs, use B.
    pub(super) fn modes(self, spec: &GemmSpec, x: Extents, rows: usize, micro: &Micro) -> (Mode, Mode) {
        match self {
            Reading::InPlace => in_place(spec, x, rows, micro),
            Reading::Packed => packed(spec, x, rows),
        }
    }
}

/// Multiply-adds in the time of packing an element whose columns are adjacent.
const COPY: usize = 3;
/// The same where its terms are [`ALIASED`]: what is copied comes from memory, and the copy goes there.
const PACK_ALIASED: usize = 24;

/// Rows or terms a multiple of so many elements apart, 4 KiB, share so few sets of the caches that they evict each other.
const ALIASED: isize = 1024;

/// Rows up to which B is read in place rather than packed for all blocks of rows.
const FEW_ROWS: usize = 512;

/// The same where B's terms are [`ALIASED`]: even the second-level cache does not keep a panel of them.
const FEW_ROWS_ALIASED: usize = 128;

/// Elements of A up to which a packed copy of it has a place in the workspace.
const SHARED_A: usize = 1 << 22;

fn in_place(spec: &GemmSpec, x: Extents, rows: usize, micro: &Micro) -> (Mode, Mode) {
    let few = match spec {
        _ if spec.b_row % ALIASED == 0 => FEW_ROWS_ALIASED,
        // A product of two activations, a weight's gradient: B is as large as A, and comes from memory.
        GemmSpec { a_row: 1, .. } => usize::MAX,
        _ => FEW_ROWS,
    };
    let b = if spec.b_col == 1 && rows <= few { Mode::Direct } else { Mode::Shared };
    // Packing A once costs less where there are many columns, and at once where a short tile takes little of each cache line.
    let aliased = spec.a_row % ALIASED == 0 || spec.a_col % ALIASED == 0;
    let a = if aliased && x.n >= 1024 && x.m >= 1024 && x.batch * x.m * x.k <= SHARED_A {
        Mode::Shared
    } else if spec.a_row == 1 && spec.a_col % ALIASED == 0 && micro.rows < 8 && x.n > 4 * micro.cols() {
        Mode::Private
    } else {
        Mode::Direct
    };
    (a, b)
}

/// Rows up to which packing B takes longer than what it saves, wherever it lies.
const FEW_ROWS_ANYWHERE: usize = 64;

/// Terms a multiple of so many elements apart, 2 KiB, meet in few sets of a cache that two threads share.
const CROWDED: usize = 512;

/// Elements of such terms, gaps included, that the second-level cache keeps all the same.
const SMALL_RIGHT: usize = 1 << 17;

/// Columns from which on a packed panel of A is used often enough.
const MANY_COLUMNS: usize = 192;

/// A packed operand comes from memory in order, stays where it is put, and a tile takes fewer instructions for it; packing costs a
/// fifth to half a cycle an element.
fn packed(spec: &GemmSpec, x: Extents, rows: usize) -> (Mode, Mode) {
    let a = match x.batch * x.m * x.k {
        _ if x.n < MANY_COLUMNS => Mode::Direct,
        ..=SHARED_A => Mode::Shared,
        _ => Mode::Private,
    };
    let b = if spec.b_col == 1 && stays(spec, rows) { Mode::Direct } else { Mode::Shared };
    (a, b)
}

/// Whether the caches keep B where it lies for so many rows.
fn stays(spec: &GemmSpec, rows: usize) -> bool {
    let apart = spec.b_row.unsigned_abs();
    let kept = !apart.is_multiple_of(CROWDED) || spec.k * apart <= SMALL_RIGHT;
    rows <= FEW_ROWS_ANYWHERE || kept && rows <= FEW_ROWS
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Isa;
    use crate::gemm::Gemm;
    use crate::tile::testing::run_kernel;

    /// AB, AB' and A'B of row-major matrices.
    fn forms([m, n, k]: [usize; 3]) -> [GemmSpec; 3] {
        let plain = GemmSpec::row_major(m, n, k);
        let right = GemmSpec { b_row: 1, b_col: k as isize, ..plain.clone() };
        let left = GemmSpec { a_row: 1, a_col: m as isize, ..plain.clone() };
        [plain, right, left]
    }

    fn result(spec: &GemmSpec, isa: Isa, reading: Reading) -> Vec<u32> {
        let numbers = |n: usize, step: usize| (0..n).map(|i| (i * step % 1013) as f32 / 337.0 - 1.5).collect::<Vec<f32>>();
        let (a, b) = (numbers(spec.m * spec.k, 7919), numbers(spec.k * spec.n, 104_729));
        let mut c = vec![f32::NAN; spec.m * spec.n];
        let operands = [a.as_ptr().cast_mut().cast(), b.as_ptr().cast_mut().cast(), c.as_mut_ptr().cast()];
        run_kernel(&Gemm::read(spec.clone(), None, isa, 1, reading), &operands, false);
        c.iter().map(|x| x.to_bits()).collect()
    }

    #[test]
    fn the_bits_do_not_depend_on_how_operands_are_read() {
        let small = [[1, 300, 40], [29, 193, 7], [130, 512, 300], [64, 512, 1030], [515, 37, 64], [260, 1024, 130]];
        // Enough to do for large blocks: of all rows, and of some.
        let large = [[200, 260, 1400], [300, 200, 2049]];
        for shape in small.into_iter().chain(large) {
            for spec in forms(shape) {
                for &isa in Isa::available() {
                    let [here, there] = [Reading::InPlace, Reading::Packed].map(|reading| result(&spec, isa, reading));
                    assert!(here == there, "{spec:?} on {isa}");
                }
            }
        }
    }

    #[test]
    fn large_operands_are_packed_where_caches_are_slow() {
        let mode = |spec: &GemmSpec, reading: Reading| {
            let x = Extents { batch: 1, m: spec.m, n: spec.n, k: spec.k, runs: 1, splits: None };
            reading.modes(spec, x, spec.m, Micro::of(Isa::detect()))
        };
        let [plain, _, left] = forms([256, 1024, 2048]);
        assert_eq!(mode(&plain, Reading::Packed), (Mode::Shared, Mode::Shared));
        assert_eq!(mode(&left, Reading::Packed), (Mode::Shared, Mode::Shared));
        let [huge, ..] = forms([100_000, 512, 784]);
        assert_eq!(mode(&huge, Reading::Packed), (Mode::Private, Mode::Shared));
        let [small, ..] = forms([128, 512, 784]);
        assert_eq!(mode(&small, Reading::Packed), (Mode::Shared, Mode::Shared));
        // Both sides are packed in either orientation: turning such a product only costs.
        let turned = left.transposed();
        let costs = [&left, &turned].map(|spec| spec.cost(Reading::Packed, Micro::of(Isa::detect()), spec.store()));
        assert!(costs[0] < costs[1], "{costs:?}");
        let [few, ..] = forms([32, 128, 512]);
        assert_eq!(mode(&few, Reading::Packed), (Mode::Direct, Mode::Direct));
        assert_eq!(mode(&few, Reading::InPlace), (Mode::Direct, Mode::Direct));
    }
}
