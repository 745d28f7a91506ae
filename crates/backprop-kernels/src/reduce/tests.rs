use super::*;
use crate::tile::testing::{Random, fused_isas, indices, run_kernel};
use crate::{DType, Isa, OpCode, TileProgram};

const SHAPES: [&[usize]; 15] = [
    &[],
    &[1],
    &[9],
    &[100],
    &[70_001],
    &[3, 5],
    &[500, 10],
    &[1000, 64],
    &[7, 2500],
    &[5, 6, 7],
    &[4, 300, 33],
    &[2, 3, 4, 5],
    &[3, 1, 50, 1, 40],
    &[0, 3],
    &[3, 0],
];

fn kept_index(index: &[usize], dims: &[usize], reduced: &[bool]) -> usize {
    let kept = index.iter().zip(dims).zip(reduced).filter(|(_, r)| !**r);
    kept.fold(0, |sum, ((&i, &d), _)| sum * d + i)
}

fn output_len(dims: &[usize], reduced: &[bool]) -> usize {
    dims.iter().zip(reduced).filter(|(_, r)| !**r).map(|(&d, _)| d).product()
}

fn masks(rank: usize) -> Vec<Vec<bool>> {
    (0..1usize << rank).map(|bits| (0..rank).map(|d| bits >> d & 1 == 1).collect()).collect()
}

fn row_major(dims: &[usize]) -> Vec<isize> {
    TileProgram::new(dims).unwrap().row_major()
}

fn reduce_f32(x: &[f32], dims: &[usize], mask: &[bool], kind: Reduction, wide: DType, isa: Isa, reversed: bool) -> Vec<f32> {
    let kernel = Reduce::of_operand(dims, &row_major(dims), DType::F32, mask, kind, wide, isa).unwrap();
    let mut y = vec![7f32; output_len(dims, mask)];
    run_kernel(&kernel, &[x.as_ptr().cast_mut().cast(), y.as_mut_ptr().cast()], reversed);
    y
}

#[test]
fn sums_stay_within_the_bound_and_have_the_same_bits_everywhere() {
    let random = &mut Random(1);
    for dims in SHAPES {
        let x: Vec<f32> = (0..dims.iter().product()).map(|_| random.float()).collect();
        for mask in masks(dims.len()) {
            let len = output_len(dims, &mask);
            let (mut exact, mut size) = (vec![0f64; len], vec![0f64; len]);
            for (index, &x) in indices(dims).iter().zip(&x) {
                exact[kept_index(index, dims, &mask)] += f64::from(x);
                size[kept_index(index, dims, &mask)] += f64::from(x.abs());
            }
            let count = x.len() / len.max(1);
            for wide in [DType::F32, DType::F64] {
                let mut bits: Option<Vec<u32>> = None;
                for isa in fused_isas() {
                    let y = reduce_f32(&x, dims, &mask, Reduction::Sum, wide, isa, false);
                    let again = reduce_f32(&x, dims, &mask, Reduction::Sum, wide, isa, true);
                    assert_eq!(y, again, "{dims:?} {mask:?} reversed tasks");
                    for i in 0..len {
                        let bound = 2.0 * (count as f64).max(1.0) * f64::from(f32::EPSILON) * size[i];
                        let error = (f64::from(y[i]) - exact[i]).abs();
                        assert!(error <= bound, "{dims:?} {mask:?} {isa}: {} for {}", y[i], exact[i]);
                    }
                    let found: Vec<u32> = y.iter().map(|v| v.to_bits()).collect();
                    assert_eq!(bits.get_or_insert_with(|| found.clone()), &found, "{dims:?} {mask:?} on {isa}");
                }
            }
        }
    }
}

