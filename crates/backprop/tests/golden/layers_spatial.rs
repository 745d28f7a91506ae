//! Layers over space, normalisations, activations and combinators: outputs and gradients, by the oracle and on the CPU.

use crate::{
    layers::{Engine, compare, evaluate},
    store::{below, by_oracle, by_plugin, load, natively},
};
use backprop::prelude::*;
use backprop_check::plugin;

fn check(engine: Engine) {
    let (tensors, meta) = load("layers_spatial");
    let cases = meta["cases"].as_object().unwrap();
    for (name, description) in cases {
        let layer: AnyLayer = serde_json::from_value(description["layer"].clone()).unwrap_or_else(|e| panic!("{name}: {e}"));
        let mode = if description["training"] == true { Mode::Train } else { Mode::Evaluate };
        let case = below(&tensors, &format!("{name}/"));
        compare(name, &case, &evaluate(&layer, mode, &case, engine), false);
    }
    assert_eq!(cases.len(), 170);
}

#[test]
fn reference_gives_the_values_and_gradients_of_pytorch() {
    check(by_oracle);
}

#[test]
fn native_gives_the_values_and_gradients_of_pytorch() {
    check(natively);
}

#[test]
fn a_plugin_gives_the_values_and_gradients_of_pytorch() {
    if plugin("layers_spatial::a_plugin_gives_the_values_and_gradients_of_pytorch").is_some() {
        check(by_plugin);
    }
}
