//! `backprop bench`.

use super::{Workplace, bad_input::GOOD, devices::real_plugin, last_json, model};
use serde_json::{Value, json};
use std::{io::Write, process::Stdio};

fn with_good() -> Workplace {
    let place = Workplace::new();
    place.write("good.toml", GOOD);
    place
}

#[test]
fn a_step_is_measured() {
    let place = with_good();
    let printed = place.succeed(&["bench", "step", "good.toml", "--steps", "5", "--threads", "1", "--json"]);
    assert_eq!(printed.lines().count(), 1);
    let report = last_json(&printed);
    let numbers = [
        "loss_first",
        "loss_step10",
        "step_ms_median",
        "step_ms_min",
        "step_ms_p10",
        "step_ms_p90",
        "compile_s",
        "gflop_per_step",
        "gflop_of_products",
        "gflop_per_s",
        "peak_gflop_per_s",
        "peak_gflop_per_s_of_one",
        "read_gb_per_s",
        "copy_gb_per_s",
        "meeting_us",
        "share_of_peak",
        "arena_bytes",
        "state_bytes",
        "parameters",
    ];
    for key in numbers {
        assert!(report[key].as_f64().is_some_and(|n| n > 0.0), "{key} in {report}");
    }
    let [min, p10, median, p90] = ["min", "p10", "median", "p90"].map(|name| report[format!("step_ms_{name}")].as_f64().unwrap());
    assert!(min <= p10 && p10 <= median && median <= p90, "{report}");
    assert_eq!(
        (&report["engine"], &report["model"], &report["precision"]),
        (&json!("backprop"), &json!("good"), &json!("highest"))
    );
    assert_eq!((&report["steps"], &report["batch"], &report["nonfinite_steps"]), (&json!(5), &json!(8), &json!(0)));
    assert!(report["device"].as_str().unwrap().starts_with("cpu"), "{report}");
    let smaller =
        place.succeed(&["bench", "step", "good.toml", "--steps", "1", "--batch", "4", "--set", "train.seed=3", "--json"]);
    let smaller = last_json(&smaller);
    assert_eq!(smaller["batch"], 4);
    assert_ne!(smaller["loss_first"], report["loss_first"]);

    let table = place.succeed(&["bench", "step", "good.toml", "--seconds", "0.01"]);
    assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
    for word in ["ms median", "GFLOP per step", "of the tenth", "arena", "planned", "of the peak", "GB/s"] {
        assert!(table.contains(word), "{word} in {table}");
    }
}

#[test]
fn the_time_of_a_step_is_that_of_its_kernels_and_of_waiting() {
    let place = with_good();
    let profiled = ["bench", "step", "good.toml", "--steps", "5", "--threads", "2", "--profile"];
    let report = last_json(&place.succeed(&[&profiled[..], &["--json"]].concat()));
    let profile = &report["profile"];
    let kernels = profile["kernels"].as_array().unwrap();
    assert!(kernels.iter().any(|k| k["name"].as_str().unwrap().contains("dot_general") && k["gflop_per_s"].as_f64() > Some(0.0)));
    let ms = |value: &Value| value.as_f64().unwrap();
    let busy: f64 = kernels.iter().map(|k| ms(&k["ms"])).sum();
    let (all, waiting) = (ms(&profile["thread_ms"]), ms(&profile["waiting_ms"]));
    assert!(busy > 0.0 && (busy + waiting - all).abs() < 1e-3 * all, "{profile}");
    assert!(profile["steps"].as_u64() >= Some(5));
    let table = place.succeed(&profiled);
    assert!(table.lines().all(|line| line.chars().count() <= 100), "{table}");
    for word in ["kernel", "GFLOP/s", "no kernel", "all threads"] {
        assert!(table.contains(word), "{word} in {table}");
    }
    let plain = last_json(&place.succeed(&["bench", "step", "good.toml", "--steps", "1", "--json"]));
    assert!(plain.get("profile").is_none());
}

#[test]
fn the_machine_and_kernels_are_measured() {
    let place = Workplace::new();
    let machine = last_json(&place.succeed(&["bench", "machine", "--threads", "2", "--isa", "portable", "--json"]));
    assert_eq!((&machine["isa"], &machine["threads"]), (&json!("portable"), &json!(2)));
    let text = place.succeed(&["bench", "machine", "--threads", "1"]);
    assert!(text.contains("of one thread alone") && text.lines().all(|line| line.chars().count() <= 100), "{text}");
    let kernels = ["bench", "kernels", "softmax", "--seconds", "0.001", "--threads", "1"];
    let table = place.succeed(&kernels);
    let fits = |line: &str| line.starts_with("softmax") && line.ends_with('%') && line.chars().count() <= 100;
    assert!(table.lines().skip(1).all(fits), "{table}");
    let lines = place.succeed(&[&kernels[..], &["--json"]].concat());
    assert_eq!(lines.lines().count(), table.lines().count() - 1);
    let last = last_json(&lines);
    for key in ["microseconds", "gb_per_s", "share", "kernels"] {
        assert!(last[key].as_f64().is_some_and(|n| n > 0.0), "{key} in {last}");
    }
    let refused = place.run(&["bench", "kernels", "--isa", "sse"]);
    assert_eq!(refused.status.code(), Some(2));
}

