//! Windows: their sums and extremes, and what goes back to the largest element.

use crate::common::{Dice, uniform};
use crate::{ELEMENTS, address, cases, pools, results};
use backprop_kernels::{DType, ReduceWindow, Reduction, SelectAndGather, SelectAndScatter, WindowSpec};

/// Windows over one to three dimensions of space, channels last in three of four cases; most are a pool's.
fn windows(dice: &mut Dice) -> WindowSpec {
    loop {
        let space = dice.roll(1, 3);
        let (batch, channels) = (dice.extent(6), if dice.roll(0, 3) == 0 { 1 } else { dice.extent(8) });
        let plain = dice.roll(0, 2) > 0;
        let shape: Vec<usize> = (0..space).map(|_| dice.extent(6)).collect();
        let all = |inner: Vec<usize>| [vec![1], inner, vec![1]].concat();
        let window: Vec<usize> = (0..space).map(|_| dice.roll(1, 4)).collect();
        let side_by_side = plain && dice.roll(0, 1) == 0;
        let strides = if side_by_side { window.clone() } else { (0..space).map(|_| dice.roll(1, 3)).collect() };
        let mut dilation = || (0..space).map(|_| if plain { 1 } else { dice.roll(1, 2) }).collect::<Vec<_>>();
        let (base_dilation, window_dilation) = (all(dilation()), all(dilation()));
        let mut pad = || if side_by_side { 0 } else { dice.roll(0, 3) as isize - isize::from(!plain) };
        let padding = [vec![[0; 2]], (0..space).map(|_| [pad(), pad()]).collect(), vec![[0; 2]]].concat();
        let input = [vec![batch], shape, vec![channels]].concat();
        let spec = WindowSpec { input, window: all(window), strides: all(strides), base_dilation, window_dilation, padding };
        let elements = |shape: &[usize]| shape.iter().product::<usize>();
        let visited = spec.output().map_or(0, |output| elements(&output) * elements(&spec.window));
        if ELEMENTS.contains(&elements(&spec.input)) && (1..ELEMENTS.end).contains(&visited) {
            return spec;
        }
    }
}

/// Calls `each(window, element)` for the elements under each window, in row-major order of both.
fn visit(spec: &WindowSpec, mut each: impl FnMut(usize, usize)) {
    let output = spec.output().unwrap();
    let counted = |shape: &[usize], mut number: usize| {
        let mut index = vec![0; shape.len()];
        for (i, extent) in index.iter_mut().zip(shape).rev() {
            (*i, number) = (number % extent, number / extent);
        }
        index
    };
    let offsets: Vec<Vec<usize>> = (0..spec.window.iter().product()).map(|k| counted(&spec.window, k)).collect();
    for window in 0..output.iter().product() {
        let o = counted(&output, window);
        'element: for k in &offsets {
            let mut element = 0;
            for d in 0..o.len() {
                let at = (o[d] * spec.strides[d] + k[d] * spec.window_dilation[d]) as isize - spec.padding[d][0];
                let step = spec.base_dilation[d] as isize;
                if at < 0 || at % step != 0 || at / step >= spec.input[d] as isize {
                    continue 'element;
                }
                element = element * spec.input[d] + (at / step) as usize;
            }
            each(window, element);
        }
    }
}

#[test]
fn windows_equal_obvious_loops() {
    let (pools, mut dice) = (pools(), Dice(8));
    for case in 0..cases() {
        let spec = windows(&mut dice);
        let (elements, count) = (spec.input.iter().product(), spec.output().unwrap().iter().product());
        // Few different values, so that ties are common.
        let x: Vec<f32> = uniform(elements, 3).iter().map(|v| (v * 8.0).round()).collect();
        let (source, second) = (uniform(count, 5), uniform(elements, 7));
        let mut expected = [vec![0f32; count], vec![f32::NEG_INFINITY; count]];
        let mut largest: Vec<Option<usize>> = vec![None; count];
        visit(&spec, |window, element| {
            expected[0][window] += x[element];
            expected[1][window] = expected[1][window].max(x[element]);
            let first = largest[window].get_or_insert(element);
            *first = if x[element] > x[*first] { element } else { *first };
        });
        let what = format!("case {case}, {spec:?}");
        for (kind, expected) in [Reduction::Sum, Reduction::Max].into_iter().zip(&expected) {
            let kernel = |isa| Box::new(ReduceWindow::new(&spec, kind, DType::F32, isa).unwrap()) as _;
            for got in results(kernel, &pools, &[address(&x)], count, &what) {
                assert!(got == *expected, "{kind:?}, {what}");
            }
        }
        let (mut scattered, mut gathered) = (vec![0f32; elements], vec![0f32; count]);
        for (window, at) in largest.iter().enumerate().filter_map(|(window, at)| Some((window, (*at)?))) {
            scattered[at] += source[window];
            gathered[window] = second[at];
        }
        let kernel = |isa| Box::new(SelectAndScatter::new(&spec, DType::F32, None, isa).unwrap()) as _;
        for got in results(kernel, &pools, &[address(&x), address(&source)], elements, &what) {
            assert!(got == scattered, "scatter, {what}");
        }
        let kernel = |isa| Box::new(SelectAndGather::new(&spec, DType::F32, isa).unwrap()) as _;
        for got in results(kernel, &pools, &[address(&x), address(&second)], count, &what) {
            assert!(got == gathered, "gather, {what}");
        }
    }
}
