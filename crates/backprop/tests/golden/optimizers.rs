//! Optimizer steps from given gradients, schedules, and clipping by the global norm.

use crate::store::{arrays, assert_close, below, load, oracle, row};
use backprop::prelude::*;
use backprop_core::reference::Array;
use serde_json::{Value, json};
use std::{collections::HashMap, sync::Arc};

/// Share of the tensor's maximum: f32 values against the oracle's.
const TOLERANCE: f64 = 1e-6;

fn optimizer(description: &Value) -> OptimizerSpec {
    let mut table = description.as_object().unwrap().clone();
    let name = table.remove("name").unwrap().as_str().unwrap().to_lowercase();
    let rate = table.remove("lr").unwrap();
    table.extend([("type".to_owned(), json!(name)), ("learning_rate".to_owned(), rate)]);
    serde_json::from_value(table.into()).unwrap()
}

/// One parameter whose gradient is the input `gradient`.
fn trace(groups: &Groups, shape: &[usize]) -> TracedGraph {
    trace_step(groups, DType::F32, Mode::Train, |t| {
        let gradient = t.input("gradient", Type::new(DType::F32, shape));
        let parameter = t.scope.param("p", shape, &Init::Zeros);
        let update = t.update("", (parameter * gradient).sum_all(), |_| true).unwrap();
        t.output("norm", update.norm);
    })
    .unwrap()
}

/// The inputs of the first step of a traced training graph; state that is not given is 0.
fn state_of(traced: &TracedGraph) -> HashMap<String, Array> {
    let mut inputs: HashMap<String, Array> = traced.state.iter().map(|s| (s.name.clone(), Array::zeros(&s.ty))).collect();
    inputs.insert("seed".into(), Array::zeros(&Type::new(DType::U32, [2])));
    inputs
}

fn set_step(inputs: &mut HashMap<String, Array>, groups: &Groups, step: u64, total: u64) {
    inputs.insert("hyper".into(), Array::from_host(&groups.hyper(step, total)));
    inputs.insert("step".into(), Array::from_host(&HostTensor::scalar(step as u32)));
}

#[test]
fn optimizers_make_the_steps_of_pytorch() {
    let (tensors, meta) = load("optimizers");
    let mut checked = 0;
    for (name, description) in meta["cases"].as_object().unwrap() {
        if !name.starts_with("optimizer/") {
            continue;
        }
        let case = below(&tensors, &format!("{name}/"));
        let groups = Groups(vec![Group::new("", optimizer(description))]);
        let traced = trace(&groups, &case["init"].shape()[..]);
        let mut inputs = state_of(&traced);
        inputs.insert("p".into(), Array::from_host(&case["init"]));
        for step in 0..5 {
            set_step(&mut inputs, &groups, step as u64, 5);
            inputs.insert("gradient".into(), Array::from_host(&row(&case["gradients"], step)));
            let outputs = oracle(&traced.graph, &inputs);
            assert_close(&format!("{name} {step}"), &outputs["p"].to_f64(), &row(&case["values"], step).to_f64(), TOLERANCE);
            inputs.extend(outputs);
        }
        checked += 1;
    }
    assert_eq!(checked, 10);
}

#[test]
fn schedules_give_the_rates_of_pytorch() {
    let (tensors, meta) = load("optimizers");
    let schedules = [
        ("cosine", json!({ "type": "cosine" }), 20),
        ("cosine_floor", json!({ "type": "cosine", "min_learning_rate": 0.01 }), 20),
        ("one_cycle", json!({ "type": "one_cycle" }), 20),
        (
            "one_cycle_linear",
            json!({ "type": "one_cycle", "pct_start": 0.25, "div_factor": 10.0, "final_div_factor": 100.0, "anneal_strategy": "linear" }),
            33,
        ),
        ("linear_warm_up", json!({ "type": "constant", "warmup_steps": 5, "warmup_start_factor": 0.1 }), 10),
        ("warm_up_cosine", json!({ "type": "cosine", "warmup_steps": 5, "warmup_start_factor": 0.1 }), 20),
    ];
    for (name, table, total) in schedules {
        assert!(meta["cases"].get(format!("schedule/{name}")).is_some());
        let schedule: Schedule = serde_json::from_value(table).unwrap();
        schedule.validate().unwrap();
        let expected = tensors[&format!("schedule/{name}/rates")].to_f64();
        let rates: Vec<Rates> = (0..expected.len()).map(|step| schedule.rates(0.1, step as u64, total)).collect();
        for (step, (rate, e)) in rates.iter().zip(&expected).enumerate() {
            let error = (rate.learning_rate - e).abs();
            assert!(error <= 1e-7 * e.abs() + 1e-12, "{name}, step {step}: {}, expected {e}", rate.learning_rate);
        }
        if let Some(momenta) = tensors.get(&format!("schedule/{name}/momenta")) {
            let actual: Vec<f64> = rates.iter().map(|r| r.momentum.unwrap()).collect();
            assert_close(name, &actual, &momenta.to_f64(), 1e-7);
        }
    }
}

#[test]
fn gradients_are_clipped_by_their_global_norm() {
    let (tensors, _) = load("optimizers");
    for case in ["active", "inactive"] {
        let case = below(&tensors, &format!("clip/{case}/"));
        let group = Group { optimizer: Arc::new(Sgd::new(1.0)), ..Group::new("", Sgd::new(1.0)) };
        let groups = Groups(vec![group.clip_norm(case["limit"].to_f64()[0])]);
        let traced = trace_step(&groups, DType::F32, Mode::Train, |t| {
            let loss = ["a", "b"].map(|name| {
                let gradient = t.input(&format!("gradient/{name}"), case[&format!("gradient/{name}")].ty().clone());
                (t.scope.param(name, gradient.shape(), &Init::Zeros) * gradient).sum_all()
            });
            let update = t.update("", loss[0] + loss[1], |_| true).unwrap();
            t.output("norm", update.norm);
        })
        .unwrap();
        let mut inputs = state_of(&traced);
        inputs.extend(arrays(&case));
        set_step(&mut inputs, &groups, 0, 1);
        let outputs = oracle(&traced.graph, &inputs);
        assert_close("norm", &outputs["norm"].to_f64(), &case["norm"].to_f64(), TOLERANCE);
        for name in ["a", "b"] {
            let step: Vec<f64> = outputs[name].to_f64().iter().map(|p| -p).collect();
            assert_close(name, &step, &case[&format!("clipped/{name}")].to_f64(), TOLERANCE);
        }
    }
}

#[test]
fn nothing_changes_when_a_gradient_or_the_loss_is_not_finite() {
    let groups = Groups(vec![Group::new("", Adam::new(0.1))]);
    let traced = trace(&groups, &[3]);
    let mut inputs = state_of(&traced);
    let array = |values: [f32; 3]| Array::from_host(&HostTensor::new([3], &values).unwrap());
    inputs.insert("p".into(), array([1.0, -2.0, 3.0]));
    for (gradient, finite) in [([0.1, f32::NAN, 0.0], 0.0), ([f32::INFINITY, 0.0, 0.0], 0.0), ([0.1, 0.2, 0.3], 1.0)] {
        set_step(&mut inputs, &groups, 0, 1);
        inputs.insert("gradient".into(), array(gradient));
        let outputs = oracle(&traced.graph, &inputs);
        assert_eq!(outputs["finite"].to_f64(), [finite]);
        for name in ["p", "optimizer/m/p", "optimizer/v/p"] {
            assert_eq!(outputs[name] == inputs[name], finite == 0.0, "{name} after gradient {gradient:?}");
        }
    }
}
