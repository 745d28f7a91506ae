use super::*;
use crate::tile::testing::{Random, indices, run_kernel};
use crate::{DType, Kernel};

fn flat(index: &[usize], dims: &[usize]) -> usize {
    index.iter().zip(dims).fold(0, |sum, (&i, &d)| sum * d + i)
}

/// Runs on copies of the inputs and an output of `len` elements, in both task orders.
fn run<T: Copy + PartialEq + std::fmt::Debug>(kernel: &dyn Kernel, inputs: &[*const u8], len: usize, empty: T) -> Vec<T> {
    let go = |reversed| {
        let mut output = vec![empty; len];
        let mut operands: Vec<*mut u8> = inputs.iter().map(|p| p.cast_mut()).collect();
        operands.push(output.as_mut_ptr().cast());
        run_kernel(kernel, &operands, reversed);
        output
    };
    let (forward, backward) = (go(false), go(true));
    assert_eq!(forward, backward, "the order of tasks must not matter");
    forward
}

fn numbers<T: From<u8> + Copy>(n: usize) -> Vec<T> {
    (0..n).map(|i| T::from((i % 251) as u8)).collect()
}

#[test]
fn views_equal_obvious_loops() {
    let cases: [(&[usize], &[isize], isize); 12] = [
        (&[300, 200], &[1, 300], 0),
        (&[3, 64, 144], &[9216, 1, 64], 0),
        (&[2, 37, 35], &[1295, 1, 37], 1),
        (&[130, 40], &[1, -130], 130 * 39),
        (&[5, 7, 300], &[1, 5, 35], 0),
        (&[7, 300, 5], &[1500, 1, 300], 0),
        (&[70, 3, 90], &[270, 90, 1], 0),
        (&[4, 1000], &[0, 1], 3),
        (&[1000, 4], &[1, 0], 0),
        (&[6, 50], &[-50, -1], 299),
        (&[], &[], 2),
        (&[0, 5], &[5, 1], 0),
    ];
    for (dims, strides, offset) in cases {
        let source: Vec<u32> = numbers(70_000);
        let expected: Vec<u32> = indices(dims)
            .iter()
            .map(|index| source[(offset + index.iter().zip(strides).map(|(&i, &s)| i as isize * s).sum::<isize>()) as usize])
            .collect();
        let kernel = StridedCopy::view(DType::U32, dims, strides, offset);
        assert_eq!(run(&kernel, &[source.as_ptr().cast()], expected.len(), 0u32), expected, "{dims:?} {strides:?}");
    }
    let bytes: Vec<u8> = numbers(60_000);
    let expected: Vec<u8> = (0..60_000).map(|i| bytes[i % 300 * 200 + i / 300]).collect();
    let kernel = StridedCopy::view(DType::U8, &[200, 300], &[1, 200], 0);
    assert_eq!(run(&kernel, &[bytes.as_ptr()], 60_000, 0u8), expected);
    let wide: Vec<f64> = numbers(60_000);
    let expected: Vec<f64> = (0..60_000).map(|i| wide[i % 300 * 200 + i / 300]).collect();
    let kernel = StridedCopy::view(DType::F64, &[200, 300], &[1, 200], 0);
    assert_eq!(run(&kernel, &[wide.as_ptr().cast()], 60_000, 0f64), expected);
}

#[test]
fn concatenation_joins_along_any_dimension() {
    let (a, b): (Vec<u32>, Vec<u32>) = (numbers(24), (100..136).collect());
    for (shapes, dim) in [([[2usize, 3, 4], [3, 3, 4]], 0), ([[3, 2, 4], [3, 3, 4]], 1), ([[4, 3, 2], [4, 3, 3]], 2)] {
        let mut dims = shapes[0];
        dims[dim] = 5;
        let expected: Vec<u32> = indices(&dims)
            .iter()
            .map(|index| {
                let mut index = index.clone();
                if index[dim] < 2 {
                    return a[flat(&index, &shapes[0])];
                }
                index[dim] -= 2;
                b[flat(&index, &shapes[1])]
            })
            .collect();
        let kernel = StridedCopy::concatenate(DType::U32, &[&shapes[0], &shapes[1]], dim);
        assert_eq!(run(&kernel, &[a.as_ptr().cast(), b.as_ptr().cast()], 60, 0u32), expected);
    }
}

