//! `backprop eval`.

use crate::{args::EvalOptions, device::Wanted, failure::Failure, output};
use backprop::{
    data::coding::TargetCoding,
    run::Run,
    train::{Part, Trainer},
};
use serde_json::{Map, Value, json};

pub(crate) fn run(options: &EvalOptions) -> Result<(), Failure> {
    let (run, config) = Run::open(&options.run)?;
    let backend = Wanted::for_use(&options.device, &config.train).backend()?;
    let mut trainer = Trainer::new(config, &*backend)?;
    trainer.load_weights(&run)?;
    let mut object = Map::from_iter([("event".into(), "evaluated".into()), ("run".into(), json!(run.folder()))]);
    let mut tables = Vec::new();
    for (name, part) in [("train", Part::Train), ("validation", Part::Validation), ("test", Part::Test)] {
        let Some(score) = trainer.evaluate(part)? else { continue };
        for (metric, value) in &score.metrics {
            object.insert(format!("{name}_{metric}"), (*value).into());
        }
        object.insert(format!("{name}_loss"), score.loss.into());
        if !score.confusion.is_empty() {
            object.insert(format!("{name}_confusion"), json!(score.confusion));
            tables.push((name, score.confusion));
        }
        if !options.json {
            let main = trainer.metric();
            let mut others: Vec<_> = score.metrics.iter().collect();
            others.sort_by_key(|(metric, _)| *metric != main);
            let others: String = others.iter().map(|(metric, value)| format!("  {metric} {}", output::figure(**value))).collect();
            let loss = output::figure(score.loss);
            output::line(&format!("{name:<10}  loss {loss}{others}  ({} rows)", trainer.task().rows(part)));
        }
    }
    if options.json {
        output::json(&Value::Object(object));
        return Ok(());
    }
    // The part that nothing was chosen by says most.
    if let Some((name, counts)) = tables.pop() {
        let names = match &trainer.task().coding().target {
            TargetCoding::Class { classes, .. } => classes.clone(),
            _ => (0..counts.len()).map(|i| i.to_string()).collect(),
        };
        output::line(&format!("\n{name}, class by class:"));
        by_class(&names, &counts).iter().for_each(|l| output::line(l));
    }
    Ok(())
}

/// Precision, recall and F1 of each class, and what it was taken for: as counts where they fit beside each other, else the most frequent
/// ones.
fn by_class(names: &[String], counts: &[Vec<u64>]) -> Vec<String> {
    let all = rows(names, counts, true);
    output::aligned(&if output::fits(&all) { all } else { rows(names, counts, false) })
}

fn rows(names: &[String], counts: &[Vec<u64>], all: bool) -> Vec<Vec<String>> {
    let mut header: Vec<String> = ["class", "precision", "recall", "f1", "rows"].map(String::from).into();
    if all {
        header.extend((0..counts.len()).map(|i| format!("→{}", names.get(i).map_or("?", String::as_str))));
    } else {
        header.push("taken for".into());
    }
    let row = |(class, row): (usize, &Vec<u64>)| {
        let name = |c: usize| names.get(c).map_or("?", String::as_str);
        let (hits, rows) = (row.get(class).copied().unwrap_or(0), row.iter().sum::<u64>());
        let predicted: u64 = counts.iter().filter_map(|r| r.get(class)).sum();
        let share = |of: u64| if of == 0 { "-".to_owned() } else { format!("{:.3}", hits as f64 / of as f64) };
        let f1 = if rows + predicted == 0 { "-".into() } else { format!("{:.3}", 2.0 * hits as f64 / (rows + predicted) as f64) };
        let mut cells = vec![name(class).to_owned(), share(predicted), share(rows), f1, rows.to_string()];
        if all {
            cells.extend(row.iter().map(u64::to_string));
        } else {
            let mut wrong: Vec<(usize, u64)> = row.iter().copied().enumerate().filter(|&(c, n)| c != class && n > 0).collect();
            wrong.sort_by_key(|&(_, n)| std::cmp::Reverse(n));
            cells.push(wrong.iter().take(3).map(|(c, n)| format!("{} {n}", name(*c))).collect::<Vec<_>>().join(", "));
        }
        cells
    };
    std::iter::once(header).chain(counts.iter().enumerate().map(row)).collect()
}

#[cfg(test)]
mod tests {
    use super::by_class;

    #[test]
    fn classes_are_told_apart() {
        let names = ["cat", "dog"].map(String::from);
        let lines = by_class(&names, &[vec![3, 1], vec![0, 0]]);
        let words = |i: usize| lines[i].split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(1), ["cat", "1.000", "0.750", "0.857", "4", "3", "1"]);
        assert_eq!(words(2), ["dog", "0.000", "-", "0.000", "0", "0", "0"]);
        let many: Vec<String> = (0..40).map(|i| format!("a rather long name of class {i}")).collect();
        let counts: Vec<Vec<u64>> = (0..40).map(|i| (0..40).map(|j| (i * j) as u64 % 7).collect()).collect();
        for classes in [3, 9, 10, 40] {
            let lines =
                by_class(&many[..classes], &counts.iter().take(classes).map(|r| r[..classes].to_vec()).collect::<Vec<_>>());
            assert!(lines.iter().all(|l| l.chars().count() <= 100));
            assert!(lines[0].contains("taken for") || lines[0].matches('→').count() == classes, "{}", lines[0]);
        }
    }
}
