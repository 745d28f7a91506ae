//! The derivative of a recurrent layer, from the last round to the first.

use super::{
    GROUP, SequenceCell, SequenceSpec, Stacked, at,
    cell::{Cell, GATES, Known, SAVED, STATES, of_cell},
    lanes::{Lanes, ZERO, load, store},
    side,
    step::{self, Step, Sums},
};
use crate::{
    Isa, Kernel,
    ahead::prefetch,
    gemm::{
        driver::{Driver, Memory, Mode},
        micro::Micro,
        plan::{Block, Extents},
        source::{Matrix, Runs, Strided},
    },
    simd::per_isa,
};
use std::{ops::Range, ptr, sync::Arc};

/// Rows up to which weights are read in place, in wide tiles.
const FEW: usize = 3;

/// The derivative of a [`Sequence`](super::Sequence).
///
/// Operands of each direction, one after the other's: weights `[gates · hidden, hidden]`; what was saved, gates
/// `[length, batch, gates · hidden]` and a value more `[length, batch, hidden]`, of a cell that saves nothing the states after each
/// step; of a GRU and an LSTM the hidden or cell state before each step `[length, batch, hidden]`; cotangents of the states after each
/// step: of hidden ones `[length, batch, hidden]`, lying as the spec says, and if there are any, dense, of an LSTM's cell states; then the
/// mask. Results of each direction: cotangents of the input's
/// sums `[length, batch, gates · hidden]`, of the recurrent sums of a GRU, of the first states `[batch, hidden]`. The input's may take the
/// place of saved gates that lie like them; otherwise no result overlaps another operand. Rows of gradients of gates are as far apart as
/// [the spec says](SequenceSpec::gates_row).
pub struct SequenceGradient {
    spec: SequenceSpec,
    /// How what was saved first lies, for each direction.
    saved: Vec<Stacked>,
    /// Whether there are cotangents of cell states.
    cells: bool,
    /// Of a round's gates' gradients with the weights.
    product: Driver,
    /// Of nothing: the last round comes after no other.
    nothing: Driver,
}

impl SequenceGradient {
    /// Plans the derivative of a sequence of a positive length whose saved gates (or states) lie so, with or without cotangents of cell
    /// states.
    pub fn new(spec: SequenceSpec, saved: Vec<Stacked>, cells: bool, isa: Isa) -> SequenceGradient {
        let hidden = spec.hidden;
        let x = spec.extents(hidden, spec.rows());
        let block = Block::of_groups(x, Micro::of(isa), 2 * GROUP);
        let block = if spec.batch <= FEW { Block { n: block.n.next_multiple_of(12 * GROUP), ..block } } else { block };
        let weights =
            |mode| side(Matrix { offset: 0, batch: Strided::default(), row: 1, runs: Runs::One(hidden as isize), isa }, mode);
        let epilogue = || Arc::new(Step { apply: of_cell!(spec.cell, finish, isa), gates: spec.cell.gates() });
        let row = spec.gates_row();
        let mode = if spec.batch <= FEW { Mode::Direct } else { Mode::Shared };
        let product = spec.product(x, row, block, weights(mode), epilogue(), isa);
        let nothing = spec.product(Extents { k: 0, ..x }, row, block, weights(Mode::Direct), epilogue(), isa);
        SequenceGradient { saved, cells: cells && spec.cell.states() == STATES, spec, product, nothing }
    }

