//! Compiled programs against the loops of single operations.

use super::ops::lookup;
use super::testing::{Random, aligned, fused_isas, run_kernel};
use super::*;
use crate::gemm::Epilogue;
use crate::tile::machine::Machine;
use crate::{DType, Isa};

/// Numbers at which functions change their ways, and some between.
fn numbers(n: usize, random: &mut Random) -> Vec<f32> {
    let special = [
        0.0,
        -0.0,
        1.0,
        -1.0,
        0.5,
        1.5,
        2.5,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        f32::MIN_POSITIVE,
        1e-40,
        -1e-40,
        f32::MAX,
        89.0,
        88.8,
        -103.9,
        -105.0,
        9.02,
        3.95,
        1e-9,
        8_388_609.0,
    ];
    let mut number = || match random.below(3) {
        0 => special[random.below(special.len())],
        1 => random.float(),
        _ => f32::from_bits(random.next() as u32),
    };
    (0..n).map(|_| number()).collect()
}

fn same(found: f32, expected: f32) -> bool {
    found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan()
}

/// A zero for what is denormal.
fn flushed(x: f32) -> f32 {
    if x.is_subnormal() { 0f32.copysign(x) } else { x }
}

/// Bits of numbers, those of NaN all alike.
fn bits(numbers: &[f32]) -> Vec<u32> {
    numbers.iter().map(|x| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() }).collect()
}

fn is_vector(isa: Isa) -> bool {
    isa != Isa::Portable && cfg!(target_os = "linux")
}

#[test]
fn every_operation_on_numbers_has_the_bits_of_its_loop() {
    let random = &mut Random(41);
    let on_numbers = |op: &OpCode| op.supports(DType::F32) && op.result(DType::F32) == DType::F32 && *op != OpCode::Select;
    for op in OpCode::ALL.into_iter().filter(on_numbers) {
        for n in [1, 5, 8, 16, 17, 31, 300, 5000] {
            let sources: Vec<Vec<f32>> = (0..op.arity()).map(|_| numbers(n, random)).collect();
            let mut program = TileProgram::new(&[n]).unwrap();
            let regs: Vec<Reg> = (0..op.arity()).map(|i| program.load(i, DType::F32, &[1], 0).unwrap()).collect();
            let result = program.op(op, &regs).unwrap();
            program.store(op.arity(), &[1], 0, result).unwrap();
            for isa in fused_isas() {
                let (mut found, mut expected) = (vec![0f32; n], vec![0f32; n]);
                let addresses: Vec<*const u8> = sources.iter().map(|s| s.as_ptr().cast()).collect();
                // SAFETY: operands and result have n elements.
                unsafe { lookup(op, DType::F32, isa).unwrap()(n, expected.as_mut_ptr().cast(), addresses.as_ptr()) };
                let mut operands: Vec<*mut u8> = addresses.iter().map(|a| a.cast_mut()).collect();
                operands.push(found.as_mut_ptr().cast());
                run_kernel(&Fused::new(&program, isa).unwrap(), &operands, false);
                for i in 0..n {
                    let of: Vec<f32> = sources.iter().map(|s| s[i]).collect();
                    assert!(same(found[i], expected[i]), "{op:?} of {of:?} on {isa}: {} and not {}", found[i], expected[i]);
                }
            }
        }
    }
}

