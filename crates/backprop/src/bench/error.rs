use crate::{files::FileError, train::TrainError};
use backprop_data::DataError;
use std::path::{Path, PathBuf};

/// Why a step cannot be measured.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BenchError {
    /// The configuration is wrong, does not fit its data, or the device failed.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// A file could not be read or written.
    #[error(transparent)]
    File(#[from] FileError),
    /// An archive of arrays is damaged, or lacks one.
    #[error(transparent)]
    Archive(#[from] DataError),
    /// Weights are not those of the network.
    #[error(
        "the weights in {} do not fit this network: {why}; `backprop bench export` writes names and shapes as they must be",
        file.display()
    )]
    Weights {
        /// Their file.
        file: PathBuf,
        /// How it shows.
        why: String,
    },
    /// Batches are not what the network takes.
    #[error("{}, array {array}: {why}", file.display())]
    Batches {
        /// Their file.
        file: PathBuf,
        /// Name of the array.
        array: &'static str,
        /// What is wrong, and what would be right.
        why: String,
    },
    /// The data cannot be cut into batches of that size.
    #[error("batches of {wanted} rows are asked for, but the data give batches of {there} rows; use --batch {there}, or --data")]
    Rows {
        /// Rows asked for.
        wanted: usize,
        /// Rows that batches have.
        there: usize,
    },
    /// A file that would be written is there.
    #[error("{} exists already; give another folder, or remove the file", file.display())]
    Exists {
        /// The file.
        file: PathBuf,
    },
}

impl BenchError {
    /// An error of putting weights in.
    pub(super) fn of_weights(file: &Path, error: TrainError) -> BenchError {
        match error {
            TrainError::Mismatch { why, .. } => BenchError::Weights { file: file.into(), why },
            other => BenchError::Train(other),
        }
    }
}