#[test]
fn padding_follows_stablehlo() {
    let random = &mut Random(5);
    for _ in 0..300 {
        let dims = [random.below(5), 1 + random.below(4)];
        let low = [0, 1].map(|_| random.below(6) as isize - 2);
        let high = [0, 1].map(|_| random.below(6) as isize - 2);
        let interior = [random.below(3), random.below(3)];
        let source: Vec<u32> = (1..=20).collect();
        let extent = |d: usize| {
            let inside = (dims[d] + dims[d].saturating_sub(1) * interior[d]) as isize;
            (inside + low[d] + high[d]).max(0) as usize
        };
        let padded = [extent(0), extent(1)];
        let mut expected = vec![77u32; padded[0] * padded[1]];
        for index in indices(&dims) {
            let position = |d: usize| low[d] + (index[d] * (interior[d] + 1)) as isize;
            let (i, j) = (position(0), position(1));
            if (0..padded[0] as isize).contains(&i) && (0..padded[1] as isize).contains(&j) {
                expected[i as usize * padded[1] + j as usize] = source[flat(&index, &dims)];
            }
        }
        let kernel = StridedCopy::pad(DType::U32, &dims, &low, &high, &interior);
        let value = [77u32];
        let found = run(&kernel, &[source.as_ptr().cast(), value.as_ptr().cast()], expected.len(), 0u32);
        assert_eq!(found, expected, "{dims:?} low {low:?} high {high:?} interior {interior:?}");
    }
}

#[test]
fn fill_writes_every_element() {
    let kernel = StridedCopy::fill(DType::F16, 70_000, 0x3c00);
    assert_eq!(run(&kernel, &[], 70_000, 0u16), vec![0x3c00; 70_000]);
}

/// Gather by StableHLO's definition, element by element.
fn gather_reference(spec: &GatherSpec, operand: &[f32], starts: &[i32]) -> Vec<f32> {
    let output = spec.output();
    let batch_dims: Vec<usize> = (0..output.len()).filter(|d| !spec.offset_dims.contains(d)).collect();
    let element = |index: Vec<usize>| {
        let mut at = vec![0usize; spec.operand.len()];
        for (c, &d) in spec.start_index_map.iter().enumerate() {
            let mut position: Vec<usize> = batch_dims.iter().map(|&d| index[d]).collect();
            if spec.index_vector_dim < spec.indices.len() {
                position.insert(spec.index_vector_dim, c);
            }
            let largest = (spec.operand[d] - spec.slice_sizes[d]) as i32;
            at[d] = starts[flat(&position, &spec.indices)].clamp(0, largest) as usize;
        }
        let kept = (0..at.len()).filter(|d| !spec.collapsed_slice_dims.contains(d)).collect::<Vec<_>>();
        for (&d, &o) in kept.iter().zip(&spec.offset_dims) {
            at[d] += index[o];
        }
        operand[flat(&at, &spec.operand)]
    };
    indices(&output).into_iter().map(element).collect()
}

fn gather_specs() -> Vec<GatherSpec> {
    let general = GatherSpec {
        operand: vec![6, 5, 4],
        indices: vec![3, 2, 2],
        offset_dims: vec![1, 3],
        collapsed_slice_dims: vec![1],
        start_index_map: vec![2, 0],
        index_vector_dim: 1,
        slice_sizes: vec![3, 1, 2],
    };
    let scalars = GatherSpec {
        operand: vec![6, 5],
        indices: vec![40, 2],
        offset_dims: vec![],
        collapsed_slice_dims: vec![0, 1],
        start_index_map: vec![0, 1],
        index_vector_dim: 1,
        slice_sizes: vec![1, 1],
    };
    vec![general, scalars, GatherSpec::rows(50, 33, &[7, 9]), GatherSpec::rows(9, 40_000, &[3])]
}