/// `where(gate, p·c − q/(√v + e), p)` and whether x < y, with all kinds of operands: everywhere the same, one per row, one per column.
fn mixed(rows: usize, cols: usize) -> TileProgram {
    let mut p = TileProgram::new(&[rows, cols]).unwrap();
    let whole = p.row_major();
    let x = p.load(0, DType::F32, &whole, 0).unwrap();
    let of_row = p.load(1, DType::F32, &[1, 0], 0).unwrap();
    let of_column = p.load(2, DType::F32, &[0, 1], 0).unwrap();
    let same = p.load(3, DType::F32, &[0, 0], 1).unwrap();
    let gate = p.load(4, DType::Bool, &[0, 0], 0).unwrap();
    let flags = p.load(5, DType::Bool, &whole, 0).unwrap();
    let half = p.constant_f32(0.5).unwrap();
    let scaled = p.op(OpCode::Mul, &[of_row, x]).unwrap();
    let shifted = p.op(OpCode::Sub, &[of_column, scaled]).unwrap();
    let root = p.op(OpCode::Abs, &[shifted]).unwrap();
    let root = p.op(OpCode::Sqrt, &[root]).unwrap();
    let below = p.op(OpCode::Add, &[root, half]).unwrap();
    let quotient = p.op(OpCode::Div, &[same, below]).unwrap();
    let less = p.op(OpCode::Gt, &[of_row, quotient]).unwrap();
    let both = p.op(OpCode::And, &[less, flags]).unwrap();
    let not = p.op(OpCode::Not, &[both]).unwrap();
    let chosen = p.op(OpCode::Select, &[not, quotient, x]).unwrap();
    let gated = p.op(OpCode::Select, &[gate, chosen, x]).unwrap();
    p.store(6, &whole, 0, gated).unwrap();
    p.store(7, &whole, 0, not).unwrap();
    p
}

/// `x · x + x` over rows so many elements apart, and its double.
fn square_and_double(rows: usize, cols: usize, pitch: usize) -> TileProgram {
    let mut p = TileProgram::new(&[rows, cols]).unwrap();
    let strides = [pitch as isize, 1];
    let x = p.load(0, DType::F32, &strides, 0).unwrap();
    let square = p.op(OpCode::Mul, &[x, x]).unwrap();
    let sum = p.op(OpCode::Add, &[square, x]).unwrap();
    let double = p.op(OpCode::Add, &[sum, sum]).unwrap();
    p.store(1, &strides, 0, sum).unwrap();
    p.store(2, &strides, 0, double).unwrap();
    p
}

#[test]
fn stores_past_the_caches_write_the_same() {
    let random = &mut Random(23);
    for (rows, cols, pitch) in [(1, 5000, 5000), (3, 64, 64), (40, 1024, 1040), (7, 33, 33), (9, 40, 64), (5, 20, 50)] {
        for (first, in_place) in [(0, false), (0, true), (1, false)] {
            let n = rows * pitch;
            let x: Vec<f32> = (0..n).map(|_| random.float()).collect();
            let run = |past: bool, isa: Isa| {
                let mut program = square_and_double(rows, cols, pitch);
                if past {
                    [1, 2].into_iter().for_each(|operand| program.store_past_caches(operand));
                }
                let mut memory = vec![7f32; 3 * (n + 64)];
                // Operands begin `first` elements after the beginning of a cache line.
                let skew = memory.as_ptr().align_offset(64) + first;
                let place = |i: usize| skew + i * n.next_multiple_of(16);
                memory[place(0)..][..n].copy_from_slice(&x);
                let at = |i: usize| memory.as_ptr().wrapping_add(place(i)).cast_mut().cast::<u8>();
                run_kernel(&Fused::new(&program, isa).unwrap(), &[at(0), at(if in_place { 0 } else { 1 }), at(2)], false);
                bits(&memory[skew..][..3 * n.next_multiple_of(16)])
            };
            for isa in fused_isas() {
                assert!(run(true, isa) == run(false, isa), "{rows} {cols} {pitch} {first} {in_place} on {isa}");
            }
        }
    }
}

