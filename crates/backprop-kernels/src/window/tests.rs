use super::*;
use crate::tile::testing::{Random, fused_isas, indices, run_kernel};
use crate::{DType, Isa, Kernel, OpCode, Reduction, TileEpilogue, TileProgram};
use std::sync::Arc;

fn flat(index: &[usize], dims: &[usize]) -> usize {
    index.iter().zip(dims).fold(0, |sum, (&i, &d)| sum * d + i)
}

/// Flat input positions under each window, in row-major order, by definition.
fn windows(spec: &WindowSpec) -> Vec<Vec<usize>> {
    let output = spec.output().unwrap();
    let under = |o: &Vec<usize>| {
        let source = |k: &Vec<usize>| -> Option<usize> {
            let mut index = Vec::new();
            for d in 0..o.len() {
                let at = (o[d] * spec.strides[d] + k[d] * spec.window_dilation[d]) as isize - spec.padding[d][0];
                let inside = at >= 0 && (at as usize).is_multiple_of(spec.base_dilation[d]);
                let i = at.max(0) as usize / spec.base_dilation[d];
                if !inside || i >= spec.input[d] {
                    return None;
                }
                index.push(i);
            }
            Some(flat(&index, &spec.input))
        };
        indices(&spec.window).iter().filter_map(source).collect()
    };
    indices(&output).iter().map(under).collect()
}

fn specs(random: &mut Random) -> Vec<WindowSpec> {
    let mut specs = vec![
        WindowSpec::tiling(&[2, 8, 8, 70], &[1, 2, 2, 1]),
        WindowSpec {
            strides: vec![1, 2, 2, 1],
            padding: vec![[0, 0], [1, 1], [1, 1], [0, 0]],
            ..WindowSpec::tiling(&[2, 9, 9, 33], &[1, 3, 3, 1])
        },
        WindowSpec { strides: vec![1, 1, 2, 2], ..WindowSpec::tiling(&[2, 3, 9, 8], &[1, 1, 3, 3]) },
        // Gaps between windows, and elements behind the last.
        WindowSpec { strides: vec![1, 3, 2, 1], ..WindowSpec::tiling(&[3, 8, 7, 20], &[1, 2, 2, 1]) },
        WindowSpec { strides: vec![1, 2, 2, 1], ..WindowSpec::tiling(&[2, 7, 6, 160], &[1, 3, 3, 1]) },
        WindowSpec::tiling(&[5, 4, 90, 200], &[1, 2, 3, 1]),
        WindowSpec::tiling(&[1, 3, 5, 17], &[1, 4, 2, 1]),
        // As many channels as a part of a vector, and vectors of every length.
        WindowSpec::tiling(&[2, 6, 5, 4], &[1, 2, 2, 1]),
        WindowSpec::tiling(&[3, 4, 4, 8], &[1, 2, 2, 1]),
        WindowSpec::tiling(&[2, 4, 6, 31], &[1, 2, 3, 1]),
        WindowSpec::tiling(&[], &[]),
        WindowSpec::tiling(&[0, 4], &[1, 2]),
        WindowSpec::tiling(&[3, 0], &[2, 1]),
        WindowSpec { padding: vec![[3, 3]], strides: vec![1], ..WindowSpec::tiling(&[2], &[2]) },
    ];
    for _ in 0..60 {
        let mut list = |low: usize, span: usize| (0..3).map(|_| low + random.below(span)).collect::<Vec<usize>>();
        let (input, window, strides) = (list(1, 6), list(1, 3), list(1, 3));
        let (base_dilation, window_dilation, low, high) = (list(1, 2), list(1, 2), list(0, 4), list(0, 4));
        let padding = low.iter().zip(&high).map(|(&l, &h)| [l as isize - 1, h as isize - 1]).collect();
        specs.push(WindowSpec { input, window, strides, base_dilation, window_dilation, padding });
    }
    specs
}

fn run(kernel: &dyn Kernel, a: &[f32], b: &[f32], len: usize) -> Vec<f32> {
    let go = |reversed| {
        let mut output = vec![9f32; len];
        let mut operands = vec![a.as_ptr().cast_mut().cast(), b.as_ptr().cast_mut().cast(), output.as_mut_ptr().cast()];
        if b.is_empty() {
            operands.remove(1);
        }
        run_kernel(kernel, &operands, reversed);
        output.iter().map(|v| v.to_bits()).collect::<Vec<u32>>()
    };
    let (forward, backward) = (go(false), go(true));
    assert_eq!(forward, backward, "the order of tasks must not matter");
    forward.into_iter().map(f32::from_bits).collect()
}

fn same(a: &[f32], b: &[f32]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.to_bits() == b.to_bits() || (a.is_nan() && b.is_nan()))
}

/// Few different values, so that ties are common, and some NaN.
fn ties(n: usize, random: &mut Random) -> Vec<f32> {
    (0..n).map(|_| if random.below(15) == 0 { f32::NAN } else { random.below(4) as f32 }).collect()
}

