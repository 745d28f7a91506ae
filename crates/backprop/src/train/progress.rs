use super::program::Measured;
use crate::events::{Epoch, Score};
use serde::{Deserialize, Serialize};

/// Where training stands: with the tensors, all that is needed to go on bit for bit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// What the run is of, so that it does not go on with something else.
    pub(super) identity: Identity,
    /// Steps done. Random numbers, rates and bias corrections are functions of it and the seed.
    pub(super) step: u64,
    /// Epochs done.
    pub(super) epoch: u64,
    /// Rows of the current epoch's order that were trained on.
    pub(super) position: usize,
    /// Sums over the current epoch.
    pub(super) sums: Sums,
    /// Steps that changed nothing, in all and in a row.
    pub(super) nonfinite: (u64, u64),
    /// The best epoch so far.
    pub(super) best: Option<Best>,
    /// Length of the metrics file.
    pub(super) metrics_bytes: u64,
    /// Seconds so far, and of these in the current epoch.
    pub(super) seconds: (f64, f64),
    /// Of the seconds in the current epoch, those in which a step waited for its batch.
    #[serde(default)]
    pub(super) data_seconds: f64,
    /// The epochs so far.
    pub(super) history: Vec<Epoch>,
}

/// What must be the same when a run goes on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Identity {
    pub(super) seed: u64,
    pub(super) train_rows: usize,
    pub(super) batch_size: usize,
}

/// The epoch whose weights are kept.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Best {
    pub(super) epoch: u64,
    pub(super) score: Score,
}

/// Sums of losses and metrics with their weights, in f64 and in the order of the batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Sums {
    loss: f64,
    weight: f64,
    metric: f64,
    metric_weight: f64,
    /// Rows, those of steps that changed nothing included.
    pub(super) rows: u64,
}

impl Sums {
    /// Adds a batch. One that is not finite counts its rows only: its loss would hide all others.
    pub(super) fn add(&mut self, m: &Measured, rows: usize) {
        self.rows += rows as u64;
        if m.finite {
            self.loss += m.loss_sum;
            self.weight += m.weight;
            self.metric += m.metric_sum;
            self.metric_weight += m.metric_weight;
        }
    }

    /// The means; NaN if nothing was added.
    pub(super) fn score(&self) -> Score {
        Score { loss: self.loss / self.weight, metric: self.metric / self.metric_weight }
    }
}
