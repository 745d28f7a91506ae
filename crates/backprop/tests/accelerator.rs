//! Training on the plugin that `BACKPROP_PJRT_PLUGIN` names; without it every test says that it was skipped.

mod common;

use backprop::{
    compile_cache::CompileCache,
    config::Config,
    core::{
        Isa,
        exec::{Backend, native::Native, pjrt::PjrtOptions},
    },
    data::{Column, DataError, Dataset, InMemory, Parts, Scale},
    events::{Event, Summary},
    run::Run,
    train::{Part, Stop, TrainError, Trainer},
};
use backprop_check::{plugin, plugin_on};
use common::config;
use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

fn native() -> Native {
    Native::new(2, Isa::detect())
}

/// Losses of the first steps, and why training ended.
struct Course {
    losses: Vec<f64>,
    outcome: Result<Summary, TrainError>,
}

/// Trains for at most `steps` steps.
fn train(config: Config, backend: &dyn Backend, steps: usize) -> Course {
    let mut trainer = Trainer::new(config, backend).unwrap_or_else(|e| panic!("{e}"));
    let stop = trainer.stop_handle();
    course(&mut trainer, &stop, steps, None)
}

fn course(trainer: &mut Trainer<'_>, stop: &Stop, steps: usize, run: Option<&Run>) -> Course {
    let mut losses = Vec::new();
    let outcome = trainer.train(run, &mut |event| {
        if let Event::Step(step) = event {
            losses.push(step.loss);
            if losses.len() == steps {
                stop.ask();
            }
        }
    });
    Course { losses, outcome }
}

fn assert_close(what: &str, expected: &[f64], found: &[f64], tolerance: f64) {
    assert_eq!(expected.len(), found.len(), "{what}");
    for (step, (e, f)) in expected.iter().zip(found).enumerate() {
        assert!((e - f).abs() <= tolerance * e.abs().max(1e-3), "{what}, step {}: {f}, expected {e}", step + 1);
    }
}

/// What the optimizer keeps after one step: multiples of the gradients, and of their squares.
fn first_step(mut config: Config, backend: &dyn Backend) -> Vec<(String, Vec<f64>)> {
    // A step that is to leave a checkpoint is done before the next is started.
    config.train.checkpoint_every_steps = Some(1);
    let mut trainer = Trainer::new(config, backend).unwrap();
    let stop = trainer.stop_handle();
    let outcome = course(&mut trainer, &stop, 1, None).outcome;
    assert!(matches!(outcome, Err(TrainError::Stopped(_))), "{outcome:?}");
    let kept = trainer.store().iter().filter(|(name, _)| name.starts_with("optimizer/"));
    kept.map(|(name, t)| (name.to_owned(), t.to_f64())).collect()
}

/// Largest difference as a part of the largest magnitude.
fn distance(a: &[f64], b: &[f64]) -> f64 {
    let scale = a.iter().fold(1e-30, |m: f64, x| m.max(x.abs()));
    a.iter().zip(b).fold(0.0, |m: f64, (a, b)| m.max((a - b).abs() / scale))
}

/// The first step and ten steps of a model of the repository. Gradients agree within `tolerance` of a tensor's maximum.
fn check_model(test: &str, file: &str, smooth: bool, tolerance: f64, overrides: &[&str]) {
    let Some(pjrt) = plugin(test) else { return };
    let text = std::fs::read_to_string(models().join(format!("{file}.toml"))).unwrap();
    let text = if smooth { text.replace("\"relu\"", "\"softplus\"") } else { text };
    let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
    let load = || Config::parse(file, &text, &models(), &overrides).unwrap_or_else(|e| panic!("{e}"));
    let (here, there) = (first_step(load(), &native()), first_step(load(), &pjrt));
    assert!(here.len() == there.len() && here.len() > 1, "{file}: {} tensors", here.len());
    for ((name, here), (_, there)) in here.iter().zip(&there) {
        let apart = distance(here, there);
        assert!(apart <= tolerance, "{file}, first step, {name}: {apart:e} apart");
    }
    let (here, there) = (train(load(), &native(), 10), train(load(), &pjrt, 10));
    assert_eq!(here.losses.len(), 10, "{file} ends before ten steps");
    assert_close(file, &here.losses, &there.losses[..10], 1e-4);
}

fn models() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models")
}

