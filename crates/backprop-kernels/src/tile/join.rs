//! Several operations that run as one loop: what one gives the next finds in a register.
//!
//! Each of them rounds as it would alone: the bits are those of one loop for each.

use super::ops::{JOINED, Shape};
use super::program::{Definition, OpCode, Reg, TileProgram};
use crate::DType;

/// The program with operations joined to those that alone use their results, where there is a loop for all of them. Values in
/// `kept` are needed themselves; those that are `invariant` are computed once and not per box.
pub(super) fn join(program: &TileProgram, invariant: &[bool], kept: &[usize]) -> TileProgram {
    let uses = uses(program, kept);
    let mut joined = program.clone();
    let mut inner = vec![false; program.values.len()];
    // What uses a value comes after it, and takes in as much as it can.
    for value in (0..program.values.len()).rev() {
        if inner[value] || invariant[value] || program.values[value].dtype != DType::F32 {
            continue;
        }
        for (row, loops) in JOINED.iter().enumerate() {
            let mut found = Found { program, invariant, uses: &uses, sources: Vec::new(), inner: Vec::new() };
            if found.is(value, loops.shape, 0) {
                found.inner.iter().for_each(|&v| inner[v] = true);
                joined.values[value].definition = Definition::Joined { row, sources: found.sources };
                break;
            }
        }
    }
    joined
}

/// What a loop would read and take in.
struct Found<'a> {
    program: &'a TileProgram,
    invariant: &'a [bool],
    uses: &'a [usize],
    sources: Vec<Reg>,
    inner: Vec<usize>,
}

impl Found<'_> {
    /// Whether a value is computed as a tree says, which uses it so often (not at all: it is the tree's result).
    fn is(&mut self, value: usize, shape: &Shape, used: usize) -> bool {
        let definition = &self.program.values[value].definition;
        match (shape, definition) {
            (Shape::Source, _) => {
                self.sources.push(Reg(value as u16));
                return true;
            }
            _ if used > 0 && (self.invariant[value] || self.uses[value] != used) => return false,
            _ => {}
        }
        self.inner.extend((used > 0).then_some(value));
        match (shape, definition) {
            (Shape::Square { of }, Definition::Op { op: OpCode::Mul, sources }) => {
                sources[0] == sources[1] && self.is(usize::from(sources[0].0), of, 2)
            }
            (Shape::Op { op, of }, Definition::Op { op: found, sources }) if op == found => {
                // A choice compares values of the type it is of.
                let of_f32 = *op == OpCode::Select || sources.iter().all(|&reg| self.program.dtype(reg) == Some(DType::F32));
                let commutes = matches!(op, OpCode::Add | OpCode::Mul);
                of_f32 && (self.are(sources, of, false) || commutes && self.are(sources, of, true))
            }
            _ => false,
        }
    }

    /// Whether the operands of an operation are as their trees say; otherwise nothing of them is kept.
    fn are(&mut self, sources: &[Reg], shapes: &[&Shape], swapped: bool) -> bool {
        let (read, taken) = (self.sources.len(), self.inner.len());
        let operand = |i: usize| usize::from(sources[if swapped { sources.len() - 1 - i } else { i }].0);
        let all = shapes.iter().enumerate().all(|(i, shape)| self.is(operand(i), shape, 1));
        if !all {
            self.sources.truncate(read);
            self.inner.truncate(taken);
        }
        all
    }
}

/// How often each value is read, kept ones once more.
fn uses(program: &TileProgram, kept: &[usize]) -> Vec<usize> {
    let mut uses = vec![0; program.values.len()];
    kept.iter().for_each(|&v| uses[v] += 1);
    for value in &program.values {
        if let Definition::Op { sources, .. } = &value.definition {
            sources.iter().for_each(|reg| uses[usize::from(reg.0)] += 1);
        }
    }
    uses
}