#[test]
fn rows_columns_and_flags() {
    let random = &mut Random(5);
    for (rows, cols) in [(1, 1), (3, 7), (5, 16), (4, 33), (70, 64), (2, 5000), (0, 20), (9, 1)] {
        let (x, of_row) = (numbers(rows * cols, random), numbers(rows, random));
        let (of_column, same_all) = (numbers(cols, random), numbers(2, random));
        let flags: Vec<u8> = (0..rows * cols).map(|_| random.below(2) as u8).collect();
        for (isa, gate) in fused_isas().flat_map(|isa| [(isa, 0u8), (isa, 1)]) {
            let program = mixed(rows, cols);
            let run = |kernel: Fused| {
                // The first result replaces x.
                let (mut x, mut not) = (x.clone(), vec![9u8; rows * cols]);
                let x_address = x.as_mut_ptr().cast();
                let read = [of_row.as_ptr(), of_column.as_ptr(), same_all.as_ptr()].map(|a| a.cast_mut().cast::<u8>());
                let gate = (&raw const gate).cast_mut();
                let flags = flags.as_ptr().cast_mut();
                let operands = [x_address, read[0], read[1], read[2], gate, flags, x_address, not.as_mut_ptr()];
                run_kernel(&kernel, &operands, false);
                (bits(&x), not)
            };
            let found = run(Fused::new(&program, isa).unwrap());
            let expected = run(Fused::interpreted(&program, isa).unwrap());
            assert_eq!(found, expected, "{rows} × {cols} on {isa}, gate {gate}");
        }
    }
}

/// The step of Adam, in place.
fn adam(n: usize) -> TileProgram {
    let mut p = TileProgram::new(&[n]).unwrap();
    let [g, w, m, v] = [0, 1, 2, 3].map(|operand| p.load(operand, DType::F32, &[1], 0).unwrap());
    let [beta, rest, eps] = [0.9, 0.1, 1e-8].map(|c| p.constant_f32(c).unwrap());
    let rate = p.load(4, DType::F32, &[0], 0).unwrap();
    let gate = p.load(5, DType::Bool, &[0], 0).unwrap();
    let mut op = |op: OpCode, sources: &[Reg]| p.op(op, sources).unwrap();
    let mean = [op(OpCode::Mul, &[m, beta]), op(OpCode::Mul, &[g, rest])];
    let mean = op(OpCode::Add, &mean);
    let square = op(OpCode::Mul, &[g, g]);
    let square = [op(OpCode::Mul, &[v, beta]), op(OpCode::Mul, &[square, rest])];
    let square = op(OpCode::Add, &square);
    let root = op(OpCode::Sqrt, &[square]);
    let root = op(OpCode::Add, &[root, eps]);
    let step = op(OpCode::Div, &[mean, root]);
    let step = op(OpCode::Mul, &[step, rate]);
    let next = op(OpCode::Sub, &[w, step]);
    let kept =
        [op(OpCode::Select, &[gate, next, w]), op(OpCode::Select, &[gate, mean, m]), op(OpCode::Select, &[gate, square, v])];
    for (i, reg) in kept.into_iter().enumerate() {
        p.store(6 + i, &[1], 0, reg).unwrap();
    }
    p
}

#[test]
fn what_training_steps_consist_of_is_compiled() {
    for isa in fused_isas().filter(|&isa| is_vector(isa)) {
        for program in [adam(1000), mixed(40, 64)] {
            // AVX2 has no instruction that reads flags.
            let expected = isa == Isa::Avx512 || program.dims().len() == 1;
            assert_eq!(Machine::new(&program, isa, |_| true, &[]).unwrap().is_compiled(), expected, "{isa}");
        }
    }
}

#[test]
fn an_update_in_place_has_the_bits_of_its_operations() {
    let random = &mut Random(77);
    for n in [1, 15, 16, 100, 9000] {
        let state: Vec<Vec<f32>> = (0..4).map(|_| numbers(n, random)).collect();
        for (isa, gate) in fused_isas().flat_map(|isa| [(isa, 0u8), (isa, 1)]) {
            let run = |kernel: Fused| {
                let (mut state, rate, gate) = (state.clone(), 1e-3f32, gate);
                let [g, w, m, v] = [0, 1, 2, 3].map(|i| state[i].as_mut_ptr().cast::<u8>());
                let rate = (&raw const rate).cast_mut().cast();
                let gate = (&raw const gate).cast_mut();
                run_kernel(&kernel, &[g, w, m, v, rate, gate, w, m, v], false);
                state.iter().map(|s| bits(s)).collect::<Vec<Vec<u32>>>()
            };
            let program = adam(n);
            let found = run(Fused::new(&program, isa).unwrap());
            assert_eq!(found, run(Fused::interpreted(&program, isa).unwrap()), "{n} on {isa}, gate {gate}");
            if gate == 0 {
                assert_eq!(found[2], bits(&state[2]));
            }
        }
    }
}

