//! The derivative of attention.

use super::forward::mask_at;
use super::real::{Columns, Product, Real, fetch_rows, gather, transpose};
use super::rows::{Scores, Slopes, dots, slope};
use super::{AttentionSpec, AttentionStrides, Blocks, Matrix, PANEL, Pieces, ROWS, Shape, TASK};
use crate::{DType, Isa, Kernel};
use std::ops::Range;

/// The derivative of [`Attention`](super::Attention). Operands: Q, K, V, the mask if there is one, the result, the logarithms (row-major),
/// the result's gradient, then the gradients of Q, K and V, which overlap nothing.
///
/// Keys and queries are cut into as many groups each. In stage s group g of the keys meets group g + s of the queries, so that no two
/// tasks of a stage add to the same rows, and each row's sums are in one order.
pub struct AttentionGradient {
    shape: Shape,
    inputs: [Matrix; 3],
    mask: Option<Matrix>,
    result: Matrix,
    cotangent: Matrix,
    outputs: [Matrix; 3],
    isa: Isa,
    groups: usize,
    /// Pairs of groups per task.
    per_task: usize,
    scratch: usize,
    run: unsafe fn(&AttentionGradient, usize, usize, &[*mut u8], *mut u8),
}

/// Tasks of a stage at least, if there are enough blocks: for so many cores.
const CORES: usize = 64;

/// Private memory of a task.
#[derive(Clone, Copy)]
struct Room<T> {
    keys: *mut T,
    keys_turned: *mut T,
    values_turned: *mut T,
    queries: *mut T,
    cotangents: *mut T,
    weights: *mut T,
    slopes: *mut T,
    means: *mut T,
}

/// A block of keys, or of queries, of a batch.
#[derive(Clone, Copy)]
struct Part {
    first: usize,
    count: usize,
}

impl AttentionGradient {
    /// Plans the derivative. `None` for element types other than `F32` and `F64`, or if a gradient's columns are not adjacent.
    pub fn new(
        spec: &AttentionSpec,
        inputs: [&AttentionStrides; 3],
        mask: Option<&AttentionStrides>,
        [result, cotangent]: [&AttentionStrides; 2],
        outputs: [&AttentionStrides; 3],
        isa: Isa,
    ) -> Option<AttentionGradient> {
        let run: unsafe fn(&AttentionGradient, usize, usize, &[*mut u8], *mut u8) = match spec.dtype {
            DType::F32 => pair::<f32>,
            DType::F64 => pair::<f64>,
            _ => return None,
        };
        let columns = [spec.features, spec.features, spec.values];
        if outputs.iter().zip(columns).any(|(out, cols)| out.col != 1 && cols > 1) {
            return None;
        }
        let shape = Shape::new(spec);
        let matrix = |strides: &AttentionStrides| Matrix::new(spec, strides);
        let most = (shape.queries.count.min(shape.keys.count) / 2).max(1);
        let groups = CORES.div_ceil(shape.batches.max(1)).min(most);
        let work = spec.queries.div_ceil(groups) * spec.keys.div_ceil(groups) * (3 * spec.features + 2 * spec.values);
        Some(AttentionGradient {
            scratch: pieces(&shape, spec.dtype.size()).bytes(),
            shape,
            inputs: inputs.map(matrix),
            mask: mask.map(matrix),
            result: matrix(result),
            cotangent: matrix(cotangent),
            outputs: outputs.map(matrix),
            isa,
            groups,
            per_task: (TASK / work.max(1)).max(1),
            run,
        })
    }

    /// Pairs of groups that meet in a stage.
    fn pairs(&self) -> usize {
        self.shape.batches * self.groups
    }

    /// The blocks of a group.
    fn group(&self, blocks: Blocks, group: usize) -> Range<usize> {
        group * blocks.count / self.groups..(group + 1) * blocks.count / self.groups
    }
}

/// Distance between rows of gathered features, and of values.
fn rows_of(shape: &Shape) -> [usize; 2] {
    [shape.features, shape.values].map(|n| n.next_multiple_of(PANEL))
}

fn pieces(shape: &Shape, size: usize) -> Pieces<8> {
    let ([d, e], keys, queries) = (rows_of(shape), shape.keys.size, shape.queries.size);
    let panels = keys.next_multiple_of(PANEL);
    let scores = queries * shape.score_row();
    let turned = [panels * shape.features, panels * shape.values];
    Pieces::new([keys * d, turned[0], turned[1], queries * d, queries * e, scores, scores, queries], size)
}

