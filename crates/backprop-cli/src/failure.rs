//! Why the program ends without success, and its exit code.

use crate::signals::Signal;
use backprop::{
    bench::BenchError,
    config::ConfigError,
    model::ModelError,
    run::RunError,
    train::{StopReason, Stopped, TrainError},
};
use std::{io::IsTerminal, process::ExitCode};

/// Training diverged, or this program is at fault.
pub(crate) const INTERNAL: u8 = 1;
/// The input is at fault.
pub(crate) const INPUT: u8 = 2;

/// The time given is over.
pub(crate) const TIME: u8 = 3;

pub(crate) enum Failure {
    Config(ConfigError),
    Train(Box<TrainError>),
    /// Arguments that do not fit what is here.
    Arguments(String),
    /// Training stopped before its end, by a signal or by the clock.
    Stopped {
        stopped: Stopped,
        signal: Option<Signal>,
    },
}

impl Failure {
    /// Prints what is wrong; the exit code says whose fault it is.
    pub(crate) fn report(self) -> ExitCode {
        let code = self.code();
        crate::output::error_line(&self.text(std::io::stderr().is_terminal()));
        ExitCode::from(code)
    }

    fn code(&self) -> u8 {
        match self {
            Failure::Config(_) | Failure::Arguments(_) => INPUT,
            Failure::Stopped { signal, .. } => signal.map_or(TIME, Signal::exit_code),
            Failure::Train(error) if error.is_input() => INPUT,
            Failure::Train(_) => INTERNAL,
        }
    }

    /// What is wrong, for people.
    pub(crate) fn text(&self, colour: bool) -> String {
        match self {
            Failure::Config(error) => error.render(colour),
            Failure::Arguments(message) => format!("error: {message}"),
            Failure::Stopped { stopped, signal } => goodbye(stopped, *signal),
            Failure::Train(error) => match &**error {
                TrainError::Config(error) | TrainError::Run(RunError::Config(error)) => error.render(colour),
                other => format!("error: {other}"),
            },
        }
    }
}

/// One line: what stopped it, where it stands, how to go on.
fn goodbye(stopped: &Stopped, signal: Option<Signal>) -> String {
    let cause = match (stopped.reason, signal) {
        (StopReason::Time, _) => "the end of its time",
        (StopReason::Asked, Some(signal)) => signal.name(),
        (StopReason::Asked, None) => "a request",
    };
    let Stopped { step, epoch, epochs, run, .. } = stopped;
    let run = run.as_ref().map_or(String::new(), |run| quoted(&run.display().to_string()));
    format!("stopped by {cause} after step {step} ({epoch} of {epochs} epochs done); go on with: backprop train --resume {run}")
}

/// A word for a shell.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_alphanumeric() || "-_./:@%+,=".contains(c);
    if word.chars().all(plain) { word.into() } else { format!("'{}'", word.replace('\'', r"'\''")) }
}

impl From<ConfigError> for Failure {
    fn from(error: ConfigError) -> Failure {
        Failure::Config(error)
    }
}

impl From<TrainError> for Failure {
    fn from(error: TrainError) -> Failure {
        Failure::Train(Box::new(error))
    }
}

impl From<ModelError> for Failure {
    fn from(error: ModelError) -> Failure {
        match error {
            ModelError::Run(error) => error.into(),
            ModelError::Engine(error) => TrainError::from(error).into(),
            other => Failure::Arguments(other.to_string()),
        }
    }
}

impl From<BenchError> for Failure {
    fn from(error: BenchError) -> Failure {
        match error {
            BenchError::Train(error) => error.into(),
            other => Failure::Arguments(other.to_string()),
        }
    }
}

impl From<RunError> for Failure {
    fn from(error: RunError) -> Failure {
        TrainError::from(error).into()
    }
}