#[test]
fn too_many_streams_are_left_to_loops() {
    let n = 40;
    let mut program = TileProgram::new(&[n]).unwrap();
    let loads: Vec<Reg> = (0..20).map(|i| program.load(i, DType::F32, &[1], 0).unwrap()).collect();
    let sum = loads[1..].iter().fold(loads[0], |sum, &next| program.op(OpCode::Add, &[sum, next]).unwrap());
    program.store(20, &[1], 0, sum).unwrap();
    for isa in fused_isas() {
        assert!(!Machine::new(&program, isa, |_| true, &[]).unwrap().is_compiled());
        let mut memory: Vec<Vec<f32>> = (0..21).map(|i| vec![i as f32; n]).collect();
        let operands: Vec<*mut u8> = memory.iter_mut().map(|m| m.as_mut_ptr().cast()).collect();
        run_kernel(&Fused::new(&program, isa).unwrap(), &operands, false);
        assert!(memory[20].iter().all(|&x| x == 190.0));
    }
}

#[test]
fn more_values_than_registers_are_left_to_loops() {
    // All quotients are needed again after the last one is known.
    let n = 50;
    let mut program = TileProgram::new(&[n]).unwrap();
    let x = program.load(0, DType::F32, &[1], 0).unwrap();
    let mut quotients = vec![x];
    for i in 0..40 {
        let c = program.constant_f32(i as f32 + 1.5).unwrap();
        quotients.push(program.op(OpCode::Div, &[quotients[i], c]).unwrap());
    }
    let sum = quotients.iter().copied().reduce(|sum, q| program.op(OpCode::Add, &[sum, q]).unwrap()).unwrap();
    program.store(1, &[1], 0, sum).unwrap();
    let backwards = quotients.iter().rev().copied().reduce(|sum, q| program.op(OpCode::Sub, &[sum, q]).unwrap()).unwrap();
    program.store(2, &[1], 0, backwards).unwrap();
    let source = numbers(n, &mut Random(6));
    for isa in fused_isas() {
        let run = |kernel: Fused| {
            let mut results = [vec![0f32; n], vec![0f32; n]];
            let [a, b] = results.each_mut().map(|r| r.as_mut_ptr().cast());
            run_kernel(&kernel, &[source.as_ptr().cast_mut().cast(), a, b], false);
            results.map(|r| bits(&r))
        };
        assert!(!Machine::new(&program, isa, |_| true, &[]).unwrap().is_compiled());
        let found = run(Fused::new(&program, isa).unwrap());
        assert_eq!(found, run(Fused::interpreted(&program, isa).unwrap()), "{isa}");
    }
}

#[test]
fn epilogues_of_products_whose_rows_are_apart() {
    let random = &mut Random(9);
    for (rows, cols, ld, all) in [(37, 90, 96, 100), (5, 16, 16, 16), (14, 64, 64, 640), (6, 7, 32, 20), (3, 9, 16, 9)] {
        let product = numbers(rows * ld, random);
        let [bias, residual] = [numbers(all, random), numbers(2 * 50 * all, random)];
        for isa in fused_isas() {
            let mut program = TileProgram::new(&[2, 50, all]).unwrap();
            let x = program.given().unwrap();
            let strides = program.row_major();
            let b = program.load(0, DType::F32, &[0, 0, 1], 0).unwrap();
            let r = program.load(1, DType::F32, &strides, 0).unwrap();
            let sum = program.op(OpCode::Add, &[x, b]).unwrap();
            let sum = program.op(OpCode::Mul, &[sum, r]).unwrap();
            program.store(2, &strides, 0, sum).unwrap();
            let epilogue = TileEpilogue::new(&program, isa).unwrap();
            let mut result = vec![7f32; 2 * 50 * all];
            let mut scratch = aligned(epilogue.scratch());
            let operands = [bias.as_ptr().cast_mut().cast(), residual.as_ptr().cast_mut().cast(), result.as_mut_ptr().cast()];
            let first = all - cols;
            // SAFETY: the block lies in the space; the operands have its shape.
            unsafe { epilogue.apply(1, 3, rows, first, cols, product.as_ptr(), ld, &operands, scratch.as_mut_ptr().cast()) };
            for (i, &found) in result.iter().enumerate() {
                let [batch, row, col] = [i / (50 * all), i / all % 50, i % all];
                let inside = batch == 1 && (3..3 + rows).contains(&row) && col >= first;
                let value = || flushed(flushed(product[(row - 3) * ld + col - first] + bias[col]) * residual[i]);
                assert!(same(found, if inside { value() } else { 7.0 }), "({batch}, {row}, {col}) on {isa}");
            }
        }
    }
}

