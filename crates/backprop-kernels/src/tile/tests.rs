use super::ops::lookup;
use super::program::{Definition, Store};
use super::testing::{Random, aligned, fused_isas, indices, run_kernel};
use super::*;
use crate::gemm::Epilogue;
use crate::{DType, Isa};

fn offset(index: &[usize], strides: &[isize], start: isize) -> usize {
    (start + index.iter().zip(strides).map(|(&i, &s)| i as isize * s).sum::<isize>()) as usize
}

/// Evaluates value after value over the whole iteration space.
fn reference(program: &TileProgram, isa: Isa, operands: &mut [Vec<u8>]) {
    let all = indices(&program.dims);
    let mut values: Vec<Vec<u8>> = Vec::new();
    for value in &program.values {
        let size = value.dtype.size();
        let bytes = match &value.definition {
            Definition::Load { operand, strides, offset: start } => {
                all.iter().flat_map(|i| operands[*operand][offset(i, strides, *start) * size..][..size].to_vec()).collect()
            }
            Definition::Constant { bits } => all.iter().flat_map(|_| bits.to_le_bytes()[..size].to_vec()).collect(),
            Definition::Affine { strides } => all
                .iter()
                .flat_map(|i| match (value.dtype, offset(i, strides, 0)) {
                    (DType::F32, v) => (v as f32).to_le_bytes().to_vec(),
                    (DType::F64, v) => (v as f64).to_le_bytes().to_vec(),
                    (_, v) => v.to_le_bytes()[..size].to_vec(),
                })
                .collect(),
            Definition::Sparse(_) | Definition::Given => unreachable!("neither products nor tables here"),
            Definition::Op { op, sources } => {
                let of = program.values[usize::from(sources.last().unwrap().0)].dtype;
                let mut result = aligned(all.len() * size);
                let copies: Vec<Vec<[u64; 8]>> = sources.iter().map(|r| to_aligned(&values[usize::from(r.0)])).collect();
                let addresses: Vec<*const u8> = copies.iter().map(|c| c.as_ptr().cast()).collect();
                let function = lookup(*op, of, isa).unwrap();
                // SAFETY: operands and result have as many elements.
                unsafe { function(all.len(), result.as_mut_ptr().cast(), addresses.as_ptr()) };
                bytemuck::cast_slice::<_, u8>(&result)[..all.len() * size].to_vec()
            }
        };
        values.push(bytes);
    }
    for Store { operand, strides, offset: start, reg, .. } in &program.stores {
        let size = program.values[usize::from(reg.0)].dtype.size();
        for (n, i) in all.iter().enumerate() {
            let from = &values[usize::from(reg.0)][n * size..][..size];
            operands[*operand][offset(i, strides, *start) * size..][..size].copy_from_slice(from);
        }
    }
}

fn to_aligned(bytes: &[u8]) -> Vec<[u64; 8]> {
    let mut result = aligned(bytes.len());
    bytemuck::cast_slice_mut::<_, u8>(&mut result)[..bytes.len()].copy_from_slice(bytes);
    result
}

fn run_fused(kernel: &Fused, operands: &mut [Vec<u8>], reversed: bool) {
    let mut memory: Vec<Vec<[u64; 8]>> = operands.iter().map(|bytes| to_aligned(bytes)).collect();
    let addresses: Vec<*mut u8> = memory.iter_mut().map(|m| m.as_mut_ptr().cast()).collect();
    run_kernel(kernel, &addresses, reversed);
    for (bytes, m) in operands.iter_mut().zip(&memory) {
        let length = bytes.len();
        bytes.copy_from_slice(&bytemuck::cast_slice::<_, u8>(m)[..length]);
    }
}

