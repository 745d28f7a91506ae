//! The trainer as a library: what it reports, what it keeps, what it refuses to change.

mod common;

use backprop::{
    config::Config,
    core::{Isa, exec::native::Native},
    events::{Event, Summary},
    run::Run,
    train::{Part, TrainError, Trainer},
};
use common::config;

fn backend() -> Native {
    Native::new(2, Isa::detect())
}

/// Trains and gives the events with the outcome.
fn train(trainer: &mut Trainer<'_>) -> (Vec<Event>, Result<Summary, TrainError>) {
    let mut events = Vec::new();
    let outcome = trainer.train(None, &mut |event| events.push(event.clone()));
    (events, outcome)
}

fn weights(trainer: &Trainer<'_>) -> Vec<(String, Vec<u8>)> {
    trainer.store().iter().map(|(name, t)| (name.to_owned(), t.bytes().to_vec())).collect()
}

#[test]
fn events_come_in_order_and_count_up() {
    let backend = backend();
    let mut trainer = Trainer::new(config(&[]), &backend).unwrap();
    let (events, summary) = train(&mut trainer);
    // 200 rows: 40 for testing, 32 of the rest for validation, 128 in six batches, the last of 8 rows.
    let rows = [Part::Train, Part::Validation, Part::Test].map(|part| trainer.task().rows(part));
    assert_eq!(rows, [128, 32, 40]);
    assert!(matches!(events.first(), Some(Event::Started(s)) if s.steps_per_epoch == 6 && s.step == 0));
    assert!(matches!(events.last(), Some(Event::Finished(_))));
    let steps: Vec<(u64, usize)> =
        events.iter().filter_map(|e| if let Event::Step(s) = e { Some((s.step, s.rows)) } else { None }).collect();
    let expected: Vec<(u64, usize)> = (1..=24).map(|i| (i, if i % 6 == 0 { 8 } else { 24 })).collect();
    assert_eq!(steps, expected);
    let epochs = events.iter().filter(|e| matches!(e, Event::Epoch(_))).count();
    let summary = summary.unwrap();
    assert_eq!((epochs, summary.steps, summary.nonfinite_steps), (4, 24, 0));
    assert!(summary.scores["test_accuracy"] > 0.9, "{summary:?}");
}

/// A rate so high that the last of 12 epochs is not the best.
const RESTLESS: [&str; 4] = ["train.epochs=12", "optimizer.learning_rate=0.6", "data.classes=8", "layers.4.out_features=8"];

#[test]
fn the_best_epoch_is_kept_and_measured() {
    let backend = backend();
    let mut trainer = Trainer::new(config(&RESTLESS), &backend).unwrap();
    let (events, summary) = train(&mut trainer);
    let summary = summary.unwrap();
    let scores: Vec<_> =
        events.iter().filter_map(|e| if let Event::Epoch(e) = e { e.validation.clone() } else { None }).collect();
    let best = (0..scores.len())
        .rev()
        .max_by(|&a, &b| scores[a].metric.total_cmp(&scores[b].metric).then(scores[b].loss.total_cmp(&scores[a].loss)));
    assert_eq!(summary.epoch, best.unwrap() as u64 + 1, "{scores:?}");
    assert_ne!(summary.epoch, 12, "the last epoch is the best: the test shows nothing");
    let now = trainer.evaluate(Part::Validation).unwrap().unwrap();
    assert_eq!(now, scores[best.unwrap()], "the store does not hold the best weights");
}

#[test]
fn the_last_epoch_is_kept_where_the_best_is_not_wanted() {
    let backend = backend();
    let mut trainer = Trainer::new(config(&["train.keep_best=false"]), &backend).unwrap();
    let summary = train(&mut trainer).1.unwrap();
    assert_eq!(summary.epoch, 4);
}

#[test]
fn steps_that_are_not_finite_change_nothing_and_stop_training() {
    let backend = backend();
    // Without batch norm the first update puts weights of about 1e30 into a product of two: the second step overflows.
    let layers = "layers=[{type='linear',out_features=4},{type='linear',out_features=3}]";
    let overrides = [layers, "optimizer.type=sgd", "optimizer.learning_rate=1e30", "train.max_nonfinite_steps=5"];
    let mut one = Trainer::new(config(&[&overrides[..3], &["train.max_nonfinite_steps=1"]].concat()), &backend).unwrap();
    train(&mut one).1.unwrap_err();
    let mut five = Trainer::new(config(&overrides), &backend).unwrap();
    let (events, outcome) = train(&mut five);
    let Err(error @ TrainError::Diverged { step: 6, consecutive: 5, .. }) = outcome else { panic!("{outcome:?}") };
    assert!(!error.is_input() && error.to_string().contains("learning rate"));
    assert_eq!(events.iter().filter(|e| matches!(e, Event::NonFinite { .. })).count(), 5);
    assert_eq!(weights(&one), weights(&five), "a step that is not finite changed the weights");
    assert!(five.store().iter().all(|(_, t)| t.to_f64().iter().all(|v| v.is_finite())));
}

