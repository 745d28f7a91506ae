use super::*;
use crate::{config::Config, prelude::*};
use backprop_core::{Isa, exec::native::Native};
use backprop_data::npy::{Array, parse_npz, to_npz};
use backprop_data::{Source, Values};
use std::{fs, path::Path};

fn backend() -> Native {
    Native::new(1, Isa::detect())
}

/// A network with statistics, momentum, clipping and a schedule.
fn digits() -> Config {
    let network = Sequential::new()
        .push(Flatten::new())
        .push(Linear::new(12))
        .push(BatchNorm::new())
        .push(Relu::new())
        .push(Dropout::new(0.2))
        .push(Linear::new(10));
    let mut config = Config::new(Source::Digits {}, network, CrossEntropy::new(), Sgd::new(0.1).momentum(0.9));
    config.schedule = Schedule::Cosine(Cosine::default().warmup_steps(5));
    config.train.clip_norm = Some(1.0);
    config.train.batch_size = 32;
    config
}

fn losses(options: &BenchOptions) -> Result<Vec<f64>, BenchError> {
    StepBench::new(digits(), &backend(), options)?.losses(10)
}

/// Writes an archive after a change of its arrays.
fn changed(from: &Path, to: &Path, change: impl FnOnce(&mut Array, &mut Array)) {
    let bytes = fs::read(from).unwrap();
    let mut arrays = ["x", "y"].map(|name| parse_npz("", &bytes, name).unwrap());
    let [x, y] = &mut arrays;
    change(x, y);
    fs::write(to, to_npz("", &[("x", &arrays[0]), ("y", &arrays[1])]).unwrap()).unwrap();
}

/// Ten steps by the trainer itself: constant rate, the first batches.
#[test]
fn the_steps_are_those_of_training() {
    let mut config = digits();
    config.schedule = Default::default();
    config.train.epochs = 1;
    let backend = backend();
    let mut trained = Vec::new();
    let mut trainer = Trainer::new(config, &backend).unwrap();
    let mut keep = |event: &crate::events::Event| {
        if let crate::events::Event::Step(step) = event {
            trained.push(step.loss);
        }
    };
    trainer.train(None, &mut keep).unwrap();
    let measured = losses(&BenchOptions::default()).unwrap();
    assert_eq!(measured, trained[..10]);
}

#[test]
fn exported_files_give_the_same_losses() {
    let folder = tempfile::tempdir().unwrap();
    let exported = export(digits(), &backend(), folder.path(), BATCHES).unwrap();
    let here = losses(&BenchOptions::default()).unwrap();
    let options = BenchOptions { weights: Some(exported.weights), data: Some(exported.data), ..BenchOptions::default() };
    let from_files = losses(&options).unwrap();
    assert_eq!(from_files, here);
    // The files are read: other weights and other batches give other losses.
    let mut other = digits();
    other.train.seed = 9;
    let exported = export(other, &backend(), &folder.path().join("other"), BATCHES).unwrap();
    let weights = BenchOptions { weights: Some(exported.weights), ..BenchOptions::default() };
    assert_ne!(losses(&weights).unwrap()[0], here[0]);
    let data = BenchOptions { data: Some(exported.data), ..BenchOptions::default() };
    assert_ne!(losses(&data).unwrap()[0], here[0]);
    let still = BenchOptions { no_dropout: true, ..BenchOptions::default() };
    assert_ne!(losses(&still).unwrap()[0], here[0]);
}

#[test]
fn what_does_not_fit_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let exported = export(digits(), &backend(), folder.path(), 2).unwrap();
    let said = |options: BenchOptions| losses(&options).map(drop).unwrap_err().to_string();
    let file = folder.path().join("changed.npz");
    let refused = |wanted: &str, change: &dyn Fn(&mut Array, &mut Array)| {
        changed(&exported.data, &file, change);
        let said = said(BenchOptions { data: Some(file.clone()), ..BenchOptions::default() });
        assert!(said.contains(wanted) && said.contains("changed.npz"), "{said}");
    };
    refused("array x: has sizes [2, 32, 64]; the network takes f32 [batches, rows, 8, 8, 1]", &|x, _| x.sizes = vec![2, 32, 64]);
    refused("array y: holds real numbers; the network takes i32 [batches, rows]", &|_, y| y.values = Values::F32(vec![0.0; 64]));
    refused("array y: holds 10; whole numbers go from 0 to 9 here", &|_, y| y.values = Values::U8(vec![10; 64]));
    refused("array x: holds whole numbers", &|x, _| x.values = Values::U8(vec![0; 64 * 64]));
    refused("1 batches of 64 rows, but x has 2 of 32", &|_, y| y.sizes = vec![1, 64]);
    let data = BenchOptions { data: Some(exported.data.clone()), batch: Some(16), ..BenchOptions::default() };
    assert!(said(data).contains("the network takes f32 [batches, 16, 8, 8, 1]"));
    let many = said(BenchOptions { batch: Some(100_000), ..BenchOptions::default() });
    assert!(many.contains("100000 rows are asked for"), "{many}");
    // Weights of a network with one layer less.
    let mut other = digits();
    other.layers.pop();
    other.layers.pop();
    other.layers.push(Linear::new(10).into());
    let others = export(other, &backend(), &folder.path().join("other"), 1).unwrap();
    let weights = said(BenchOptions { weights: Some(others.weights), ..BenchOptions::default() });
    assert!(weights.contains("other/weights.safetensors") && weights.contains("`layers.4.bias`"), "{weights}");
    // Nothing is written over.
    let again = export(digits(), &backend(), folder.path(), 2).unwrap_err().to_string();
    assert!(again.contains("weights.safetensors exists already"), "{again}");
}

#[test]
fn steps_are_counted_and_timed() {
    let backend = backend();
    let mut bench = StepBench::new(digits(), &backend, &BenchOptions::default()).unwrap();
    let facts = bench.facts().clone();
    assert_eq!((facts.batch, facts.parameters), (32, 64 * 12 + 12 + 24 + 12 * 10 + 10));
    // Three products of the two layers but the gradient of the input, and little else.
    let products = 2.0 * 32.0 * (2.0 * 64.0 * 12.0 + 3.0 * 12.0 * 10.0) / 1e9;
    assert!(facts.gflop_per_step > products && facts.gflop_per_step < 3.0 * products, "{} {products}", facts.gflop_per_step);
    bench.warm_up(3).unwrap();
    assert_eq!(bench.measure(Length::Steps(7)).unwrap().step_ms().len(), 7);
    assert!(bench.measure(Length::Time(Duration::ZERO)).unwrap().steps() >= 1);
    let together = bench.measure_together(Length::Steps(7), 3).unwrap();
    assert_eq!((together.steps(), together.step_ms().len()), (9, 3));
    // Whatever was done before, the first losses are the first.
    assert_eq!(bench.losses(10).unwrap(), losses(&BenchOptions::default()).unwrap());
    assert_eq!(bench.nonfinite_steps(), 0);
}
