//! What limits training is told: data that come slowly, and data in memory that do not.

mod common;

use backprop::{
    config::Config,
    core::{Isa, exec::native::Native},
    data::{Column, DataError, Dataset, InMemory, Parts, Scale, synthetic},
    events::{Event, InputBound, Stage, Summary},
    train::Trainer,
};
use common::config;
use std::{sync::Arc, thread, time::Duration};

/// Points each batch of which takes 20 ms.
struct Slow(InMemory);

impl Dataset for Slow {
    fn name(&self) -> &str {
        self.0.name()
    }
    fn len(&self) -> usize {
        self.0.len()
    }
    fn columns(&self) -> &[Column] {
        self.0.columns()
    }
    fn fill_f32(&self, column: usize, rows: &[usize], scale: &Scale, out: &mut [f32]) -> Result<(), DataError> {
        if rows.len() == BATCH {
            thread::sleep(Duration::from_millis(20));
        }
        self.0.fill_f32(column, rows, scale, out)
    }
    fn fill_i32(&self, column: usize, rows: &[usize], out: &mut [i32]) -> Result<(), DataError> {
        self.0.fill_i32(column, rows, out)
    }
}

const BATCH: usize = 16;

fn points() -> InMemory {
    synthetic::clusters(10 * BATCH, 6, 3, 1).unwrap()
}

/// What is said of the epochs, in warnings, and of the run.
fn train(config: Config, data: impl Dataset + 'static) -> (Vec<Option<InputBound>>, Vec<String>, Summary) {
    let backend = Native::new(1, Isa::detect());
    let mut trainer = Trainer::with_parts(config, Parts::shuffled(Arc::new(data)), &backend).unwrap();
    let (mut epochs, mut warnings) = (Vec::new(), Vec::new());
    let summary = trainer.train(None, &mut |event: &Event| match event {
        Event::Epoch(epoch) => {
            assert!(epoch.training_seconds <= epoch.seconds && epoch.data_seconds <= epoch.training_seconds, "{epoch:?}");
            epochs.push(epoch.input_bound.clone());
        }
        Event::Warning { message } => warnings.push(message.clone()),
        _ => {}
    });
    (epochs, warnings, summary.unwrap())
}

fn settings(loader_threads: usize) -> Config {
    let threads = format!("train.loader_threads={loader_threads}");
    config(&["data={ source = 'memory', validation = 0 }", "train.epochs=2", &format!("train.batch_size={BATCH}"), &threads])
}

#[test]
fn slow_data_are_told_to_limit_training() {
    for threads in [0, 1] {
        let (epochs, warnings, summary) = train(settings(threads), Slow(points()));
        let bound = summary.input_bound.unwrap();
        for bound in epochs.iter().map(|epoch| epoch.as_ref().unwrap()).chain([&bound]) {
            assert!(bound.waiting > 0.1 && bound.waiting <= 1.0 && bound.stage == Stage::Reading, "{bound:?}");
            // A thread cannot give more than a batch in 20 ms.
            assert!(bound.input_rows_per_second <= 50.0 * BATCH as f64, "{bound:?}");
            assert!(bound.step_rows_per_second > bound.input_rows_per_second, "{bound:?}");
            assert!(bound.message.contains("input-bound") && bound.message.contains("reading"), "{bound:?}");
            assert!(bound.message.contains("a data set that keeps its rows in memory"), "{bound:?}");
        }
        assert_eq!(warnings, [epochs[0].as_ref().unwrap().message.as_str()], "once, and of the first epoch");
    }
}

#[test]
fn data_in_memory_do_not_limit_training() {
    let (epochs, warnings, summary) = train(settings(0), points());
    assert_eq!((epochs, warnings, summary.input_bound), (vec![None, None], vec![], None));
}
