//! Training that a callback, a handle or the clock stops, and that goes on in memory.

mod common;

use backprop::{
    core::{Isa, exec::native::Native},
    events::Event,
    train::{Flow, Part, StopReason, Stopped, TrainError, Trainer},
};
use common::config;
use std::ops::ControlFlow;

fn weights(trainer: &Trainer<'_>) -> Vec<(String, Vec<u8>)> {
    trainer.store().iter().map(|(name, t)| (name.to_owned(), t.bytes().to_vec())).collect()
}

fn stopped<T>(outcome: Result<T, TrainError>) -> Stopped {
    match outcome {
        Err(TrainError::Stopped(stopped)) => stopped,
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it did not stop"),
    }
}

/// Six steps per epoch: stops within an epoch, at its end, during its validation, and after its report.
#[test]
fn callbacks_stop_training_and_it_goes_on_to_the_same_bits() {
    let backend = Native::new(2, Isa::detect());
    let mut whole = Trainer::new(config(&[]), &backend).unwrap();
    let summary = whole.train(None, &mut |_| {}).unwrap();

    let mut parts = Trainer::new(config(&[]), &backend).unwrap();
    let at =
        |wanted: u64| move |e: &Event| if matches!(e, Event::Step(s) if s.step == wanted) { Flow::Stop } else { Flow::Continue };
    let first = stopped(parts.train(None, &mut at(2)));
    assert_eq!((first.reason, first.step, first.epoch, first.run), (StopReason::Asked, 2, 0, None));
    assert_eq!(stopped(parts.train(None, &mut at(6))).step, 6);
    let mut last = None;
    let after_epoch = stopped(parts.train(None, &mut |e| {
        last = Some(e.clone());
        if matches!(e, Event::Epoch(_)) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    }));
    assert_eq!((after_epoch.step, after_epoch.epoch), (6, 1));
    assert!(matches!(last, Some(Event::Stopped(s)) if s == after_epoch), "the last event is not the stop");
    let mut any: Box<dyn FnMut(&Event)> = Box::new(|_| {});
    let again = parts.train(None, &mut *any).unwrap();
    assert_eq!((again.scores, again.steps, again.epoch), (summary.scores, summary.steps, summary.epoch));
    assert_eq!(weights(&parts), weights(&whole));
}

#[test]
fn a_handle_stops_before_the_first_step_and_evaluation() {
    let backend = Native::new(1, Isa::detect());
    let mut trainer = Trainer::new(config(&[]), &backend).unwrap();
    let stop = trainer.stop_handle();
    stop.ask();
    assert_eq!(stopped(trainer.evaluate(Part::Test)).step, 0);
    assert_eq!(stopped(trainer.train(None, &mut |_| {})).step, 0);
    assert!(!stop.is_asked(), "the request is answered");
    assert_eq!(trainer.train(None, &mut |_| {}).unwrap().steps, 24);
}

/// However short the time, every session makes a step.
#[test]
fn time_over_stops_after_a_step() {
    let backend = Native::new(1, Isa::detect());
    let mut trainer = Trainer::new(config(&["train.max_time=1s"]), &backend).unwrap();
    std::thread::sleep(std::time::Duration::from_secs(1));
    let first = stopped(trainer.train(None, &mut |_| {}));
    assert_eq!((first.reason, first.step), (StopReason::Time, 1));
    assert_eq!(config(&["train.max_time=90s"]).to_toml().unwrap().matches("max_time = \"1m30s\"").count(), 1);
}