/// Adds a load of a random layout: plain, broadcast along some dimensions, transposed or reversed; its operand is appended.
fn random_load(program: &mut TileProgram, random: &mut Random, operands: &mut Vec<Vec<u8>>) -> Reg {
    let dims = program.dims.clone();
    let mut order: Vec<usize> = (0..dims.len()).collect();
    if random.below(3) == 0 {
        order.reverse();
    }
    let (mut strides, mut size, mut start) = (vec![0isize; dims.len()], 1usize, 0isize);
    for &d in order.iter().rev() {
        if random.below(3) > 0 {
            strides[d] = size as isize;
            size *= dims[d];
            if random.below(6) == 0 && dims[d] > 0 {
                start += strides[d] * (dims[d] as isize - 1);
                strides[d] = -strides[d];
            }
        }
    }
    let bytes = (0..size.max(1)).flat_map(|_| random.float().to_le_bytes()).collect();
    operands.push(bytes);
    program.load(operands.len() - 1, DType::F32, &strides, start).unwrap()
}

fn random_program(random: &mut Random) -> (TileProgram, Vec<Vec<u8>>) {
    const SPACES: [&[usize]; 11] =
        [&[], &[1], &[7], &[5000], &[3, 2500], &[2, 4096], &[40, 10], &[130, 33, 3], &[2, 3, 4, 5, 6], &[1, 700, 1], &[0, 4]];
    let dims = SPACES[random.below(SPACES.len())];
    let mut program = TileProgram::new(dims).unwrap();
    let mut operands = Vec::new();
    let mut floats = vec![program.constant_f32(random.float()).unwrap()];
    for _ in 0..1 + random.below(4) {
        floats.push(random_load(&mut program, random, &mut operands));
    }
    if !dims.is_empty() && random.below(2) == 0 {
        floats.push(program.iota(random.below(dims.len()), DType::F32).unwrap());
    }
    let unary = [OpCode::Neg, OpCode::Exp, OpCode::Tanh, OpCode::Floor, OpCode::Sin, OpCode::Logistic, OpCode::Sign];
    let binary = [OpCode::Add, OpCode::Mul, OpCode::Sub, OpCode::Div, OpCode::Max, OpCode::Min, OpCode::Pow];
    for _ in 0..random.below(12) {
        let (a, b, c) =
            (floats[random.below(floats.len())], floats[random.below(floats.len())], floats[random.below(floats.len())]);
        let next = match random.below(4) {
            0 => program.op(unary[random.below(unary.len())], &[a]).unwrap(),
            1 | 2 => program.op(binary[random.below(binary.len())], &[a, b]).unwrap(),
            _ => {
                let flag = program.op(OpCode::Lt, &[a, b]).unwrap();
                let wide = program.op(OpCode::Convert(DType::F64), &[c]).unwrap();
                let back = program.op(OpCode::Convert(DType::F32), &[wide]).unwrap();
                program.op(OpCode::Select, &[flag, back, b]).unwrap()
            }
        };
        floats.push(next);
    }
    for _ in 0..1 + random.below(3) {
        let reg = floats[random.below(floats.len())];
        operands.push(vec![0; program.elements() * 4]);
        let strides = program.row_major();
        program.store(operands.len() - 1, &strides, 0, reg).unwrap();
    }
    (program, operands)
}

/// NaN payloads are unspecified: makes all NaN of `f32` data one.
fn canonical(bytes: &[u8]) -> Vec<u32> {
    let words = bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    words.map(|w| if f32::from_bits(w).is_nan() { 0x7fc0_0000 } else { w }).collect()
}

#[test]
fn fused_programs_equal_single_operations() {
    for seed in 0..400 {
        let (program, operands) = random_program(&mut Random(seed));
        let mut across = None;
        for isa in fused_isas() {
            let (mut expected, mut found) = (operands.clone(), operands.clone());
            reference(&program, isa, &mut expected);
            let interpreted = Fused::interpreted(&program, isa).unwrap();
            let compiled = Fused::new(&program, isa).unwrap();
            for (kernel, reversed) in [(&interpreted, false), (&interpreted, true), (&compiled, true), (&compiled, false)] {
                found.clone_from(&operands);
                run_fused(kernel, &mut found, reversed);
                for (i, bytes) in expected.iter().enumerate() {
                    assert_eq!(canonical(&found[i]), canonical(bytes), "operand {i} of program {seed} on {isa}: {program:?}");
                }
            }
            if isa != Isa::Portable {
                let bits: Vec<Vec<u32>> = found.iter().map(|bytes| canonical(bytes)).collect();
                assert_eq!(across.get_or_insert_with(|| bits.clone()), &bits, "program {seed} on {isa}");
            }
        }
    }
}