#[test]
fn gradient_descent_takes_all_rows_at_once() {
    let backend = backend();
    let overrides = ["optimizer={type='gradient_descent',learning_rate=0.05}", "layers.3.p=0.0", "train.epochs=20"];
    let mut trainer = Trainer::new(config(&overrides), &backend).unwrap();
    let (events, summary) = train(&mut trainer);
    assert_eq!(summary.unwrap().steps, 20);
    let losses: Vec<f64> = events.iter().filter_map(|e| if let Event::Step(s) = e { Some(s.loss) } else { None }).collect();
    assert!(losses.windows(2).all(|w| w[1] < w[0]), "full-batch loss rose: {losses:?}");
}

#[test]
fn a_part_measures_the_same_in_any_batches() {
    let backend = backend();
    let score = |size: &str| {
        let mut trainer = Trainer::new(config(&[&format!("train.batch_size={size}")]), &backend).unwrap();
        trainer.evaluate(Part::Test).unwrap().unwrap()
    };
    let (whole, parts) = (score("1000"), score("7"));
    assert!((whole.loss - parts.loss).abs() <= 1e-6 * whole.loss && whole.metric == parts.metric, "{whole:?} {parts:?}");
}

/// Everything random follows from the seed: two runs are equal, another seed is another run.
#[test]
fn a_run_is_a_function_of_its_seed() {
    let backend = backend();
    let run = |seed: &str| {
        let mut trainer = Trainer::new(config(&[seed]), &backend).unwrap();
        train(&mut trainer).1.unwrap();
        weights(&trainer)
    };
    assert_eq!(run("train.seed=3"), run("train.seed=3"));
    assert_ne!(run("train.seed=3"), run("train.seed=4"));
}

/// Going on from a checkpoint in the middle of an epoch gives what an uninterrupted run gives.
#[test]
fn resuming_in_the_middle_of_an_epoch_changes_nothing() {
    let steps = resumes_exactly(&[]);
    assert_eq!(steps, [10, 20, 30, 40, 50, 60, 70, 72]);
}

/// The same with everything else that a checkpoint must hold: averages, a plateau, the patience of early stopping.
#[test]
fn averages_plateaus_and_patience_resume_too() {
    let steps = resumes_exactly(&PATIENT);
    assert!(steps.len() > 3 && *steps.last().unwrap() < 72, "training did not end early: {steps:?}");
}

const PATIENT: [&str; 5] = [
    "train.accumulate=3",
    "train.ema=0.8",
    "schedule={type='plateau',patience=0,factor=0.5,monitor='loss'}",
    "train.early_stopping=3",
    "optimizer={type='nadam',learning_rate=0.3,groups=[{match='*.bias',weight_decay=0.0},{match='layers.1.*',learning_rate_factor=0.1}]}",
];

/// Trains, and goes on from each of the checkpoints, whose steps are returned.
fn resumes_exactly(settings: &[&str]) -> Vec<u64> {
    let (backend, folder) = (backend(), tempfile::tempdir().unwrap());
    let config = || config(&[&RESTLESS[..], &["train.checkpoint_every_steps=10"], settings].concat());
    let run = Run::create(&folder.path().join("run"), &config()).unwrap();
    let mut whole = Trainer::new(config(), &backend).unwrap();
    let mut middle = Vec::new();
    // A copy of every checkpoint, as if the process had died right after it.
    let outcome = whole.train(Some(&run), &mut |event| {
        if let Event::Checkpoint { step, path, .. } = event {
            let copy = folder.path().join(format!("stopped-{}", middle.len()));
            let stopped = Run::create(&copy, &config()).unwrap();
            let to = copy.join("checkpoints").join(path.file_name().unwrap());
            std::fs::create_dir_all(&to).unwrap();
            for file in std::fs::read_dir(path).unwrap().flatten() {
                std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
            }
            std::fs::copy(run.folder().join("metrics.jsonl"), copy.join("metrics.jsonl")).unwrap();
            middle.push((*step, stopped));
        }
    });
    let expected = outcome.unwrap();
    assert_ne!(expected.epoch, 12, "the last epoch is the best: that its weights come back shows nothing");
    let steps = middle.iter().map(|m| m.0).collect();
    for (step, stopped) in middle {
        let mut trainer = Trainer::new(config(), &backend).unwrap();
        trainer.resume(&stopped).unwrap();
        let summary = trainer.train(Some(&stopped), &mut |_| {}).unwrap();
        assert_eq!((summary.scores, summary.epoch), (expected.scores.clone(), expected.epoch), "from step {step}");
        let bytes = |run: &Run| std::fs::read(run.weights_file()).unwrap();
        assert!(bytes(&run) == bytes(&stopped), "other weights from step {step}");
    }
    steps
}

