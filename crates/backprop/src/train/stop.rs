//! Stopping before the end: asked for from outside, by a callback, or by the clock.

use serde::Serialize;
use std::{
    fmt,
    ops::ControlFlow,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

/// Asks training to stop: after the step that is running, with a checkpoint, so that the run can go on later. Clones ask the same
/// run; any thread may ask, a signal handler too.
///
/// ```
/// use backprop::train::Stop;
///
/// let stop = Stop::new();
/// let elsewhere = stop.clone();
/// std::thread::spawn(move || elsewhere.ask()).join().unwrap();
/// assert!(stop.is_asked());
/// ```
#[derive(Clone, Debug, Default)]
pub struct Stop(Arc<AtomicBool>);

impl Stop {
    /// Nobody has asked yet.
    pub fn new() -> Stop {
        Stop::default()
    }

    /// Asks to stop. Asking again changes nothing.
    pub fn ask(&self) {
        self.0.store(true, Ordering::Release);
    }

    /// Whether somebody has asked, and training has not stopped for it yet.
    pub fn is_asked(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Makes room for the next request, once training has stopped for this one.
    pub(super) fn clear(&self) {
        self.0.store(false, Ordering::Release);
    }
}

/// What a callback wants to happen next.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Flow {
    /// Training goes on.
    Continue,
    /// Training stops after the step that is running, as if its [`Stop`] had been asked.
    Stop,
}

/// What a callback may return: nothing, a [`Flow`], or a [`ControlFlow`] without values.
pub trait Reply {
    /// What it stands for.
    fn flow(self) -> Flow;
}

impl Reply for () {
    fn flow(self) -> Flow {
        Flow::Continue
    }
}

impl Reply for Flow {
    fn flow(self) -> Flow {
        self
    }
}

impl Reply for ControlFlow<()> {
    fn flow(self) -> Flow {
        if self.is_break() { Flow::Stop } else { Flow::Continue }
    }
}

/// Why training stopped before its end.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum StopReason {
    /// Its [`Stop`] was asked, or a callback returned [`Flow::Stop`].
    Asked,
    /// The time it was given is over.
    Time,
}

/// Where training stopped before its end.
#[derive(Clone, PartialEq, Debug, Serialize)]
pub struct Stopped {
    /// Why.
    pub reason: StopReason,
    /// Steps done.
    pub step: u64,
    /// Epochs done.
    pub epoch: u64,
    /// Epochs in total.
    pub epochs: u64,
    /// The run folder, if there is one: it has a checkpoint of this step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<PathBuf>,
}

impl fmt::Display for Stopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stopped { step, epoch, epochs, .. } = self;
        match self.reason {
            StopReason::Asked => write!(f, "training was asked to stop")?,
            StopReason::Time => write!(f, "the time given is over")?,
        }
        write!(f, " after step {step}, with {epoch} of {epochs} epochs done")?;
        match &self.run {
            Some(run) => write!(f, "; go on with the run {}", run.display()),
            None => write!(f, "; there is no run folder to go on with"),
        }
    }
}