    /// A direction's operands, its results, and the mask.
    fn operands<'a>(&self, direction: usize, operands: &'a [*mut u8]) -> (&'a [*mut u8], &'a [*mut u8], *const u8) {
        let (cell, directions) = (self.spec.cell, self.spec.directions.len());
        let inputs = 3 + if cell.saves() { 2 } else { 0 } + usize::from(self.cells);
        let first = inputs * directions + usize::from(self.spec.keep);
        let results = 1 + usize::from(cell.is_apart()) + cell.states();
        let keep = if self.spec.keep { operands[first - 1].cast_const() } else { ptr::null() };
        (&operands[direction * inputs..][..inputs], &operands[first + direction * results..][..results], keep)
    }

    /// The gates' gradients of a round that meet the weights.
    fn factor(&self, direction: usize, round: usize, results: &[*mut u8]) -> *mut f32 {
        let time = self.spec.time(1 - direction, round);
        let result = results[usize::from(self.spec.cell.is_apart())];
        at(result, (time * self.spec.batch * self.spec.gates_row()) as isize)
    }

    /// A round; the one after the last gives the cotangents of the first states.
    fn round(&self, direction: usize, round: usize, operands: &[*mut u8]) -> Round {
        let (spec, cell) = (&self.spec, self.spec.cell);
        let (inputs, results, keep) = self.operands(direction, operands);
        let carried = &results[1 + usize::from(cell.is_apart())..];
        let mut addresses = Round {
            saved: [ptr::null(); 2],
            saved_row: self.saved[direction].row,
            gates_row: spec.gates_row(),
            previous: ptr::null(),
            cotangents: [ptr::null(); STATES],
            cotangent_row: spec.directions[direction].row,
            keep: ptr::null(),
            input: ptr::null_mut(),
            recurrent: ptr::null_mut(),
            carried: [0, 1].map(|k| if k < cell.states() { at(carried[k], 0) } else { ptr::null_mut() }),
            begins: round == 0,
            direct: spec.keep || cell == SequenceCell::Gru,
            hidden: spec.hidden,
        };
        if round == spec.length {
            return addresses;
        }
        let time = spec.time(1 - direction, round);
        let stacked = |operand: *mut u8, row: usize| at(operand, (time * spec.batch * row) as isize);
        let cotangents = if cell.saves() { 4 } else { 2 };
        addresses.saved[0] = at(inputs[1], time as isize * self.saved[direction].time);
        if cell.saves() {
            addresses.saved[1] = stacked(inputs[2], spec.hidden);
            addresses.previous = stacked(inputs[3], spec.hidden);
        }
        addresses.cotangents[0] = at(inputs[cotangents], time as isize * spec.directions[direction].time);
        if self.cells {
            addresses.cotangents[1] = stacked(inputs[cotangents + 1], spec.hidden);
        }
        if spec.keep {
            addresses.keep = keep.wrapping_add(time * spec.batch);
        }
        addresses.input = stacked(results[0], spec.gates_row());
        if cell.is_apart() {
            addresses.recurrent = stacked(results[1], spec.gates_row());
        }
        addresses
    }
}

/// Addresses of what a round reads and writes, of row 0.
struct Round {
    saved: [*const f32; 2],
    saved_row: isize,
    /// Distance of the rows of gradients.
    gates_row: usize,
    previous: *const f32,
    cotangents: [*const f32; STATES],
    cotangent_row: isize,
    keep: *const u8,
    /// Null in the round after the last.
    input: *mut f32,
    recurrent: *mut f32,
    /// What reaches the states before past the product; in the end the cotangents of the first states.
    carried: [*mut f32; STATES],
    /// Nothing is carried yet.
    begins: bool,
    /// Hidden states reach the ones before past the product.
    direct: bool,
    hidden: usize,
}

impl step::Round for Round {
    fn fetch(&self, rows: Range<usize>, cols: Range<usize>, gates: usize) {
        if self.input.is_null() {
            return;
        }
        for (row, unit) in rows.flat_map(|row| cols.clone().step_by(GROUP).map(move |unit| (row, unit))) {
            let gate =
                |g: usize| self.saved[0].wrapping_offset(row as isize * self.saved_row).wrapping_add(g * self.hidden + unit);
            (0..gates).for_each(|g| prefetch(gate(g)));
            prefetch(self.cotangents[0].wrapping_offset(row as isize * self.cotangent_row).wrapping_add(unit));
            if !self.previous.is_null() {
                prefetch(self.previous.wrapping_add(row * self.hidden + unit));
                prefetch(self.saved[1].wrapping_add(row * self.hidden + unit));
            }
        }
    }
}

per_isa! {
    fn finish [C: Cell] (round: &Round, sums: Sums) = finish_body
}

/// Makes the gradients of groups of units.
///
/// # Safety
/// The round's addresses are valid, the sums those of whole groups of units.
#[inline(always)]
unsafe fn finish_body<C: Cell, const FMA: bool>(round: &Round, sums: Sums) {
    for row in sums.rows[0]..sums.rows[1] {
        for unit in (sums.cols[0]..sums.cols[1]).step_by(GROUP) {
            let count = (sums.cols[1] - unit).min(GROUP);
            let from = sums.at.wrapping_add((row - sums.rows[0]) * sums.ld + unit - sums.cols[0]);
            // SAFETY: as the caller vouches.
            unsafe {
                match (round.input.is_null(), count == GROUP) {
                    (true, _) => end(round, from, row * round.hidden + unit, count),
                    (false, true) => group::<C>(round, from, row, unit, GROUP),
                    (false, false) => group::<C>(round, from, row, unit, count),
                }
            }
        }
    }
}

/// Cotangents of the hidden states that reach the sums of a round, but for those from outside.
///
/// # Safety
/// As [`finish_body`].
#[inline(always)]
unsafe fn total(round: &Round, sums: *const f32, place: usize, count: usize) -> Lanes {
    // SAFETY: as the caller vouches.
    unsafe {
        let mut total = load(sums, count);
        if round.direct && !round.begins {
            let direct = load(round.carried[0].add(place), count);
            total.iter_mut().zip(direct).for_each(|(total, direct)| *total += direct);
        }
        total
    }
}

