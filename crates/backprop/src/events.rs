//! What training reports while it runs. The library prints nothing: whoever trains decides what to show.

use crate::train::Stopped;
use serde::{Deserialize, Deserializer, Serialize};
use std::{collections::BTreeMap, fmt, path::PathBuf};

/// Something that happened during training, in the order it happened.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// Everything is compiled and training begins, or goes on.
    Started(Started),
    /// A step is done. Comes after every step.
    Step(Step),
    /// An epoch is done and validated.
    Epoch(Epoch),
    /// A checkpoint is on the disk.
    Checkpoint {
        /// Steps done.
        step: u64,
        /// Its folder.
        path: PathBuf,
        /// Time it took in seconds.
        seconds: f64,
    },
    /// A step had a loss or gradients that are not finite; it changed nothing.
    NonFinite {
        /// Number of the step, from 1.
        step: u64,
        /// Its loss; null in JSON if that is what is not finite.
        loss: f64,
        /// How many such steps came in a row, this one included.
        consecutive: u64,
    },
    /// Something the user should know that does not stop training.
    Warning {
        /// What it is.
        message: String,
    },
    /// Training ends before its last epoch, because validation has not improved for as long as it may.
    EarlyStopped(EarlyStopped),
    /// Training stopped before its end and can go on.
    Stopped(Stopped),
    /// Training is done.
    Finished(Summary),
}

/// Where training ended because validation did not improve.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
pub struct EarlyStopped {
    /// Epochs done.
    pub epoch: u64,
    /// Epochs there could have been.
    pub epochs: u64,
    /// Epochs without improvement that end training.
    pub patience: u64,
    /// The epoch that did best on validation.
    pub best_epoch: u64,
}

impl fmt::Display for EarlyStopped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let EarlyStopped { epoch, epochs, patience, best_epoch } = self;
        write!(
            f,
            "early stopping: no improvement on validation for {patience} epochs; training ends after epoch {epoch} of {epochs} \
             (the best is {best_epoch})"
        )
    }
}

/// What is about to be trained.
#[derive(Clone, Debug, Serialize)]
pub struct Started {
    /// The run folder, if there is one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run: Option<PathBuf>,
    /// What computes: `cpu (avx512, 2 threads)`.
    pub device: String,
    /// Number of trained values.
    pub parameters: usize,
    /// Rows of the training part.
    pub train_rows: usize,
    /// Rows of the validation part.
    pub validation_rows: usize,
    /// Rows of the test part.
    pub test_rows: usize,
    /// Rows per step.
    pub batch_size: usize,
    /// Steps per epoch.
    pub steps_per_epoch: u64,
    /// Epochs in total.
    pub epochs: u64,
    /// Steps already done, where training goes on.
    pub step: u64,
    /// Bytes of the arena of the largest program.
    pub arena_bytes: usize,
    /// Bytes of parameters, optimizer state and statistics.
    pub state_bytes: usize,
    /// Bytes of private memory per thread.
    pub scratch_bytes: usize,
    /// Time to load the data, decoding and measuring scales included, in seconds.
    pub load_seconds: f64,
    /// Time to trace, differentiate and compile all programs, in seconds.
    pub compile_seconds: f64,
    /// Name of the main metric, such as `accuracy`; `loss` where there is no other.
    pub metric: String,
    /// What was found in the data that a person should know, one sentence each.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<String>,
}

/// One step.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Step {
    /// Number of the step, from 1.
    pub step: u64,
    /// Epoch, from 1.
    pub epoch: u64,
    /// Mean loss of the step's rows.
    pub loss: f64,
    /// Norm of all gradients together, before clipping.
    pub gradient_norm: f64,
    /// Learning rate.
    pub learning_rate: f64,
    /// The main metric over the epoch so far.
    pub metric: f64,
    /// Mean loss over the epoch so far.
    pub epoch_loss: f64,
    /// Rows in the step.
    pub rows: usize,
    /// Steps in total.
    pub total_steps: u64,
}

/// Loss and metrics over a part of the data.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Score {
    /// Mean loss.
    #[serde(deserialize_with = "null_as_nan")]
    pub loss: f64,
    /// The main metric; the loss where there is no other.
    #[serde(deserialize_with = "null_as_nan")]
    pub metric: f64,
    /// All metrics by name; NaN, in JSON null, where one is not defined.
    #[serde(default, deserialize_with = "nulls_as_nan")]
    pub metrics: BTreeMap<String, f64>,
    /// If a confusion matrix is among the metrics: how often a position of each class was taken for each class, one row for each
    /// true class.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub confusion: Vec<Vec<u64>>,
}

