use super::Stopped;
use crate::{checkpoint::CheckpointError, config::ConfigError, files::FileError, run::RunError};
use backprop_data::DataError;

/// Why training could not begin or go on.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum TrainError {
    /// The configuration is wrong, or does not fit the data.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The data cannot be read.
    #[error(transparent)]
    Data(#[from] DataError),
    /// The run folder cannot be made, read or written.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A checkpoint cannot be written or read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A checkpoint or the weights are of another network or other data.
    #[error(
        "{what} does not belong to this configuration and data: {why}; \
         use the configuration and data the run was made with, or start a run anew"
    )]
    Mismatch {
        /// What was read.
        what: String,
        /// How it shows.
        why: String,
    },
    /// Too many steps in a row were not finite.
    #[error(
        "training stopped at step {step}: the last {consecutive} steps had a loss or gradients that are not finite \
         (loss {loss}); the weights are those before them. Lower the learning rate, set train.clip_norm, or check the data"
    )]
    Diverged {
        /// The last step.
        step: u64,
        /// How many steps in a row.
        consecutive: u64,
        /// Loss of the last step.
        loss: f64,
    },
    /// Training was asked to stop, or its time is over. Not a fault: it can go on.
    #[error("{0}")]
    Stopped(Stopped),
    /// The machine, or the container, is too small.
    #[error(
        "this needs {:.1} GiB ({:.1} GiB of parameters and optimizer state, {:.1} GiB for the intermediate values of a step), but \
         {:.1} GiB is all that {of} has; use a smaller train.batch_size or a smaller network \
         (`backprop inspect` lists what each layer needs)",
        gib(state.saturating_add(*arena)), gib(*state), gib(*arena), gib(*limit)
    )]
    Memory {
        /// Bytes of parameters, optimizer state and statistics.
        state: u64,
        /// Bytes of intermediate values.
        arena: u64,
        /// Bytes there are.
        limit: u64,
        /// What has them.
        of: &'static str,
    },
    /// A decoder failed without saying why; a fault of this program.
    #[error("reading the data failed inside this program; the message above says where; please report it with the file")]
    Loader,
    /// The engine refused what it was given; a fault of this program.
    #[error(transparent)]
    Engine(#[from] backprop_core::Error),
}

fn gib(bytes: u64) -> f64 {
    bytes as f64 / (1u64 << 30) as f64
}

impl TrainError {
    /// Whether the cause is what was handed in (configuration, data, files) and not the course of training or this program.
    pub fn is_input(&self) -> bool {
        match self {
            // Devices and their plugins are chosen by who starts the program.
            TrainError::Engine(error) => matches!(error, backprop_core::Error::Device(_)),
            other => !matches!(other, TrainError::Diverged { .. } | TrainError::Stopped(_) | TrainError::Loader),
        }
    }
}

impl From<FileError> for TrainError {
    fn from(error: FileError) -> TrainError {
        RunError::from(error).into()
    }
}
