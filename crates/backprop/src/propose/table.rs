//! Tables: a network of dense layers, with embeddings for columns of many categories.

use super::{
    Proposal, ProposeError, Request, Usage, batch_size, class_weights, epochs, load, shares, training,
    write::{Writer, int},
};
use backprop_data::{
    CsvFiles, LoadOptions, Source,
    coding::{InputCoding, TableCoding, TargetCoding},
    table::{ColumnProfile, ColumnType, Holds, Profile, TableTask},
};
use std::{fmt::Write, path::Path};
use toml::Value;

/// Columns with more categories than this become rows of a learnt table: that many numbers would say little each.
const MANY: usize = 32;

/// Steps of a training: enough for small tables, few enough for large ones.
const STEPS: u64 = 4_000;

/// From this ratio of the largest to the smallest target on, its logarithm is learnt.
const MAGNITUDES: f64 = 20.0;

pub(super) fn propose(request: &Request) -> Result<Proposal, ProposeError> {
    let mut files = CsvFiles::new(request.data.clone());
    if let Some(task) = request.task {
        files.task = if task == super::Task::Classification { TableTask::Classification } else { TableTask::Regression };
    }
    let target = request.target.as_deref();
    let options = LoadOptions { target, ..LoadOptions::new(Path::new("")) };
    let profile = files.profile(&options)?;
    if let Some(series) = super::series::propose(request, &profile) {
        return Ok(series);
    }
    let target = &profile.columns[profile.target];
    let inputs = || profile.columns.iter().enumerate().filter(|(i, _)| *i != profile.target).map(|(_, c)| c);
    for column in inputs().filter(|c| c.holds == Holds::Category && c.distinct > MANY) {
        files.types.insert(column.name.clone(), ColumnType::Codes);
    }
    let (validation, test) = shares(profile.rows);
    files.test = test;
    if profile.classes.is_none() && test > 0.0 {
        // Rows in the order of time: measured on the latest, as the model will be used.
        files.split_by = inputs().find(|c| c.holds == Holds::Date && c.missing == 0).map(|c| c.name.clone());
    }
    let loaded = load(&Source::Csv(Box::new(files.clone())), Some(&target.name), validation)?;
    let InputCoding::Table(coding) = &loaded.coding.input else {
        return Err(ProposeError::Kind { file: profile.name, why: "was not read as a table".into() });
    };
    let plan = Plan { request, profile: &profile, target, files: &files, coding, validation };
    let rows = loaded.parts.train.len() as u64;
    let toml = plan.write(rows, &loaded.coding.target);
    let mut found = profile.findings.clone();
    found.extend(profile.classes.as_ref().map(|classes| counts(classes.iter().map(|(name, n)| (name.as_str(), *n)))));
    found.extend(loaded.findings.iter().filter(|f| !profile.findings.contains(f)).cloned());
    found.extend(profile.columns.iter().map(|c| describe(c, c.name == target.name)));
    let chosen = match &profile.classes {
        Some(classes) => format!("classification of {:?} into {} classes", target.name, classes.len()),
        None => format!("regression of {:?}", target.name),
    };
    let chosen = format!("{chosen} by dense layers of {} units", plan.widths(rows).map(|w| w.to_string()).join(" and "));
    Ok(Proposal { found, chosen, toml, usage: Usage::Predict })
}

/// A column in one line.
fn describe(column: &ColumnProfile, target: bool) -> String {
    let mut text = format!("column {:?}: {}", column.name, kind(column.holds));
    if let (Some((low, high)), true) = (column.range, column.holds == Holds::Number) {
        let _ = write!(text, " from {low} to {high}");
    }
    if column.holds == Holds::Category {
        let _ = write!(text, " of {} values", column.distinct);
    }
    if column.missing > 0 {
        let _ = write!(text, ", missing in {} rows", column.missing);
    }
    if target {
        text.push_str(" (target)");
    }
    text
}

fn kind(holds: Holds) -> &'static str {
    match holds {
        Holds::Number => "numbers",
        Holds::Boolean => "yes or no",
        Holds::Date => "dates",
        Holds::Category => "categories",
        Holds::Constant => "the same in every row, left out",
        Holds::Identifier => "different in every row, left out as an input",
        Holds::Text => "free text, left out as an input",
        Holds::Empty => "missing in every row, left out",
    }
}

/// Classes with their rows, as far as a line has room.
pub(super) fn counts<'a>(classes: impl Iterator<Item = (&'a str, u64)>) -> String {
    let all: Vec<String> = classes.map(|(name, rows)| format!("{name} ({rows})")).collect();
    let more = if all.len() > 12 { format!(", … of {} classes", all.len()) } else { String::new() };
    format!("rows of each class: {}{more}", all[..all.len().min(12)].join(", "))
}

struct Plan<'a> {
    request: &'a Request,
    profile: &'a Profile,
    target: &'a ColumnProfile,
    files: &'a CsvFiles,
    coding: &'a TableCoding,
    validation: f64,
}

