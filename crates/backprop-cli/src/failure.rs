//! Why the program ends without success, and its exit code.

use crate::signals::Signal;
use backprop::{
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
        let colour = std::io::stderr().is_terminal();
        let (text, code) = match self {
            Failure::Config(error) => (error.render(colour), INPUT),
            Failure::Arguments(message) => (format!("error: {message}"), INPUT),
            Failure::Stopped { stopped, signal } => (goodbye(&stopped, signal), signal.map_or(TIME, Signal::exit_code)),
            Failure::Train(error) => {
                let code = if error.is_input() { INPUT } else { INTERNAL };
                match *error {
                    TrainError::Config(error) => (error.render(colour), code),
                    TrainError::Run(RunError::Config(error)) => (error.render(colour), code),
                    other => (format!("error: {other}"), code),
                }
            }
        };
        crate::output::error_line(&text);
        ExitCode::from(code)
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

impl From<RunError> for Failure {
    fn from(error: RunError) -> Failure {
        TrainError::from(error).into()
    }
}