/// Bytes with many special patterns of every type.
fn patterns(dtype: DType, n: usize, random: &mut Random) -> Vec<u8> {
    let specials32 = [0u32, 0x8000_0000, 0x7f80_0000, 0xff80_0000, 0x7fc0_0000, 1, 0x8000_0001, 0x7f7f_ffff, 0x3f80_0000];
    (0..n)
        .flat_map(|_| {
            let raw = random.next();
            let value = match (dtype, random.below(4)) {
                (DType::Bool, _) => raw & 1,
                (DType::F32, 0) => u64::from(specials32[random.below(specials32.len())]),
                (DType::F32, 1) => u64::from(random.float().to_bits()),
                (DType::F64, 0) => f64::from(f32::from_bits(specials32[random.below(specials32.len())])).to_bits(),
                (DType::F64, 1) => f64::from(random.float()).to_bits(),
                (_, 0) => raw % 80,
                (_, 1) => 0u64.wrapping_sub(raw % 3),
                _ => raw,
            };
            value.to_le_bytes()[..dtype.size()].to_vec()
        })
        .collect()
}

/// Bits of each element with every NaN made one.
fn canonical_as(dtype: DType, bytes: &[u8]) -> Vec<u64> {
    let element = |b: &[u8]| b.iter().rev().fold(0u64, |sum, &byte| sum << 8 | u64::from(byte));
    let nan = |bits: u64| match dtype {
        DType::F32 => f32::from_bits(bits as u32).is_nan(),
        DType::F64 => f64::from_bits(bits).is_nan(),
        DType::F16 => bits & 0x7fff > 0x7c00,
        DType::BF16 => bits & 0x7fff > 0x7f80,
        _ => false,
    };
    bytes.chunks_exact(dtype.size()).map(element).map(|bits| if nan(bits) { !0 } else { bits }).collect()
}

#[test]
fn every_operation_gives_the_same_bits_on_avx2_and_avx512() {
    const N: usize = 3001;
    let random = &mut Random(7);
    let conversions = DType::ALL.map(OpCode::Convert);
    for op in OpCode::ALL.into_iter().chain(conversions) {
        for of in DType::ALL.into_iter().filter(|&of| op.supports(of)) {
            let mut types = vec![of; op.arity()];
            match op {
                OpCode::Select => types[0] = DType::Bool,
                OpCode::Philox => types[0] = DType::U64,
                _ => {}
            }
            let sources: Vec<Vec<[u64; 8]>> = types.iter().map(|&t| to_aligned(&patterns(t, N, random))).collect();
            let addresses: Vec<*const u8> = sources.iter().map(|s| s.as_ptr().cast()).collect();
            let to = op.result(of);
            let mut first = None;
            for isa in fused_isas().filter(|&isa| isa != Isa::Portable || to.is_int()) {
                let mut result = aligned(N * to.size());
                // SAFETY: every operand and the result have N elements.
                unsafe { lookup(op, of, isa).unwrap()(N, result.as_mut_ptr().cast(), addresses.as_ptr()) };
                let bits = canonical_as(to, &bytemuck::cast_slice::<_, u8>(&result)[..N * to.size()]);
                assert!(first.get_or_insert_with(|| bits.clone()) == &bits, "{op:?} of {of} on {isa}");
            }
        }
    }
}

