//! softmax(Q·Kᵀ·scale)·V and the logarithms of the sums of exponentials.

use super::real::{Columns, Product, Real, fetch_rows, gather, transpose};
use super::rows::{Known, Mask, Scores, finish, weigh};
use super::{AttentionSpec, AttentionStrides, Matrix, Pieces, ROWS, Shape, TASK};
use crate::{DType, Isa, Kernel};

/// Attention. Operands: Q, K, V, the mask if there is one (a byte each, 0 where a key takes no part), then the result and the
/// logarithms of each row's sum of exponentials, row-major. Outputs overlap nothing.
///
/// A query to which no key takes part gives zeros, and the logarithm 0.
pub struct Attention {
    shape: Shape,
    q: Matrix,
    k: Matrix,
    v: Matrix,
    mask: Option<Matrix>,
    out: Matrix,
    isa: Isa,
    scratch: usize,
    /// Blocks of queries per task.
    group: usize,
    run: unsafe fn(&Attention, usize, &[*mut u8], *mut u8),
}

/// What blocks of queries share.
#[derive(Clone, Copy)]
struct Block<T> {
    batch: usize,
    /// Its first query, and how many.
    query0: usize,
    queries: usize,
    known: Known<T>,
    keys: *mut T,
    values: *mut T,
    scores: *mut T,
}

impl Attention {
    /// Plans attention. `None` for element types other than `F32` and `F64`, or if the result's columns are not adjacent.
    pub fn new(
        spec: &AttentionSpec,
        [q, k, v]: [&AttentionStrides; 3],
        mask: Option<&AttentionStrides>,
        out: &AttentionStrides,
        isa: Isa,
    ) -> Option<Attention> {
        let run: unsafe fn(&Attention, usize, &[*mut u8], *mut u8) = match spec.dtype {
            DType::F32 => block::<f32>,
            DType::F64 => block::<f64>,
            _ => return None,
        };
        let shape = Shape::new(spec);
        if out.col != 1 && spec.values > 1 {
            return None;
        }
        let matrix = |strides: &AttentionStrides| Matrix::new(spec, strides);
        let work = shape.queries.size * spec.keys * (spec.features + spec.values);
        let scratch = pieces(&shape, spec.dtype.size()).bytes();
        let [q, k, v, out] = [q, k, v, out].map(matrix);
        let group = (TASK / work.max(1)).max(1);
        Some(Attention { shape, q, k, v, mask: mask.map(matrix), out, isa, scratch, group, run })
    }

    fn blocks(&self) -> usize {
        self.shape.batches * self.shape.queries.count
    }
}

/// Transposed keys, values, scores, what is known of rows.
fn pieces(shape: &Shape, size: usize) -> Pieces<5> {
    let (keys, queries) = (shape.keys.size, shape.queries.size);
    let panels = keys.next_multiple_of(super::PANEL);
    Pieces::new([panels * shape.features, keys * value_row(shape), ROWS * shape.score_row(), queries, queries], size)
}

/// Distance between rows of gathered values.
fn value_row(shape: &Shape) -> usize {
    shape.values.next_multiple_of(super::PANEL)
}

/// One block of queries.
///
/// # Safety
/// As [`Kernel::run`].
unsafe fn block<T: Real>(a: &Attention, number: usize, operands: &[*mut u8], scratch: *mut u8) {
    let shape = &a.shape;
    // The blocks of causal attention that have most to do come first.
    let (batch, at) = (number % shape.batches, shape.queries.count - 1 - number / shape.batches);
    let (query0, queries) = shape.queries.at(at);
    let [keys, values, scores, largest, sum] = pieces(shape, size_of::<T>()).at(scratch);
    let first = 3 + usize::from(a.mask.is_some());
    let out = a.out.at::<T>(operands[first], batch, query0);
    let known = Known { largest, sum, out, out_row: a.out.row, values: shape.values, first: true };
    let block = Block { batch, query0, queries, known, keys, values, scores };
    // SAFETY: the pieces are this task's own, the rows of the result this block's.
    unsafe {
        for r in 0..queries {
            (*largest.add(r), *sum.add(r)) = (T::NEG_INFINITY, T::ZERO);
            if shape.keys.count == 0 {
                std::slice::from_raw_parts_mut(out.offset(r as isize * a.out.row), shape.values).fill(T::ZERO);
            }
        }
        for key_block in 0..shape.keys.count {
            let (key0, _) = shape.keys.at(key_block);
            if !shape.causal || key0 < query0 + queries {
                meet(a, &block, key_block, operands);
            }
        }
        let log = operands[first + 1].cast::<T>().add(batch * shape.queries.extent + query0);
        finish::<T>(a.isa)(&known, queries, log);
    }
}

