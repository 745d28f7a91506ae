//! Losses: values and gradients, with PyTorch's reductions.

use crate::store::{assert_close, below, by_oracle, by_plugin, load, natively, oracle};
use backprop::prelude::*;
use backprop_check::{GradientCheck, Random, plugin};
use backprop_core::{op::Domain, reference::Array};
use serde_json::{Value, json};

/// Share of the tensor's maximum.
const TOLERANCE: f64 = 2e-6;

fn loss(description: &Value) -> Option<LossSpec> {
    let mut table = description.as_object().unwrap().clone();
    let kind = table.remove("loss")?;
    table.remove("reduction");
    // PyTorch's case weighs every column; the library's factor is one number.
    if table.get("pos_weight").is_some_and(Value::is_array) {
        return None;
    }
    table.insert("type".into(), kind);
    Some(serde_json::from_value(table.into()).unwrap())
}

#[test]
fn losses_give_the_values_and_gradients_of_pytorch() {
    let plugin = plugin("losses::losses_give_the_values_and_gradients_of_pytorch");
    let (tensors, meta) = load("layers");
    let mut checked = 0;
    for (name, description) in meta["cases"].as_object().unwrap() {
        // Some descriptions name the reduction only; the case's name says which loss it is.
        let mut description = description.clone();
        if name.starts_with("bce_") {
            description["loss"] = json!("bce_with_logits");
        }
        let Some(loss) = loss(&description) else { continue };
        let case = below(&tensors, &format!("{name}/"));
        let inputs = below(&case, "input/");
        let output_name = if inputs.contains_key("logits") { "logits" } else { "x" };
        let b = Builder::new();
        let [output, target] = [output_name, "target"].map(|n| b.input(n, Role::Data, inputs[n].ty().clone()));
        let value = loss.forward(output, target);
        let value = if description["reduction"] == "sum" { value.sum } else { value.mean() };
        // The case's cotangent is a random scalar.
        let scaled = value * case["cotangent"].to_f64()[0];
        b.output("output", Role::Data, value);
        b.output(output_name, Role::Data, scaled.grad(&[output])[0]);
        if target.dtype().is_float() {
            b.output("target", Role::Data, scaled.grad(&[target])[0]);
        }
        let graph = b.finish().unwrap();
        let mut results = vec![by_oracle(&graph, &inputs)];
        results.extend(plugin.iter().map(|_| by_plugin(&graph, &inputs)));
        for outputs in results {
            assert_close(name, &outputs["output"], &case["output"].to_f64(), TOLERANCE);
            for (key, expected) in below(&case, "grad/") {
                assert_close(&format!("{name} grad/{key}"), &outputs[&key], &expected.to_f64(), TOLERANCE);
            }
        }
        checked += 1;
    }
    assert_eq!(checked, 12);
}

#[test]
fn a_class_out_of_range_makes_the_loss_nan_and_an_infinite_logit_elsewhere_does_not() {
    let value = |logits: &[f32], target: i32| {
        let b = Builder::new();
        let logits = b.constant(HostTensor::new([1, 3], logits).unwrap());
        let target = b.constant(HostTensor::new([1], &[target]).unwrap());
        b.output("loss", Role::Data, CrossEntropy::new().forward(logits, target).mean());
        oracle(&b.finish().unwrap(), &Default::default())["loss"].to_f64()[0]
    };
    assert!(value(&[0.0, 1.0, 2.0], 3).is_nan());
    assert!(value(&[0.0, 1.0, 2.0], -1).is_nan());
    let masked = value(&[0.0, f32::NEG_INFINITY, 0.0], 2);
    assert!((masked - 2f64.ln()).abs() < 1e-12, "{masked}");
}

/// Every loss of numbers, of log-probabilities, and the focal one, at several shapes, knees and ties among them.
#[test]
fn further_losses_give_the_values_and_gradients_of_pytorch() {
    let plugin = plugin("losses::further_losses_give_the_values_and_gradients_of_pytorch");
    let (tensors, meta) = load("losses");
    let cases = meta["cases"].as_object().unwrap();
    for (name, description) in cases {
        let loss: LossSpec = serde_json::from_value(description.clone()).unwrap();
        let case = below(&tensors, &format!("{name}/"));
        let inputs = ["output", "target"].map(|key| (key.to_owned(), case[key].clone())).into();
        let b = Builder::new();
        let [output, target] = ["output", "target"].map(|n| b.input(n, Role::Data, case[n].ty().clone()));
        let value = loss.forward(output, target).mean();
        b.output("value", Role::Data, value);
        b.output("grad", Role::Data, value.grad(&[output])[0]);
        let graph = b.finish().unwrap_or_else(|e| panic!("{name}: {e}"));
        let mut results = vec![("oracle", by_oracle(&graph, &inputs)), ("native", natively(&graph, &inputs))];
        results.extend(plugin.iter().map(|_| ("plugin", by_plugin(&graph, &inputs))));
        for (how, found) in results {
            for key in ["value", "grad"] {
                assert_close(&format!("{name} {key} by the {how}"), &found[key], &case[key].to_f64(), TOLERANCE);
            }
        }
    }
    let kinds = LossSpec::TYPES.iter().filter(|kind| cases.values().any(|c| c["type"] == **kind)).count();
    assert_eq!((cases.len(), kinds), (102, 9));
}