/// What the function does not read row by row: the result itself, as it is and turned around, and what loops of their own make of it.
#[test]
fn epilogues_that_store_or_convert_the_product_itself() {
    let random = &mut Random(11);
    let (rows, cols, ld) = (37, 24, 32);
    let product: Vec<f32> = (0..rows * ld).map(|_| random.float()).collect();
    let bias: Vec<f32> = (0..cols).map(|_| random.float()).collect();
    type Note = fn(&mut TileProgram, Reg);
    let as_it_is: Note = |program, x| program.store(2, &[0, 24, 1], 0, x).unwrap();
    let turned: Note = |program, x| program.store(2, &[0, 1, 37], 0, x).unwrap();
    let by_a_loop: Note = |program, x| {
        let cosine = program.op(OpCode::Cos, &[x]).unwrap();
        program.store(2, &[0, 24, 1], 0, cosine).unwrap();
    };
    for (name, note) in [("as it is", as_it_is), ("turned", turned), ("by a loop", by_a_loop)] {
        for isa in fused_isas() {
            let mut program = TileProgram::new(&[1, rows, cols]).unwrap();
            let x = program.given().unwrap();
            let b = program.load(0, DType::F32, &[0, 0, 1], 0).unwrap();
            let sum = program.op(OpCode::Add, &[x, b]).unwrap();
            program.store(1, &[0, 24, 1], 0, sum).unwrap();
            note(&mut program, x);
            let epilogue = TileEpilogue::new(&program, isa).unwrap();
            let mut results = [vec![7f32; rows * cols], vec![7f32; rows * cols]];
            let [sums, others] = results.each_mut().map(|r| r.as_mut_ptr().cast::<u8>());
            let mut scratch = aligned(epilogue.scratch());
            let operands = [bias.as_ptr().cast_mut().cast(), sums, others];
            // SAFETY: the block is all of the space; the operands have its shape.
            unsafe { epilogue.apply(0, 0, rows, 0, cols, product.as_ptr(), ld, &operands, scratch.as_mut_ptr().cast()) };
            let [sums, others] = results;
            for (row, col) in (0..rows).flat_map(|row| (0..cols).map(move |col| (row, col))) {
                let x = product[row * ld + col];
                let (i, expected) = match name {
                    "turned" => (col * rows + row, x),
                    "by a loop" => (row * cols + col, x.cos()),
                    _ => (row * cols + col, x),
                };
                assert_eq!(sums[row * cols + col], x + bias[col], "sum ({row}, {col}), {name}, on {isa}");
                assert!((others[i] - expected).abs() < 1e-6, "({row}, {col}), {name}, on {isa}: {} {expected}", others[i]);
            }
        }
    }
}