#[test]
fn gather_follows_stablehlo() {
    let random = &mut Random(6);
    for spec in gather_specs() {
        let operand: Vec<f32> = (0..spec.operand.iter().product()).map(|_| random.float()).collect();
        let starts: Vec<i32> = (0..spec.indices.iter().product()).map(|_| random.below(60) as i32 - 4).collect();
        let wide: Vec<i64> = starts.iter().map(|&i| i64::from(i)).collect();
        let expected = gather_reference(&spec, &operand, &starts);
        let kernel = Gather::new(&spec, DType::F32, DType::I32).unwrap();
        let found = run(&kernel, &[operand.as_ptr().cast(), starts.as_ptr().cast()], expected.len(), 0f32);
        assert_eq!(found, expected, "{spec:?}");
        let kernel = Gather::new(&spec, DType::F32, DType::I64).unwrap();
        let found = run(&kernel, &[operand.as_ptr().cast(), wide.as_ptr().cast()], expected.len(), 0f32);
        assert_eq!(found, expected, "{spec:?} with i64 indices");
    }
    assert!(Gather::new(&GatherSpec { slice_sizes: vec![1], ..GatherSpec::rows(2, 3, &[4]) }, DType::F32, DType::I32).is_none());
    assert!(Gather::new(&GatherSpec::rows(2, 3, &[4]), DType::F32, DType::F32).is_none());
}

/// The scatter whose windows are the slices of a gather.
fn transposed(spec: &GatherSpec) -> ScatterSpec {
    ScatterSpec {
        operand: spec.operand.clone(),
        indices: spec.indices.clone(),
        updates: spec.output(),
        update_window_dims: spec.offset_dims.clone(),
        inserted_window_dims: spec.collapsed_slice_dims.clone(),
        scatter_dims_to_operand_dims: spec.start_index_map.clone(),
        index_vector_dim: spec.index_vector_dim,
    }
}

#[test]
fn scatter_adds_in_row_major_order_and_drops_what_does_not_fit() {
    let random = &mut Random(8);
    let mut specs = gather_specs();
    specs.push(GatherSpec::rows(30, 256, &[900]));
    specs.push(GatherSpec::rows(30, 4, &[9000]));
    for gather in specs {
        let spec = transposed(&gather);
        let operand: Vec<f32> = (0..spec.operand.iter().product()).map(|_| random.float()).collect();
        let updates: Vec<f32> = (0..spec.updates.iter().product()).map(|_| random.float()).collect();
        let starts: Vec<i32> = (0..spec.indices.iter().product()).map(|_| random.below(36) as i32 - 2).collect();
        let expected = scatter_reference(&gather, &spec, &operand, &updates, &starts);
        let kernel = ScatterAdd::new(&spec, DType::F32, DType::I32).unwrap();
        let inputs = [operand.as_ptr().cast(), starts.as_ptr().cast(), updates.as_ptr().cast()];
        assert_eq!(run(&kernel, &inputs, operand.len(), 0f32), expected, "{spec:?}");
        let mut in_place = operand.clone();
        let address = in_place.as_mut_ptr().cast::<u8>();
        run_kernel(&kernel, &[address, inputs[1].cast_mut(), inputs[2].cast_mut(), address], true);
        assert_eq!(in_place, expected, "{spec:?} in place");
    }
    assert!(ScatterAdd::new(&ScatterSpec::rows(3, 4, &[5]), DType::Bool, DType::I32).is_none());
    assert!(ScatterAdd::new(&ScatterSpec { updates: vec![], ..ScatterSpec::rows(3, 4, &[5]) }, DType::F32, DType::I32).is_none());
}

fn scatter_reference(gather: &GatherSpec, spec: &ScatterSpec, x: &[f32], updates: &[f32], starts: &[i32]) -> Vec<f32> {
    let mut result = x.to_vec();
    let batch_dims: Vec<usize> = (0..spec.updates.len()).filter(|d| !spec.update_window_dims.contains(d)).collect();
    for index in indices(&spec.updates) {
        let mut at = vec![0usize; spec.operand.len()];
        let mut fits = true;
        for (c, &d) in spec.scatter_dims_to_operand_dims.iter().enumerate() {
            let mut position: Vec<usize> = batch_dims.iter().map(|&d| index[d]).collect();
            if spec.index_vector_dim < spec.indices.len() {
                position.insert(spec.index_vector_dim, c);
            }
            let start = starts[flat(&position, &spec.indices)];
            fits &= (0..=(spec.operand[d] - gather.slice_sizes[d]) as i32).contains(&start);
            at[d] = start.max(0) as usize;
        }
        if !fits {
            continue;
        }
        let kept = (0..at.len()).filter(|d| !spec.inserted_window_dims.contains(d)).collect::<Vec<_>>();
        for (&d, &o) in kept.iter().zip(&spec.update_window_dims) {
            at[d] += index[o];
        }
        result[flat(&at, &spec.operand)] += updates[flat(&index, &spec.updates)];
    }
    result
}