#[test]
fn extremes_are_exact_and_propagate_nan() {
    let random = &mut Random(2);
    for dims in SHAPES {
        let mut x: Vec<f32> = (0..dims.iter().product()).map(|_| random.float()).collect();
        if let Some(first) = x.first_mut() {
            *first = f32::NAN;
        }
        for mask in masks(dims.len()) {
            for (kind, start) in [(Reduction::Max, f32::NEG_INFINITY), (Reduction::Min, f32::INFINITY)] {
                let mut expected = vec![start; output_len(dims, &mask)];
                for (index, &x) in indices(dims).iter().zip(&x) {
                    let y = &mut expected[kept_index(index, dims, &mask)];
                    *y = match kind {
                        Reduction::Max => crate::math::maximum(*y, x),
                        _ => crate::math::minimum(*y, x),
                    };
                }
                for isa in fused_isas() {
                    let y = reduce_f32(&x, dims, &mask, kind, DType::F32, isa, false);
                    let same = y.iter().zip(&expected).all(|(a, b)| a == b || (a.is_nan() && b.is_nan()));
                    assert!(same, "{kind:?} of {dims:?} over {mask:?} on {isa}");
                }
            }
        }
    }
}

#[test]
fn a_million_terms_are_summed_better_than_one_after_another() {
    let random = &mut Random(3);
    let x: Vec<f32> = (0..1_000_000).map(|_| random.float().abs()).collect();
    let exact: f64 = x.iter().map(|&x| f64::from(x)).sum();
    let naive = f64::from(x.iter().fold(0f32, |sum, x| sum + x));
    let y = reduce_f32(&x, &[1_000_000], &[true], Reduction::Sum, DType::F32, Isa::detect(), false)[0];
    let error = (f64::from(y) - exact).abs() / exact;
    assert!(error < 1e-6, "relative error {error:e}");
    assert!(error < (naive - exact).abs() / exact / 10.0);
}

#[test]
fn a_fused_producer_changes_no_bit() {
    let random = &mut Random(4);
    for dims in [&[40usize, 25, 17][..], &[3, 700, 64], &[2, 3, 1500]] {
        let n: usize = dims.iter().product();
        let x: Vec<f32> = (0..n).map(|_| random.float()).collect();
        let scale: Vec<f32> = (0..dims[1]).map(|_| random.float()).collect();
        let product: Vec<f32> =
            indices(dims).iter().zip(&x).map(|(index, x)| (x * scale[index[1]]) * (x * scale[index[1]])).collect();
        for mask in masks(3) {
            for isa in fused_isas() {
                let mut program = TileProgram::new(dims).unwrap();
                let a = program.load(0, DType::F32, &row_major(dims), 0).unwrap();
                let b = program.load(1, DType::F32, &[0, 1, 0], 0).unwrap();
                let c = program.op(OpCode::Mul, &[a, b]).unwrap();
                let square = program.op(OpCode::Mul, &[c, c]).unwrap();
                let kernel = Reduce::new(&program, square, &mask, Reduction::Sum, DType::F32, 2, isa).unwrap();
                let mut y = vec![0f32; output_len(dims, &mask)];
                let inputs = [x.as_ptr().cast_mut().cast(), scale.as_ptr().cast_mut().cast(), y.as_mut_ptr().cast()];
                run_kernel(&kernel, &inputs, false);
                let expected = reduce_f32(&product, dims, &mask, Reduction::Sum, DType::F32, isa, false);
                assert_eq!(y, expected, "{dims:?} over {mask:?} on {isa}");
            }
        }
    }
}

/// Values, and squares, that are converted on the way into a sum give the sum of converted ones.
#[test]
fn widening_in_registers_changes_no_bit() {
    let random = &mut Random(6);
    for dims in [&[1usize, 1][..], &[3, 5], &[40, 53], &[7, 1500], &[2, 9000], &[0, 4]] {
        let x: Vec<f32> = (0..dims.iter().product()).map(|_| random.float() * 1e20).collect();
        for (mask, squared) in masks(2).into_iter().flat_map(|mask| [(mask.clone(), false), (mask, true)]) {
            let wide: Vec<f64> = x.iter().map(|&x| f64::from(if squared { x * x } else { x })).collect();
            for isa in fused_isas() {
                let mut program = TileProgram::new(dims).unwrap();
                let x32 = program.load(0, DType::F32, &row_major(dims), 0).unwrap();
                let value = if squared { program.op(OpCode::Mul, &[x32, x32]).unwrap() } else { x32 };
                let value = program.op(OpCode::Convert(DType::F64), &[value]).unwrap();
                let narrow = Reduce::new(&program, value, &mask, Reduction::Sum, DType::F64, 1, isa).unwrap();
                let whole =
                    Reduce::of_operand(dims, &row_major(dims), DType::F64, &mask, Reduction::Sum, DType::F64, isa).unwrap();
                let [mut found, mut expected] = [0, 1].map(|_| vec![7f64; output_len(dims, &mask)]);
                run_kernel(&narrow, &[x.as_ptr().cast_mut().cast(), found.as_mut_ptr().cast()], false);
                run_kernel(&whole, &[wide.as_ptr().cast_mut().cast(), expected.as_mut_ptr().cast()], false);
                assert_eq!(found, expected, "{dims:?} over {mask:?} on {isa}");
            }
        }
    }
}

