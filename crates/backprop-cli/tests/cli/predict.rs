//! Trained models from the command line.

use super::{Workplace, bad_input::finished, model};
use backprop::{data::coding::RawInput, model::Model};
use serde_json::Value;

/// Four points as a file of numbers.
const POINTS: &str = "1.0,-0.5,0.25,2\n0,0,0,0\n-1,2,-3,0.5\n0.1 0.2 0.3 0.4\n";

#[test]
fn predictions_are_the_same_in_every_form() {
    let place = finished();
    place.write("points.csv", POINTS);
    let lines = place.succeed(&["predict", "run", "points.csv", "--format", "jsonl"]);
    let objects: Vec<Value> = lines.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(objects.len(), 4);
    let csv = place.succeed(&["predict", "run", "points.csv", "--probabilities", "--threads", "2"]);
    let mut rows = csv.lines();
    assert_eq!(rows.next().unwrap(), "sample,label,probability,p(0),p(1),p(2)");
    for (row, object) in rows.zip(&objects) {
        let cells: Vec<&str> = row.split(',').collect();
        assert_eq!((cells[0], cells[1]), (object["sample"].as_str().unwrap(), object["label"].as_str().unwrap()));
        for (class, cell) in ["0", "1", "2"].iter().zip(&cells[3..]) {
            let p = object["probabilities"][class].as_f64().unwrap() as f32;
            assert_eq!(cell.parse::<f32>().unwrap().to_bits(), p.to_bits());
        }
    }
    // In Rust, from the same folder.
    let predictions = Model::load(&place.path("run")).unwrap().predict(&RawInput::Files(&[place.path("points.csv")])).unwrap();
    for (row, line) in csv.lines().skip(1).enumerate() {
        let printed: Vec<u32> = line.split(',').skip(3).map(|cell| cell.parse::<f32>().unwrap().to_bits()).collect();
        assert_eq!(printed, predictions.row(row).iter().map(|p| p.to_bits()).collect::<Vec<_>>());
    }
    let table = place.succeed(&["predict", "run", "points.csv", "--format", "table", "--top", "2"]);
    assert!(table.lines().count() == 5 && table.lines().all(|l| l.chars().count() <= 100), "{table}");
    place.succeed(&["predict", "run", "points.csv", "--out", "said.csv", "--probabilities"]);
    assert_eq!(place.text("said.csv"), csv);
}

#[test]
fn text_is_generated_by_the_seed() {
    let place = Workplace::new();
    let small = ["train.epochs=1", "data.stride=3000", "layers.1.hidden_size=8"];
    let set: Vec<&str> = small.iter().flat_map(|s| ["--set", *s]).collect();
    place.succeed(&[&["train", &model("lstm-text.toml"), "--out", "run"][..], &set].concat());
    let generate = |seed| place.succeed(&["generate", "run", "--prompt", "HAMLET.", "--length", "30", "--seed", seed]);
    let text = generate("1");
    assert!(text.starts_with("HAMLET.") && text.chars().count() == 7 + 30 + 1, "{text:?}");
    assert_eq!(text, generate("1"));
    assert_ne!(text, generate("2"));
}