macro_rules! models {
    ($($test:ident $file:literal $smooth:literal $tolerance:literal $overrides:expr;)*) => {
        $(#[test]
        fn $test() {
            check_model(stringify!($test), $file, $smooth, $tolerance, &$overrides);
        })*

        #[test]
        fn no_model_of_the_repository_is_left_out() {
            let stem = |entry: std::io::Result<std::fs::DirEntry>| entry.unwrap().path().file_stem().unwrap().to_owned();
            let mut found: Vec<_> = std::fs::read_dir(models()).unwrap().map(stem).collect();
            found.sort();
            assert_eq!(found, [$($file),*]);
        }
    };
}

models! {
    autoencoder_trains_as_on_the_cpu "autoencoder" false 1e-5 [];
    // The gradient of the first kernel is sums of 50,000 products, which XLA for processors forms to 4e-5.
    cnn_fashion_trains_as_on_the_cpu "cnn-fashion" false 5e-5 [];
    gpt_text_trains_as_on_the_cpu "gpt-text" false 1e-5 [];
    lstm_text_trains_as_on_the_cpu "lstm-text" false 1e-5 [];
    mlp_digits_trains_as_on_the_cpu "mlp-digits" false 1e-5 [];
    // Among its two million activations some are so near 0 that rounding decides which side of the kink of ReLU they are on: there our
    // own instruction sets differ too, so softplus takes its place. And at a rate of 0.1 its first steps throw the loss up and multiply
    // every rounding.
    resnet18_cifar_trains_as_on_the_cpu "resnet18-cifar" true 1e-5 ["train.batch_size=16", "optimizer.learning_rate=1e-3"];
}

#[test]
fn a_whole_run_is_that_of_the_cpu() {
    let Some(pjrt) = plugin("a_whole_run_is_that_of_the_cpu") else { return };
    for overrides in [&[][..], &["train.accumulate=3", "train.ema=0.9"], &["layers.3.p=0.5", "schedule.type=cosine"]] {
        // A bias before batch norm has no gradient but rounding, of which AdamW makes whole steps.
        let overrides = [&["layers.0.bias=false"], overrides].concat();
        let (here, there) = (train(config(&overrides), &native(), 1000), train(config(&overrides), &pjrt, 1000));
        assert_close("losses", &here.losses, &there.losses, 1e-3);
        let (here, there) = (here.outcome.unwrap(), there.outcome.unwrap());
        assert_eq!((here.steps, here.epoch), (there.steps, there.epoch));
        assert_close("test loss", &[here.scores["test_loss"]], &[there.scores["test_loss"]], 1e-3);
    }
}

#[test]
fn steps_that_are_not_finite_are_counted_as_on_the_cpu() {
    let Some(pjrt) = plugin("steps_that_are_not_finite_are_counted_as_on_the_cpu") else { return };
    let layers = "layers=[{type='linear',out_features=4},{type='linear',out_features=3}]";
    let diverging = [layers, "optimizer.type=sgd", "optimizer.learning_rate=1e30", "train.max_nonfinite_steps=5"];
    for backend in [&native() as &dyn Backend, &pjrt] {
        let mut trainer = Trainer::new(config(&diverging), backend).unwrap();
        let outcome = trainer.train(None, &mut |_: &Event| ());
        assert!(matches!(outcome, Err(TrainError::Diverged { step: 6, consecutive: 5, .. })), "{outcome:?}");
        assert!(trainer.store().iter().all(|(_, t)| t.to_f64().iter().all(|v| v.is_finite())));
    }
}

/// Rows of three numbers and their sum, one of which is not a number, and perhaps one that cannot be read.
struct Rows {
    rows: InMemory,
    unreadable: Option<usize>,
}

impl Rows {
    fn new(bad: usize, unreadable: Option<usize>) -> Rows {
        let mut x: Vec<f32> = (0..300).map(|i| (i * 37 % 101) as f32 / 101.0).collect();
        let y: Vec<f32> = x.chunks(3).map(|p| p.iter().sum()).collect();
        x[3 * bad] = f32::NAN;
        let rows = InMemory::new("rows").with_column(Column::input("x", &[3]), x).unwrap();
        Rows { rows: rows.with_column(Column::target("y", &[]), y).unwrap(), unreadable }
    }