#[test]
fn integers_wrap_and_flags_combine() {
    let x = [i32::MAX, 1, 5, -7];
    let mut y = [0i32];
    let kernel = Reduce::of_operand(&[4], &[1], DType::I32, &[true], Reduction::Sum, DType::I32, Isa::detect()).unwrap();
    run_kernel(&kernel, &[x.as_ptr().cast_mut().cast(), y.as_mut_ptr().cast()], false);
    assert_eq!(y[0], i32::MAX - 1);
    for (kind, expected) in [(Reduction::Max, [1u8, 1, 0]), (Reduction::Min, [0, 1, 0])] {
        let flags = [0u8, 1, 1, 1, 0, 0];
        let mut y = [9u8; 3];
        let kernel = Reduce::of_operand(&[3, 2], &[2, 1], DType::Bool, &[false, true], kind, DType::Bool, Isa::detect()).unwrap();
        run_kernel(&kernel, &[flags.as_ptr().cast_mut(), y.as_mut_ptr()], false);
        assert_eq!(y, expected);
    }
}

#[test]
fn strided_inputs_are_read_where_they_are() {
    let x: Vec<f32> = (0..12).map(|i| i as f32).collect();
    let mut y = [0f32; 4];
    // The transpose of a 3 × 4 matrix, summed along its last dimension: the matrix's column sums.
    let kernel =
        Reduce::of_operand(&[4, 3], &[1, 4], DType::F32, &[false, true], Reduction::Sum, DType::F32, Isa::detect()).unwrap();
    run_kernel(&kernel, &[x.as_ptr().cast_mut().cast(), y.as_mut_ptr().cast()], false);
    assert_eq!(y, [12.0, 15.0, 18.0, 21.0]);
}

#[test]
fn the_first_extreme_wins_and_the_first_nan_before_all() {
    let x = [1f32, 5.0, 5.0, 2.0, f32::NAN, f32::NAN, -3.0, -3.0, 0.0, 0.0, -0.0, 0.0];
    for (kind, expected) in [(ArgReduction::Max, [1, 0, 0]), (ArgReduction::Min, [0, 0, 0])] {
        let (mut at, mut value) = ([9i32; 3], [9f32; 3]);
        let kernel = ArgReduce::new([3, 4, 1], DType::F32, kind, Isa::detect()).unwrap();
        let operands = [x.as_ptr().cast_mut().cast(), at.as_mut_ptr().cast(), value.as_mut_ptr().cast()];
        run_kernel(&kernel, &operands, false);
        assert_eq!(at, expected);
        assert!(value[1].is_nan());
    }
    let (mut at, mut value) = ([9i32; 2], [9f32; 2]);
    let kernel = ArgReduce::new([1, 6, 2], DType::F32, ArgReduction::Min, Isa::detect()).unwrap();
    run_kernel(&kernel, &[x.as_ptr().cast_mut().cast(), at.as_mut_ptr().cast(), value.as_mut_ptr().cast()], false);
    assert_eq!(at, [2, 2]);
}

