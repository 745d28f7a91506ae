//! Register tiles that read the rows of A where they lie.
//!
//! As in a product, every element of a tile is one sequential chain of multiply-adds that starts at zero, so that no width
//! changes a bit.

use crate::Isa;

/// Adjacent terms of every row.
#[derive(Clone, Copy, Default)]
pub(super) struct Run {
    /// The first of them in B.
    pub first: usize,
    pub terms: usize,
}

/// Arguments of a tile whose rows lie anywhere and whose terms come in runs of adjacent ones.
pub(super) struct Gathered<'a> {
    pub runs: &'a [Run],
    /// Where each row starts in the first run.
    pub rows: *const *const f32,
    /// Addresses from one run to the next.
    pub rows_step: usize,
    /// Whole vectors of columns, term after term.
    pub b: *const f32,
    pub to: Target,
    /// Nobody has the output in a cache yet.
    pub fresh: bool,
}

/// One term of a tile whose rows are adjacent.
#[derive(Clone, Copy)]
pub(super) struct Term {
    pub a: *const f32,
    /// Offset in elements of the columns.
    pub b: isize,
}

/// Arguments of a tile whose rows are adjacent and whose terms lie anywhere.
pub(super) struct Scattered<'a> {
    pub terms: &'a [Term],
    /// Offset of the first row from the address of a term.
    pub row: isize,
    /// Whole vectors of columns.
    pub b: *const f32,
    pub to: Target,
    /// From a term's rows, and from its columns, to those that a later tile reads and that are fetched meanwhile.
    pub ahead: (isize, isize),
}

/// Where a tile goes; columns are adjacent.
#[derive(Clone, Copy)]
pub(super) struct Target {
    /// Valid columns; more than (NV − 1) vectors.
    pub cols: usize,
    pub c: *mut f32,
    /// Distance between rows in elements.
    pub c_row: isize,
    /// Adds to C instead of overwriting it.
    pub add: bool,
}

pub(super) type GatheredFn = unsafe fn(&Gathered<'_>);
pub(super) type ScatteredFn = unsafe fn(&Scattered<'_>);

/// The register tiles of one instruction set.
pub(super) struct Tiles {
    /// Most rows of a gathered tile.
    pub rows: usize,
    /// Most rows of a scattered tile.
    pub adjacent: usize,
    /// Elements of a vector; a tile has one or two.
    pub lanes: usize,
    /// `[vectors − 1][rows − 1]`.
    pub gathered: [&'static [GatheredFn]; 2],
    pub scattered: [&'static [ScatteredFn]; 2],
}

/// The table of one `tile::<rows, vectors>` function.
macro_rules! table {
    ($tile:ident; $($rows:literal)*) => {
        [&[$($tile::<$rows, 1>),*], &[$($tile::<$rows, 2>),*]]
    };
}
pub(super) use table;

const LANES: usize = 4;

static PORTABLE: Tiles =
    Tiles { rows: 4, adjacent: 4, lanes: LANES, gathered: table!(gathered; 1 2 3 4), scattered: table!(scattered; 1 2 3 4) };

impl Tiles {
    pub fn of(isa: Isa) -> &'static Tiles {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => &super::micro_x86::AVX512,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => &super::micro_x86::AVX2,
            _ => &PORTABLE,
        }
    }

    pub fn isa(&self) -> Isa {
        match self.lanes {
            16 => Isa::Avx512,
            8 => Isa::Avx2,
            _ => Isa::Portable,
        }
    }

    /// Most columns of a tile.
    pub fn cols(&self) -> usize {
        2 * self.lanes
    }

    /// (first column, columns, width) of the panels of so many columns.
    pub fn panels(&self, cols: usize) -> impl Iterator<Item = (usize, usize, usize)> {
        let (full, lanes) = (self.cols(), self.lanes);
        (0..cols.div_ceil(full)).map(move |i| {
            let count = (cols - i * full).min(full);
            (i * full, count, count.next_multiple_of(lanes))
        })
    }

    /// (first row, rows) of the tiles of so many rows: as even as possible, at most `most` rows each.
    pub fn bands(rows: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
        let bands = rows.div_ceil(most);
        let (base, longer) = (rows / bands.max(1), rows % bands.max(1));
        (0..bands).map(move |i| (i * base + i.min(longer), base + usize::from(i < longer)))
    }
}

type Sums<const MR: usize> = [[f32; 2 * LANES]; MR];

/// # Safety
/// `t` describes memory valid for MR rows, the terms of its runs and its columns.
unsafe fn gathered<const MR: usize, const NV: usize>(t: &Gathered<'_>) {
    let width = NV * LANES;
    let mut sums: Sums<MR> = [[0f32; 2 * LANES]; MR];
    let mut rows = t.rows;
    for run in t.runs {
        let mut b = t.b.wrapping_add(run.first * width);
        for term in 0..run.terms {
            for (i, sums) in sums.iter_mut().enumerate() {
                // SAFETY: as the caller vouches.
                let a = unsafe { *(*rows.add(i)).add(term) };
                for (j, sum) in sums[..width].iter_mut().enumerate() {
                    // SAFETY: as the caller vouches.
                    *sum += a * unsafe { *b.add(j) };
                }
            }
            b = b.wrapping_add(width);
        }
        rows = rows.wrapping_add(t.rows_step);
    }
    // SAFETY: as the caller vouches.
    unsafe { store(&sums, width, t.to) };
}

/// # Safety
/// `t` describes memory valid for MR rows and its columns at every term.
unsafe fn scattered<const MR: usize, const NV: usize>(t: &Scattered<'_>) {
    let width = NV * LANES;
    let mut sums: Sums<MR> = [[0f32; 2 * LANES]; MR];
    for term in t.terms {
        for (i, sums) in sums.iter_mut().enumerate() {
            // SAFETY: as the caller vouches.
            let a = unsafe { *term.a.wrapping_offset(t.row + i as isize) };
            for (j, sum) in sums[..width].iter_mut().enumerate() {
                // SAFETY: as the caller vouches.
                *sum += a * unsafe { *t.b.offset(term.b).add(j) };
            }
        }
    }
    // SAFETY: as the caller vouches.
    unsafe { store(&sums, width, t.to) };
}

/// # Safety
/// `to` is valid for its columns of MR rows.
unsafe fn store<const MR: usize>(sums: &Sums<MR>, width: usize, to: Target) {
    for (i, sums) in sums.iter().enumerate() {
        for (j, sum) in sums[..width].iter().enumerate().take(to.cols) {
            // SAFETY: as the caller vouches.
            unsafe {
                let c = to.c.offset(i as isize * to.c_row).add(j);
                *c = if to.add { *c + sum } else { *sum };
            }
        }
    }
}