/// A group of keys meets one of queries.
///
/// # Safety
/// As [`Kernel::run`].
unsafe fn pair<T: Real>(a: &AttentionGradient, stage: usize, number: usize, operands: &[*mut u8], scratch: *mut u8) {
    let shape = &a.shape;
    let (batch, group) = (number / a.groups, number % a.groups);
    let of_keys = a.group(shape.keys, group);
    let of_queries = a.group(shape.queries, (group + stage) % a.groups);
    let part = |blocks: Blocks, block: usize| {
        let (first, count) = blocks.at(block);
        Part { first, count }
    };
    let [keys, keys_turned, values_turned, queries, cotangents, weights, slopes, means] =
        pieces(shape, size_of::<T>()).at::<T>(scratch);
    let room = Room { keys, keys_turned, values_turned, queries, cotangents, weights, slopes, means };
    let gradients = &operands[operands.len() - 3..];
    // With one group each, blocks meet in order, and the first to meet one writes to it; causal ones need not meet all of it.
    let [of_q, of_k] = [shape.queries, shape.keys];
    let whole = !shape.causal || of_q.count == 1 && of_k.count == 1 && of_k.extent <= of_q.extent;
    let writes = a.groups == 1 && whole && of_q.count > 0 && of_k.count > 0;
    if stage == 0 && !writes {
        let clear = |which: usize, blocks: Blocks, range: Range<usize>, cols: usize| {
            let rows = (range.start * blocks.size).min(blocks.extent)..(range.end * blocks.size).min(blocks.extent);
            for row in rows {
                // SAFETY: the row belongs to this pair alone.
                unsafe { std::slice::from_raw_parts_mut(a.outputs[which].at::<T>(gradients[which], batch, row), cols) }
                    .fill(T::ZERO);
            }
        };
        clear(0, shape.queries, of_queries.clone(), shape.features);
        clear(1, shape.keys, of_keys.clone(), shape.features);
        clear(2, shape.keys, of_keys.clone(), shape.values);
    }
    for keys in of_keys.map(|block| part(shape.keys, block)) {
        let meets = |queries: &Part| !shape.causal || keys.first < queries.first + queries.count;
        let mut fetched = false;
        for queries in of_queries.clone().map(|block| part(shape.queries, block)).filter(meets) {
            // SAFETY: the pieces have room for a block of each.
            unsafe {
                if !std::mem::replace(&mut fetched, true) {
                    fetch_keys(a, batch, keys, operands, &room);
                }
                fetch_queries(a, batch, queries, operands, &room);
                weigh(a, batch, [queries, keys], !writes || keys.first > 0, operands, &room);
                add_to_keys(a, batch, [queries, keys], !writes || queries.first > 0, gradients, &room);
            }
        }
    }
}

/// Gathers a block of keys and values.
///
/// # Safety
/// As [`Kernel::run`].
unsafe fn fetch_keys<T: Real>(a: &AttentionGradient, batch: usize, keys: Part, operands: &[*mut u8], room: &Room<T>) {
    let (shape, [_, k, v]) = (&a.shape, &a.inputs);
    let from = k.at::<T>(operands[1], batch, keys.first);
    let values = v.at::<T>(operands[2], batch, keys.first);
    // SAFETY: the pieces have room for a block.
    unsafe {
        gather(from, [k.row, k.col], keys.count, shape.features, room.keys, rows_of(shape)[0]);
        transpose(from, [k.row, k.col], keys.count, shape.features, room.keys_turned, a.isa);
        transpose(values, [v.row, v.col], keys.count, shape.values, room.values_turned, a.isa);
    }
}

/// Gathers a block of queries and of the result's gradient, and sums up what it gives with the result.
///
/// # Safety
/// As [`Kernel::run`].
unsafe fn fetch_queries<T: Real>(a: &AttentionGradient, batch: usize, queries: Part, operands: &[*mut u8], room: &Room<T>) {
    let (shape, q, g, y) = (&a.shape, &a.inputs[0], &a.cotangent, &a.result);
    let ([d, e], Part { first, count }) = (rows_of(shape), queries);
    let at = 3 + usize::from(a.mask.is_some());
    let (result, cotangent) = (y.at::<T>(operands[at], batch, first), g.at::<T>(operands[at + 2], batch, first));
    // SAFETY: the pieces have room for a block.
    unsafe {
        fetch_rows(result, [y.row, y.col], count, shape.values);
        gather(q.at::<T>(operands[0], batch, first), [q.row, q.col], count, shape.features, room.queries, d);
        gather(cotangent, [g.row, g.col], count, shape.values, room.cotangents, e);
        dots::<T>(a.isa)([count, shape.values], room.cotangents, e, result, [y.row, y.col], room.means);
    }
}