/// # Safety
/// As [`finish_body`].
#[inline(always)]
unsafe fn end(round: &Round, sums: *const f32, place: usize, count: usize) {
    // SAFETY: as the caller vouches; these units' results are this task's alone.
    unsafe { store(&total(round, sums, place, count), round.carried[0].add(place), count) };
}

/// # Safety
/// As [`finish_body`].
#[inline(always)]
unsafe fn group<C: Cell>(round: &Round, sums: *const f32, row: usize, unit: usize, count: usize) {
    let hidden = round.hidden;
    let place = row * hidden + unit;
    let (mut saved, mut previous, mut cotangents) = ([ZERO; SAVED], ZERO, [ZERO; STATES]);
    // SAFETY: as the caller vouches.
    let kept = unsafe {
        for (g, lanes) in saved.iter_mut().enumerate().take(C::GATES) {
            *lanes = load(round.saved[0].offset(row as isize * round.saved_row).add(g * hidden + unit), count);
        }
        if C::SAVED > 0 {
            saved[C::GATES] = load(round.saved[1].add(place), count);
            previous = load(round.previous.add(place), count);
        }
        cotangents[0] = total(round, sums, place, count);
        let outer = load(round.cotangents[0].offset(row as isize * round.cotangent_row).add(unit), count);
        cotangents[0].iter_mut().zip(outer).for_each(|(sum, outer)| *sum += outer);
        if C::STATES > 1 {
            let outer = if round.cotangents[1].is_null() { ZERO } else { load(round.cotangents[1].add(place), count) };
            let carried = if round.begins { ZERO } else { load(round.carried[1].add(place), count) };
            cotangents[1] = outer;
            cotangents[1].iter_mut().zip(carried).for_each(|(sum, carried)| *sum += carried);
        }
        round.keep.is_null() || *round.keep.add(row) != 0
    };
    let (mut input, mut recurrent, mut states) = ([ZERO; GATES], [ZERO; GATES], [ZERO; STATES]);
    let used = if kept { cotangents } else { [ZERO; STATES] };
    for j in 0..GROUP {
        let lane = |lanes: &Lanes| lanes[j];
        let known = Known { saved: saved.each_ref().map(lane), previous: previous[j], cotangents: used.each_ref().map(lane) };
        let given = C::derive(known);
        (0..C::GATES).for_each(|g| input[g][j] = given.input[g]);
        (0..C::GATES).for_each(|g| recurrent[g][j] = given.recurrent[g]);
        (0..C::STATES).for_each(|k| states[k][j] = given.states[k]);
    }
    // SAFETY: as the caller vouches; these units' results are this task's alone.
    unsafe {
        for g in 0..C::GATES {
            let to = row * round.gates_row + g * hidden + unit;
            store(&input[g], round.input.add(to), count);
            if C::APART {
                store(&recurrent[g], round.recurrent.add(to), count);
            }
        }
        let passed = if kept { states } else { cotangents };
        if round.direct {
            store(&passed[0], round.carried[0].add(place), count);
        }
        if C::STATES > 1 {
            store(&passed[1], round.carried[1].add(place), count);
        }
    }
}

impl Kernel for SequenceGradient {
    fn stages(&self) -> usize {
        2 + self.spec.length
    }

    fn tasks(&self, stage: usize) -> usize {
        let tasks = match stage {
            0 => self.product.tasks(0),
            1 => self.nothing.tasks(1),
            _ => self.product.tasks(1),
        };
        self.spec.directions.len() * tasks
    }

    fn rounds(&self) -> usize {
        self.spec.length
    }

    fn workspace(&self) -> usize {
        self.spec.directions.len() * self.product.workspace()
    }

    fn scratch(&self) -> usize {
        self.product.scratch().max(self.nothing.scratch())
    }

    unsafe fn run(&self, stage: usize, task: usize, operands: &[*mut u8], workspace: *mut u8, scratch: *mut u8) {
        let directions = self.spec.directions.len();
        let (direction, task) = (task % directions, task / directions);
        let workspace = workspace.wrapping_add(direction * self.product.workspace());
        let (inputs, results, _) = self.operands(direction, operands);
        let memory = |operands| Memory { operands, workspace, scratch };
        // SAFETY: as the caller vouches; the operands are those the drivers and their epilogue were planned for.
        unsafe {
            let Some(round) = stage.checked_sub(1) else {
                return self.product.run(0, task, memory(&[ptr::null_mut(), inputs[0]]));
            };
            let (driver, factor) = match round.checked_sub(1) {
                None => (&self.nothing, results[0].cast()),
                Some(later) => (&self.product, self.factor(direction, later, results)),
            };
            let round = self.round(direction, round, operands);
            driver.run(1, task, memory(&[factor.cast(), inputs[0], (&raw const round).cast_mut().cast()]));
        }
    }
}
