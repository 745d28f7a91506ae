//! Register tiles: the innermost loops of every product.
//!
//! A tile is `MR` rows by `NV` vectors; each of its elements is one sequential chain of multiply-adds over k that starts at
//! zero. Every width gives the same chain, which is what makes the results independent of the instruction set.

use crate::{
    Isa,
    ahead::{LINE, prefetch},
};

/// Arguments of a register tile; strides in elements.
#[derive(Clone, Copy)]
pub(crate) struct Tile {
    /// Terms of the chain.
    pub k: usize,
    pub a: *const f32,
    /// Distance between rows of A; ignored by the packed variants, whose rows are adjacent.
    pub a_row: isize,
    /// Distance between terms of A.
    pub a_step: isize,
    /// Columns are adjacent.
    pub b: *const f32,
    pub b_step: isize,
    /// Valid columns; more than (NV − 1) vectors.
    pub cols: usize,
    /// Columns are adjacent.
    pub c: *mut f32,
    pub c_row: isize,
    /// Adds to C instead of overwriting it.
    pub add: bool,
    /// What is asked for beside.
    pub ahead: Lane,
}

/// Two adjacent cache lines for each of some steps, to be brought to the second-level cache while a tile is computed, at each of its
/// terms one step. A hint: nothing is read, whatever the address.
#[derive(Clone, Copy)]
pub(crate) struct Lane {
    pub at: *const f32,
    /// Elements from step to step.
    pub step: isize,
    pub steps: usize,
}

impl Lane {
    /// Elements of two cache lines.
    pub const WIDTH: usize = 2 * LINE / size_of::<f32>();

    /// Nothing to ask for.
    pub const NONE: Lane = Lane { at: std::ptr::null(), step: 0, steps: 0 };

    /// Asks for the lines of the next step.
    #[inline(always)]
    pub fn advance(&mut self) {
        if self.steps > 0 {
            self.steps -= 1;
            prefetch(self.at);
            prefetch(self.at.wrapping_add(Self::WIDTH / 2));
            self.at = self.at.wrapping_offset(self.step);
        }
    }

    /// Asks for the lines of the next four steps.
    #[inline(always)]
    pub fn advance_four(&mut self) {
        if self.steps > 0 {
            (0..4).for_each(|_| self.advance());
        }
    }
}

pub(crate) type TileFn = unsafe fn(&Tile);

/// The register tiles of one instruction set.
pub(crate) struct Micro {
    /// Most rows of a tile.
    pub rows: usize,
    /// Elements of a vector; a tile has one or two.
    pub lanes: usize,
    /// `tiles[packed][vectors − 1][rows − 1]`.
    tiles: [[&'static [TileFn]; 2]; 2],
    /// `wide[rows − 1]`: (vectors, tile) for rows too few to hide the latency of the multiply-add in two vectors.
    wide: &'static [(usize, TileFn)],
}

impl Micro {
    pub fn of(isa: Isa) -> &'static Micro {
        match isa {
            #[cfg(target_arch = "x86_64")]
            Isa::Avx512 => &super::micro_x86::AVX512,
            #[cfg(target_arch = "x86_64")]
            Isa::Avx2 => &super::micro_x86::AVX2,
            _ => &PORTABLE,
        }
    }

    /// Whether the processor has at least AVX2.
    pub fn simd(&self) -> bool {
        self.lanes > PORTABLE_LANES
    }

    /// Most columns of a tile.
    pub fn cols(&self) -> usize {
        2 * self.lanes
    }

    /// Columns and tile for so few rows that it should be wide; all its columns must be valid.
    pub fn wide(&self, rows: usize) -> Option<(usize, TileFn)> {
        self.wide.get(rows - 1).map(|&(vectors, tile)| (vectors * self.lanes, tile))
    }

    /// The tile of `rows` by `vectors`, for adjacent (packed) rows of A or for any stride.
    pub fn tile(&self, packed: bool, vectors: usize, rows: usize) -> TileFn {
        self.tiles[packed as usize][vectors - 1][rows - 1]
    }
}

/// The tables of one `tile::<rows, vectors, packed>` function.
macro_rules! tile_tables {
    ($tile:ident; $($rows:literal)*) => {
        [
            [&[$($tile::<$rows, 1, false>),*], &[$($tile::<$rows, 2, false>),*]],
            [&[$($tile::<$rows, 1, true>),*], &[$($tile::<$rows, 2, true>),*]],
        ]
    };
}
pub(crate) use tile_tables;

const PORTABLE_LANES: usize = 4;

static PORTABLE: Micro = Micro { rows: 4, lanes: PORTABLE_LANES, tiles: tile_tables!(portable; 1 2 3 4), wide: &[] };

impl Micro {
    #[cfg(target_arch = "x86_64")]
    pub const fn new(rows: usize, lanes: usize, tiles: [[&'static [TileFn]; 2]; 2], wide: &'static [(usize, TileFn)]) -> Micro {
        Micro { rows, lanes, tiles, wide }
    }
}

/// # Safety
/// `t` describes memory valid for MR rows, `t.k` terms and `t.cols` columns.
unsafe fn portable<const MR: usize, const NV: usize, const PACKED: bool>(t: &Tile) {
    let width = NV * PORTABLE_LANES;
    let mut acc = [[0f32; 2 * PORTABLE_LANES]; MR];
    for step in 0..t.k as isize {
        let mut b = [0f32; 2 * PORTABLE_LANES];
        // SAFETY: the caller vouches for `cols` elements at every step of B, and for MR rows at every step of A.
        unsafe {
            let from = t.b.offset(step * t.b_step);
            for (j, b) in b[..width].iter_mut().enumerate().take(t.cols) {
                *b = *from.add(j);
            }
            for (i, acc) in acc.iter_mut().enumerate() {
                let row = if PACKED { i as isize } else { i as isize * t.a_row };
                let a = *t.a.offset(step * t.a_step + row);
                for (acc, b) in acc[..width].iter_mut().zip(b) {
                    *acc += a * b;
                }
            }
        }
    }
    for (i, acc) in acc.iter().enumerate() {
        for (j, value) in acc[..width].iter().enumerate().take(t.cols) {
            // SAFETY: row i < MR and column j < cols of C, valid by the caller's word.
            unsafe {
                let c = t.c.offset(i as isize * t.c_row).add(j);
                *c = if t.add { *c + value } else { *value };
            }
        }
    }
}
