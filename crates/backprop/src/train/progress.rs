use super::{patience::Patience, program::Measured};
use crate::{
    events::{Epoch, Input, Score},
    metrics::{Metric, sum_ranges},
    schedule::{Monitor, PlateauState},
};
use backprop_core::Graph;
use serde::{Deserialize, Deserializer, Serialize};
use std::{ops::Range, sync::Arc};

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
    /// Where the schedule's plateau stands.
    #[serde(default)]
    pub(super) plateau: PlateauState,
    /// How long validation has not improved.
    #[serde(default)]
    pub(super) patience: Patience,
    /// Length of the metrics file.
    pub(super) metrics_bytes: u64,
    /// Seconds so far, and of these in the current epoch.
    pub(super) seconds: (f64, f64),
    /// Of the seconds in the current epoch, those in which a step waited for its batch.
    #[serde(default)]
    pub(super) data_seconds: f64,
    /// What filling the batches of the current epoch took.
    #[serde(default)]
    pub(super) input: Input,
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
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(super) struct Best {
    pub(super) epoch: u64,
    pub(super) score: Score,
}

/// Sums of losses with their weights and of all metrics, in f64 and in the order of the batches.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "StoredSums")]
pub(super) struct Sums {
    loss: f64,
    weight: f64,
    metrics: Vec<f64>,
    /// Rows, those of steps that changed nothing included.
    pub(super) rows: u64,
}

/// Sums as checkpoints have them: those made before a step could have several metrics have one, as a sum and its weight.
#[derive(Deserialize)]
struct StoredSums {
    loss: f64,
    weight: f64,
    #[serde(default, deserialize_with = "nulls_as_nan")]
    metrics: Vec<f64>,
    metric: Option<f64>,
    metric_weight: Option<f64>,
    rows: u64,
}

impl From<StoredSums> for Sums {
    fn from(stored: StoredSums) -> Sums {
        let StoredSums { loss, weight, mut metrics, metric, metric_weight, rows } = stored;
        metrics.extend(metric.into_iter().chain(metric_weight));
        Sums { loss, weight, metrics, rows }
    }
}

/// JSON has no NaN and no infinity: they are written as null.
fn nulls_as_nan<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<f64>, D::Error> {
    Ok(Vec::<Option<f64>>::deserialize(d)?.into_iter().map(|v| v.unwrap_or(f64::NAN)).collect())
}

impl Sums {
    /// Nothing yet of that many sums of metrics. Sums for as many keep their memory.
    pub(super) fn reset(&mut self, metrics: usize) {
        (self.loss, self.weight, self.rows) = (0.0, 0.0, 0);
        self.metrics.clear();
        self.metrics.resize(metrics, 0.0);
    }

    /// Adds a batch. One that is not finite counts its rows only: its loss would hide all others.
    pub(super) fn add(&mut self, m: &Measured<'_>, rows: usize) {
        self.rows += rows as u64;
        if m.finite {
            self.loss += m.loss_sum;
            self.weight += m.weight;
            self.metrics.iter_mut().zip(m.metrics).for_each(|(sum, more)| *sum += more);
        }
    }

    /// Makes them sums of that many sums of metrics. An earlier version may have measured others by default: for the rest of the
    /// epoch the metrics over its training part are then not defined.
    pub(super) fn fit(&mut self, metrics: usize) {
        if self.metrics.len() != metrics {
            self.metrics.clear();
            self.metrics.resize(metrics, f64::NAN);
        }
    }

    /// The mean loss; NaN if nothing was added.
    pub(super) fn loss(&self) -> f64 {
        self.loss / self.weight
    }

    /// The sums of a metric.
    fn of(&self, range: &Range<usize>) -> &[f64] {
        self.metrics.get(range.clone()).unwrap_or_default()
    }
}

/// The metrics of a step, where their sums stand, and which is the one that is shown and compared.
#[derive(Debug)]
pub(super) struct Scoring {
    metrics: Vec<(Arc<dyn Metric>, Range<usize>)>,
    main: Option<usize>,
    name: String,
    /// Number of all sums.
    pub(super) sums: usize,
}

impl Scoring {
    /// For the metrics of a step of which one graph is given. The main one is the first that has a value; without one it is the loss.
    pub(super) fn new(metrics: &[Arc<dyn Metric>], graph: &Graph) -> Scoring {
        let ranges = sum_ranges(metrics, graph);
        let sums = ranges.last().map_or(0, |r| r.end);
        let metrics: Vec<_> = metrics.iter().cloned().zip(ranges).collect();
        let main = metrics.iter().position(|(metric, range)| metric.confusion(&vec![0.0; range.len()]).is_none());
        let name = main.map_or_else(|| "loss".into(), |i| metrics[i].0.name());
        Scoring { metrics, main, name, sums }
    }

    /// Name of the main metric.
    pub(super) fn name(&self) -> &str {
        &self.name
    }

    /// The main metric. Allocates nothing.
    pub(super) fn main(&self, sums: &Sums) -> f64 {
        let main = self.main.map(|i| &self.metrics[i]);
        main.map_or_else(|| sums.loss(), |(metric, range)| metric.value(sums.of(range)))
    }

    /// Loss and all metrics.
    pub(super) fn score(&self, sums: &Sums) -> Score {
        let mut score =
            Score { loss: sums.loss(), metric: self.main(sums), metrics: Default::default(), confusion: Default::default() };
        for (metric, range) in &self.metrics {
            match metric.confusion(sums.of(range)) {
                Some(table) => score.confusion = table,
                None => drop(score.metrics.insert(metric.name(), metric.value(sums.of(range)))),
            }
        }
        score
    }

    /// What is watched of a score, and whether more of it is better.
    pub(super) fn watched(&self, score: &Score, monitor: Monitor) -> (f64, bool) {
        match monitor {
            Monitor::Metric => (score.metric, self.higher_is_better()),
            Monitor::Loss => (score.loss, false),
        }
    }

    fn higher_is_better(&self) -> bool {
        self.main.is_some_and(|i| self.metrics[i].0.higher_is_better())
    }

    /// Whether a score beats another: by the main metric, among equals by the loss. What is not a number is beaten by any number.
    pub(super) fn better(&self, new: &Score, old: &Score) -> bool {
        let higher = self.higher_is_better();
        let beats =
            |new: f64, old: f64, higher: bool| if higher { new > old } else { new < old } || old.is_nan() && !new.is_nan();
        beats(new.metric, old.metric, higher) || !beats(old.metric, new.metric, higher) && beats(new.loss, old.loss, false)
    }
}