impl Plan<'_> {
    /// Units of the hidden layers: more rows can teach more.
    fn widths(&self, rows: u64) -> [usize; 2] {
        match rows {
            0..1_000 => [32, 16],
            1_000..10_000 => [64, 32],
            10_000..100_000 => [128, 64],
            _ => [256, 128],
        }
    }

    fn write(&self, rows: u64, target: &TargetCoding) -> String {
        let Plan { profile, target: column, .. } = self;
        let task = if profile.classes.is_some() { "Which" } else { "How much" };
        let mut w = Writer::new(&format!(
            "{task} {:?}? Written by backprop init for {} ({} rows, {} columns).",
            column.name,
            profile.name,
            profile.rows,
            profile.columns.len()
        ));
        self.data(&mut w);
        self.layers(&mut w, rows);
        let outputs = match target {
            TargetCoding::Class { classes, .. } => classes.len(),
            _ => 1,
        };
        let why = if outputs > 1 { "One score for each class." } else { "One number: the target." };
        w.layer_because(why, "linear", [("out_features", int(outputs))]);
        self.loss(&mut w, target);
        let batch = batch_size(rows);
        training(&mut w, rows, batch, epochs(rows, batch, STEPS, 10, 100), self.validation > 0.0);
        w.finish()
    }

    fn data(&self, w: &mut Writer) {
        let Plan { request, profile, target, files, .. } = self;
        w.table("[data]");
        w.set("source", "csv");
        w.set("path", request.written.display().to_string());
        let last = target.name == profile.columns.last().map_or("", |c| &c.name);
        w.comment(if request.target.is_none() && last {
            "The last column, as no other was named."
        } else {
            "The column to predict."
        });
        w.set("target", target.name.clone());
        let task = if profile.classes.is_some() { super::Task::Classification } else { super::Task::Regression };
        w.set("task", task.name());
        if !files.types.is_empty() {
            w.comment("Columns of many categories: each value is a number that the embedding below looks up.");
            let types: toml::Table = files.types.keys().map(|name| (name.clone(), Value::from("codes"))).collect();
            w.set("types", Value::Table(types));
        }
        if self.validation == 0.0 {
            w.comment(
                "So few rows are all trained on: nothing is left to measure on. More rows would tell how good the model is.",
            );
        } else if let Some(by) = &files.split_by {
            w.comment("The latest rows are the test, those before them the validation: the model will be used on later ones.");
            w.set("split_by", by.clone());
        } else {
            w.comment("Shares of the rows that are kept apart: to choose the best epoch by, and to measure the result on.");
        }
        w.set("validation", self.validation);
        w.set("test", files.test);
        w.comment("Every column with mean 0 and standard deviation 1, measured on the training part.");
        w.set("normalize", "feature");
        if profile.classes.is_none() {
            let wide = self.target.range.is_some_and(|(low, high)| low > 0.0 && high / low >= MAGNITUDES);
            w.comment(if wide {
                "The logarithm of the target is learnt: its values span magnitudes. Predictions are in its own unit."
            } else {
                "The target with mean 0 and standard deviation 1. Predictions are in its own unit."
            });
            w.set("normalize_target", if wide { "log" } else { "standard" });
        }
    }

    fn layers(&self, w: &mut Writer, rows: u64) {
        let codes: Vec<usize> = self.coding.columns.iter().filter_map(|c| c.encoding.codes()).collect();
        let width: usize = self.coding.columns.iter().map(|c| c.encoding.width()).sum();
        let dims: Vec<usize> = codes.iter().map(|&n| dimensions(n)).collect();
        let keys = || {
            [
                ("num_embeddings", codes.iter().map(|&n| int(n)).collect::<Vec<_>>()),
                ("embedding_dim", dims.iter().map(|&n| int(n)).collect()),
            ]
        };
        if codes.len() == width && !codes.is_empty() {
            let [n, d] = keys();
            w.layer_because(
                "A learnt row of numbers for each category.",
                "columns_embedding",
                [(n.0, n.1.into()), (d.0, d.1.into())],
            );
        } else if !codes.is_empty() {
            w.table("[[layers]]");
            w.comment("A learnt row of numbers for each category (codes stand first in a row), beside all other columns.");
            w.set("type", "concat");
            let [n, d] = keys().map(|(key, list)| format!("{key} = {}", Value::Array(list)));
            let len = codes.len();
            w.line("branches = [");
            w.line(&format!("    [{{ type = \"select\", len = {len} }}, {{ type = \"columns_embedding\", {n}, {d} }}],"));
            w.line(&format!("    [{{ type = \"select\", start = {len} }}],"));
            w.line("]");
        }
        for (i, width) in self.widths(rows).into_iter().enumerate() {
            let why = format!("{rows} rows are enough to teach two layers of this size.");
            w.layer_because(if i == 0 { &why } else { "" }, "linear", [("out_features", int(width))]);
            w.layer("relu", []);
            if i == 0 && rows < 10_000 {
                w.layer_because(
                    "Few rows are learnt by heart easily; dropout makes that harder.",
                    "dropout",
                    [("p", Value::Float(0.1))],
                );
            }
        }
    }

    fn loss(&self, w: &mut Writer, target: &TargetCoding) {
        w.table("[loss]");
        let TargetCoding::Class { classes, .. } = target else {
            w.set("type", "mse");
            return;
        };
        w.set("type", "cross_entropy");
        let counted = self.profile.classes.as_ref();
        let rows: Vec<u64> = classes.iter().map(|c| counted.and_then(|n| n.get(c)).copied().unwrap_or(0)).collect();
        if let Some(weights) = class_weights(&rows) {
            w.comment(&format!(
                "Rare classes count more, as rows ÷ (classes · rows of the class), at most 10: {}.",
                classes.join(", ")
            ));
            w.set("weight", weights);
        }
    }
}

/// Extent of the learnt rows of that many categories: the rule of fast.ai, 1.6 · n^0.56, at most 32.
fn dimensions(categories: usize) -> usize {
    ((1.6 * (categories as f64).powf(0.56)).round() as usize).clamp(2, 32)
}
