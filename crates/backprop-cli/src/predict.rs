//! `backprop predict` and `backprop generate`.

use crate::{
    args::{Format, GenerateOptions, PredictOptions},
    device::Wanted,
    failure::Failure,
    output,
};
use backprop::{
    data::coding::{RawInput, Truth},
    model::{Generate, Model, Outcome, Predictions},
};
use serde_json::{Map, Value, json};
use std::{
    fs::File,
    io::{self, BufWriter, IsTerminal, Read, Write},
    path::Path,
    sync::Arc,
};

/// The name that stands for standard input.
const STANDARD_INPUT: &str = "-";

pub(crate) fn run(options: &PredictOptions) -> Result<(), Failure> {
    let model = Model::load(&options.run)?;
    let backend = Wanted::for_use(&options.device, &model.config().train).backend()?;
    let model = model.on(Arc::from(backend));
    let predictions = if options.files.is_empty() || options.files == [Path::new(STANDARD_INPUT)] {
        let mut bytes = Vec::new();
        let read = io::stdin().lock().read_to_end(&mut bytes);
        read.map_err(|e| Failure::Arguments(format!("cannot read standard input: {e}")))?;
        model.predict(&RawInput::Bytes("standard input", &bytes))?
    } else {
        model.predict(&RawInput::Files(&options.files))?
    };
    let format =
        options.format.unwrap_or(if options.out.is_none() && io::stdout().is_terminal() { Format::Table } else { Format::Csv });
    let lines = match format {
        Format::Table => table(&predictions, options.top.unwrap_or(1)),
        Format::Csv => csv(&predictions, options.probabilities),
        Format::Jsonl => jsonl(&predictions, options.top),
    };
    write(&lines, options.out.as_deref())?;
    if format == Format::Table
        && let Some(text) = agreement(&predictions)
    {
        output::line(&text);
    }
    Ok(())
}

fn write(lines: &[String], file: Option<&Path>) -> Result<(), Failure> {
    let Some(path) = file else {
        lines.iter().for_each(|l| output::line(l));
        return Ok(());
    };
    let write = || {
        let mut file = BufWriter::new(File::create(path)?);
        lines.iter().try_for_each(|l| writeln!(file, "{l}"))?;
        file.flush()
    };
    write().map_err(|e| Failure::Arguments(format!("cannot write {}: {e}", path.display())))
}

/// What the input says of a sample, if it does.
fn truth(predictions: &Predictions, sample: usize) -> Option<Vec<String>> {
    Some(match predictions.truth.as_ref()? {
        Truth::Classes(classes) => vec![classes.get(sample).cloned().flatten().unwrap_or_default()],
        Truth::Numbers { outputs, values } => values
            .iter()
            .skip(sample * outputs)
            .take(*outputs)
            .map(|v| if v.is_nan() { String::new() } else { v.to_string() })
            .collect(),
    })
}

/// Names of what is predicted.
fn columns(predictions: &Predictions) -> Vec<String> {
    match &predictions.outcome {
        Outcome::Classes { name, .. } => vec![name.clone()],
        Outcome::Numbers { names, .. } => names.clone(),
        Outcome::Reconstruction { .. } => vec!["reconstruction_error".into()],
    }
}

/// A header and a row for each sample.
fn rows(predictions: &Predictions, show: impl Fn(usize) -> Vec<String>, header: Vec<String>) -> Vec<Vec<String>> {
    let truths = truth(predictions, 0).map_or(0, |t| t.len());
    let mut first = vec!["sample".to_owned()];
    first.extend(header);
    first.extend(columns(predictions).into_iter().take(truths).map(|name| format!("true {name}")));
    let row = |sample: usize| {
        let mut row = vec![predictions.names[sample].clone()];
        row.extend(show(sample));
        row.extend(truth(predictions, sample).unwrap_or_default());
        row
    };
    std::iter::once(first).chain((0..predictions.len()).map(row)).collect()
}

fn table(predictions: &Predictions, top: usize) -> Vec<String> {
    let classes = matches!(predictions.outcome, Outcome::Classes { .. });
    let show = |sample: usize| -> Vec<String> {
        if !classes {
            return predictions.row(sample).iter().map(|v| format!("{v:.6}")).collect();
        }
        let ranking = predictions.ranking(sample);
        ranking.iter().take(top).flat_map(|(class, p)| [visible(class), format!("{:.1} %", 100.0 * p)]).collect()
    };
    let mut header = columns(predictions);
    if let Outcome::Classes { classes, .. } = &predictions.outcome {
        header.push("probability".into());
        (2..=top.min(classes.len())).for_each(|i| header.extend([format!("{i}."), String::new()]));
    }
    output::aligned(&rows(predictions, show, header))
}