/// Validation measures the averages, and they are what is kept; without them the same steps end elsewhere.
#[test]
fn averages_are_measured_and_kept() {
    let backend = backend();
    let last = ["train.keep_best=false", "train.epochs=2"];
    let mut averaged = Trainer::new(config(&[&last[..], &["train.ema=0.9"]].concat()), &backend).unwrap();
    let (events, summary) = train(&mut averaged);
    let validated = events.iter().filter_map(|e| if let Event::Epoch(e) = e { e.validation.clone() } else { None }).next_back();
    assert_eq!(averaged.evaluate(Part::Validation).unwrap(), validated);
    assert_eq!(summary.unwrap().scores["validation_loss"], validated.unwrap().loss);
    let mut plain = Trainer::new(config(&last), &backend).unwrap();
    train(&mut plain).1.unwrap();
    let of = |trainer: &Trainer<'_>, name: &str| trainer.store().get(name).unwrap().to_f64();
    for name in ["layers.0.weight", "layers.1.running_var", "layers.4.bias"] {
        assert_eq!(of(&averaged, name), of(&averaged, &format!("ema/{name}")), "{name}");
        assert_ne!(of(&averaged, name), of(&plain, name), "{name}");
    }
    assert_eq!(of(&averaged, "optimizer/m/layers.0.weight"), of(&plain, "optimizer/m/layers.0.weight"));
}

#[test]
fn training_ends_early_with_the_best_weights() {
    let backend = backend();
    let settings =
        [&RESTLESS[..], &["train.epochs=40", "train.early_stopping=2", "train.early_stopping_monitor='loss'"]].concat();
    let mut trainer = Trainer::new(config(&settings), &backend).unwrap();
    let (events, summary) = train(&mut trainer);
    let summary = summary.unwrap();
    let epochs: Vec<_> = events.iter().filter_map(|e| if let Event::Epoch(e) = e { Some(e.clone()) } else { None }).collect();
    let losses: Vec<f64> = epochs.iter().map(|e| e.validation.as_ref().unwrap().loss).collect();
    let lowest = (0..losses.len()).min_by(|&a, &b| losses[a].total_cmp(&losses[b])).unwrap();
    assert_eq!(losses.len(), lowest + 1 + 2, "{losses:?}");
    let Some(Event::EarlyStopped(stopped)) = events.iter().rev().nth(1) else { panic!("no event: {:?}", events.last()) };
    assert_eq!((stopped.epoch, stopped.best_epoch), (losses.len() as u64, summary.epoch));
    assert!(summary.early_stopped && losses.len() < 40);
    // Training again has nothing to do, and says so.
    let (events, again) = train(&mut trainer);
    assert!(events.iter().any(|e| matches!(e, Event::EarlyStopped(_))) && !events.iter().any(|e| matches!(e, Event::Step(_))));
    assert_eq!(again.unwrap().scores, summary.scores);
}

#[test]
fn a_plateau_of_the_validation_reduces_the_rate() {
    let backend = backend();
    let plateau = "schedule={type='plateau',patience=1,factor=0.5,threshold=0.0,monitor='loss',warmup_steps=3}";
    let mut trainer = Trainer::new(config(&[&RESTLESS[..], &[plateau]].concat()), &backend).unwrap();
    let (events, summary) = train(&mut trainer);
    assert!(!summary.unwrap().early_stopped);
    let (mut best, mut bad, mut rate) = (f64::INFINITY, 0, 0.6);
    for event in events {
        let Event::Epoch(epoch) = event else { continue };
        assert_eq!(epoch.learning_rate, rate, "epoch {}", epoch.epoch);
        let loss = epoch.validation.unwrap().loss;
        (best, bad) = if loss < best { (loss, 0) } else { (best, bad + 1) };
        if bad > 1 {
            (rate, bad) = (rate * 0.5, 0);
        }
    }
    assert!(rate < 0.6, "the rate was never reduced");
}