#[test]
fn conversions_to_half_precision_agree_with_the_half_crate() {
    let values: Vec<f32> = (0..=u32::MAX).step_by(1013).map(f32::from_bits).collect();
    for isa in fused_isas() {
        let (mut half, mut brain) = (vec![0u16; values.len()], vec![0u16; values.len()]);
        let source = [values.as_ptr().cast::<u8>()];
        // SAFETY: operand and result have as many elements.
        unsafe {
            lookup(OpCode::Convert(DType::F16), DType::F32, isa).unwrap()(
                values.len(),
                half.as_mut_ptr().cast(),
                source.as_ptr(),
            );
            lookup(OpCode::Convert(DType::BF16), DType::F32, isa).unwrap()(
                values.len(),
                brain.as_mut_ptr().cast(),
                source.as_ptr(),
            );
        }
        for (i, &x) in values.iter().enumerate().filter(|(_, x)| !x.is_nan()) {
            assert_eq!(half[i], half::f16::from_f32_const(x).to_bits(), "{x:e} to f16");
            assert_eq!(brain[i], half::bf16::from_f32(x).to_bits(), "{x:e} to bf16");
        }
    }
    for bits in 0..=u16::MAX {
        let (x, expected) = (ops::convert::f32_from_f16(bits), half::f16::from_bits(bits).to_f32_const());
        assert!(x.to_bits() == expected.to_bits() || (x.is_nan() && expected.is_nan()), "{bits:#x}");
    }
}

#[test]
fn integer_operations_never_trap() {
    let (a, b) = ([7i32, 7, i32::MIN, 5, -8], [0i32, 2, -1, 40, 1]);
    let sources = [a.as_ptr().cast::<u8>(), b.as_ptr().cast::<u8>()];
    for isa in fused_isas() {
        let apply = |op: OpCode| {
            let mut y = [0i32; 5];
            // SAFETY: operands and result have five elements.
            unsafe { lookup(op, DType::I32, isa).unwrap()(5, y.as_mut_ptr().cast(), sources.as_ptr()) };
            y
        };
        assert_eq!(apply(OpCode::Div), [-1, 3, i32::MIN, 0, -8]);
        assert_eq!(apply(OpCode::Rem), [7, 1, 0, 5, 0]);
        assert_eq!(apply(OpCode::Shl), [7, 28, 0, 0, -16]);
        assert_eq!(apply(OpCode::Shr), [7, 1, 0, 0, 0x7fff_fffc]);
    }
}

#[test]
fn an_output_may_replace_an_input() {
    for isa in fused_isas() {
        let mut program = TileProgram::new(&[3000]).unwrap();
        let (x, y) = (program.load(0, DType::F32, &[1], 0).unwrap(), program.load(1, DType::F32, &[1], 0).unwrap());
        let sum = program.op(OpCode::Add, &[x, y]).unwrap();
        let product = program.op(OpCode::Mul, &[x, sum]).unwrap();
        // Operand 2 is operand 0's memory, operand 3 is operand 1's: x + y over x, and x over y.
        program.store(2, &[1], 0, sum).unwrap();
        program.store(3, &[1], 0, x).unwrap();
        program.store(4, &[1], 0, product).unwrap();
        let mut memory = [1.0f32, 2.0, 0.0].map(|v| vec![v; 3000]);
        let [a, b, c] = memory.each_mut().map(|m| m.as_mut_ptr().cast::<u8>());
        run_kernel(&Fused::new(&program, isa).unwrap(), &[a, b, a, b, c], false);
        assert!(memory[0].iter().all(|&v| v == 3.0));
        assert!(memory[1].iter().all(|&v| v == 1.0));
        assert!(memory[2].iter().all(|&v| v == 3.0));
    }
}

#[test]
fn philox_depends_on_the_element_index_alone() {
    for isa in fused_isas() {
        for dims in [&[2503usize][..], &[77, 33]] {
            let mut program = TileProgram::new(dims).unwrap();
            let index = program.index(DType::U64).unwrap();
            let words: Vec<Reg> = [9, 8, 7, 6, 5].map(|w| program.constant(DType::U32, w).unwrap()).to_vec();
            let bits = program.op(OpCode::Philox, &[&[index], &words[..]].concat()).unwrap();
            let strides = program.row_major();
            program.store(0, &strides, 0, bits).unwrap();
            let mut result = vec![0u32; program.elements()];
            run_kernel(&Fused::new(&program, isa).unwrap(), &[result.as_mut_ptr().cast()], false);
            for (i, &word) in result.iter().enumerate() {
                let expected = crate::philox::philox4x32([9, 8], [(i >> 2) as u32, 7, 6, 5])[i & 3];
                assert_eq!(word, expected, "element {i} on {isa}");
            }
        }
    }
}

