//! Runs side by side.

use super::{
    Workplace,
    bad_input::{GOOD, refuses},
    last_json,
};
use std::fs;

#[test]
fn a_table_shows_what_differs_and_how_it_came_out() {
    let place = Workplace::new();
    place.write("model.toml", GOOD);
    place.succeed(&["train", "model.toml", "--set", "data.validation=0.2", "--out", "a"]);
    let changed = ["--set", "data.validation=0.2", "--set", "layers.0.out_features=5", "--seed", "7", "--out", "b"];
    place.succeed(&[&["train", "model.toml"], &changed[..]].concat());
    let compared = last_json(&place.succeed(&["compare", "a", "b", "--json"]));
    let keys: Vec<&str> = compared["differences"].as_array().unwrap().iter().map(|d| d["key"].as_str().unwrap()).collect();
    assert_eq!(keys, ["layers.0.out_features", "train.seed"]);
    assert_eq!(compared["differences"][0]["values"][1], 5);
    let summary = last_json(&place.text("a/summary.json"));
    assert_eq!(compared["runs"][0]["scores"]["test_loss"], summary["test_loss"]);
    // A score that is not defined is null in the summary and not damage.
    place.write("b/summary.json", place.text("b/summary.json").replacen("{", "{\"test_auc\":null,", 1));
    assert!(place.succeed(&["compare", "a", "b"]).contains("test_auc"));
    // Many runs come in several tables, none of them wider than a page.
    let long = "a-run-with-a-name-longer-than-a-column-of-the-table";
    fs::rename(place.path("b"), place.path(long)).unwrap();
    let text = place.succeed(&["compare", "a", long, "a", long, "a"]);
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    assert!(text.contains("layers.0.out_features") && text.matches("best epoch").count() > 1, "{text}");
    // A run without its end is as far as its metrics say; a line that was being written is not there yet.
    fs::remove_file(place.path("a/summary.json")).unwrap();
    place.write("a/metrics.jsonl", place.text("a/metrics.jsonl") + "{\"epo");
    let compared = last_json(&place.succeed(&["compare", "a", "--json"]));
    assert_eq!((&compared["runs"][0]["finished"], &compared["runs"][0]["epochs"]), (&false.into(), &1.into()));
    assert_eq!(compared["runs"][0]["scores"]["validation_loss"], summary["validation_loss"]);
}

#[test]
fn runs_that_cannot_be_compared() {
    let place = Workplace::new();
    refuses("compare_no_run", &place, &["compare", "none"]);
    place.write("model.toml", GOOD);
    place.succeed(&["train", "model.toml", "--out", "run"]);
    place.write("run/summary.json", "{");
    refuses("compare_damaged_summary", &place, &["compare", "run"]);
    place.write("run/metrics.jsonl", "{}\n");
    refuses("compare_damaged_metrics", &place, &["compare", "run"]);
}