#[test]
fn denormal_results_are_zeros_and_denormal_operands_count() {
    let x: Vec<f32> = [1e-30, -1e-30, 1e-40, 1e-20].into_iter().cycle().take(37).collect();
    let y: Vec<f32> = [1e-15, 1e-15, 1e10, 1e-10].into_iter().cycle().take(37).collect();
    let mut program = TileProgram::new(&[37]).unwrap();
    let regs: Vec<Reg> = (0..2).map(|i| program.load(i, DType::F32, &[1], 0).unwrap()).collect();
    let product = program.op(OpCode::Mul, &regs).unwrap();
    program.store(2, &[1], 0, product).unwrap();
    for isa in fused_isas() {
        for kernel in [Fused::new(&program, isa), Fused::interpreted(&program, isa)] {
            let mut found = vec![7f32; 37];
            let operands = [x.as_ptr().cast_mut().cast(), y.as_ptr().cast_mut().cast(), found.as_mut_ptr().cast()];
            run_kernel(&kernel.unwrap(), &operands, false);
            let expected: Vec<u32> = x.iter().zip(&y).map(|(x, y)| flushed(x * y).to_bits()).collect();
            assert_eq!(bits(&found), expected, "{isa}");
            assert!(found[2] > 0.0 && found[0].to_bits() == 0 && found[1].to_bits() == 1 << 31, "{isa}");
            // The processor computes as before.
            assert!(std::hint::black_box(1e-30f32) * std::hint::black_box(1e-15) > 0.0, "{isa}");
        }
    }
}

#[test]
fn comparisons_of_equal_numbers_and_nan() {
    use OpCode::{Eq, Ge, Gt, Le, Lt, Ne};
    let [a, b] = [
        [1.0, 2.0, 2.0, f32::NAN, 0.0, -0.0, f32::INFINITY, f32::NAN, -3.0],
        [2.0, 1.0, 2.0, 0.0, -0.0, 0.0, f32::INFINITY, f32::NAN, -3.0],
    ];
    let holds = |op: OpCode, a: f32, b: f32| match op {
        Eq => a == b,
        Ne => a != b,
        Lt => a < b,
        Le => a <= b,
        Gt => a > b,
        _ => a >= b,
    };
    for op in [Eq, Ne, Lt, Le, Gt, Ge] {
        let mut program = TileProgram::new(&[a.len()]).unwrap();
        let [x, y] = [0, 1].map(|operand| program.load(operand, DType::F32, &[1], 0).unwrap());
        let truth = program.op(op, &[x, y]).unwrap();
        let [yes, no] = [5.0, 6.0].map(|c| program.constant_f32(c).unwrap());
        let chosen = program.op(OpCode::Select, &[truth, yes, no]).unwrap();
        program.store(2, &[1], 0, chosen).unwrap();
        for isa in fused_isas() {
            let mut found = [0f32; 9];
            let operands = [a.as_ptr().cast_mut().cast(), b.as_ptr().cast_mut().cast(), found.as_mut_ptr().cast()];
            run_kernel(&Fused::new(&program, isa).unwrap(), &operands, false);
            assert_eq!(found, std::array::from_fn(|i| if holds(op, a[i], b[i]) { 5.0 } else { 6.0 }), "{op:?} on {isa}");
        }
    }
}

#[test]
fn results_may_replace_operands_that_are_read_later() {
    for (n, isa) in [1, 16, 50, 5000].into_iter().flat_map(|n| fused_isas().map(move |isa| (n, isa))) {
        let mut program = TileProgram::new(&[n]).unwrap();
        let one = program.constant_f32(1.0).unwrap();
        let x = program.load(0, DType::F32, &[1], 0).unwrap();
        let more = program.op(OpCode::Add, &[x, one]).unwrap();
        program.store(2, &[1], 0, more).unwrap();
        let y = program.load(1, DType::F32, &[1], 0).unwrap();
        let twice = program.op(OpCode::Add, &[y, y]).unwrap();
        program.store(3, &[1], 0, twice).unwrap();
        let mut memory = [5.0f32, 8.0].map(|v| vec![v; n]);
        let [a, b] = memory.each_mut().map(|m| m.as_mut_ptr().cast::<u8>());
        // x + 1 over y, and 2·y over x.
        run_kernel(&Fused::new(&program, isa).unwrap(), &[a, b, b, a], false);
        assert!(memory[1].iter().all(|&v| v == 6.0) && memory[0].iter().all(|&v| v == 16.0), "{n} on {isa}");
    }
}
