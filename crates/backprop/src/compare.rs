//! Runs side by side: in what their configurations differ, and how each came out.

use crate::{
    events::{Epoch, Summary},
    run::{Run, RunError},
};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
};
use toml::{Table, Value};

/// Runs side by side.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Comparison {
    /// The runs, in the order given.
    pub runs: Vec<Compared>,
    /// The keys of the configurations that do not have one value in all runs, sorted.
    pub differences: Vec<Difference>,
}

/// A key of the configuration, and what it is in each run.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Difference {
    /// Dotted, as for `--set`: `train.epochs`, `layers.0.out_features`.
    pub key: String,
    /// One for each run; `None` where the run's configuration has no such key.
    pub values: Vec<Option<Value>>,
}

/// How a run came out, or how far it is.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Compared {
    /// Its folder.
    pub run: PathBuf,
    /// Whether training is done.
    pub finished: bool,
    /// Epochs done.
    pub epochs: u64,
    /// The epoch with the best weights so far; `None` before the end of the first.
    pub best_epoch: Option<u64>,
    /// Loss and metrics of those weights by part and name: `validation_loss`, `test_accuracy`, …
    pub scores: BTreeMap<String, f64>,
    /// Seconds of training and evaluation.
    pub seconds: f64,
}

/// Reads the runs of these folders and compares them.
///
/// # Errors
/// A folder that is not that of a run, or of a newer version of this program; a damaged file.
pub fn compare(folders: &[PathBuf]) -> Result<Comparison, RunError> {
    let (mut runs, mut settings) = (Vec::new(), Vec::new());
    for folder in folders {
        let (run, config) = Run::open(folder)?;
        runs.push(outcome(folder, &run)?);
        // What was just read as a configuration is TOML.
        let table: Table = toml::from_str(&config.to_toml()?).unwrap_or_default();
        settings.push(leaves(table));
    }
    Ok(Comparison { runs, differences: differences(&settings) })
}

fn outcome(folder: &Path, run: &Run) -> Result<Compared, RunError> {
    let (history, summary) = (run.history()?, run.summary()?);
    let best = history.iter().rfind(|e| e.best).or(history.last());
    let scores = match (&summary, best) {
        (Some(summary), _) => summary.scores.clone(),
        (None, Some(best)) => validation(best),
        (None, None) => BTreeMap::new(),
    };
    Ok(Compared {
        run: folder.into(),
        finished: summary.is_some(),
        epochs: history.last().map_or(0, |e| e.epoch),
        best_epoch: summary.as_ref().map(|s| s.epoch).or(best.map(|e| e.epoch)),
        scores,
        seconds: seconds(&history, summary.as_ref()),
    })
}

/// The validation scores of an epoch under the names that a summary has for them.
fn validation(epoch: &Epoch) -> BTreeMap<String, f64> {
    let mut summary = Summary::default();
    if let Some(score) = &epoch.validation {
        summary.add("validation", score);
    }
    summary.scores
}

fn seconds(history: &[Epoch], summary: Option<&Summary>) -> f64 {
    summary.map_or_else(|| history.iter().map(|e| e.seconds).sum(), |s| s.wall_s)
}

/// The values of a configuration by dotted key. A list of single values is one value.
fn leaves(table: Table) -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    let mut open: Vec<(String, Value)> = table.into_iter().collect();
    while let Some((key, value)) = open.pop() {
        match value {
            Value::Table(inner) => open.extend(inner.into_iter().map(|(k, v)| (format!("{key}.{k}"), v))),
            Value::Array(items) if items.iter().any(Value::is_table) => {
                open.extend(items.into_iter().enumerate().map(|(i, v)| (format!("{key}.{i}"), v)));
            }
            leaf => {
                found.insert(key, leaf);
            }
        }
    }
    found
}

fn differences(settings: &[BTreeMap<String, Value>]) -> Vec<Difference> {
    let mut keys: Vec<&String> = settings.iter().flat_map(BTreeMap::keys).collect();
    keys.sort();
    keys.dedup();
    let row = |key: &String| Difference { key: key.clone(), values: settings.iter().map(|s| s.get(key).cloned()).collect() };
    keys.into_iter().map(row).filter(|d| d.values.iter().any(|v| *v != d.values[0])).collect()
}
