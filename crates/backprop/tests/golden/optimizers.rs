//! Optimizer steps from given gradients, schedules, and clipping by the global norm.

use crate::store::{arrays, assert_close, below, load, oracle, row};
use backprop::{
    prelude::*,
    schedule::{Clock, Plateau, PlateauState},
    step::initial_state,
};
use backprop_core::reference::Array;
use serde_json::{Value, json};
use std::{collections::HashMap, sync::Arc};

/// Share of the tensor's maximum: f32 values against the oracle's.
const TOLERANCE: f64 = 1e-6;

fn optimizer(description: &Value) -> OptimizerSpec {
    let mut table = description.as_object().unwrap().clone();
    let name = table.remove("name").unwrap().as_str().unwrap().to_lowercase();
    let rate = table.remove("lr").map(|rate| ("learning_rate".to_owned(), rate));
    table.extend([("type".to_owned(), json!(name))].into_iter().chain(rate));
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

/// The inputs of the first step of a traced training graph.
fn state_of(traced: &TracedGraph) -> HashMap<String, Array> {
    let first = initial_state(&traced.state, 0).unwrap();
    let mut inputs: HashMap<String, Array> = first.iter().map(|(name, t)| (name.clone(), Array::from_host(t))).collect();
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
        for step in 0..case["gradients"].shape()[0] {
            set_step(&mut inputs, &groups, step as u64, 5);
            inputs.insert("gradient".into(), Array::from_host(&row(&case["gradients"], step)));
            let outputs = oracle(&traced.graph, &inputs);
            assert_close(&format!("{name} {step}"), &outputs["p"].to_f64(), &row(&case["values"], step).to_f64(), TOLERANCE);
            inputs.extend(outputs);
        }
        checked += 1;
    }
    assert_eq!(checked, 31);
}

#[test]
fn schedules_give_the_rates_of_pytorch() {
    let (tensors, meta) = load("optimizers");
    let mut kinds = Vec::new();
    for (name, case) in meta["cases"].as_object().unwrap().iter().filter(|(name, _)| name.starts_with("schedule/")) {
        let schedule: Schedule = serde_json::from_value(case["schedule"].clone()).unwrap();
        schedule.validate().unwrap();
        kinds.push(case["schedule"]["type"].as_str().unwrap());
        let expected = tensors[&format!("{name}/rates")].to_f64();
        let clock = Clock::new(0, expected.len() as u64).steps_per_epoch(case["steps_per_epoch"].as_u64().unwrap());
        let rates: Vec<Rates> =
            (0..expected.len()).map(|step| schedule.rates(0.1, Clock { step: step as u64, ..clock })).collect();
        for (step, (rate, e)) in rates.iter().zip(&expected).enumerate() {
            let error = (rate.learning_rate - e).abs();
            assert!(error <= 1e-7 * e.abs() + 1e-12, "{name}, step {step}: {}, expected {e}", rate.learning_rate);
        }
        if let Some(momenta) = tensors.get(&format!("{name}/momenta")) {
            let actual: Vec<f64> = rates.iter().map(|r| r.momentum.unwrap()).collect();
            assert_close(name, &actual, &momenta.to_f64(), 1e-7);
        }
    }
    let missing: Vec<_> = Schedule::TYPES.iter().filter(|kind| **kind != "plateau" && !kinds.contains(kind)).collect();
    assert!(missing.is_empty(), "{missing:?}");
}

#[test]
fn a_plateau_reduces_the_rate_when_pytorch_does() {
    let (tensors, meta) = load("optimizers");
    let mut checked = 0;
    for (name, options) in meta["cases"].as_object().unwrap().iter().filter(|(name, _)| name.starts_with("plateau/")) {
        let mut table = options.as_object().unwrap().clone();
        let higher_is_better = table.remove("mode").unwrap() == "max";
        if let Some(floor) = table.remove("min_lr") {
            table.insert("min_learning_rate".into(), floor);
        }
        let plateau: Plateau = serde_json::from_value(table.into()).unwrap();
        let (schedule, mut state) = (Schedule::Plateau(plateau), PlateauState::default());
        let rates = tensors[&format!("{name}/rates")].to_f64();
        for (epoch, (value, expected)) in tensors[&format!("{name}/values")].to_f64().into_iter().zip(rates).enumerate() {
            plateau.observe(&mut state, value, higher_is_better);
            let rate = schedule.rates(0.1, Clock { reductions: state.reductions, ..Clock::new(0, 1) }).learning_rate;
            assert!((rate - expected).abs() <= 1e-7 * expected, "{name}, epoch {epoch}: {rate}, expected {expected}");
        }
        assert!(state.reductions > 1, "{name}");
        checked += 1;
    }
    assert_eq!(checked, 6);
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

/// The average begins with the first update and leaves out steps that are not finite.
#[test]
fn averages_of_parameters_are_those_of_the_host() {
    let groups = Groups(vec![Group::new("", Sgd::new(1.0)).ema(0.75)]);
    let traced = trace(&groups, &[2]);
    let mut inputs = state_of(&traced);
    let (mut p, mut average, mut updates) = ([0.0_f64; 2], None::<[f64; 2]>, 0);
    for (step, gradient) in [[0.5, -0.25], [f32::NAN, 0.0], [1.0, 2.0], [-0.5, 0.125], [0.0, -3.0]].into_iter().enumerate() {
        let finite = gradient.iter().all(|g| g.is_finite());
        set_step(&mut inputs, &groups, updates, 5);
        inputs.insert("gradient".into(), Array::from_host(&HostTensor::new([2], &gradient).unwrap()));
        let outputs = oracle(&traced.graph, &inputs);
        if finite {
            updates += 1;
            p = [0, 1].map(|i| p[i] - f64::from(gradient[i]));
            average = Some(average.map_or(p, |a| [0, 1].map(|i| 0.75 * a[i] + 0.25 * p[i])));
        }
        assert_eq!(outputs["p"].to_f64(), p, "step {step}");
        assert_eq!(outputs["ema/p"].to_f64(), average.unwrap(), "step {step}");
        inputs.extend(outputs);
    }
}

/// First the norm, then the elements: what remains is cut at the limit.
#[test]
fn gradients_are_cut_element_by_element() {
    let groups = Groups(vec![Group::new("", Sgd::new(1.0)).clip_norm(5.0).clip_value(2.0)]);
    let traced = trace(&groups, &[3]);
    let mut inputs = state_of(&traced);
    set_step(&mut inputs, &groups, 0, 1);
    inputs.insert("gradient".into(), Array::from_host(&HostTensor::new([3], &[6.0_f32, -8.0, 0.0]).unwrap()));
    let outputs = oracle(&traced.graph, &inputs);
    assert_close("norm before clipping", &outputs["norm"].to_f64(), &[10.0], TOLERANCE);
    assert_close("step", &outputs["p"].to_f64(), &[-2.0, 2.0, 0.0], TOLERANCE);
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