/// The first extreme of each of `rows` rows, one element after the other.
fn first_extremes(x: &[f32], length: usize, kind: ArgReduction) -> Vec<(i32, u32)> {
    let beats = |a: f32, b: f32| if kind == ArgReduction::Max { a > b } else { a < b };
    let extreme = |row: &[f32]| {
        let mut best = 0;
        for (i, x) in row.iter().enumerate() {
            let replaces = !row[best].is_nan() && (x.is_nan() || beats(*x, row[best]));
            best = if replaces { i } else { best };
        }
        (best as i32, row[best].to_bits())
    };
    x.chunks(length).map(extreme).collect()
}

#[test]
fn rows_of_every_length_have_the_first_extreme_at_its_place() {
    let random = &mut Random(5);
    for length in (1..100).chain([1000, 4097]) {
        let rows = 9;
        let mut x: Vec<f32> = (0..rows * length).map(|_| (random.float() * 8.0).round()).collect();
        for (row, special) in [(3, f32::NAN), (4, f32::NEG_INFINITY), (5, f32::INFINITY), (6, -0.0)] {
            (0..3).for_each(|_| x[row * length + random.below(length)] = special);
        }
        x[7 * length..8 * length].fill(f32::NEG_INFINITY);
        x[8 * length..].fill(f32::INFINITY);
        for kind in [ArgReduction::Max, ArgReduction::Min] {
            for &isa in Isa::available() {
                let (mut at, mut value) = (vec![9i32; rows], vec![9f32; rows]);
                let kernel = ArgReduce::new([rows, length, 1], DType::F32, kind, isa).unwrap();
                let operands = [x.as_ptr().cast_mut().cast(), at.as_mut_ptr().cast(), value.as_mut_ptr().cast()];
                run_kernel(&kernel, &operands, true);
                let found: Vec<(i32, u32)> = at.into_iter().zip(value.iter().map(|v| v.to_bits())).collect();
                assert_eq!(found, first_extremes(&x, length, kind), "{length} {kind:?} {isa}");
            }
        }
    }
}

#[test]
fn unsupported_types_are_refused() {
    let refused =
        |dtype, accumulate| Reduce::of_operand(&[4], &[1], dtype, &[true], Reduction::Sum, accumulate, Isa::Portable).is_err();
    assert!(refused(DType::Bool, DType::Bool));
    assert!(refused(DType::F16, DType::F16));
    assert!(refused(DType::F64, DType::F32));
}

#[test]
fn operands_that_repeat_in_every_row_or_column_give_the_bits_of_whole_ones() {
    let random = &mut Random(31);
    for dims in [[1000, 64], [7, 2500], [300, 512], [2000, 3], [65, 33], [40_000, 1], [3, 0]] {
        let [rows, columns] = dims;
        let mut draw = |n: usize| (0..n).map(|_| random.float()).collect::<Vec<f32>>();
        let (x, m, s) = (draw(rows * columns), draw(columns), draw(rows));
        let whole: Vec<f32> = (0..rows * columns).map(|i| (x[i] - m[i % columns]) * s[i / columns]).collect();
        let mut program = TileProgram::new(&dims).unwrap();
        let strides = [[columns as isize, 1], [0, 1], [1, 0]];
        let [x_at, m_at, s_at] = [0, 1, 2].map(|i| program.load(i, DType::F32, &strides[i], 0).unwrap());
        let centred = program.op(OpCode::Sub, &[x_at, m_at]).unwrap();
        let result = program.op(OpCode::Mul, &[centred, s_at]).unwrap();
        for mask in masks(2) {
            for isa in fused_isas() {
                let kernel = Reduce::new(&program, result, &mask, Reduction::Sum, DType::F32, 3, isa).unwrap();
                let mut y = vec![7f32; output_len(&dims, &mask)];
                let inputs = [&x, &m, &s].map(|v| v.as_ptr().cast_mut().cast::<u8>());
                run_kernel(&kernel, &[inputs[0], inputs[1], inputs[2], y.as_mut_ptr().cast()], false);
                let expected = reduce_f32(&whole, &dims, &mask, Reduction::Sum, DType::F32, isa, false);
                let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<u32>>();
                assert_eq!(bits(&y), bits(&expected), "{dims:?} {mask:?} {isa:?}");
            }
        }
    }
}
