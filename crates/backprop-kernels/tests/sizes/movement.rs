//! Views in any order, and rows looked up and added to.

use crate::common::{Dice, uniform};
use crate::{address, cases, pools, run};
use backprop_kernels::DType;
use backprop_kernels::movement::{Gather, GatherSpec, ScatterAdd, ScatterSpec, StridedCopy};

#[test]
fn views_in_any_order() {
    let (pools, mut dice) = (pools(), Dice(11));
    for case in 0..cases() {
        let dims: Vec<usize> = match dice.roll(1, 4) {
            1 => dice.extents([18], |[n]| n).into(),
            2 => dice.extents([10; 2], |dims| dims.iter().product()).into(),
            3 => dice.extents([7; 3], |dims| dims.iter().product()).into(),
            _ => dice.extents([5; 4], |dims| dims.iter().product()).into(),
        };
        let elements = dims.iter().product();
        let mut strides = dice.dense(&dims);
        // One dimension may run backwards, or repeat what it shows.
        let (d, how) = (dice.roll(0, dims.len() - 1), dice.roll(0, 5));
        let offset = if how == 0 { strides[d] * (dims[d] as isize - 1) } else { 0 };
        strides[d] *= [-1, 0, 1, 1, 1, 1][how];
        let x = uniform(elements, 3);
        let element = |mut number: usize| {
            let mut at = offset;
            for (extent, stride) in dims.iter().zip(&strides).rev() {
                at += (number % extent) as isize * stride;
                number /= extent;
            }
            x[at as usize]
        };
        let what = format!("case {case}, {dims:?}, {strides:?}, {offset}");
        let kernel = StridedCopy::view(DType::F32, &dims, &strides, offset);
        let got = run(&kernel, &pools[case as usize % 2], &[address(&x)], elements, &what);
        assert!(got.iter().enumerate().all(|(number, &v)| v == element(number)), "{what}");
    }
}

/// Codes of rows, some of them outside the table.
fn codes(rows: usize, count: usize) -> Vec<i32> {
    uniform(count, 5).iter().map(|v| ((v + 1.0) * 0.52 * rows as f32) as i32 - 2).collect()
}

#[test]
fn rows_by_code() {
    let (pools, mut dice) = (pools(), Dice(12));
    for case in 0..cases() {
        let [rows, width, count] = dice.extents([12, 9, 12], |[rows, width, count]| (count * width).max(rows * width));
        let (table, updates, codes) = (uniform(rows * width, 3), uniform(count * width, 7), codes(rows, count));
        let what = format!("case {case}, {count} of {rows} rows of {width}");
        let row = |table: &[f32], row: usize| table[row * width..][..width].to_vec();
        let looked_up: Vec<f32> = codes.iter().flat_map(|&c| row(&table, c.clamp(0, rows as i32 - 1) as usize)).collect();
        let kernel = Gather::new(&GatherSpec::rows(rows, width, &[count]), DType::F32, DType::I32).unwrap();
        for pool in &pools {
            let got = run(&kernel, pool, &[address(&table), address(&codes)], count * width, &what);
            assert!(got == looked_up, "{what}");
        }
        let mut added = table.clone();
        for (number, &code) in codes.iter().enumerate().filter(|(_, code)| (0..rows as i32).contains(code)) {
            let target = &mut added[code as usize * width..][..width];
            target.iter_mut().zip(row(&updates, number)).for_each(|(target, update)| *target += update);
        }
        let kernel = ScatterAdd::new(&ScatterSpec::rows(rows, width, &[count]), DType::F32, DType::I32).unwrap();
        for pool in &pools {
            let got = run(&kernel, pool, &[address(&table), address(&codes), address(&updates)], rows * width, &what);
            assert!(got == added, "{what}: sums");
        }
    }
}
