//! Runs of earlier versions open, and what goes on may change how long and how it runs, not what it computes.
//!
//! `runs/` holds folders as earlier programs wrote them; they are never written anew:
//! `first-finished` and `first-interrupted` (killed between writing a checkpoint and naming it the latest) are of format 1 before
//! it had a `run.json`.

use super::{Workplace, last_json, metrics, model};
use serde_json::Value;
use std::{fs, path::Path};

/// A copy of a run that an earlier program made.
fn earlier(name: &str) -> Workplace {
    let place = Workplace::new();
    copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli/runs").join(name), &place.path("run"));
    place
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(from).unwrap().map(Result::unwrap) {
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target)
        } else {
            fs::copy(entry.path(), target).map(drop).unwrap()
        }
    }
}

#[test]
fn finished_runs_of_the_first_version_are_measured() {
    let place = earlier("first-finished");
    let summary: Value = serde_json::from_str(&place.text("run/summary.json")).unwrap();
    let now = last_json(&place.succeed(&["eval", "run", "--json"]));
    for key in ["test_loss", "test_accuracy", "validation_loss", "validation_accuracy"] {
        let (then, now) = (summary[key].as_f64().unwrap(), now[key].as_f64().unwrap());
        assert!((then - now).abs() <= 1e-5 * then, "{key} was {then} and is {now}");
    }
    let before = metrics(&place, "run");
    place.succeed(&["train", "--resume", "run", "--set", "train.epochs=8"]);
    let after = metrics(&place, "run");
    assert_eq!((before.len(), after.len()), (6, 8));
    assert_eq!(before, after[..6], "the first epochs changed");
    assert!(place.text("run/config.toml").contains("epochs = 8"));
}

#[test]
fn interrupted_runs_of_the_first_version_go_on() {
    let place = earlier("first-interrupted");
    let events = place.succeed(&["train", "--resume", "run", "--json"]);
    let started: Value = serde_json::from_str(events.lines().next().unwrap()).unwrap();
    assert_eq!(started["step"], 80, "it goes on where `latest` points");
    let last = last_json(&events);
    assert_eq!((&last["event"], &last["steps"]), (&"finished".into(), &270.into()));
    assert!(last["test_accuracy"].as_f64().unwrap() > 0.98, "{last}");
}

#[test]
fn a_run_says_its_format_and_who_made_it() {
    let (place, model) = (Workplace::new(), model("mlp-digits.toml"));
    place.succeed(&["train", &model, "--out", "run", "--set", "train.epochs=1"]);
    let about: Value = serde_json::from_str(&place.text("run/run.json")).unwrap();
    assert_eq!((&about["format"], &about["program"]), (&1.into(), &format!("backprop {}", env!("CARGO_PKG_VERSION")).into()));
    let made = about["made"].as_str().unwrap();
    assert!(made.len() == 20 && made.starts_with("20") && made.ends_with('Z'), "{made}");
    assert!(place.text("run/config.toml").starts_with("format = 1\n"));
}

/// More epochs for a run that is done: as if they had been there from the beginning, where the schedule does not depend on them.
#[test]
fn more_epochs_go_on_to_the_same_bits() {
    let (place, model) = (Workplace::new(), model("mlp-digits.toml"));
    let train = |out, epochs| {
        let constant = ["--set", "schedule.type=constant", "--set", epochs];
        place.succeed(&[&["train", &model, "--out", out][..], &constant].concat());
    };
    train("long", "train.epochs=4");
    train("short", "train.epochs=2");
    let free = ["--set", "train.epochs=4", "--set", "train.threads=1", "--set", "train.checkpoint_every_steps=9"];
    place.succeed(&[&["train", "--resume", "short"][..], &free, &["--set", "train.max_time=1d"]].concat());
    assert!(place.read("long/weights.safetensors") == place.read("short/weights.safetensors"));
    assert_eq!(metrics(&place, "long"), metrics(&place, "short"));
    let kept = place.text("short/config.toml");
    assert!(["epochs = 4", "threads = 1", "max_time = \"1d\""].iter().all(|line| kept.contains(line)), "{kept}");
}

/// A bit that a disk turned is noticed, wherever in the weights it is.
#[test]
fn damaged_weights_are_noticed() {
    let (place, model) = (Workplace::new(), model("mlp-digits.toml"));
    place.succeed(&["train", &model, "--out", "run", "--set", "train.epochs=1"]);
    let whole = place.read("run/weights.safetensors");
    for at in [whole.len() / 3, whole.len() / 2, whole.len() - 2] {
        let mut damaged = whole.clone();
        damaged[at] ^= 1;
        place.write("run/weights.safetensors", damaged);
        let output = place.run(&["eval", "run"]);
        let said = String::from_utf8(output.stderr).unwrap();
        assert!(output.status.code() == Some(2) && said.contains("weights.safetensors are damaged: its checksum"), "{said}");
    }
}
