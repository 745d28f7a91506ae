//! The same run gives the same bits on any number of threads and on AVX2 and AVX-512.

use super::{Workplace, model};
use serde_json::Value;

/// A short training run of a network with convolutions, batch norm, pooling, dropout, a smaller last batch and AdamW.
fn weights(place: &Workplace, name: &str, model_name: &str, settings: &[&str], options: &[&str]) -> Vec<u8> {
    let model = model(model_name);
    let mut arguments = vec!["train", &model, "--out", name];
    settings.iter().for_each(|s| arguments.extend(["--set", s]));
    arguments.extend(options);
    place.succeed(&arguments);
    place.read(&format!("{name}/weights.safetensors"))
}

/// What this processor has, as `devices` tells.
fn isas(place: &Workplace) -> Vec<String> {
    let devices: Value = super::last_json(&place.succeed(&["devices", "--json"]));
    devices["devices"][0]["isa_available"].as_array().unwrap().iter().map(|v| v.as_str().unwrap().to_owned()).collect()
}

fn same_everywhere(model: &str, settings: &[&str]) {
    let place = Workplace::new();
    let one = weights(&place, "one", model, settings, &["--threads", "1"]);
    for threads in ["2", "3", "8"] {
        let many = weights(&place, threads, model, settings, &["--threads", threads]);
        assert!(one == many, "{model}: {threads} threads give other bits than one");
    }
    let isas = isas(&place);
    if isas.iter().any(|isa| isa == "avx512") {
        let narrow = weights(&place, "avx2", model, settings, &["--isa", "avx2"]);
        let wide = weights(&place, "avx512", model, settings, &["--isa", "avx512"]);
        assert!(narrow == wide, "{model}: avx2 and avx512 give different bits");
        assert!(narrow == one, "{model}: the instruction set given gives other bits than the default");
    }
}

#[test]
fn convolutional_network() {
    // 68 rows to train on: two batches, the second of 4 rows.
    let settings = ["data.validation=0.9774", "train.epochs=2"];
    same_everywhere("cnn-fashion.toml", &settings);
}

#[test]
fn dense_network() {
    same_everywhere("mlp-digits.toml", &["train.epochs=4"]);
}

#[test]
fn recurrent_network() {
    same_everywhere(
        "lstm-text.toml",
        &["train.epochs=1", "data.sequence=12", "data.validation=0.88", "data.test=0.98", "layers.1.hidden_size=24"],
    );
}

#[test]
fn transformer() {
    let settings = ["train.epochs=1", "data.sequence=12", "data.validation=0.88", "data.test=0.98", "layers.1.max_len=12"];
    same_everywhere("gpt-text.toml", &settings);
}
