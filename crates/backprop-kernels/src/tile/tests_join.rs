use super::join::join;
use super::ops::{JOINED, Shape};
use super::program::Definition;
use super::testing::{Random, fused_isas, run_kernel};
use super::tests::{reference, run_fused, to_aligned};
use super::*;
use crate::DType;

/// Appends what a tree says, with the operands of sums and products swapped or not; its sources are the next operands.
fn tree(program: &mut TileProgram, shape: &Shape, swapped: bool, operands: &mut usize) -> Reg {
    match shape {
        Shape::Source => {
            *operands += 1;
            program.load(*operands - 1, DType::F32, &[1], 0).unwrap()
        }
        Shape::Square { of } => {
            let of = tree(program, of, swapped, operands);
            program.op(OpCode::Mul, &[of, of]).unwrap()
        }
        Shape::Op { op, of } => {
            let mut of: Vec<Reg> = of.iter().map(|of| tree(program, of, swapped, operands)).collect();
            if swapped && matches!(op, OpCode::Add | OpCode::Mul) {
                of.reverse();
            }
            program.op(*op, &of).unwrap()
        }
    }
}

/// The program of a row, and the number of its sources; the result is the next operand.
fn program(row: usize, n: usize, swapped: bool) -> (TileProgram, usize) {
    let (mut program, mut operands) = (TileProgram::new(&[n]).unwrap(), 0);
    let result = tree(&mut program, JOINED[row].shape, swapped, &mut operands);
    program.store(operands, &[1], 0, result).unwrap();
    (program, operands)
}

/// The row that the last value of a program is joined to.
fn found(program: &TileProgram, kept: &[usize], invariant: &[bool]) -> Option<usize> {
    match join(program, invariant, kept).values.last()?.definition {
        Definition::Joined { row, .. } => Some(row),
        _ => None,
    }
}

fn operand(n: usize, random: &mut Random) -> Vec<u8> {
    let value = |i: usize, random: &mut Random| [0.0, -0.0, 1.5, random.float()][(random.below(6) + i % 2).min(3)];
    (0..n).flat_map(|i| f32::to_le_bytes(value(i, random))).collect()
}

#[test]
fn joined_operations_have_the_bits_of_single_ones() {
    let random = &mut Random(23);
    for row in 0..JOINED.len() {
        for (n, swapped) in [(0, false), (1, true), (5, false), (63, true), (64, false), (1024, false), (2500, true)] {
            let (program, sources) = program(row, n, swapped);
            let last = program.values.len() - 1;
            assert_eq!(found(&program, &[last], &vec![false; last + 1]), Some(row), "{n} {swapped}");
            let operands: Vec<Vec<u8>> = (0..sources + 1).map(|_| operand(n, random)).collect();
            for isa in fused_isas() {
                let (mut found, mut expected) = (operands.clone(), operands.clone());
                run_fused(&program, isa, &mut found, false);
                reference(&program, isa, &mut expected);
                assert_eq!(found, expected, "row {row} {n} {isa:?}");
            }
        }
    }
}

#[test]
fn joined_operations_may_replace_what_they_read() {
    let random = &mut Random(24);
    for row in 0..JOINED.len() {
        let n = 2113;
        let (program, sources) = program(row, n, false);
        let operands: Vec<Vec<u8>> = (0..sources + 1).map(|_| operand(n, random)).collect();
        for isa in fused_isas() {
            let mut expected = operands.clone();
            reference(&program, isa, &mut expected);
            for replaced in 0..sources {
                let mut memory: Vec<_> = operands[..sources].iter().map(|bytes| to_aligned(bytes)).collect();
                let mut addresses: Vec<*mut u8> = memory.iter_mut().map(|m| m.as_mut_ptr().cast()).collect();
                addresses.push(addresses[replaced]);
                run_kernel(&Fused::new(&program, isa).unwrap(), &addresses, false);
                let found = &bytemuck::cast_slice::<_, u8>(&memory[replaced])[..4 * n];
                assert_eq!(found, expected[sources], "row {row} over source {replaced} on {isa:?}");
            }
        }
    }
}

#[test]
fn what_is_read_later_is_not_replaced() {
    let mut program = TileProgram::new(&[3000]).unwrap();
    let [a, b, c] = [0, 1, 2].map(|operand| program.load(operand, DType::F32, &[1], 0).unwrap());
    let sum = program.op(OpCode::Add, &[a, b]).unwrap();
    let scaled = program.op(OpCode::Mul, &[sum, c]).unwrap();
    let exponential = program.op(OpCode::Exp, &[a]).unwrap();
    program.store(3, &[1], 0, scaled).unwrap();
    program.store(4, &[1], 0, exponential).unwrap();
    let operands: Vec<Vec<u8>> = (0..5).map(|i| operand(3000, &mut Random(i))).collect();
    for isa in fused_isas() {
        let mut expected = operands.clone();
        reference(&program, isa, &mut expected);
        let mut memory: Vec<_> = operands.iter().map(|bytes| to_aligned(bytes)).collect();
        let mut addresses: Vec<*mut u8> = memory.iter_mut().map(|m| m.as_mut_ptr().cast()).collect();
        addresses[3] = addresses[0];
        run_kernel(&Fused::new(&program, isa).unwrap(), &addresses, false);
        for (at, output) in [(0, 3), (4, 4)] {
            assert_eq!(&bytemuck::cast_slice::<_, u8>(&memory[at])[..12_000], expected[output], "{output} on {isa:?}");
        }
    }
}

#[test]
fn what_is_needed_itself_is_not_joined() {
    use OpCode::{Add, Mul};
    let mut program = TileProgram::new(&[9]).unwrap();
    let [a, b, c] = [0, 1, 2].map(|operand| program.load(operand, DType::F32, &[1], 0).unwrap());
    let inner = program.op(Add, &[a, b]).unwrap();
    program.op(Mul, &[inner, c]).unwrap();
    assert!(found(&program, &[4], &[false; 5]).is_some());
    assert!(found(&program, &[3, 4], &[false; 5]).is_none());
    assert!(found(&program, &[4], &[true, true, false, true, false]).is_none());
    let mut squared = program.clone();
    squared.op(Mul, &[inner, inner]).unwrap();
    assert!(found(&squared, &[4, 5], &[false; 6]).is_none());
}