/// First and second derivatives against central differences of the oracle in f64.
#[test]
fn derivatives_of_further_losses() {
    let apart = |knee: f64| Domain::AwayFrom { low: -3.0, high: 3.0, offset: knee, spacing: 2.0 * knee.max(50.0), margin: 0.1 };
    let numbers: [(LossSpec, Domain); 7] = [
        (LossSpec::L1(L1 {}), apart(0.0)),
        (LossSpec::Huber(Huber { delta: 1.0 }), Domain::Uniform(0.1, 0.9)),
        (LossSpec::Huber(Huber { delta: 0.2 }), Domain::Uniform(0.3, 0.9)),
        (LossSpec::SmoothL1(SmoothL1 { beta: 0.7 }), Domain::Uniform(0.1, 0.6)),
        (LossSpec::LogCosh(LogCosh {}), Domain::Uniform(0.2, 2.0)),
        (LossSpec::Quantile(Quantile { q: 0.8 }), apart(0.0)),
        (LossSpec::PoissonNll(PoissonNll::default()), Domain::Uniform(-1.0, 1.0)),
    ];
    let shapes: [&[usize]; 8] = [&[1, 1], &[2, 3], &[5], &[1, 7], &[3, 2, 4], &[2, 1, 3], &[9, 1], &[0, 3]];
    for (seed, shape) in shapes.iter().enumerate() {
        let mut random = Random::new(seed as u64);
        let ty = Type::new(DType::F64, *shape);
        for (loss, domain) in &numbers {
            let difference = random.array(&ty, domain);
            // The target is 0 throughout, so that the difference is where its domain says.
            differentiate(loss, difference, |b| b.zeros(ty.clone()));
        }
        let rows = shape[0];
        let logits = random.array(&Type::new(DType::F64, [rows, 3]), &Domain::Uniform(-1.5, 1.5));
        let classes: Vec<i32> = (0..rows as i32).map(|i| if i == 3 { -100 } else { i % 3 }).collect();
        let weight = Some(vec![0.5, 2.0, 1.0]);
        for loss in [LossSpec::Nll(Nll { weight, ..Nll::default() }), LossSpec::Focal(Focal::default())] {
            differentiate(&loss, logits.clone(), |b| b.constant(HostTensor::new([rows], &classes).unwrap()));
        }
        differentiate(&LossSpec::KlDiv(KlDiv::default()), logits, |b| b.full(Type::new(DType::F64, [rows, 3]), 0.3));
    }
}

fn differentiate(loss: &LossSpec, output: Array, target: impl for<'g> Fn(&'g Builder) -> Tensor<'g>) {
    let report = GradientCheck::default().run(&[output], |b, xs| vec![loss.forward(xs[0], target(b)).sum]);
    report.unwrap_or_else(|e| panic!("{loss:?}: {e}"));
}

/// One logit per row says how likely the second class is; another class than the two makes the loss NaN.
#[test]
fn binary_losses_take_classes() {
    let value = |classes: &[i32; 2]| {
        let b = Builder::new();
        let output = b.constant(HostTensor::new([2, 1], &[1.5_f64, -0.5]).unwrap());
        let target = b.constant(HostTensor::new([2], classes).unwrap());
        b.output("loss", Role::Data, BceWithLogits::new().forward(output, target).mean());
        oracle(&b.finish().unwrap(), &Default::default())["loss"].to_f64()[0]
    };
    let expected = ((1.0 + (-1.5_f64).exp()).ln() + (1.0 + (-0.5_f64).exp()).ln()) / 2.0;
    assert!((value(&[1, 0]) - expected).abs() < 1e-12);
    assert!(value(&[1, 2]).is_nan());
}

/// A position that is ignored has no weight, whatever its class's would be, and no gradient.
#[test]
fn ignored_targets_have_no_class_weight() {
    use backprop::loss::Loss;
    use backprop_core::{
        Builder,
        exec::{Program, Store, native::Native},
        graph::Role,
    };
    let (weights, z) = ([2.0, 3.0, 5.0], [0.5_f32, -1.0, 2.0, 0.1, 0.2, 0.3, -0.7, 0.9, 1.1]);
    let b = Builder::new();
    let logits = b.input("logits", Role::Data, Type::new(DType::F32, [3, 3]));
    let target = b.input("target", Role::Data, Type::new(DType::I32, [3]));
    let loss = CrossEntropy::new().weight(weights).forward(logits, target);
    b.output("sum", Role::Data, loss.sum);
    b.output("weight", Role::Data, loss.weight);
    b.output("gradient", Role::Data, loss.sum.grad(&[logits])[0]);
    let mut program = Native::default().build(&b.finish().unwrap()).unwrap();
    let mut outputs = program.signature().output_buffers();
    let inputs = [HostTensor::new([3, 3], &z).unwrap(), HostTensor::new([3], &[1, -100, 2]).unwrap()];
    program.run(&mut Store::new(), &[&inputs[0], &inputs[1]], &mut outputs).unwrap();
    let term = |row: usize, class: usize| {
        let row = z[3 * row..][..3].iter().map(|&z| f64::from(z)).collect::<Vec<_>>();
        weights[class] * (row.iter().map(|z| z.exp()).sum::<f64>().ln() - row[class])
    };
    assert!((outputs[0].to_f64()[0] - term(0, 1) - term(2, 2)).abs() < 1e-5, "{:?}", outputs[0]);
    assert_eq!(outputs[1].to_f64(), [8.0]);
    let gradient = outputs[2].to_f64();
    assert_eq!(gradient[3..6], [0.0; 3]);
    assert!(gradient[..3].iter().chain(&gradient[6..]).all(|g| *g != 0.0), "{gradient:?}");
}
