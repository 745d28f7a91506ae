//! `backprop eval`.

use crate::{args::EvalOptions, device, failure::Failure, output};
use backprop::{
    run::Run,
    train::{Part, Trainer},
};
use serde_json::{Map, Value, json};

pub(crate) fn run(options: &EvalOptions) -> Result<(), Failure> {
    let (run, config) = Run::open(&options.run)?;
    let threads = device::threads(&options.device, config.train.threads);
    let backend = device::backend(&options.device, threads)?;
    let mut trainer = Trainer::new(config, &backend)?;
    trainer.load_weights(&run)?;
    let metric = trainer.metric().to_owned();
    let mut object = Map::from_iter([("event".into(), "evaluated".into()), ("run".into(), json!(run.folder()))]);
    for (name, part) in [("train", Part::Train), ("validation", Part::Validation), ("test", Part::Test)] {
        let Some(score) = trainer.evaluate(part)? else { continue };
        for (metric, value) in &score.metrics {
            object.insert(format!("{name}_{metric}"), (*value).into());
        }
        object.insert(format!("{name}_loss"), score.loss.into());
        if !options.json {
            let other = if metric == "loss" { String::new() } else { format!("  {metric} {:.4}", score.metric) };
            output::line(&format!("{name:<10}  loss {:.4}{other}  ({} rows)", score.loss, trainer.task().rows(part)));
        }
    }
    if options.json {
        output::json(&Value::Object(object));
    }
    Ok(())
}
