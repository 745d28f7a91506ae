//! Gradients of tables of which a step reads few rows.

use crate::{
    common::{native, run},
    steps,
};
use backprop_core::{
    Builder, DType, Graph, Tensor, Type,
    exec::Program,
    graph::Role,
    op::{Reducer, ScatterAdd},
};

const ROWS: usize = 5000;
const WIDTH: usize = 17;

/// Some again and again, the first and the last row, and some beyond either end.
pub fn codes() -> Vec<i32> {
    let code = |i: i32| match i % 6 {
        0 => 4999 - i,
        1 => 3,
        2 => i * 83,
        3 => -i,
        4 => 4990 + i,
        _ => 0,
    };
    (0..60).map(code).collect()
}

/// Two tables: the gradient of one comes from a look-up, that of the other is added beyond the table too, which leaves it out, and updated by
/// means of squares. Another kernel reads the first one's, too. `transposed`: the first is also read in another order.
pub fn tables(transposed: bool) -> Graph {
    let b = Builder::new();
    let f32 = |shape: &[usize]| Type::new(DType::F32, shape);
    let codes = b.input("codes", Role::Data, Type::new(DType::I32, [60]));
    let w = b.input("w", Role::State, f32(&[9, WIDTH]));
    let names = ["table", "other"];
    let [table, other] = names.map(|name| b.input(name, Role::State, f32(&[ROWS, WIDTH])));
    let loss = table.rows(codes).linear(w).tanh().sum_all();
    let gradient = loss.grad(&[table])[0];
    let updates = table.rows(codes) * other.rows(codes);
    let scatter = ScatterAdd { update_window_dims: vec![1], inserted_window_dims: vec![0], scatter_dims: vec![0] };
    let beyond = b.zeros(other.ty()).scatter_add(codes.reshape([60, 1]), updates, scatter);
    fn square(g: Tensor<'_>) -> Tensor<'_> {
        (g * g).reduce_in(DType::F64, Reducer::Sum, &[0, 1])
    }
    let norm = square(gradient) + square(beyond);
    for ((name, p), g) in names.into_iter().zip([table, other]).zip([gradient, beyond]) {
        let momentum = format!("optimizer/{name}");
        let m = b.input(&momentum, Role::State, p.ty());
        let change = if name == "other" { g * g } else { g };
        let next = m * b.scalar(DType::F32, 0.9).broadcast_in_dim(p.shape(), &[]) + change;
        b.output(&momentum, Role::State, norm.is_finite().select(next, m));
        b.output(name, Role::State, norm.is_finite().select(p - next * g, p));
    }
    b.output("norm", Role::Data, norm);
    b.output("largest", Role::Data, gradient.abs().max(&[0, 1]));
    if transposed {
        b.output("transposed", Role::Data, gradient.transpose(&[1, 0]).exp());
    }
    b.finish().unwrap()
}

#[test]
fn a_table_of_zeros_is_never_in_memory_and_its_norm_is_that_of_its_rows() {
    let program = native().build(&tables(false)).unwrap();
    assert!(program.memory().arena < ROWS * WIDTH * 4, "{:?}", program.memory());
    let kernels = program.kernels();
    let named = |name: &str| kernels.iter().filter(|k| k.name.contains(name)).count();
    assert_eq!((named("row_sums"), named("scatter_add")), (2, 0), "{:#?}", kernels.iter().map(|k| &k.name).collect::<Vec<_>>());
    let norm = kernels.iter().filter(|k| k.name == "multiply+reduce");
    assert!(norm.clone().count() == 2 && norm.clone().all(|k| k.bytes < 2 * 60 * WIDTH * 4), "{:#?}", norm.collect::<Vec<_>>());
}

#[test]
fn few_updates_to_a_small_table_stay_dense() {
    let b = Builder::new();
    let codes = b.input("codes", Role::Data, Type::new(DType::I32, [60]));
    let table = b.input("table", Role::State, Type::new(DType::F32, [50, WIDTH]));
    b.output("table", Role::State, table - table.rows(codes).sum_all().grad(&[table])[0]);
    let graph = b.finish().unwrap();
    assert!(native().build(&graph).unwrap().kernels().iter().any(|k| k.name.contains("scatter_add")));
    assert_eq!(run(&native(), &graph, &steps::values(&graph)).len(), 1);
}
