//! Pairs of operations that run as one loop: what the first one gives stays in a register.
//!
//! Each of the two rounds as it would alone: the bits are those of two loops.

use super::ops;
use super::program::{Definition, OpCode, Reg, TileProgram};
use crate::DType;

/// The program with an operation joined to the only one that uses its result, where there is a loop for both. Values in `kept` are
/// needed themselves; those that are `invariant` are computed once and not per box.
pub(super) fn join(program: &TileProgram, invariant: &[bool], kept: &[usize]) -> TileProgram {
    let uses = uses(program, kept);
    let mut joined = program.clone();
    for value in 0..program.values.len() {
        let Definition::Op { op, sources } = &program.values[value].definition else { continue };
        if invariant[value] || program.values[value].dtype != DType::F32 {
            continue;
        }
        let pair = (0..sources.len()).find_map(|at| {
            let inner = usize::from(sources[at].0);
            let free = uses[inner] == 1 && !invariant[inner];
            // What has already been joined itself is no single operation any more.
            match &joined.values[inner].definition {
                Definition::Op { op: first, sources: operands } if free && of_f32(program, operands) => {
                    pair((*first, operands), (*op, sources), at)
                }
                _ => None,
            }
        });
        if let Some(pair) = pair {
            joined.values[value].definition = pair;
        }
    }
    joined
}

fn of_f32(program: &TileProgram, operands: &[Reg]) -> bool {
    operands.iter().all(|&reg| program.dtype(reg) == Some(DType::F32))
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

/// The second operation with the first one in place of its operand `at`, if there is a loop for it.
fn pair((first, operands): (OpCode, &[Reg]), (second, sources): (OpCode, &[Reg]), at: usize) -> Option<Definition> {
    let reversed = at == 1 && second == OpCode::Sub;
    ops::joined(first, second, reversed, crate::Isa::Portable)?;
    if second == OpCode::Select && at != 0 {
        return None;
    }
    let others = sources.iter().enumerate().filter(|&(i, _)| i != at).map(|(_, &reg)| reg);
    Some(Definition::Joined { first, second, reversed, sources: operands.iter().copied().chain(others).collect() })
}
