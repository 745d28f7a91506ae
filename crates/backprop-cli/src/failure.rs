//! Why the program ends without success, and its exit code.

use backprop::{config::ConfigError, run::RunError, train::TrainError};
use std::{io::IsTerminal, process::ExitCode};

/// Training diverged, or this program is at fault.
pub(crate) const INTERNAL: u8 = 1;
/// The input is at fault.
pub(crate) const INPUT: u8 = 2;

pub(crate) enum Failure {
    Config(ConfigError),
    Train(Box<TrainError>),
    /// Arguments that do not fit what is here.
    Arguments(String),
}

impl Failure {
    /// Prints what is wrong; the exit code says whose fault it is.
    pub(crate) fn report(self) -> ExitCode {
        let colour = std::io::stderr().is_terminal();
        let (text, code) = match self {
            Failure::Config(error) => (error.render(colour), INPUT),
            Failure::Arguments(message) => (format!("error: {message}"), INPUT),
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

impl From<RunError> for Failure {
    fn from(error: RunError) -> Failure {
        TrainError::from(error).into()
    }
}
