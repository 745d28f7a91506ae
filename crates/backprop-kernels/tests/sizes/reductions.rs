//! Reductions over any dimensions.

use crate::common::space::row_major;
use crate::common::{Dice, run_kernel, uniform};
use crate::{ELEMENTS, GUARD, address, assert_near, cases, pools, results};
use backprop_kernels::{ArgReduce, ArgReduction, DType, Isa, Reduce, Reduction};

/// A shape, its strides in memory, and which dimensions are reduced.
struct Case {
    dims: Vec<usize>,
    strides: Vec<isize>,
    reduced: Vec<bool>,
}

fn case(dice: &mut Dice) -> Case {
    loop {
        let rank = dice.roll(1, 4);
        let dims: Vec<usize> = (0..rank).map(|_| if dice.roll(0, 5) == 0 { 1 } else { dice.extent(16 / rank) }).collect();
        let strides = if dice.roll(0, 1) == 0 { dice.dense(&dims) } else { row_major(&dims) };
        let reduced: Vec<bool> = (0..rank).map(|_| dice.roll(0, 1) == 0).collect();
        if ELEMENTS.contains(&dims.iter().product()) && reduced.contains(&true) {
            return Case { dims, strides, reduced };
        }
    }
}

impl Case {
    /// Calls `each(result, element)` for all elements, in row-major order of the dimensions.
    fn visit(&self, mut each: impl FnMut(usize, usize)) {
        for number in 0..self.dims.iter().product() {
            let (mut rest, mut element, mut result, mut results) = (number, 0, 0, 1);
            for d in (0..self.dims.len()).rev() {
                let i = rest % self.dims[d];
                rest /= self.dims[d];
                element += i * self.strides[d] as usize;
                if !self.reduced[d] {
                    result += i * results;
                    results *= self.dims[d];
                }
            }
            each(result, element);
        }
    }

    fn results(&self) -> usize {
        self.dims.iter().zip(&self.reduced).filter(|(_, reduced)| !**reduced).map(|(extent, _)| extent).product()
    }
}

#[test]
fn reductions() {
    let (pools, mut dice) = (pools(), Dice(9));
    for number in 0..cases() {
        let case = case(&mut dice);
        let Case { dims, strides, reduced } = &case;
        let (elements, count) = (dims.iter().product(), case.results());
        let x = uniform(elements, 3);
        let (mut sums, mut largest) = (vec![0f64; count], vec![f32::NEG_INFINITY; count]);
        case.visit(|result, element| {
            sums[result] += f64::from(x[element]);
            largest[result] = largest[result].max(x[element]);
        });
        let sums: Vec<f32> = sums.into_iter().map(|sum| sum as f32).collect();
        let what = format!("case {number}, {dims:?}, {strides:?}, {reduced:?}");
        let got = |kind: Reduction, sum: DType| {
            let kernel = |isa: Isa| Reduce::of_operand(dims, strides, DType::F32, reduced, kind, sum, isa).unwrap();
            results(|isa| Box::new(kernel(isa)), &pools, &[address(&x)], count, &what)
        };
        for sum in [DType::F32, DType::F64] {
            got(Reduction::Sum, sum).iter().for_each(|got| assert_near(&sums, got, elements / count, &what));
        }
        assert!(got(Reduction::Max, DType::F32).iter().all(|got| *got == largest), "largest, {what}");
    }
}

#[test]
fn first_extremes() {
    let (pools, mut dice) = (pools(), Dice(10));
    for number in 0..cases() {
        let [outer, length, inner] = dice.extents([8, 10, 8], |[outer, length, inner]| outer * length * inner);
        // Few different values, so that ties are common.
        let x: Vec<f32> = uniform(outer * length * inner, 3).iter().map(|v| (v * 50.0).round()).collect();
        let mut first = vec![0i32; outer * inner];
        let at = |result: usize, l: i32| x[(result / inner * length + l as usize) * inner + result % inner];
        for (result, first) in first.iter_mut().enumerate() {
            *first = (1..length as i32).fold(0, |best, l| if at(result, l) > at(result, best) { l } else { best });
        }
        for (number_of_isa, &isa) in Isa::available().iter().enumerate() {
            let what = format!("case {number}, {outer} × {length} × {inner}, {isa}");
            let mut indices = vec![-7i32; outer * inner + 2 * GUARD];
            let mut values = vec![f32::NAN; outer * inner];
            let operands = [address(&x), indices[GUARD..].as_mut_ptr().cast(), values.as_mut_ptr().cast()];
            let kernel = ArgReduce::new([outer, length, inner], DType::F32, ArgReduction::Max, isa).unwrap();
            // SAFETY: the buffers have the sizes of the kernel's shape.
            unsafe { run_kernel(&kernel, &pools[number_of_isa % 2], &operands) };
            let (before, rest) = indices.split_at(GUARD);
            let (found, behind) = rest.split_at(outer * inner);
            assert!(before.iter().chain(behind).all(|&i| i == -7), "{what}: writes beside its result");
            assert!(found == first, "{what}");
            assert!(values.iter().enumerate().all(|(result, &v)| v == at(result, first[result])), "{what}: values");
        }
    }
}
