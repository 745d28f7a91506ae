use super::collapse::collapse;
use super::machine::{Cut, Machine, Region, cost};
use super::program::{TileError, TileProgram};
use crate::{Isa, Kernel};

/// Nanoseconds of work a task should have: long against a dispatch and what is computed once for a task, short against a step.
const TASK: f64 = 15_000.0;
/// How many times as long a loop for each operation takes.
const INTERPRETED: f64 = 4.0;

/// A tile program as a kernel.
///
/// Operands are numbered by the program's loads and stores. A stored operand may have exactly the address of a loaded one if
/// every load of that address uses the same strides and offset as the store (in place); otherwise stored operands overlap nothing.
pub struct Fused {
    machine: Machine,
    cut: Cut,
    boxes_per_task: usize,
}

impl Fused {
    /// Plans a program. Fails if it stores nothing.
    pub fn new(program: &TileProgram, isa: Isa) -> Result<Fused, TileError> {
        Fused::planned(program, |program, cut| Machine::new(program, isa, |d| cut.moving(d), &[]))
    }

    /// The same with a loop for each operation, whatever could be compiled.
    #[cfg(test)]
    pub(super) fn interpreted(program: &TileProgram, isa: Isa) -> Result<Fused, TileError> {
        Fused::planned(program, |program, cut| Machine::interpreted(program, isa, |d| cut.moving(d), &[]))
    }

    fn planned(
        program: &TileProgram,
        machine: impl Fn(&TileProgram, &Cut) -> Result<Machine, TileError>,
    ) -> Result<Fused, TileError> {
        let program = collapse(program);
        // Cut into single elements all dimensions move.
        let trial = machine(&program, &Cut::new(&program.dims, 1))?;
        let cut = Cut::new(&program.dims, trial.tile());
        let (machine, cut) = if trial.is_compiled() { (trial, cut) } else { settle(&program, &machine, cut)? };
        let elements = program.elements().max(1);
        let slowness = if machine.is_compiled() { 1.0 } else { INTERPRETED };
        let per_box = slowness * cost(&program) * (elements as f64 / cut.boxes().max(1) as f64);
        let boxes_per_task = ((TASK / per_box) as usize).max(1);
        Ok(Fused { machine, cut, boxes_per_task })
    }
}

/// Values that stay the same in all boxes need buffers of their own, which may call for the smaller tile and so another cut.
fn settle(
    program: &TileProgram,
    machine: impl Fn(&TileProgram, &Cut) -> Result<Machine, TileError>,
    cut: Cut,
) -> Result<(Machine, Cut), TileError> {
    let first = machine(program, &cut)?;
    let (shape, rank) = cut.full();
    if shape[..rank].iter().product::<usize>() <= first.tile() {
        return Ok((first, cut));
    }
    let cut = Cut::new(&program.dims, first.tile());
    Ok((machine(program, &cut)?, cut))
}

impl Kernel for Fused {
    fn tasks(&self, _stage: usize) -> usize {
        self.cut.boxes().div_ceil(self.boxes_per_task)
    }

    fn scratch(&self) -> usize {
        self.machine.scratch()
    }

    unsafe fn run(&self, _stage: usize, task: usize, operands: &[*mut u8], _workspace: *mut u8, scratch: *mut u8) {
        let first = task * self.boxes_per_task;
        let last = (first + self.boxes_per_task).min(self.cut.boxes());
        let mut new = true;
        self.cut.each(first..last, |origin, shape, full| {
            let region = Region { origin, shape, full, first: std::mem::take(&mut new) };
            // SAFETY: the caller's promise; the box lies in the iteration space.
            unsafe { self.machine.run(region, operands, scratch) };
        });
        self.machine.publish();
    }
}