/// One epoch: a line of `metrics.jsonl`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Epoch {
    /// Number, from 1.
    pub epoch: u64,
    /// Steps done by its end.
    pub step: u64,
    /// Mean over the epoch's steps, while the weights changed.
    pub train: Score,
    /// With the weights at its end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub validation: Option<Score>,
    /// Learning rate of its last step.
    pub learning_rate: f64,
    /// Whether its weights are the best so far.
    pub best: bool,
    /// Duration of the training steps and the validation, in seconds.
    pub seconds: f64,
    /// Of these, the seconds in which a training step waited for its batch.
    #[serde(default)]
    pub data_seconds: f64,
    /// Of these, the seconds from the first training step to the end of the last.
    #[serde(default)]
    pub training_seconds: f64,
    /// Rows trained on per second.
    pub rows_per_second: f64,
    /// What filling the batches of its training steps took.
    #[serde(default)]
    pub input: Input,
    /// Present if its steps waited for their batches for a notable share of the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_bound: Option<InputBound>,
}

/// What filling batches took.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Input {
    /// Threads that fill batches ahead of the steps; with 0 the steps wait while batches are filled.
    pub threads: usize,
    /// Seconds, of all these threads together, of reading rows from the data set, scaling and what decoding it does at that time included.
    pub reading_seconds: f64,
    /// The same of changing images at random.
    pub augmenting_seconds: f64,
}

/// Where the input limits training: steps waited for their batches for more than a tenth of the time.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct InputBound {
    /// Share of the training steps' time in which they waited.
    pub waiting: f64,
    /// What most of the time of filling batches goes to.
    pub stage: Stage,
    /// Rows that the threads that fill batches give per second.
    pub input_rows_per_second: f64,
    /// Rows that the steps would take per second if they never waited.
    pub step_rows_per_second: f64,
    /// All of this in a sentence, with what helps.
    pub message: String,
}

/// A stage of filling batches.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    /// Reading rows from the data set.
    Reading,
    /// Changing images at random.
    Augmenting,
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stage::Reading => "reading",
            Stage::Augmenting => "augmenting",
        })
    }
}

/// The outcome: `summary.json`.
#[derive(Clone, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct Summary {
    /// Loss and metrics of the weights that were kept: `test_loss`, `test_accuracy`, `validation_loss`, … as far as there are such parts.
    #[serde(flatten, deserialize_with = "nulls_as_nan")]
    pub scores: BTreeMap<String, f64>,
    /// Name of the main metric; `loss` where there is no other.
    pub metric: String,
    /// The epoch whose weights were kept.
    pub epoch: u64,
    /// Steps done, those that changed nothing included.
    pub steps: u64,
    /// Steps that changed nothing because something was not finite.
    pub nonfinite_steps: u64,
    /// Whether training ended before its last epoch because validation did not improve.
    #[serde(default)]
    pub early_stopped: bool,
    /// Seconds of training and evaluation, in all sessions of the run together.
    pub wall_s: f64,
    /// Of these, seconds in which a step waited for its batch.
    #[serde(default)]
    pub data_s: f64,
    /// Present if the training steps of all epochs waited for their batches for a notable share of the time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_bound: Option<InputBound>,
}

impl Summary {
    /// Adds the score of a part of the data: `test` or `validation`.
    pub(crate) fn add(&mut self, part: &str, score: &Score) {
        let metrics = score.metrics.iter().map(|(name, value)| (format!("{part}_{name}"), *value));
        self.scores.extend(metrics);
        self.scores.insert(format!("{part}_loss"), score.loss);
    }
}

/// JSON has no NaN and no infinity: they are written as null, and null is read as NaN.
fn null_as_nan<'de, D: Deserializer<'de>>(d: D) -> Result<f64, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or(f64::NAN))
}

/// As [`null_as_nan`], for every value.
fn nulls_as_nan<'de, D: Deserializer<'de>>(d: D) -> Result<BTreeMap<String, f64>, D::Error> {
    let values = BTreeMap::<String, Option<f64>>::deserialize(d)?;
    Ok(values.into_iter().map(|(name, value)| (name, value.unwrap_or(f64::NAN))).collect())
}
