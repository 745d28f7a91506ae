//! What each command prints and leaves behind.

use super::{Workplace, last_json, model};
use serde_json::Value;
use std::process::Stdio;

#[test]
fn training_leaves_a_run_folder_and_a_last_event() {
    let place = Workplace::new();
    let printed = place.succeed(&["train", &model("mlp-digits.toml"), "--set", "train.epochs=3", "--json"]);
    let events: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(events[0]["event"], "started");
    assert_eq!(events.iter().filter(|e| e["event"] == "epoch").count(), 3);
    let last = events.last().unwrap();
    for key in ["test_accuracy", "test_loss", "wall_s", "steps"] {
        assert!(last[key].is_number(), "{key} in {last}");
    }
    assert_eq!(last["steps"], 3 * 41);
    assert!(last["test_accuracy"].as_f64().unwrap() > 0.9, "{last}");
    for file in ["config.toml", "metrics.jsonl", "weights.safetensors", "curves.svg", "summary.json", "checkpoints/latest"] {
        assert!(place.path("runs/mlp-digits-1").join(file).is_file(), "{file}");
    }
    assert_eq!(place.text("runs/mlp-digits-1/metrics.jsonl").lines().count(), 3);

    let evaluated = last_json(&place.succeed(&["eval", "runs/mlp-digits-1", "--json"]));
    for key in ["test_accuracy", "test_loss", "validation_loss"] {
        assert_eq!(evaluated[key], last[key], "{key}");
    }
    // A second run does not touch the first.
    place.succeed(&["train", &model("mlp-digits.toml"), "--set", "train.epochs=1"]);
    assert!(place.path("runs/mlp-digits-2/weights.safetensors").is_file());
    assert_eq!(place.text("runs/mlp-digits-1/metrics.jsonl").lines().count(), 3);
}

/// Training the written configuration gives the same weights: nothing of a run is outside its folder.
#[test]
fn the_resolved_configuration_gives_the_same_run() {
    let place = Workplace::new();
    place.succeed(&["train", &model("mlp-digits.toml"), "--set", "train.epochs=2", "--seed", "7", "--out", "a"]);
    place.succeed(&["train", "a/config.toml", "--out", "b"]);
    assert_eq!(place.text("a/config.toml"), place.text("b/config.toml"));
    assert_eq!(place.read("a/weights.safetensors"), place.read("b/weights.safetensors"));
    place.succeed(&["train", "a/config.toml", "--out", "c", "--seed", "8"]);
    assert_ne!(place.read("a/weights.safetensors"), place.read("c/weights.safetensors"), "the seed changes nothing");
}

/// A rate that makes every step overflow: the run stops with a message, not with NaN in its weights.
#[test]
fn divergence_stops_training() {
    let place = Workplace::new();
    let output = place.run(&["train", &model("mlp-digits.toml"), "--set", "optimizer.learning_rate=1e30", "--out", "run"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("not finite") && said.contains("learning rate"), "{said}");
}

#[test]
fn inspection_adds_up() {
    let place = Workplace::new();
    let all = last_json(&place.succeed(&["inspect", "--json", "--threads", "2"]));
    let sum: u64 = all["layers"].as_array().unwrap().iter().map(|l| l["parameters"].as_u64().unwrap()).sum();
    assert_eq!(all["parameters"], sum);
    let bytes = |key: &str| all[key].as_u64().unwrap();
    assert_eq!(
        bytes("peak_bytes"),
        bytes("arena_bytes") + bytes("state_bytes") + bytes("constant_bytes") + bytes("scratch_bytes")
    );
    assert!(bytes("arena_bytes") >= bytes("live_bytes") && bytes("live_bytes") > 0);
    let half = last_json(&place.succeed(&["inspect", "--json", "--batch", "32"]));
    assert!(half["arena_bytes"].as_u64().unwrap() < bytes("arena_bytes"));
}

#[test]
fn tables_fit_a_hundred_columns() {
    let place = Workplace::new();
    for name in ["cnn-fashion.toml", "resnet18-cifar.toml", "lstm-text.toml"] {
        let table = place.succeed(&["inspect", &model(name), "--batch", "8"]);
        let widest = table.lines().map(|line| line.chars().count()).max().unwrap();
        assert!(widest <= 100, "{name}: {widest} columns\n{table}");
        assert!(table.contains("layers.0") && table.contains("peak"), "{table}");
    }
}

/// The program for accelerators needs none, and is the same every time.
#[test]
fn the_step_is_printed_as_stablehlo() {
    let place = Workplace::new();
    let printed = |more: &[&str]| place.succeed(&[&["inspect", &model("mlp-digits.toml"), "--stablehlo"], more].concat());
    let text = printed(&[]);
    assert!(text.starts_with("module @backprop {") && text.contains("stablehlo.dot_general") && text.ends_with("}\n"), "{text}");
    assert_eq!(text, printed(&[]));
    assert!(!text.contains("sdy.mesh") && printed(&["--devices", "2"]).contains("sdy.mesh"));
    assert!(!text.contains("DEFAULT") && printed(&["--precision", "tf32"]).contains("DEFAULT"));
    assert!(printed(&["--batch", "7"]).contains("tensor<7x"));
    let refused = place.run(&["inspect", "--stablehlo", "--device", "cuda"]);
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn passes_are_shown_before_and_after() {
    let place = Workplace::new();
    let text = place.succeed(&["inspect", &model("mlp-digits.toml"), "--pass", "simplify"]);
    assert!(text.contains("# before pass") && text.contains("# after pass") && text.contains("layers.1"), "{text}");
}

#[test]
fn help_documents_the_exit_codes() {
    let place = Workplace::new();
    for arguments in [&["--help"][..], &["train", "--help"]] {
        assert!(place.succeed(arguments).contains("Exit codes"), "{arguments:?}");
    }
}

/// A reader who leaves is no reason to panic or to stop.
#[test]
fn a_closed_pipe_is_no_failure() {
    let place = Workplace::new();
    let arguments = ["train", &model("mlp-digits.toml"), "--set", "train.epochs=2", "--json", "--out", "run"];
    let mut child = place.command(&arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(place.path("run/summary.json").is_file());
}