/// A program that stores the table which sums of `count` updates stand for.
fn table(dims: [usize; 2], count: usize) -> crate::Fused {
    let mut program = crate::TileProgram::new(&dims).unwrap();
    let rows = program.sparse_rows([0, 1], count, dims[1]).unwrap();
    program.store(2, &program.row_major(), 0, rows).unwrap();
    crate::Fused::new(&program, crate::Isa::Portable).unwrap()
}

#[test]
fn sums_of_rows_are_those_of_a_scatter() {
    let random = &mut Random(31);
    for [rows, width, count] in
        [[1, 1, 1], [7, 3, 40], [900, 17, 60], [50, 64, 1000], [3, 40_000, 5], [9, 4, 0], [0, 4, 3], [5, 0, 3]]
    {
        let codes: Vec<i32> = (0..count).map(|_| random.below(rows + 4) as i32 - 2).collect();
        let updates: Vec<f32> = (0..count * width).map(|_| random.float()).collect();
        let kernel = RowSums::new([rows, width, count], DType::I32).unwrap();
        let go = |reversed| {
            let (mut keys, mut sums) = (vec![7u64; count], vec![f32::NAN; count * width]);
            let outputs = [keys.as_mut_ptr().cast::<u8>(), sums.as_mut_ptr().cast()];
            run_kernel(
                &kernel,
                &[codes.as_ptr().cast_mut().cast(), updates.as_ptr().cast_mut().cast(), outputs[0], outputs[1]],
                reversed,
            );
            (keys, sums)
        };
        let (keys, sums) = go(false);
        assert_eq!((&keys, &sums), (&go(true).0, &go(true).1), "the order of tasks must not matter");
        let inputs = [keys.as_ptr().cast(), sums.as_ptr().cast()];
        let table = run(&table([rows, width], count), &inputs, rows * width, 7f32);
        let dense = ScatterAdd::new(&ScatterSpec::rows(rows, width, &[count]), DType::F32, DType::I32).unwrap();
        let zeros = vec![0f32; rows * width];
        let inputs = [zeros.as_ptr().cast(), codes.as_ptr().cast(), updates.as_ptr().cast()];
        assert_eq!(table, run(&dense, &inputs, rows * width, 0f32), "{rows} {width} {count}");
    }
    assert!(RowSums::new([3, 4, 5], DType::F32).is_none());
    assert!(RowSums::new([1 << 40, 4, 5], DType::I64).is_none());
}

#[test]
fn dynamic_slices_are_clamped() {
    let source: Vec<u32> = (0..200).collect();
    for (starts, clamped) in [([1i32, 2], [1usize, 2]), ([-5, 100], [0, 13]), ([9, 0], [5, 0])] {
        let kernel = DynamicSlice::new(&[10, 20], &[5, 7], DType::U32, DType::I32).unwrap();
        let inputs = [source.as_ptr().cast(), (&raw const starts[0]).cast(), (&raw const starts[1]).cast()];
        let expected: Vec<u32> = indices(&[5, 7]).iter().map(|i| source[(clamped[0] + i[0]) * 20 + clamped[1] + i[1]]).collect();
        assert_eq!(run(&kernel, &inputs, 35, 0u32), expected);

        let update: Vec<u32> = (1000..1035).collect();
        let kernel = DynamicUpdateSlice::new(&[10, 20], &[5, 7], DType::U32, DType::I32).unwrap();
        let inputs = [inputs[0], update.as_ptr().cast(), inputs[1], inputs[2]];
        let mut expected = source.clone();
        for (n, i) in indices(&[5, 7]).iter().enumerate() {
            expected[(clamped[0] + i[0]) * 20 + clamped[1] + i[1]] = update[n];
        }
        assert_eq!(run(&kernel, &inputs, 200, 0u32), expected);
    }
    assert!(DynamicSlice::new(&[3], &[4], DType::U32, DType::I32).is_none());
}
