//! All time steps of a recurrent layer.

use super::{
    GROUP, SequenceSpec, at,
    cell::{Cell, GATES, SAVED, STATES, of_cell},
    lanes::{Lanes, ZERO, load, store},
    side,
    source::Interleaved,
    step::{self, Step, Sums},
};
use crate::{
    Isa, Kernel,
    ahead::prefetch,
    gemm::{
        driver::{Driver, Memory, Mode},
        micro::Micro,
        plan::Block,
    },
    simd::per_isa,
};
use std::{ops::Range, ptr, sync::Arc};

/// A recurrent layer over a sequence in `f32`.
///
/// Operands of each direction, one after the other's: the input's sums `[length, batch, gates · hidden]`, weights
/// `[gates · hidden, hidden]`, first states `[batch, hidden]`, a GRU's recurrent biases if it has any; then the mask. Results of each
/// direction: each state before and after every step, `[length + 1, batch, hidden]` in the order of time (so a direction from the
/// first to the last time step begins with the first state, the other ends with it); then, if wanted, what the backward pass needs:
/// gates `[length, batch, gates · hidden]`, their rows as far apart as [the spec says](SequenceSpec::gates_row), and one value more
/// `[length, batch, hidden]`. No result overlaps another operand.
pub struct Sequence {
    spec: SequenceSpec,
    /// Whether the backward pass will want what it needs.
    saves: bool,
    driver: Driver,
}

impl Sequence {
    /// Plans a sequence of a positive length.
    pub fn new(spec: SequenceSpec, saves: bool, isa: Isa) -> Sequence {
        let (gates, hidden) = (spec.cell.gates(), spec.hidden);
        let x = spec.extents(spec.rows(), hidden);
        let block = Block::of_groups(x, Micro::of(isa), GROUP * if gates == 3 { 6 } else { 4 });
        let b = side(Interleaved { gates, hidden, isa }, Mode::Shared);
        let epilogue = Arc::new(Step { apply: of_cell!(spec.cell, finish, isa), gates });
        let driver = spec.product(x, hidden, block, b, epilogue, isa);
        Sequence { saves: saves && spec.cell.saves(), spec, driver }
    }

    fn inputs(&self) -> usize {
        2 + self.spec.cell.states() + usize::from(self.spec.bias)
    }

    /// A direction's operands, its results, and the mask.
    fn operands<'a>(&self, direction: usize, operands: &'a [*mut u8]) -> (&'a [*mut u8], &'a [*mut u8], *const u8) {
        let (inputs, directions) = (self.inputs(), self.spec.directions.len());
        let first = inputs * directions + usize::from(self.spec.keep);
        let results = self.spec.cell.states() + if self.saves { 2 } else { 0 };
        let keep = if self.spec.keep { operands[first - 1].cast_const() } else { ptr::null() };
        (&operands[direction * inputs..][..inputs], &operands[first + direction * results..][..results], keep)
    }

    /// Where a direction's states before and after a round begin, in a result.
    fn slots(&self, direction: usize, round: usize) -> [isize; 2] {
        let (time, state) = (self.spec.time(direction, round), self.spec.state());
        [time + direction, time + 1 - direction].map(|slot| (slot * state) as isize)
    }

    /// Puts the first states where the first round looks for them.
    ///
    /// # Safety
    /// As [`Kernel::run`].
    unsafe fn begin(&self, direction: usize, operands: &[*mut u8]) {
        let (inputs, results, _) = self.operands(direction, operands);
        let [before, _] = self.slots(direction, 0);
        for k in 0..self.spec.cell.states() {
            // SAFETY: both are a whole state.
            unsafe { ptr::copy_nonoverlapping(at(inputs[2 + k], 0).cast_const(), at(results[k], before), self.spec.state()) };
        }
    }

    fn round(&self, direction: usize, round: usize, operands: &[*mut u8]) -> Round {
        let (spec, cell) = (&self.spec, self.spec.cell);
        let (inputs, results, keep) = self.operands(direction, operands);
        let (time, [before, after]) = (spec.time(direction, round), self.slots(direction, round));
        let input = spec.directions[direction];
        let saved = |k: usize| {
            let row = if k == 0 { spec.gates_row() } else { spec.hidden };
            at(results[cell.states() + k], (time * spec.batch * row) as isize)
        };
        let state = |k: usize, slot: isize| if k < cell.states() { at(results[k], slot) } else { ptr::null_mut() };
        Round {
            input: at(inputs[0], time as isize * input.time),
            input_row: input.row,
            bias: if spec.bias { at(inputs[2 + cell.states()], 0) } else { ptr::null() },
            keep: if spec.keep { keep.wrapping_add(time * spec.batch) } else { ptr::null() },
            before: [0, 1].map(|k| state(k, before).cast_const()),
            after: [0, 1].map(|k| state(k, after)),
            saved: if self.saves { [0, 1].map(saved) } else { [ptr::null_mut(); 2] },
            hidden: spec.hidden,
            gates_row: spec.gates_row(),
        }
    }
}

/// Addresses of what a round reads and writes, of row 0.
struct Round {
    input: *const f32,
    input_row: isize,
    bias: *const f32,
    keep: *const u8,
    before: [*const f32; STATES],
    after: [*mut f32; STATES],
    saved: [*mut f32; 2],
    hidden: usize,
    gates_row: usize,
}