#[test]
fn window_reductions_equal_obvious_loops() {
    let random = &mut Random(11);
    for spec in specs(random) {
        let x: Vec<f32> = (0..spec.input.iter().product()).map(|_| random.float()).collect();
        let windows = windows(&spec);
        for kind in [Reduction::Sum, Reduction::Max, Reduction::Min] {
            let join = |sum: f32, &i: &usize| match kind {
                Reduction::Sum => sum + x[i],
                Reduction::Max => sum.max(x[i]),
                Reduction::Min => sum.min(x[i]),
            };
            let start = match kind {
                Reduction::Sum => 0.0,
                Reduction::Max => f32::NEG_INFINITY,
                Reduction::Min => f32::INFINITY,
            };
            let expected: Vec<f32> = windows.iter().map(|w| w.iter().fold(start, join)).collect();
            for isa in fused_isas() {
                let kernel = ReduceWindow::new(&spec, kind, DType::F32, isa).unwrap();
                assert!(same(&run(&kernel, &x, &[], expected.len()), &expected), "{kind:?} of {spec:?} on {isa}");
            }
        }
    }
}

/// The first NaN, or else the first largest element.
fn selected(window: &[usize], x: &[f32]) -> Option<usize> {
    let nan = window.iter().find(|&&i| x[i].is_nan());
    let largest = window.iter().fold(None, |best: Option<usize>, &i| match best {
        Some(b) if x[b] >= x[i] => best,
        _ => Some(i),
    });
    nan.copied().or(largest)
}

#[test]
fn selections_equal_obvious_loops() {
    let random = &mut Random(12);
    for spec in specs(random) {
        let elements = spec.input.iter().product();
        let x = ties(elements, random);
        let windows = windows(&spec);
        let source: Vec<f32> = windows.iter().map(|_| random.float()).collect();
        let second: Vec<f32> = (0..elements).map(|_| random.float()).collect();
        let (mut scattered, mut gathered) = (vec![0f32; elements], vec![0f32; windows.len()]);
        for (w, window) in windows.iter().enumerate() {
            if let Some(i) = selected(window, &x) {
                scattered[i] += source[w];
                gathered[w] = second[i];
            }
        }
        for isa in fused_isas() {
            // An operand of no element still needs an address of its own in `run`.
            let some = |v: &[f32]| if v.is_empty() { vec![0.0] } else { v.to_vec() };
            let kernel = SelectAndScatter::new(&spec, DType::F32, None, isa).unwrap();
            assert!(same(&run(&kernel, &x, &some(&source), elements), &scattered), "scatter, {spec:?} on {isa}");
            let kernel = SelectAndGather::new(&spec, DType::F32, isa).unwrap();
            assert!(same(&run(&kernel, &x, &some(&second), windows.len()), &gathered), "gather, {spec:?} on {isa}");
        }
    }
}

#[test]
fn epilogues_take_every_element_of_a_scatter_once() {
    let random = &mut Random(13);
    let mut taken = 0;
    for spec in specs(random) {
        let Some(tile) = SelectAndScatter::tile(&spec, DType::F32) else { continue };
        taken += 1;
        let elements = spec.input.iter().product();
        let x = ties(elements, random);
        let windows: usize = spec.output().unwrap().iter().product();
        let source: Vec<f32> = (0..windows.max(1)).map(|_| random.float()).collect();
        let scales: Vec<f32> = (0..elements.max(1)).map(|_| random.float()).collect();
        for isa in fused_isas() {
            let mut program = TileProgram::new(&tile).unwrap();
            let strides = program.row_major();
            let given = program.given().unwrap();
            let scale = program.load(2, DType::F32, &strides, 0).unwrap();
            let product = program.op(OpCode::Mul, &[given, scale]).unwrap();
            program.store(3, &strides, 0, product).unwrap();
            let epilogue = Arc::new(TileEpilogue::new(&program, isa).unwrap());
            let plain = SelectAndScatter::new(&spec, DType::F32, None, isa).unwrap();
            let scattered = run(&plain, &x, &source, elements);
            let expected: Vec<f32> = scattered.iter().zip(&scales).map(|(x, y)| x * y).collect();
            let kernel = SelectAndScatter::new(&spec, DType::F32, Some(epilogue), isa).unwrap();
            for reversed in [false, true] {
                let mut output = vec![9f32; elements];
                let inputs = [&x, &source, &scales].map(|v| v.as_ptr().cast_mut().cast());
                run_kernel(&kernel, &[inputs[0], inputs[1], inputs[2], output.as_mut_ptr().cast()], reversed);
                assert!(same(&output, &expected), "{spec:?} on {isa}");
            }
        }
    }
    assert!(taken > 60, "{taken}");
    assert!(SelectAndScatter::tile(&WindowSpec::tiling(&[1, 400, 400], &[1, 1, 2]), DType::F64).is_none());
    let large = WindowSpec { strides: vec![1, 1, 1], ..WindowSpec::tiling(&[1, 400, 400], &[1, 2, 2]) };
    assert!(SelectAndScatter::tile(&large, DType::F32).is_none());
}

#[test]
fn specifications_that_do_not_fit_are_refused() {
    let spec = WindowSpec::tiling(&[4, 4], &[2, 2]);
    assert_eq!(spec.output(), Some(vec![2, 2]));
    assert_eq!(WindowSpec { strides: vec![0, 1], ..spec.clone() }.output(), None);
    assert_eq!(WindowSpec { padding: vec![], ..spec.clone() }.output(), None);
    assert!(SelectAndScatter::new(&spec, DType::I32, None, Isa::Portable).is_none());
}