    /// Trains on them; gives the course of training, and the steps that were not finite.
    fn train(self, backend: &dyn Backend) -> (Course, Vec<u64>) {
        let network = "layers=[{type='linear',out_features=4},{type='linear',out_features=1}]";
        let config = config(&[network, "data={source='memory',normalize='none'}", "loss.type=mse", "train.batch_size=5"]);
        let mut trainer = Trainer::with_parts(config, Parts::shuffled(Arc::new(self)), backend).unwrap();
        let (mut losses, mut refused) = (Vec::new(), Vec::new());
        let outcome = trainer.train(None, &mut |event: &Event| match event {
            Event::Step(step) => losses.push(step.loss),
            Event::NonFinite { step, .. } => refused.push(*step),
            _ => {}
        });
        (Course { losses, outcome }, refused)
    }
}

impl Dataset for Rows {
    fn name(&self) -> &str {
        self.rows.name()
    }

    fn len(&self) -> usize {
        self.rows.len()
    }

    fn columns(&self) -> &[Column] {
        self.rows.columns()
    }

    fn fill_f32(&self, column: usize, rows: &[usize], scale: &Scale, out: &mut [f32]) -> Result<(), DataError> {
        match self.unreadable.filter(|row| rows.contains(row)) {
            Some(row) => Err(DataError::NoRow { data: self.name().into(), row, rows: self.len() }),
            None => self.rows.fill_f32(column, rows, scale, out),
        }
    }

    fn fill_i32(&self, column: usize, rows: &[usize], out: &mut [i32]) -> Result<(), DataError> {
        self.rows.fill_i32(column, rows, out)
    }
}

/// In every epoch one step is not finite and training goes on: those that were under way are made again, with the same rows, the same rate
/// and the same count of updates.
#[test]
fn steps_under_way_are_made_again_after_one_that_is_not_finite() {
    let Some(pjrt) = plugin("steps_under_way_are_made_again_after_one_that_is_not_finite") else { return };
    let [(here, refused), (there, refused_there)] =
        [&native() as &dyn Backend, &pjrt].map(|backend| Rows::new(33, None).train(backend));
    assert_eq!(refused, refused_there);
    // 90 rows to train on, in four epochs of 18 steps.
    assert_eq!((here.losses.len(), refused.len()), (72, 4));
    let finite = |losses: &[f64]| -> Vec<f64> { losses.iter().copied().filter(|loss| loss.is_finite()).collect() };
    assert_eq!(finite(&here.losses).len(), 68);
    assert_close("losses", &finite(&here.losses), &finite(&there.losses), 1e-4);
    assert_eq!(here.outcome.unwrap().steps, there.outcome.unwrap().steps);
}

#[test]
fn rows_that_cannot_be_read_are_an_error_after_the_steps_before_them() {
    let Some(pjrt) = plugin("rows_that_cannot_be_read_are_an_error_after_the_steps_before_them") else { return };
    let [here, there] = [&native() as &dyn Backend, &pjrt].map(|backend| Rows::new(33, Some(50)).train(backend).0);
    let steps = [&here, &there].map(|course| course.losses.len());
    assert!(steps[0] > 1 && steps[0] == steps[1], "{steps:?} steps");
    assert_eq!(here.outcome.unwrap_err().to_string(), there.outcome.unwrap_err().to_string());
}

#[test]
fn a_run_moves_between_devices() {
    let Some(pjrt) = plugin("a_run_moves_between_devices") else { return };
    let whole = train(config(&[]), &native(), 1000);
    let folder = tempfile::tempdir().unwrap();
    let run = Run::create(&folder.path().join("run"), &config(&[])).unwrap();
    let mut losses = Vec::new();
    let backends: [&dyn Backend; 3] = [&pjrt, &native(), &pjrt];
    for (backend, steps) in backends.into_iter().zip([7, 5, 1000]) {
        let mut trainer = Trainer::new(config(&[]), backend).unwrap();
        trainer.resume(&run).unwrap();
        let stop = trainer.stop_handle();
        losses.extend(course(&mut trainer, &stop, steps, Some(&run)).losses);
    }
    assert_close("losses", &whole.losses, &losses, 1e-3);
    let mut trainer = Trainer::new(config(&[]), &pjrt).unwrap();
    trainer.load_weights(&run).unwrap();
    let there = trainer.evaluate(Part::Test).unwrap().unwrap();
    let native = native();
    let mut trainer = Trainer::new(config(&[]), &native).unwrap();
    trainer.load_weights(&run).unwrap();
    let here = trainer.evaluate(Part::Test).unwrap().unwrap();
    assert!((here.loss - there.loss).abs() < 1e-5 * here.loss, "{here:?} {there:?}");
}