impl step::Round for Round {
    fn fetch(&self, rows: Range<usize>, cols: Range<usize>, gates: usize) {
        for col in cols.step_by(GROUP) {
            let unit = col / (gates * GROUP) * GROUP;
            let gate = (col - unit * gates) / GROUP;
            for row in rows.clone() {
                let place = self.input.wrapping_offset(row as isize * self.input_row);
                prefetch(place.wrapping_add(gate * self.hidden + unit));
                if gate == 1 && !self.before[1].is_null() {
                    prefetch(self.before[1].wrapping_add(row * self.hidden + unit));
                }
            }
        }
    }
}

per_isa! {
    fn finish [C: Cell] (round: &Round, sums: Sums) = finish_body
}

/// Makes the states of whole groups of units.
///
/// # Safety
/// The round's addresses are valid, the sums hold whole groups.
#[inline(always)]
unsafe fn finish_body<C: Cell, const FMA: bool>(round: &Round, sums: Sums) {
    for row in sums.rows[0]..sums.rows[1] {
        let kept = round.keep.is_null() || {
            // SAFETY: the mask has the row.
            unsafe { *round.keep.add(row) != 0 }
        };
        let mut col = sums.cols[0];
        while col < sums.cols[1] {
            let unit = col / C::GATES;
            let count = (round.hidden - unit).min(GROUP);
            let from = sums.at.wrapping_add((row - sums.rows[0]) * sums.ld + col - sums.cols[0]);
            // SAFETY: as the caller vouches.
            unsafe {
                if count == GROUP {
                    group::<C, FMA>(round, from, row, unit, GROUP, kept);
                } else {
                    group::<C, FMA>(round, from, row, unit, count, kept);
                }
            }
            col += C::GATES * count;
        }
    }
}

/// # Safety
/// As [`finish_body`].
#[inline(always)]
unsafe fn group<C: Cell, const FMA: bool>(round: &Round, sums: *const f32, row: usize, unit: usize, count: usize, kept: bool) {
    let hidden = round.hidden;
    let place = row * hidden + unit;
    let (mut input, mut recurrent, mut previous) = ([ZERO; GATES], [ZERO; GATES], [ZERO; STATES]);
    // SAFETY: as the caller vouches.
    unsafe {
        for g in 0..C::GATES {
            input[g] = load(round.input.offset(row as isize * round.input_row).add(g * hidden + unit), count);
            recurrent[g] = load(sums.add(g * count), count);
            if !round.bias.is_null() {
                let bias = load(round.bias.add(g * hidden + unit), count);
                recurrent[g].iter_mut().zip(bias).for_each(|(sum, bias)| *sum += bias);
            }
        }
        for (lanes, before) in previous.iter_mut().zip(round.before).take(C::STATES) {
            *lanes = load(before.add(place), count);
        }
    }
    let (mut states, mut saved) = ([ZERO; STATES], [ZERO; SAVED]);
    for j in 0..GROUP {
        let lane = |lanes: &Lanes| lanes[j];
        let made = C::step::<FMA>(input.each_ref().map(lane), recurrent.each_ref().map(lane), previous.each_ref().map(lane));
        (0..C::STATES).for_each(|k| states[k][j] = made.states[k]);
        (0..C::SAVED).for_each(|k| saved[k][j] = made.saved[k]);
    }
    // SAFETY: as the caller vouches; these units' results are this task's alone.
    unsafe {
        for k in 0..C::STATES {
            store(if kept { &states[k] } else { &previous[k] }, round.after[k].add(place), count);
        }
        if C::SAVED > 0 && !round.saved[0].is_null() {
            for (g, lanes) in saved.iter().enumerate().take(C::GATES) {
                store(lanes, round.saved[0].add(row * round.gates_row + g * hidden + unit), count);
            }
            store(&saved[C::GATES], round.saved[1].add(place), count);
        }
    }
}

impl Kernel for Sequence {
    fn stages(&self) -> usize {
        1 + self.spec.length
    }

    fn tasks(&self, stage: usize) -> usize {
        let tasks = if stage == 0 { 1 + self.driver.tasks(0) } else { self.driver.tasks(1) };
        self.spec.directions.len() * tasks
    }

    fn rounds(&self) -> usize {
        self.spec.length
    }

    fn workspace(&self) -> usize {
        self.spec.directions.len() * self.driver.workspace()
    }

    fn scratch(&self) -> usize {
        self.driver.scratch()
    }

    unsafe fn run(&self, stage: usize, task: usize, operands: &[*mut u8], workspace: *mut u8, scratch: *mut u8) {
        let directions = self.spec.directions.len();
        let (direction, task) = (task % directions, task / directions);
        let workspace = workspace.wrapping_add(direction * self.driver.workspace());
        let weights = self.operands(direction, operands).0[1];
        // SAFETY: as the caller vouches; the operands are those the driver and its epilogue were planned for.
        unsafe {
            if stage > 0 {
                let round = self.round(direction, stage - 1, operands);
                let operands = [round.before[0].cast_mut().cast(), weights, (&raw const round).cast_mut().cast()];
                self.driver.run(1, task, Memory { operands: &operands, workspace, scratch });
            } else if task == 0 {
                self.begin(direction, operands);
            } else {
                self.driver.run(0, task - 1, Memory { operands: &[ptr::null_mut(), weights], workspace, scratch });
            }
        }
    }
}