#[test]
fn autoencoders_and_regressions_fit_their_targets() {
    let backend = backend();
    let overrides = [
        "data={source='digits',target='image',normalize='range'}",
        "layers=[{type='flatten'},{type='linear',out_features=16},{type='linear',out_features=64}]",
        "loss.type=mse",
    ];
    let summary = train(&mut Trainer::new(config(&overrides), &backend).unwrap()).1.unwrap();
    assert_eq!(summary.metric, "mse");
    assert!(summary.scores["test_mse"] < 0.1 && summary.scores["test_mse"] == summary.scores["test_loss"], "{summary:?}");
}

/// Whatever targets are scaled by, metrics are in the unit of the data: here they are formed again from the model's predictions.
#[test]
fn metrics_of_numbers_are_in_the_unit_of_the_data() {
    use backprop::{
        core::{Isa, exec::native::Native},
        data::{Column, InMemory, Parts, Source, coding::RawInput},
        prelude::*,
    };
    use std::sync::Arc;

    let x: Vec<f32> = (0..300).map(|i| (i * 37 % 101) as f32 / 50.0).collect();
    let y: Vec<f32> = x.chunks(2).map(|p| 500.0 + 300.0 * p[0] - 100.0 * p[1]).collect();
    let columns = |x: &[f32], y: &[f32]| {
        let data = InMemory::new("measured").with_column(Column::input("x", &[2]), x.to_vec()).unwrap();
        Arc::new(data.with_column(Column::target("y", &[]), y.to_vec()).unwrap())
    };
    let parts = Parts::shuffled(columns(&x[..200], &y[..100])).with_test_set(columns(&x[200..], &y[100..]));
    let network = Sequential::new().push(Linear::new(8)).push(Tanh::new()).push(Linear::new(1));
    let mut config = Config::new(Source::Memory {}, network, Mse::new(), Adam::new(0.01));
    config.data.options.normalize_target = backprop::data::NormaliseTarget::Standard;
    let backend = Native::new(1, Isa::detect());
    let mut trainer = Trainer::with_parts(config, parts, &backend).unwrap();
    let summary = trainer.train(None, &mut |_| {}).unwrap();
    let predicted = trainer.model().unwrap().predict(&RawInput::Numbers(&x[200..])).unwrap();
    let pairs: Vec<(f64, f64)> =
        y[100..].iter().enumerate().map(|(i, y)| (f64::from(*y), f64::from(predicted.row(i)[0]))).collect();
    let n = pairs.len() as f64;
    let mean = pairs.iter().map(|p| p.0).sum::<f64>() / n;
    let errors = pairs.iter().map(|p| (p.0 - p.1).powi(2)).sum::<f64>();
    let spread = pairs.iter().map(|p| (p.0 - mean).powi(2)).sum::<f64>();
    let absolute = pairs.iter().map(|p| (p.0 - p.1).abs()).sum::<f64>() / n;
    for (name, expected) in [("rmse", (errors / n).sqrt()), ("mae", absolute), ("r2", 1.0 - errors / spread)] {
        let found = summary.scores[&format!("test_{name}")];
        assert!((found - expected).abs() <= 1e-5 * expected.abs(), "{name} is {expected}, but {found} was measured");
    }
    assert!(summary.scores["test_mae"] > 1.0, "in the unit of the data errors are larger");
}

/// n / (classes · n_c), written into the configuration.
#[test]
fn balanced_weights_are_those_of_the_training_part() {
    use backprop::{
        core::{Isa, exec::native::Native},
        data::{Classes, Column, InMemory, Parts, Source},
        loss::{Balance, ClassWeights},
        prelude::*,
    };

    let labels: Vec<i32> = (0..90).map(|i| i32::from(i % 9 == 0) * 2).collect();
    let data = InMemory::new("rare").with_column(Column::input("x", &[1]), vec![0.5_f32; 90]).unwrap();
    let data = data.with_column(Column::label("y", Classes::numbered(3)), labels).unwrap();
    let balanced = CrossEntropy { weight: Some(ClassWeights::By(Balance::Balanced)), ..CrossEntropy::new() };
    let mut config = Config::new(Source::Memory {}, Sequential::new().push(Linear::new(3)), balanced, Adam::new(0.01));
    config.data.options.validation = 0.0;
    let backend = Native::new(1, Isa::detect());
    let trainer = Trainer::with_parts(config, Parts::shuffled(std::sync::Arc::new(data)), &backend).unwrap();
    let LossSpec::CrossEntropy(loss) = &trainer.config().loss else { panic!("another loss") };
    // 80, 0 and 10 of 90 rows; a class that does not occur weighs 1.
    assert_eq!(loss.weight, Some(ClassWeights::Given(vec![90.0 / 240.0, 1.0, 3.0])));
}