#[test]
fn two_devices_train_as_one() {
    let Some(one) = plugin("two_devices_train_as_one") else { return };
    let Some(two) = plugin_on("two_devices_train_as_one", 2) else { return };
    for overrides in [&[][..], &["train.accumulate=2"]] {
        let (alone, together) = (train(config(overrides), &one, 1000), train(config(overrides), &two, 1000));
        assert_close("losses", &alone.losses, &together.losses, 1e-3);
        assert_close("losses of the first ten", &alone.losses[..10], &together.losses[..10], 1e-4);
    }
}

/// Also where the rows of a batch do not divide, so that each device computes all of them.
#[test]
fn two_devices_give_the_gradients_of_one() {
    let Some(one) = plugin("two_devices_give_the_gradients_of_one") else { return };
    let Some(two) = plugin_on("two_devices_give_the_gradients_of_one", 2) else { return };
    // Batch norm takes away what a bias before it adds: its gradient is nothing but rounding.
    let without_bias = "layers.0.bias=false";
    for batch in ["train.batch_size=24", "train.batch_size=27"] {
        for accumulate in ["train.accumulate=1", "train.accumulate=2"] {
            let load = || config(&[without_bias, batch, accumulate]);
            let (alone, together) = (first_step(load(), &one), first_step(load(), &two));
            assert!(alone.len() == together.len() && alone.len() > 8, "{} tensors", alone.len());
            for ((name, alone), (_, together)) in alone.iter().zip(&together) {
                let apart = distance(alone, together);
                assert!(apart <= 1e-5, "{batch}, {accumulate}, {name}: {apart:e} apart");
            }
        }
    }
    let odd = || config(&[without_bias, "data.rows=195"]);
    let rows = Trainer::new(odd(), &one).unwrap().task().rows(Part::Train);
    assert!(rows < 10 * 24 && rows % 24 % 2 == 1, "no odd remainder in ten steps: {rows} rows");
    let (alone, together) = (train(odd(), &one, 10), train(odd(), &two, 10));
    assert_close("losses", &alone.losses[..10], &together.losses[..10], 1e-4);
}

#[test]
fn compiled_programs_are_kept() {
    let Some(pjrt) = plugin("compiled_programs_are_kept") else { return };
    let folder = tempfile::tempdir().unwrap();
    let cache = Arc::new(CompileCache::new(folder.path()));
    let cached = pjrt.with(PjrtOptions { cache: Some(cache), ..PjrtOptions::default() });
    let first = train(config(&[]), &cached, 10);
    let kept = std::fs::read_dir(folder.path()).unwrap().count();
    let again = train(config(&[]), &cached, 10);
    assert_eq!(first.losses, again.losses);
    assert_eq!(kept, std::fs::read_dir(folder.path()).unwrap().count());
    assert!(kept > 0, "nothing was kept");
}

/// Whatever is wrong with a file: a plugin that is given a damaged program can end the process.
#[test]
fn damaged_programs_are_compiled_again() {
    let Some(pjrt) = plugin("damaged_programs_are_compiled_again") else { return };
    let folder = tempfile::tempdir().unwrap();
    let cached = pjrt.with(PjrtOptions { cache: Some(Arc::new(CompileCache::new(folder.path()))), ..PjrtOptions::default() });
    let small = || config(&["layers=[{type='linear',out_features=3}]", "train.batch_size=200", "train.epochs=1"]);
    let first = train(small(), &cached, 10);
    let files = || std::fs::read_dir(folder.path()).unwrap().map(|file| file.unwrap().path());
    for share in [0.0, 0.01, 0.3, 0.7, 1.0] {
        for cut in [false, true] {
            for file in files() {
                let mut bytes = std::fs::read(&file).unwrap();
                let at = (share * (bytes.len() - 1) as f64) as usize;
                bytes[at] ^= 0x10;
                bytes.truncate(if cut { at } else { bytes.len() });
                std::fs::write(file, bytes).unwrap();
            }
            let again = train(small(), &cached, 10);
            assert_eq!(first.losses, again.losses, "damage at {share}, cut: {cut}");
        }
    }
}