#[test]
fn what_was_exported_gives_the_same_losses() {
    let place = Workplace::new();
    let digits = model("mlp-digits.toml");
    let said = place.succeed(&["bench", "export", &digits, "--out", "job", "--batches", "12"]);
    assert!(said.contains("12 batches of x f32[32,8,8,1] and y i32[32]"), "{said}");
    let files = ["--weights", "job/weights.safetensors", "--data", "job/data.npz"];
    let here = last_json(&place.succeed(&["bench", "step", &digits, "--steps", "1", "--json"]));
    let from_files = last_json(&place.succeed(&[&["bench", "step", &digits, "--steps", "1", "--json"], &files[..]].concat()));
    for key in ["loss_first", "loss_step10", "batch"] {
        assert_eq!(from_files[key], here[key], "{key}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let place = with_good();
    place.succeed(&["bench", "export", &model("mlp-digits.toml"), "--out", "digits", "--batches", "1"]);
    let refused = |arguments: &[&str], words: &[&str]| {
        let output = place.run(&[&["bench", "step", "good.toml"], arguments].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{said}");
        words.iter().for_each(|word| assert!(said.contains(word), "{word} in {said}"));
    };
    refused(&["--weights", "digits/weights.safetensors"], &["digits/weights.safetensors", "`layers.", "bench export"]);
    refused(&["--weights", "good.toml"], &["good.toml", "not a safetensors file"]);
    refused(&["--weights", "nothing"], &["cannot read nothing"]);
    refused(&["--data", "digits/data.npz"], &["digits/data.npz, array x", "f32 [batches, rows, 4]"]);
    refused(&["--data", "good.toml"], &["good.toml", "numpy.savez"]);
    refused(&["--batch", "1000"], &["1000 rows", "--batch"]);
    refused(&["--steps", "0"], &["--steps", "1 or more"]);
    refused(&["--seconds", "0"], &["--seconds", "above 0"]);
    let again = place.run(&["bench", "export", "good.toml", "--out", "digits"]);
    assert_eq!(again.status.code(), Some(2));
}

/// The requests that interleave several programs.
#[test]
fn windows_are_served() {
    let place = with_good();
    let requests = [
        r#"{"losses": 3}"#,
        r#"{"model": "missing.toml"}"#,
        r#"{"model": "good.toml", "precision": "highest", "dropout": false, "warm_up": 2}"#,
        r#"{"losses": 10}"#,
        r#"{"window": 0.001, "steps": 4}"#,
        r#"{"widow": 1}"#,
        r#"{"losses": 10}"#,
        r#"{"model": "good.toml", "batch": 4}"#,
        r#"{"losses": 1}"#,
    ];
    let mut command = place.command(&["bench", "step", "--serve"]);
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    requests.iter().for_each(|request| writeln!(stdin, "{request}").unwrap());
    drop(stdin);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success());
    let printed = String::from_utf8(output.stdout).unwrap();
    let answers: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(answers.len(), requests.len(), "{printed}");
    let error = |i: usize| answers[i]["error"].as_str().unwrap();
    assert!(error(0).contains("no model is prepared") && error(1).contains("missing.toml") && error(5).contains("no request"));
    for key in ["compile_s", "step_ms", "batch"] {
        assert!(answers[2][key].is_number(), "{key} in {}", answers[2]);
    }
    let losses = |i: usize| answers[i]["losses"].as_array().unwrap();
    assert_eq!((losses(3).len(), losses(3)), (10, losses(6)));
    assert_eq!(answers[4]["steps"], 4);
    assert!(!answers[4]["step_ms"].as_array().unwrap().is_empty());
    assert_eq!(answers[7]["batch"], 4);
    assert_ne!(losses(8)[0], losses(6)[0]);
    let here = last_json(&place.succeed(&["bench", "step", "good.toml", "--steps", "1", "--json"]));
    assert_eq!((&here["loss_first"], &here["loss_step10"]), (&losses(3)[0], &losses(3)[9]));
}

/// The same weights and batches give the same losses on a plugin's device, where steps overlap.
#[test]
fn a_device_gives_the_losses_of_the_processor() {
    let Some(path) = real_plugin("a_device_gives_the_losses_of_the_processor") else { return };
    let place = Workplace::new();
    let digits = model("mlp-digits.toml");
    let device = format!("pjrt:{}", path.display());
    let measured = |arguments: &[&str]| {
        last_json(&place.succeed(&[&["bench", "step", &digits, "--no-dropout", "--json"], arguments].concat()))
    };
    let (here, there) = (measured(&["--steps", "1"]), measured(&["--steps", "1", "--device", &device]));
    for key in ["loss_first", "loss_step10"] {
        let [here, there] = [&here, &there].map(|report| report[key].as_f64().unwrap());
        assert!((here - there).abs() <= 1e-4 * here, "{key}: {here} {there}");
    }
    assert!(there["device"].as_str().unwrap().contains("PJRT"), "{there}");
    let refused = place.run(&["bench", "step", &digits, "--device", "cpu", "--precision", "tf32"]);
    assert_eq!(refused.status.code(), Some(2));
}
