//! Very deep networks and very long sequences trace, plan and train.

use backprop::prelude::*;
use backprop_check::check_plan;
use backprop_core::{
    HostTensor,
    exec::{Program, Store, native::Native},
};

/// Mean losses of three steps on one batch.
fn train(model: impl Layer + 'static, batch: &BatchSpec, classes: usize) -> Vec<f64> {
    let step = Step::new(model, CrossEntropy::new(), Adam::new(1e-3)).clip_norm(1.0);
    let traced = step.trace(batch).expect("the network fits the batch");
    let mut program = Native::default().build(&traced.train).expect("the step compiles");
    let report = check_plan(&program).expect("the plan is sound");
    assert!(report.ratio() <= 1.05, "{report:?}");
    let mut store = Store::new();
    for (name, value) in traced.initial_state(1).expect("initialisers are valid") {
        store.insert(name, value);
    }
    let signature = program.signature().clone();
    let mut outputs = signature.output_buffers();
    let mut losses = Vec::new();
    for t in 0..3u32 {
        let input = |(name, ty): &(String, Type)| match name.as_str() {
            "hyper" => step.groups().hyper(t.into(), 3),
            "step" => HostTensor::scalar(t),
            _ => made_up(ty, classes),
        };
        let inputs: Vec<HostTensor> = signature.inputs.iter().map(input).collect();
        program.run(&mut store, &inputs.iter().collect::<Vec<_>>(), &mut outputs).expect("the step runs");
        losses.push(outputs[0].to_f64()[0] / outputs[1].to_f64()[0]);
    }
    losses
}

fn made_up(ty: &Type, classes: usize) -> HostTensor {
    let value = |i: usize| if ty.dtype.is_float() { (i as f64 * 0.7).sin() } else { (i * i % classes) as f64 };
    let values: Vec<f64> = (0..ty.elements()).map(value).collect();
    HostTensor::from_f64(ty.dtype, ty.shape.clone(), &values).expect("as many values as elements")
}

fn falls(losses: &[f64]) -> bool {
    losses.iter().all(|l| l.is_finite()) && losses.is_sorted_by(|a, b| a > b)
}

#[test]
fn a_thousand_layers_train() {
    let layer = || Residual::new(Sequential::new().push(LayerNorm::new()).push(Linear::new(16)));
    let model = (0..1000).fold(Sequential::new(), |m, _| m.push(layer())).push(LayerNorm::new()).push(Linear::new(5));
    let batch = BatchSpec { x: Type::new(DType::F32, [8, 16]), y: Type::new(DType::I32, [8]) };
    let losses = train(model, &batch, 5);
    assert!(falls(&losses), "{losses:?}");
}

#[test]
fn a_sequence_of_4096_trains() {
    let model = Sequential::new().push(Embedding::new(20, 8)).push(Lstm::new(16)).push(Linear::new(20));
    let tokens = || Type::new(DType::I32, [2, 4096]);
    let losses = train(model, &BatchSpec { x: tokens(), y: tokens() }, 20);
    assert!(falls(&losses), "{losses:?}");
}
