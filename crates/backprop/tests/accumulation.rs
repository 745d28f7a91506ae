//! A batch taken in parts gives what it gives as a whole, in less memory.

use backprop::prelude::*;
use backprop_check::check_plan;
use backprop_core::{
    Isa,
    exec::{Program, Store, native::Native},
};
use std::collections::BTreeMap;

type Values = BTreeMap<String, Vec<f64>>;

fn made_up(ty: &Type, classes: usize) -> HostTensor {
    let value = |i: usize| match i * i % (classes + 1) {
        // One class more than there are: positions that do not count.
        class if !ty.dtype.is_float() && class == classes => -100.0,
        class if !ty.dtype.is_float() => class as f64,
        _ => (i as f64 * 0.7).sin() + 0.3,
    };
    let values: Vec<f64> = (0..ty.elements()).map(value).collect();
    HostTensor::from_f64(ty.dtype, ty.shape.clone(), &values).unwrap()
}

/// All outputs and state after two steps on one batch. Momentum after the first step is the gradient.
fn run(step: &Step, batch: &BatchSpec, threads: usize) -> Values {
    let traced = step.train(batch).unwrap_or_else(|e| panic!("{e}"));
    let mut program = Native::new(threads, Isa::detect()).build(&traced.graph).unwrap();
    check_plan(&program).unwrap();
    let mut store = Store::new();
    for (name, value) in backprop::step::initial_state(&traced.state, 1).unwrap() {
        store.insert(name, value);
    }
    let signature = program.signature().clone();
    let (mut outputs, mut values) = (signature.output_buffers(), Values::new());
    for t in 0..2_u32 {
        let input = |(name, ty): &(String, Type)| match name.as_str() {
            "hyper" => step.groups().hyper(t.into(), 2),
            "step" => HostTensor::scalar(t),
            _ => made_up(ty, 3),
        };
        let inputs: Vec<HostTensor> = signature.inputs.iter().map(input).collect();
        program.run(&mut store, &inputs.iter().collect::<Vec<_>>(), &mut outputs).unwrap();
        let given = signature.outputs.iter().zip(&outputs).map(|((name, _), value)| (format!("{name} {t}"), value.to_f64()));
        values.extend(given.chain(store.iter().map(|(name, value)| (format!("{name} {t}"), value.to_f64()))));
    }
    values
}

fn assert_close(what: &str, whole: &Values, parts: &Values, tolerance: f64) {
    assert!(whole.keys().eq(parts.keys()));
    for (name, expected) in whole {
        let largest = expected.iter().fold(1e-3, |m: f64, v| m.max(v.abs()));
        for (a, e) in parts[name].iter().zip(expected) {
            assert!((a - e).abs() <= tolerance * largest, "{what}: `{name}` is {a} in parts and {e} as a whole, of {largest}");
        }
    }
}

fn step(model: impl Layer + 'static) -> Step {
    Step::new(model, CrossEntropy::new().label_smoothing(0.1), Sgd::new(0.05).momentum(0.9)).metric(Accuracy::default())
}

fn dense() -> Sequential {
    let model = Sequential::new().push(Linear::new(16)).push(LayerNorm::new()).push(Gelu::new()).push(Dropout::new(0.4));
    model.push(checkpoint(Sequential::new().push(Linear::new(16)).push(Tanh::new()).push(Dropout::new(0.4)))).push(Linear::new(3))
}

fn convolutional() -> Sequential {
    let model = Sequential::new().push(Conv2d::new(8, 3).padding(1)).push(Relu::new()).push(SpatialDropout2d::new(0.3));
    model.push(MaxPool2d::new(2)).push(Conv2d::new(8, 3)).push(Relu::new()).push(Flatten::new()).push(Linear::new(3))
}

fn images(rows: usize, extent: usize) -> BatchSpec {
    BatchSpec { x: Type::new(DType::F32, [rows, extent, extent, 2]), y: Type::new(DType::I32, [rows]) }
}

