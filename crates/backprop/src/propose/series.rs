//! Tables with a column of times, each once: a forecast of the target from the rows before.

use super::{
    Proposal, Request, Task, Usage, batch_size, epochs, load, training,
    write::{Writer, int},
};
use backprop_data::{
    Source,
    table::{Holds, Profile},
};

/// Fewer rows than this are a table, not a history to learn from.
const LEAST: u64 = 100;

/// Steps of a training.
const STEPS: u64 = 2_000;

/// A forecast, if the table is a series; otherwise nothing, and the table is proposed for as any other.
pub(super) fn propose(request: &Request, profile: &Profile) -> Option<Proposal> {
    let target = &profile.columns[profile.target];
    let once =
        |c: &&backprop_data::table::ColumnProfile| c.holds == Holds::Date && c.missing == 0 && c.distinct as u64 == profile.rows;
    let time = profile.columns.iter().find(once)?;
    if request.task == Some(Task::Classification) || target.holds != Holds::Number || profile.rows < LEAST {
        return None;
    }
    let window = (profile.rows / 20).clamp(8, 48);
    let source = |path: &std::path::Path| serde_json::json!({ "source": "series", "path": path, "window": window, "time": time.name, "calendar": true });
    let keys: Source = serde_json::from_value(source(&request.data)).ok()?;
    let loaded = load(&keys, Some(&target.name), 0.1).ok()?;
    let rows = loaded.parts.train.len() as u64;
    let hidden = if rows < 5_000 { 32 } else { 64 };
    let mut w = Writer::new(&format!(
        "What will {:?} be in the next row? Written by backprop init for {} ({} rows in the order of {:?}).",
        target.name, profile.name, profile.rows, time.name
    ));
    w.table("[data]");
    w.comment("Every row has a time of its own: a series. With source = \"csv\" rows stand alone.");
    w.set("source", "series");
    w.set("path", request.written.display().to_string());
    w.set("time", time.name.clone());
    w.set("target", target.name.clone());
    w.comment("Rows that are looked back on, and how many rows ahead the forecast is.");
    w.set("window", int(window));
    w.set("horizon", int(1));
    w.comment("The place in the year, the week and the day is read too: much comes back with them.");
    w.set("calendar", true);
    w.comment("The latest rows are the test, those before them the validation.");
    w.set("validation", 0.1);
    w.set("test", 0.2);
    w.comment("Every column with mean 0 and standard deviation 1, measured on the training part.");
    w.set("normalize", "channel");
    w.set("normalize_target", "standard");
    w.layer_because(
        "Reads the window row by row; its last state is the summary.",
        "lstm",
        [("hidden_size", int(hidden)), ("last_step", true.into())],
    );
    w.layer_because("One number: the target.", "linear", [("out_features", int(1))]);
    w.table("[loss]");
    w.set("type", "mse");
    let batch = batch_size(rows).min(128);
    training(&mut w, rows, batch, epochs(rows, batch, STEPS, 5, 40), true);
    let mut found = profile.findings.clone();
    found.extend(loaded.findings.iter().filter(|f| !profile.findings.contains(f)).cloned());
    found.push(format!("every row has a time of its own in {:?}: a series", time.name));
    let chosen = format!("forecast of {:?} one row ahead from {window} rows, by an LSTM of {hidden} units", target.name);
    Some(Proposal { found, chosen, toml: w.finish(), usage: Usage::Predict })
}