/// A token as one can see it.
fn visible(text: &str) -> String {
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) { text.escape_debug().to_string() } else { text.to_owned() }
}

fn csv(predictions: &Predictions, probabilities: bool) -> Vec<String> {
    let mut header = columns(predictions);
    if let Outcome::Classes { classes, .. } = &predictions.outcome {
        header.push("probability".into());
        if probabilities {
            header.extend(classes.iter().map(|c| format!("p({c})")));
        }
    }
    let show = |sample: usize| -> Vec<String> {
        let all = predictions.row(sample).iter().map(ToString::to_string);
        if !matches!(predictions.outcome, Outcome::Classes { .. }) {
            return all.collect();
        }
        let best = [predictions.label(sample).into_owned(), predictions.confidence(sample).to_string()];
        best.into_iter().chain(all.filter(|_| probabilities)).collect()
    };
    let quoted = |row: &Vec<String>| row.iter().map(|cell| quote(cell)).collect::<Vec<_>>().join(",");
    rows(predictions, show, header).iter().map(quoted).collect()
}

/// A cell of a CSV file (RFC 4180).
fn quote(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) || cell.starts_with(' ') || cell.ends_with(' ') {
        return format!("\"{}\"", cell.replace('"', "\"\""));
    }
    cell.to_owned()
}

fn jsonl(predictions: &Predictions, top: Option<usize>) -> Vec<String> {
    let object = |sample: usize| {
        let mut object = Map::from_iter([("sample".to_owned(), json!(predictions.names[sample]))]);
        match &predictions.outcome {
            Outcome::Classes { name, .. } => {
                let ranking = predictions.ranking(sample);
                let shown = ranking.iter().take(top.unwrap_or(usize::MAX));
                let probabilities: Map<String, Value> = shown.map(|(class, p)| ((*class).to_owned(), json!(p))).collect();
                object.insert(name.clone(), json!(predictions.label(sample)));
                object.insert("probabilities".into(), probabilities.into());
            }
            _ => {
                let values = columns(predictions).into_iter().zip(predictions.row(sample));
                object.extend(values.map(|(name, v)| (name, json!(v))));
            }
        }
        if let Some(truth) = truth(predictions, sample) {
            object.insert("truth".into(), json!(truth));
        }
        Value::Object(object).to_string()
    };
    (0..predictions.len()).map(object).collect()
}

/// How predictions agree with the answers that stand in the input.
fn agreement(predictions: &Predictions) -> Option<String> {
    match (predictions.truth.as_ref()?, &predictions.outcome) {
        (Truth::Classes(classes), Outcome::Classes { .. }) => {
            let known = classes.iter().enumerate().filter_map(|(i, c)| Some((i, c.as_deref()?)));
            let right: Vec<bool> = known.map(|(i, class)| predictions.label(i) == class).collect();
            let hits = right.iter().filter(|r| **r).count();
            (!right.is_empty()).then(|| format!("accuracy {:.4} ({hits} of {})", hits as f64 / right.len() as f64, right.len()))
        }
        (Truth::Numbers { values, .. }, Outcome::Numbers { values: predicted, .. }) => {
            let pairs = values.iter().zip(predicted).filter(|(truth, _)| !truth.is_nan());
            let errors: Vec<f64> = pairs.map(|(truth, p)| f64::from(*p) - f64::from(*truth)).collect();
            let mean = |f: fn(f64) -> f64| errors.iter().map(|e| f(*e)).sum::<f64>() / errors.len() as f64;
            (!errors.is_empty())
                .then(|| format!("mae {:.6}  rmse {:.6}  ({} values)", mean(f64::abs), mean(|e| e * e).sqrt(), errors.len()))
        }
        _ => None,
    }
}

/// `backprop generate`.
pub(crate) fn generate(options: &GenerateOptions) -> Result<(), Failure> {
    let model = Model::load(&options.run)?;
    let backend = Wanted::for_use(&options.device, &model.config().train).backend()?;
    let model = model.on(Arc::from(backend));
    let how = Generate {
        length: options.length,
        temperature: options.temperature,
        top_k: options.top_k,
        seed: options.seed.unwrap_or(0),
    };
    let mut print = |text: &str| output::piece(text);
    if print(&options.prompt) {
        model.generate(&options.prompt, &how, &mut print)?;
    }
    output::line("");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_where_they_must_be() {
        assert_eq!(["a", "a,b", "say \"a\"", " "].map(quote), ["a", "\"a,b\"", "\"say \"\"a\"\"\"", "\" \""]);
    }
}