/// A block of queries meets one of keys.
///
/// # Safety
/// As [`Kernel::run`].
unsafe fn meet<T: Real>(a: &Attention, block: &Block<T>, key_block: usize, operands: &[*mut u8]) {
    let shape = &a.shape;
    let Block { batch, query0, queries, known, .. } = *block;
    let (key0, keys) = shape.keys.at(key_block);
    let (d, e) = (shape.features, shape.values);
    // SAFETY: the pieces have room for a block of keys.
    unsafe {
        fetch_rows(a.q.at::<T>(operands[0], batch, query0), [a.q.row, a.q.col], queries, d);
        transpose(a.k.at(operands[1], batch, key0), [a.k.row, a.k.col], keys, d, block.keys, a.isa);
        gather(a.v.at(operands[2], batch, key0), [a.v.row, a.v.col], keys, e, block.values, value_row(shape));
    }
    for (row, rows) in shape.panels(queries) {
        let cols = shape.columns(query0 + row + rows, key0, keys);
        if cols == 0 {
            continue;
        }
        let scores = Scores {
            at: block.scores,
            row: shape.score_row(),
            rows,
            cols,
            keys,
            causal: shape.causal.then_some((query0 + row + 1) as isize - key0 as isize),
            mask: a.mask.as_ref().map(|mask| mask_at(mask, operands[3], batch, query0 + row, key0)),
            scale: T::of(shape.scale),
        };
        let known = Known { first: key_block == 0, ..known_from(&known, row) };
        let products = Product {
            rows,
            cols,
            terms: d,
            a: a.q.at::<T>(operands[0], batch, query0 + row),
            a_row: a.q.row,
            a_term: a.q.col,
            b: Columns::transposed(block.keys, d),
            c: block.scores,
            c_row: shape.score_row() as isize,
            add: false,
        };
        let mix = Product {
            rows,
            cols: e,
            terms: cols.min(keys),
            a: block.scores,
            a_row: shape.score_row() as isize,
            a_term: 1,
            b: Columns::rows(block.values, value_row(shape)),
            c: known.out,
            c_row: known.out_row,
            add: key_block > 0,
        };
        // SAFETY: the rows lie within the block, the columns within the keys' panels.
        unsafe {
            T::multiply(&products, a.isa);
            weigh::<T>(a.isa)(&scores, &known);
            T::multiply(&mix, a.isa);
        }
        if let Some(next) = shape.next(batch) {
            // While this batch is computed the next one comes from memory.
            let queries = row..row + rows;
            a.q.fetch::<T>(operands[0], next, &queries, d);
            a.k.fetch::<T>(operands[1], next, &shape.keys_of(&queries), d);
            a.v.fetch::<T>(operands[2], next, &shape.keys_of(&queries), e);
        }
    }
}

/// The mask from a query and a key on.
pub(super) fn mask_at(mask: &Matrix, base: *mut u8, batch: usize, query: usize, key: usize) -> Mask {
    let at = mask.at::<u8>(base, batch, query).wrapping_offset(key as isize * mask.col);
    Mask { at, query: mask.row, key: mask.col }
}

fn known_from<T: Real>(known: &Known<T>, row: usize) -> Known<T> {
    Known {
        largest: known.largest.wrapping_add(row),
        sum: known.sum.wrapping_add(row),
        out: known.out.wrapping_offset(row as isize * known.out_row),
        ..*known
    }
}

impl Kernel for Attention {
    fn tasks(&self, _stage: usize) -> usize {
        self.blocks().div_ceil(self.group)
    }

    fn scratch(&self) -> usize {
        self.scratch
    }

    unsafe fn run(&self, _stage: usize, task: usize, operands: &[*mut u8], _workspace: *mut u8, scratch: *mut u8) {
        for number in task * self.group..self.blocks().min((task + 1) * self.group) {
            // SAFETY: as the caller vouches.
            unsafe { (self.run)(self, number, operands, scratch) };
        }
    }
}
