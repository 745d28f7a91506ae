//! Losses: values and gradients, with PyTorch's reductions.

use crate::store::{arrays, assert_close, below, load, oracle};
use backprop::prelude::*;
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
        let outputs = oracle(&b.finish().unwrap(), &arrays(&inputs));
        assert_close(name, &outputs["output"].to_f64(), &case["output"].to_f64(), TOLERANCE);
        for (key, expected) in below(&case, "grad/") {
            assert_close(&format!("{name} grad/{key}"), &outputs[&key].to_f64(), &expected.to_f64(), TOLERANCE);
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
