//! A run that is killed and goes on ends with the same bits as one that was left alone.

use super::{Workplace, metrics, model};
use std::{
    process::Stdio,
    thread::sleep,
    time::{Duration, Instant},
};

/// A network with every kind of state: parameters, AdamW's two moments, running statistics, random masks; the best epoch is kept,
/// the last batch is smaller.
const SETTINGS: &[&str] = &[
    "data.source=digits",
    "layers.0.out_channels=8",
    "layers.5.out_channels=8",
    "layers.10.out_channels=8",
    "train.epochs=4",
    "train.keep_best=true",
    "train.checkpoint_every_steps=3",
];

/// All that is kept beside: averages of the weights, the states of a plateau and of early stopping, groups of parameters.
const PATIENT: &[&str] = &[
    "train.epochs=30",
    "train.ema=0.9",
    "train.accumulate=3",
    "train.early_stopping=6",
    "train.early_stopping_monitor=loss",
    "train.checkpoint_every_steps=3",
    "schedule={type='plateau',patience=0,factor=0.6,monitor='loss'}",
    "optimizer={type='rmsprop',learning_rate=0.05,centered=true,groups=[{match='*.bias',learning_rate_factor=2.0}]}",
];

fn arguments<'a>(model: &'a str, settings: &[&'a str], out: &'a str) -> Vec<&'a str> {
    let mut arguments = vec!["train", model, "--out", out];
    settings.iter().for_each(|s| arguments.extend(["--set", s]));
    arguments
}

#[test]
fn killed_at_twenty_instants_the_run_ends_with_the_same_bits() {
    kill(&model("cnn-fashion.toml"), SETTINGS, 20);
}

#[test]
fn killed_runs_that_wait_for_an_improvement_end_with_the_same_bits() {
    let place = kill(&model("mlp-digits.toml"), PATIENT, 5);
    let summary: serde_json::Value = serde_json::from_str(&place.text("killed/summary.json")).unwrap();
    assert_eq!(summary["early_stopped"], true, "{summary}");
    // Going on has nothing to do, and says why.
    let said = place.succeed(&["train", "--resume", "killed"]);
    assert!(said.contains("early stopping: no improvement on validation for 6 epochs; training ends after epoch"), "{said}");
    compare(&place);
}

/// Trains a model in `whole`, and in `killed` with that many kills.
fn kill(model: &str, settings: &[&str], times: u32) -> Workplace {
    let place = Workplace::new();
    let clock = Instant::now();
    place.succeed(&arguments(model, settings, "whole"));
    let mut length = clock.elapsed();
    let mut kills = 0;
    while kills < times {
        // Fractions of the run's length, spread by the golden ratio: early, late and in between.
        let delay = length.mul_f64((f64::from(kills + 1) * 0.618_034).fract() * 0.6);
        if start_and_kill(&place, &next_session(&place, model, settings), delay) {
            kills += 1;
            continue;
        }
        // It was done before the kill: the machine is faster than it was.
        length = length.mul_f64(0.8);
        compare(&place);
        std::fs::remove_dir_all(place.path("killed")).unwrap();
    }
    place.succeed(&next_session(&place, model, settings));
    compare(&place);
    place
}

/// The arguments that start the run, or go on with it where its folder is there.
fn next_session<'a>(place: &Workplace, model: &'a str, settings: &[&'a str]) -> Vec<&'a str> {
    if place.path("killed").exists() { vec!["train", "--resume", "killed"] } else { arguments(model, settings, "killed") }
}

/// Starts the run, or goes on with it, and kills it after a while; whether it was still running then.
fn start_and_kill(place: &Workplace, arguments: &[&str], delay: Duration) -> bool {
    let mut child = place.command(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    sleep(delay);
    // SIGKILL; an error means that the process is done already.
    let _ = child.kill();
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() || output.status.code().is_none(), "the program failed by itself: {said}");
    !output.status.success()
}

fn compare(place: &Workplace) {
    assert!(place.read("whole/weights.safetensors") == place.read("killed/weights.safetensors"), "other weights");
    assert_eq!(metrics(place, "whole"), metrics(place, "killed"));
}

/// A checkpoint that the disk has spoilt is told and the one before it used, with the same end.
#[test]
fn a_damaged_checkpoint_falls_back_to_the_one_before() {
    let (place, model) = (Workplace::new(), model("mlp-digits.toml"));
    let settings = ["--set", "train.epochs=3", "--set", "train.checkpoint_every_steps=10"];
    let arguments = |out: &'static str| [&["train", &model, "--out", out], &settings[..]].concat();
    place.succeed(&arguments("whole"));
    place.succeed(&arguments("spoilt"));
    let latest = format!("spoilt/checkpoints/{}/state.safetensors", place.text("spoilt/checkpoints/latest"));
    let mut bytes = place.read(&latest);
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    place.write(&latest, bytes);
    let output = place.run(&["train", "--resume", "spoilt"]);
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success() && said.contains("state.safetensors") && said.contains("checksum"), "{said}");
    assert!(place.read("whole/weights.safetensors") == place.read("spoilt/weights.safetensors"));
    assert_eq!(metrics(&place, "whole"), metrics(&place, "spoilt"));
}

/// Going on with a run that is done changes nothing.
#[test]
fn resuming_a_finished_run_changes_nothing() {
    let (place, model) = (Workplace::new(), model("mlp-digits.toml"));
    place.succeed(&["train", &model, "--out", "run", "--set", "train.epochs=2"]);
    let (weights, lines) = (place.read("run/weights.safetensors"), metrics(&place, "run"));
    place.succeed(&["train", "--resume", "run"]);
    assert!(weights == place.read("run/weights.safetensors"));
    assert_eq!(lines, metrics(&place, "run"));
}
