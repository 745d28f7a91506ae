//! Which of several extrema counts: the first, and a NaN before any number.

use crate::common::{Random, distance, reference};
use backprop_check::{execute, plugin};
use backprop_core::{
    Builder, DType, HostTensor, Type,
    graph::Role,
    op::{ArgReduce, ReduceWindow, Reducer, SelectAndGather, SelectAndScatter, Window},
};

/// Few different values, so that most extrema are tied; infinities and NaN among them.
fn values(random: &mut Random, shape: &[usize]) -> HostTensor {
    let few = [f64::NAN, f64::NEG_INFINITY, f64::INFINITY, -1.0, 0.5, 0.5, 2.0, 2.0];
    let draw = |_| few[random.below(few.len())];
    HostTensor::from_f64(DType::F32, shape, &(0..shape.iter().product()).map(draw).collect::<Vec<_>>()).unwrap()
}

/// Side by side, overlapping, with padding, with gaps, and some without an element.
fn windows() -> [Window; 5] {
    let window = |stride: usize, padding: (isize, isize), dilation: usize| Window {
        stride: vec![1, stride, stride],
        padding: vec![(0, 0), padding, padding],
        window_dilation: vec![1, dilation, dilation],
        ..Window::new([1, 2, 2])
    };
    [window(2, (0, 0), 1), window(1, (0, 0), 1), window(2, (1, 1), 1), window(1, (0, 0), 2), window(3, (2, 2), 1)]
}

#[test]
fn the_first_extremum_counts_and_nan_is_one() {
    let Some(pjrt) = plugin("the_first_extremum_counts_and_nan_is_one") else { return };
    let mut random = Random(5);
    for _ in 0..4 {
        let b = Builder::new();
        let input = |name: &str, shape: &[usize]| b.input(name, Role::Data, Type::new(DType::F32, shape));
        let x = input("x", &[3, 7, 6]);
        let mut given = vec![values(&mut random, &[3, 7, 6])];
        for (i, window) in windows().into_iter().enumerate() {
            let shape = window.result(&x.shape()).unwrap();
            let source = input(&format!("source {i}"), &shape);
            let plain: Vec<f64> = (0..shape.elements()).map(|n| 1.0 + n as f64).collect();
            given.push(HostTensor::from_f64(DType::F32, shape, &plain).unwrap());
            for select in [Reducer::Max, Reducer::Min] {
                let pooled = b.apply(ReduceWindow { reducer: select, window: window.clone() }, &[x])[0];
                let scattered = b.apply(SelectAndScatter { select, window: window.clone() }, &[x, source])[0];
                let values = b.iota(Type::new(DType::F32, [3, 7, 6]), 2) + 1.0;
                let gathered = b.apply(SelectAndGather { select, window: window.clone() }, &[x, values])[0];
                b.output(format!("pool {i} {select:?}"), Role::Data, pooled);
                b.output(format!("scatter {i} {select:?}"), Role::Data, scattered);
                b.output(format!("gather {i} {select:?}"), Role::Data, gathered);
            }
        }
        for (dim, reducer) in [(0, Reducer::Max), (1, Reducer::Min), (2, Reducer::Max)] {
            for (i, output) in b.apply(ArgReduce { reducer, dim }, &[x]).into_iter().enumerate() {
                b.output(format!("extremum along {dim}, {i}"), Role::Data, output);
            }
        }
        let graph = b.finish().unwrap();
        let found = execute(&pjrt, &graph, &given).unwrap();
        for ((output, wanted), found) in graph.outputs.iter().zip(reference(&graph, &given)).zip(&found) {
            assert_eq!(distance(found, &wanted, 1.0), 0.0, "{}: {found:?} {wanted:?} of {:?}", output.name, given[0]);
        }
    }
}
