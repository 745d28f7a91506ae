//! The dictionary names every type of ours, and none that does not exist.

use backprop::{
    config::json_schema, loss::LossSpec, metrics::MetricSpec, nn::AnyLayer, optim::OptimizerSpec, schedule::Schedule,
};
use serde_json::Value;
use std::{fs, path::Path};

/// The words in backticks of the last column of a section's table.
fn ours(page: &str, section: &str) -> Vec<String> {
    let text = page.split("\n## ").find(|part| part.starts_with(section)).unwrap_or_else(|| panic!("a section {section}"));
    let rows = text.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| PyTorch"));
    let last = rows.map(|row| row.trim_end_matches(" |").rsplit_once("| ").map_or("", |(_, last)| last));
    last.flat_map(|cell| cell.split('`').skip(1).step_by(2).map(String::from).collect::<Vec<_>>()).collect()
}

fn page() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/dictionary.md")).unwrap()
}

#[test]
fn the_dictionary_names_every_type_and_no_other() {
    let page = page();
    let sections = [
        ("Layers", AnyLayer::TYPES),
        ("Losses", LossSpec::TYPES),
        ("Metrics", MetricSpec::TYPES),
        ("Optimizers", OptimizerSpec::TYPES),
        ("Schedules", Schedule::TYPES),
    ];
    for (section, types) in sections {
        let words = ours(&page, section);
        for ty in types {
            assert!(words.iter().any(|w| w == ty), "docs/dictionary.md: the section {section} does not name `{ty}`");
        }
        // Remarks hold settings and names of other things: `last_step = true`, `Trainer`.
        for word in words.iter().filter(|w| w.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')) {
            let known = types.contains(&word.as_str()) || LossSpec::TYPES.contains(&word.as_str());
            assert!(known, "docs/dictionary.md: the section {section} names `{word}`, which does not exist");
        }
    }
}

#[test]
fn the_keys_of_the_dictionary_exist() {
    let schema = json_schema();
    let mut keys = 0;
    for word in ours(&page(), "Training") {
        let key = word.split(" = ").next().unwrap_or_default();
        let definition = match key.split_once('.') {
            Some(("train", _)) => "TrainConfig",
            Some(("data", _)) => "DataConfig",
            _ => continue,
        };
        let name = key.split_once('.').map_or("", |(_, name)| name);
        let definition: &Value = &schema["$defs"][definition];
        let found = !definition["properties"][name].is_null() || !definition["oneOf"][0]["properties"][name].is_null();
        assert!(found, "docs/dictionary.md names the key {key}, which does not exist");
        keys += 1;
    }
    assert!(keys > 10);
}
