//! Kernels of rows: each row's numbers depend on one another, and on nothing else.

use super::kernels::KernelCase;
use crate::{
    loss::{CrossEntropy, Loss},
    nn::{functional::softmax, normalise},
};
use backprop_core::{DType, Error, Tensor, Type, grad::vjp};

/// Codes and classes of the whole numbers among operands: any row of a vocabulary's table.
pub(super) const CODES: usize = 50_000;

/// Rows and columns of softmax; the largest are the scores of a vocabulary.
const SOFTMAX: [[usize; 2]; 5] = [[8192, 128], [2048, 64], [128, 10], [64, CODES], [256, CODES]];

/// Rows and columns of layer norm.
const NORMS: [[usize; 2]; 3] = [[2048, 256], [8192, 1024], [64, 65_536]];

/// Codes that are looked up, and the extent of their rows.
const LOOKED_UP: [[usize; 2]; 3] = [[8192, 64], [8192, 256], [2048, 1024]];

fn numbers(shape: &[usize]) -> Type {
    Type::new(DType::F32, shape.to_vec())
}

fn shape([rows, columns]: [usize; 2]) -> String {
    format!("{rows} × {columns}")
}

/// Layer norm of `x[0]` with the weight `x[1]` and the bias `x[2]`.
fn norm<'g>(x: &[Tensor<'g>]) -> Tensor<'g> {
    normalise("layer_norm", [x[0], x[1], x[2]], vec![1], vec![1], 1e-5)[0]
}

/// All of them.
pub(super) fn cases(cases: &mut Vec<KernelCase>) -> Result<(), Error> {
    for size in SOFTMAX {
        let x = || numbers(&size);
        cases.push(KernelCase::of("softmax", shape(size), "forward", vec![x()], |x| vec![softmax(x[0], -1)])?);
        cases.push(KernelCase::of("softmax", shape(size), "and gradient", vec![x(), x()], |x| {
            vjp(&[softmax(x[0], -1)], &[x[1]], &[x[0]])
        })?);
    }
    for size in SOFTMAX.into_iter().filter(|[_, classes]| *classes == CODES) {
        let inputs = || vec![numbers(&size), Type::new(DType::I32, [size[0]])];
        let loss = CrossEntropy::new();
        cases.push(KernelCase::of("cross-entropy", shape(size), "forward", inputs(), |x| vec![loss.forward(x[0], x[1]).sum])?);
        // The gradient reads the logits once more.
        let both = KernelCase::of("cross-entropy", shape(size), "and gradient", inputs(), |x| {
            let sum = loss.forward(x[0], x[1]).sum;
            vec![sum, vjp(&[sum], &[x[0].builder().full(sum.ty(), 1.0)], &[x[0]])[0]]
        })?;
        cases.push(both.moving(3 * numbers(&size).bytes()));
    }
    for size in NORMS {
        let inputs = || vec![numbers(&size), numbers(&size[1..]), numbers(&size[1..]), numbers(&size)];
        cases.push(KernelCase::of("layer-norm", shape(size), "forward", inputs(), |x| vec![norm(x)])?);
        // Without the forward pass, which a step has done: mean and deviation are formed again here, from what is read anyway.
        cases.push(KernelCase::of("layer-norm", shape(size), "of all", inputs(), |x| vjp(&[norm(x)], &[x[3]], &x[..3]))?);
    }
    for size in LOOKED_UP {
        let table = numbers(&[CODES, size[1]]);
        let codes = Type::new(DType::I32, [size[0]]);
        let rows = numbers(&size);
        let forward = vec![table.clone(), codes.clone()];
        let moved = codes.bytes() + 2 * rows.bytes();
        cases.push(KernelCase::of("embedding", shape(size), "forward", forward, |x| vec![x[0].rows(x[1])])?.moving(moved));
        cases.push(KernelCase::of("embedding", shape(size), "of table", vec![table, codes, rows], |x| {
            vjp(&[x[0].rows(x[1])], &[x[2]], &[x[0]])
        })?);
    }
    Ok(())
}