#[test]
fn parts_give_what_the_batch_gives() {
    let tokens = |rows: usize| Type::new(DType::I32, [rows, 7]);
    for rows in [1, 3, 10, 12] {
        let rows_of = |width: usize| BatchSpec { x: Type::new(DType::F32, [rows, width]), y: Type::new(DType::I32, [rows]) };
        let recurrent = || Sequential::new().push(Embedding::new(3, 6)).push(Lstm::new(8)).push(Linear::new(3));
        let cases: [(&str, Step, BatchSpec); 3] = [
            ("dense", step(dense()).clip_norm(0.5), rows_of(9)),
            ("convolutional", step(convolutional()), images(rows, 6)),
            ("recurrent", step(recurrent()), BatchSpec { x: rows_of(7).y.clone(), y: tokens(rows) }),
        ];
        for (name, step, mut batch) in cases {
            if name == "recurrent" {
                batch.x = tokens(rows);
            }
            let whole = run(&step, &batch, 2);
            for parts in [2, 3, 4] {
                assert_close(
                    &format!("{name}, {rows} rows in {parts}"),
                    &whole,
                    &run(&step.clone().accumulate(parts), &batch, 2),
                    1e-6,
                );
            }
        }
    }
}

/// Groups, averages and clipping see the sum of the parts; frozen parameters stay.
#[test]
fn groups_and_averages_see_the_whole() {
    let frozen = ParameterGroup::new(["layers.0.*"]).frozen();
    let step = step(dense()).group(frozen).group(ParameterGroup::new(["*.bias"]).learning_rate(0.3)).ema(0.9).clip_norm(0.1);
    let batch = BatchSpec { x: Type::new(DType::F32, [11, 9]), y: Type::new(DType::I32, [11]) };
    let (whole, parts) = (run(&step, &batch, 1), run(&step.clone().accumulate(4), &batch, 1));
    assert_close("groups", &whole, &parts, 1e-6);
    assert_eq!(parts["layers.0.weight 0"], parts["layers.0.weight 1"]);
}

/// Batch norm: the running mean moves on by each part's mean.
#[test]
fn running_statistics_follow_the_parts() {
    let model = Sequential::new().push(BatchNorm::new()).push(Linear::new(3));
    let batch = BatchSpec { x: Type::new(DType::F32, [5, 2]), y: Type::new(DType::I32, [5]) };
    let after = run(&step(model).accumulate(2), &batch, 1)["layers.0.running_mean 0"].clone();
    let x = made_up(&batch.x, 3).to_f64();
    for column in 0..2 {
        let mean = |rows: std::ops::Range<usize>| rows.clone().map(|r| x[r * 2 + column]).sum::<f64>() / rows.len() as f64;
        let expected = 0.9 * (0.1 * mean(0..3)) + 0.1 * mean(3..5);
        assert!((after[column] - expected).abs() < 1e-6, "{} {expected}", after[column]);
    }
}

#[test]
fn parts_need_less_memory() {
    let arena = |parts: usize| {
        let graph = step(convolutional()).accumulate(parts).train(&images(64, 24)).unwrap().graph;
        let program = Native::default().build(&graph).unwrap();
        let report = check_plan(&program).unwrap();
        assert!(report.ratio() <= 1.05, "{report:?}");
        program.memory().arena
    };
    let (whole, parts) = (arena(1), arena(4));
    println!("arena: {whole} bytes as a whole, {parts} in four parts");
    assert!(parts * 3 < whole, "{parts} bytes in parts, {whole} as a whole");
}

#[test]
fn threads_change_no_bit() {
    let batch = images(10, 6);
    let step = step(convolutional()).accumulate(3);
    let one = run(&step, &batch, 1);
    for threads in [2, 3, 8] {
        assert_eq!(one, run(&step, &batch, threads), "{threads} threads");
    }
}