#[test]
fn epilogues_equal_the_program_over_the_whole_product() {
    let (rows, cols, ld) = (37, 90, 96);
    let random = &mut Random(3);
    let product: Vec<f32> = (0..rows * ld).map(|_| random.float()).collect();
    let bias: Vec<f32> = (0..cols + 5).map(|_| random.float()).collect();
    for isa in fused_isas() {
        let mut program = TileProgram::new(&[2, 100, cols + 5]).unwrap();
        let x = program.given().unwrap();
        let b = program.load(0, DType::F32, &[0, 0, 1], 0).unwrap();
        let sum = program.op(OpCode::Add, &[x, b]).unwrap();
        let strides = program.row_major();
        program.store(1, &strides, 0, sum).unwrap();
        let epilogue = TileEpilogue::new(&program, isa).unwrap();
        let mut result = vec![0f32; program.elements()];
        let mut scratch = aligned(epilogue.scratch());
        let operands = [bias.as_ptr().cast_mut().cast(), result.as_mut_ptr().cast()];
        // SAFETY: the block lies in the space; the operands have its shape.
        unsafe { epilogue.apply(1, 3, rows, 4, cols, product.as_ptr(), ld, &operands, scratch.as_mut_ptr().cast()) };
        for r in 0..100 {
            for c in 0..cols + 5 {
                let inside = (3..3 + rows).contains(&r) && (4..4 + cols).contains(&c);
                let expected = if inside { product[(r - 3) * ld + c - 4] + bias[c] } else { 0.0 };
                assert_eq!(result[(100 + r) * (cols + 5) + c], expected, "({r}, {c}) on {isa}");
            }
        }
    }
}

#[test]
fn constructors_reject_what_does_not_fit() {
    let mut program = TileProgram::new(&[2, 3]).unwrap();
    assert_eq!(program.load(0, DType::F32, &[1], 0), Err(TileError::Rank { expected: 2, found: 1 }));
    let (x, flag) = (program.load(0, DType::F32, &[3, 1], 0).unwrap(), program.constant(DType::Bool, 1).unwrap());
    assert!(matches!(program.op(OpCode::Add, &[x, flag]), Err(TileError::Types(..))));
    assert!(matches!(program.op(OpCode::Not, &[x]), Err(TileError::Types(..))));
    assert_eq!(program.op(OpCode::Neg, &[Reg(9)]), Err(TileError::UnknownRegister(Reg(9))));
    assert!(matches!(Fused::new(&program, Isa::Portable), Err(TileError::NoResult)));
}

#[test]
fn philox_may_start_inside_a_block() {
    for isa in fused_isas() {
        for start in 0..5u64 {
            let index: Vec<u64> = (start..start + 150).collect();
            let words: Vec<Vec<u32>> = [9, 8, 7, 6, 5].map(|w| vec![w; 150]).to_vec();
            let mut sources = vec![index.as_ptr().cast::<u8>()];
            sources.extend(words.iter().map(|w| w.as_ptr().cast::<u8>()));
            let (mut fast, mut general) = (vec![0u32; 150], vec![0u32; 150]);
            // SAFETY: six operands and a result of 150 elements.
            unsafe {
                ops::philox_uniform(isa)(150, fast.as_mut_ptr().cast(), sources.as_ptr());
                lookup(OpCode::Philox, DType::U32, isa).unwrap()(150, general.as_mut_ptr().cast(), sources.as_ptr());
            }
            assert_eq!(fast, general, "from {start} on {isa}");
            let expected = crate::philox::philox4x32([9, 8], [(index[7] >> 2) as u32, 7, 6, 5])[(index[7] & 3) as usize];
            assert_eq!(general[7], expected);
        }
    }
}
