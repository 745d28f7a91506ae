//! Single layers and functions: outputs, gradients and statistics.

use crate::store::{Tensors, assert_close, below, by_oracle, by_plugin, load};
use backprop::prelude::*;
use backprop_check::plugin;
use serde_json::{Value, json};
use std::collections::HashMap;

/// Share of the tensor's maximum: the golden values are f32, the oracle is not.
const TOLERANCE: f64 = 1e-5;

/// The library's layer for a case's description.
fn layer(case: &str, description: &Value) -> Option<AnyLayer> {
    let mut table = description.as_object().unwrap().clone();
    let kind = table.remove("layer").or_else(|| table.remove("function"))?;
    table.remove("in_channels");
    let parse = |kind: &str, table: Value| {
        let mut table = table;
        table["type"] = json!(kind);
        Some(serde_json::from_value(table).unwrap())
    };
    match kind.as_str().unwrap() {
        "Linear" => parse("linear", json!({ "out_features": table["out"], "bias": table.get("bias").unwrap_or(&json!(true)) })),
        "Conv2d" => parse("conv2d", table.into()),
        "MaxPool2d" => parse("max_pool2d", table.into()),
        "AvgPool2d" => parse("avg_pool2d", table.into()),
        "global average pool" => parse("global_avg_pool", json!({})),
        "BatchNorm" => {
            table.remove("training");
            parse("batch_norm", table.into())
        }
        "LayerNorm" => parse("layer_norm", json!({ "normalized_shape": table["shape"], "eps": table["eps"] })),
        "Embedding" => parse("embedding", json!({ "num_embeddings": table["rows"], "embedding_dim": table["width"] })),
        "Flatten" => parse("flatten", json!({})),
        "LSTM" if case != "lstm_states" => {
            table.retain(|key, _| !matches!(key.as_str(), "input" | "input_size"));
            parse("lstm", table.into())
        }
        "Residual" => {
            let conv =
                |c: usize, k: usize, p: usize| json!({ "type": "conv2d", "out_channels": c, "kernel_size": k, "padding": p });
            let shortcut = json!({ "type": "conv2d", "out_channels": 3, "kernel_size": 1, "bias": false });
            parse("residual", json!({ "body": [conv(4, 3, 1), { "type": "relu" }, conv(3, 3, 1)], "shortcut": [shortcut] }))
        }
        "gelu_erf" => parse("gelu", json!({})),
        "gelu_tanh" => parse("gelu", json!({ "approximate": "tanh" })),
        "softmax" => parse("softmax", json!({ "dim": table["axis"] })),
        "log_softmax" => parse("log_softmax", json!({ "dim": table["axis"] })),
        name @ ("relu" | "sigmoid" | "tanh") => parse(name, json!({})),
        _ => None,
    }
}

/// What evaluates a graph for inputs by name, and gives the outputs by name.
pub type Engine = fn(&Graph, &Tensors) -> HashMap<String, Vec<f64>>;

/// Traces the layer with the gradients of Σ output·cotangent, and evaluates it on the golden inputs.
pub fn evaluate(layer: &dyn Layer, mode: Mode, case: &Tensors, engine: Engine) -> HashMap<String, Vec<f64>> {
    let b = Builder::new();
    let x = b.input("x", Role::Data, case["input/x"].ty().clone());
    let cotangent = b.input("cotangent", Role::Data, case["cotangent"].ty().clone());
    let mut cx = Scope::new(&b, DType::F32, mode);
    let y = layer.forward(&mut cx, x);
    let mut wanted: Vec<(String, Tensor)> = cx.parameters().into_iter().map(|(spec, value)| (spec.name, value)).collect();
    if x.dtype().is_float() {
        wanted.push(("x".into(), x));
    }
    let gradients = (y * cotangent).sum_all().grad(&wanted.iter().map(|w| w.1).collect::<Vec<_>>());
    b.output("output", Role::Data, y);
    for ((name, _), gradient) in wanted.iter().zip(gradients) {
        b.output(format!("grad/{name}"), Role::Data, gradient);
    }
    for (spec, _, after) in cx.updates() {
        b.output(format!("state_after/{}", spec.name), Role::Data, after);
    }
    drop(cx);
    let mut inputs = below(case, "param/");
    inputs.extend(below(case, "state/"));
    inputs.insert("x".into(), case["input/x"].clone());
    inputs.insert("cotangent".into(), case["cotangent"].clone());
    engine(&b.finish().unwrap(), &inputs)
}

/// Compares everything the case records, and everything the layer gives.
pub fn compare(name: &str, case: &Tensors, actual: &HashMap<String, Vec<f64>>, training: bool) {
    let recorded = |key: &&String| *key == "output" || key.starts_with("grad/") || (training && key.starts_with("state_after/"));
    for key in case.keys().filter(recorded) {
        let actual = actual.get(key).unwrap_or_else(|| panic!("{name}: the layer gives no {key}"));
        assert_close(&format!("{name} {key}"), actual, &case[key].to_f64(), TOLERANCE);
    }
    for key in actual.keys() {
        assert!(case.contains_key(key), "{name}: the layer gives {key}, PyTorch's does not");
    }
}

#[test]
fn layers_give_the_values_and_gradients_of_pytorch() {
    check(by_oracle);
}

#[test]
fn a_plugin_gives_the_values_and_gradients_of_pytorch() {
    if plugin("layers::a_plugin_gives_the_values_and_gradients_of_pytorch").is_some() {
        check(by_plugin);
    }
}

fn check(engine: Engine) {
    let (tensors, meta) = load("layers");
    let mut checked = 0;
    for (name, description) in meta["cases"].as_object().unwrap() {
        let Some(layer) = layer(name, description) else { continue };
        let training = description["training"].as_bool().unwrap_or(true);
        let mode = if training { Mode::Train } else { Mode::Evaluate };
        let case = below(&tensors, &format!("{name}/"));
        compare(name, &case, &evaluate(&layer, mode, &case, engine), training);
        // Recomputation changes no value and no name.
        compare(name, &case, &evaluate(&checkpoint(layer), mode, &case, engine), training);
        checked += 1;
    }
    assert_eq!(checked, 41);
}

/// Every hidden state, then the last hidden and cell states, from given ones.
#[derive(Debug)]
struct LstmStates;

impl Layer for LstmStates {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        let b = cx.builder();
        let state = |name: &str| b.input(name, Role::Data, Type::new(DType::F32, [1, 2, 4])).reshape([2, 4]);
        let output = Lstm::new(4).forward_from(cx, x, &[(state("h0"), state("c0"))]);
        let flat = [output.sequence, output.hidden[0], output.cell[0]].map(|t| t.reshape([t.shape().elements()]));
        flat[0].concatenate(&flat[1..], 0)
    }
}

#[test]
fn an_lstm_starts_from_given_states() {
    let (tensors, _) = load("layers");
    let mut case = below(&tensors, "lstm_states/");
    for name in ["h0", "c0"] {
        case.insert(format!("param/{name}"), case[&format!("input/{name}")].clone());
        case.remove(&format!("grad/{name}"));
    }
    compare("lstm_states", &case, &evaluate(&LstmStates, Mode::Train, &case, by_oracle), true);
}
