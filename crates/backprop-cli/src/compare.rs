//! `backprop compare`.

use crate::{args::CompareOptions, failure::Failure, output};
use backprop::compare::{Compared, Comparison, compare};

/// Columns of a table that fits a page.
const WIDTH: usize = 100;
/// The widest column.
const CELL: usize = 40;
const GAP: &str = "  ";

pub(crate) fn run(options: &CompareOptions) -> Result<(), Failure> {
    let comparison = compare(&options.runs)?;
    if options.json {
        output::json(&comparison);
    } else {
        table(&comparison).iter().for_each(|line| output::line(line));
    }
    Ok(())
}

/// One line per quantity, one column per run; runs that do not fit beside each other come below.
fn table(comparison: &Comparison) -> Vec<String> {
    let rows = rows(comparison);
    let widths: Vec<usize> =
        (0..=comparison.runs.len()).map(|i| rows.iter().map(|row| width(&row[i])).max().unwrap_or(0)).collect();
    let mut lines = Vec::new();
    let mut first = 1;
    while first < widths.len() {
        let mut used = widths[0] + GAP.len() + widths[first];
        let mut end = first + 1;
        while end < widths.len() && used + GAP.len() + widths[end] <= WIDTH {
            used += GAP.len() + widths[end];
            end += 1;
        }
        if first > 1 {
            lines.push(String::new());
        }
        for row in &rows {
            let mut line = format!("{:<1$}", row[0], widths[0]);
            for i in first..end {
                line.push_str(&format!("{GAP}{:>1$}", row[i], widths[i]));
            }
            lines.push(line.trim_end().to_owned());
        }
        first = end;
    }
    lines
}

fn rows(comparison: &Comparison) -> Vec<Vec<String>> {
    let runs = &comparison.runs;
    let row = |name: &str, cell: &dyn Fn(&Compared) -> String| {
        let cells = runs.iter().map(|run| shortened(&cell(run)));
        std::iter::once(shortened(name)).chain(cells).collect::<Vec<_>>()
    };
    let mut rows = vec![row("run", &|r| r.run.display().to_string())];
    for difference in &comparison.differences {
        let cells = difference.values.iter().map(|v| shortened(&v.as_ref().map_or("-".into(), ToString::to_string)));
        rows.push(std::iter::once(shortened(&difference.key)).chain(cells).collect());
    }
    let mut scores: Vec<&String> = runs.iter().flat_map(|r| r.scores.keys()).collect();
    scores.sort();
    scores.dedup();
    for score in scores {
        rows.push(row(score, &|r| r.scores.get(score).map_or("-".into(), |v| format!("{v:.4}"))));
    }
    rows.push(row("best epoch", &|r| r.best_epoch.map_or("-".into(), |e| e.to_string())));
    rows.push(row("epochs", &|r| format!("{}{}", r.epochs, if r.finished { "" } else { ", not done" })));
    rows.push(row("seconds", &|r| format!("{:.1}", r.seconds)));
    rows
}

/// The end of a text that is too wide: it is what differs in names of folders and keys.
fn shortened(text: &str) -> String {
    let count = width(text);
    if count <= CELL { text.into() } else { format!("…{}", text.chars().skip(count - CELL + 1).collect::<String>()) }
}

fn width(text: &str) -> usize {
    text.chars().count()
}