/// Forms the weights of a block and the gradients of its scores, and writes the gradient of the queries or adds to it.
///
/// # Safety
/// As [`Kernel::run`].
unsafe fn weigh<T: Real>(
    a: &AttentionGradient,
    batch: usize,
    [queries, keys]: [Part; 2],
    add: bool,
    operands: &[*mut u8],
    room: &Room<T>,
) {
    let (shape, ld, [d, e]) = (&a.shape, a.shape.score_row(), rows_of(&a.shape));
    let at = 3 + usize::from(a.mask.is_some());
    let log = operands[at + 1].cast::<T>().wrapping_add(batch * shape.queries.extent + queries.first);
    let to = a.outputs[0].at::<T>(operands[operands.len() - 3], batch, queries.first);
    for (row, rows) in shape.panels(queries.count) {
        let query = queries.first + row;
        let cols = shape.columns(query + rows, keys.first, keys.count);
        if cols == 0 {
            continue;
        }
        let (weights, slopes) = (room.weights.wrapping_add(row * ld), room.slopes.wrapping_add(row * ld));
        let product = |from: *mut T, from_row: usize, terms: usize, turned: *mut T, c: *mut T| Product {
            rows,
            cols,
            terms,
            a: from.wrapping_add(row * from_row),
            a_row: from_row as isize,
            a_term: 1,
            b: Columns::transposed(turned, terms),
            c,
            c_row: ld as isize,
            add: false,
        };
        let scores = Scores {
            at: weights,
            row: ld,
            rows,
            cols,
            keys: keys.count,
            causal: shape.causal.then_some((query + 1) as isize - keys.first as isize),
            mask: a.mask.as_ref().map(|mask| mask_at(mask, operands[3], batch, query, keys.first)),
            scale: T::of(shape.scale),
        };
        let slope_rows = Slopes { at: slopes, log: log.wrapping_add(row), mean: room.means.wrapping_add(row) };
        let to_queries = Product {
            rows,
            cols: shape.features,
            terms: cols.min(keys.count),
            a: slopes,
            a_row: ld as isize,
            a_term: 1,
            b: Columns::rows(room.keys, d),
            c: to.wrapping_offset(row as isize * a.outputs[0].row),
            c_row: a.outputs[0].row,
            add,
        };
        // SAFETY: the rows lie within the block, the columns within the keys' panels.
        unsafe {
            T::multiply(&product(room.queries, d, shape.features, room.keys_turned, weights), a.isa);
            T::multiply(&product(room.cotangents, e, shape.values, room.values_turned, slopes), a.isa);
            slope::<T>(a.isa)(&scores, &slope_rows);
            T::multiply(&to_queries, a.isa);
        }
        if let Some(next) = shape.next(batch) {
            ahead::<T>(a, next, &(row..row + rows), operands);
        }
    }
}

/// While a batch is computed the next one comes from memory: its queries, and as large a share of its keys.
fn ahead<T>(a: &AttentionGradient, batch: usize, queries: &Range<usize>, operands: &[*mut u8]) {
    let (shape, keys, at) = (&a.shape, a.shape.keys_of(queries), 3 + usize::from(a.mask.is_some()));
    a.inputs[0].fetch::<T>(operands[0], batch, queries, shape.features);
    a.inputs[1].fetch::<T>(operands[1], batch, &keys, shape.features);
    a.inputs[2].fetch::<T>(operands[2], batch, &keys, shape.values);
    a.result.fetch::<T>(operands[at], batch, queries, shape.values);
    a.cotangent.fetch::<T>(operands[at + 2], batch, queries, shape.values);
}

/// Writes the gradients of a block of keys and values, or adds to them.
///
/// # Safety
/// As [`Kernel::run`].
unsafe fn add_to_keys<T: Real>(
    a: &AttentionGradient,
    batch: usize,
    [queries, keys]: [Part; 2],
    add: bool,
    gradients: &[*mut u8],
    room: &Room<T>,
) {
    let (shape, ld, [d, e]) = (&a.shape, a.shape.score_row(), rows_of(&a.shape));
    let of_keys = (&a.outputs[1], gradients[1], room.slopes, room.queries, d, shape.features);
    let of_values = (&a.outputs[2], gradients[2], room.weights, room.cotangents, e, shape.values);
    // Where attention is causal the later keys of a block meet fewer queries: whole panels of rows are left out.
    let step = if shape.causal { ROWS } else { keys.count };
    for (out, base, from, rows, row, cols) in [of_keys, of_values] {
        for key in (0..keys.count).step_by(step) {
            let before = if shape.causal { (keys.first + key).saturating_sub(queries.first) } else { 0 };
            if before >= queries.count {
                break;
            }
            let first = before - before % ROWS;
            let product = Product {
                rows: (keys.count - key).min(step),
                cols,
                terms: queries.count - first,
                a: from.wrapping_add(first * ld + key),
                a_row: 1,
                a_term: ld as isize,
                b: Columns::rows(rows.wrapping_add(first * row), row),
                c: out.at::<T>(base, batch, keys.first + key),
                c_row: out.row,
                add,
            };
            // SAFETY: the rows are this pair's own in this stage; what is read of weights was written, or is zero beyond a row's keys.
            unsafe { T::multiply(&product, a.isa) };
        }
    }
}

impl Kernel for AttentionGradient {
    fn stages(&self) -> usize {
        self.groups
    }

    fn tasks(&self, _stage: usize) -> usize {
        self.pairs().div_ceil(self.per_task)
    }

    fn scratch(&self) -> usize {
        self.scratch
    }

    unsafe fn run(&self, stage: usize, task: usize, operands: &[*mut u8], _workspace: *mut u8, scratch: *mut u8) {
        for number in task * self.per_task..self.pairs().min((task + 1) * self.per_task) {
            // SAFETY: as the caller vouches.
            unsafe { (self.run)(self, stage, number, operands, scratch) };
        }
    }
}
