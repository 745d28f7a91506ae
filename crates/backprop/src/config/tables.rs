//! The tables `[data]`, `[optimizer]` and `[train]`.

use super::Time;
use crate::{accelerator::DeviceName, optim::OptimizerSpec, schedule::Monitor, step::ParameterGroup};
use backprop_data::{Augment, Normalise, NormaliseTarget, Source};
use serde::{Deserialize, Serialize};

/// `[data]`: where the data come from and how they are split and scaled.
#[derive(Clone, Debug, PartialEq, Serialize, schemars::JsonSchema)]
pub struct DataConfig {
    /// The source with its settings, told apart by the key `source`.
    #[serde(flatten)]
    pub source: Source,
    /// How data are taken from the source.
    #[serde(flatten)]
    pub options: DataOptions,
}

impl From<Source> for DataConfig {
    /// With the defaults of every source.
    fn from(source: Source) -> DataConfig {
        DataConfig { source, options: DataOptions::default() }
    }
}

/// Settings of `[data]` that every source has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DataOptions {
    /// Share of the training part that is split off for validation; 0 is none.
    pub validation: f64,
    /// How numbers are brought to a common range, measured on the training part without validation.
    pub normalize: Normalise,
    /// How numeric targets are brought to a common range; metrics and predictions are in the original unit.
    pub normalize_target: NormaliseTarget,
    /// The column the network reads; without it the source's own. For tables: columns separated by commas.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub input: Option<String>,
    /// The column the loss compares with; the input itself for an autoencoder. Without it the source's own.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Random changes of the images that are trained on, made anew in every epoch.
    #[serde(skip_serializing_if = "Augment::is_none")]
    pub augment: Augment,
}

impl DataOptions {
    pub(crate) const KEYS: [&str; 6] = ["validation", "normalize", "normalize_target", "input", "target", "augment"];
}

impl Default for DataOptions {
    fn default() -> DataOptions {
        DataOptions {
            validation: 0.1,
            normalize: Normalise::Global,
            normalize_target: NormaliseTarget::Auto,
            input: None,
            target: None,
            augment: Augment::default(),
        }
    }
}

/// `[optimizer]`: how parameters follow their gradients.
#[derive(Clone, Debug, PartialEq, Serialize, schemars::JsonSchema)]
pub struct OptimizerConfig {
    /// The optimizer with its settings, told apart by the key `type`.
    #[serde(flatten)]
    pub rule: OptimizerSpec,
    /// Parameters that are updated in a way of their own, by patterns of their names. Of several groups the first that matches holds.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<ParameterGroup>,
}

impl OptimizerConfig {
    /// Key of the groups in the table.
    pub(crate) const GROUPS: &str = "groups";
}

impl<O: Into<OptimizerSpec>> From<O> for OptimizerConfig {
    fn from(rule: O) -> OptimizerConfig {
        OptimizerConfig { rule: rule.into(), groups: Vec::new() }
    }
}

/// `[train]`: how long, in which portions and how safely.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct TrainConfig {
    /// Passes over the training part.
    pub epochs: u64,
    /// Rows per step. The last batch of an epoch is smaller where the rows do not divide evenly.
    pub batch_size: usize,
    /// Parts in which a step takes its batch, one after the other: memory falls, the result stays. Batch norm normalises each part by
    /// itself.
    pub accumulate: usize,
    /// Largest norm of all gradients together; larger gradients are scaled down to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_norm: Option<f64>,
    /// Largest magnitude of a gradient's element, after it was scaled by `clip_norm`; larger ones are cut to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip_value: Option<f64>,
    /// Share of the previous average that is kept in an exponential moving average of all weights, such as 0.999. Validation, the best
    /// epoch and the final weights are then those of the averages, running statistics included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ema: Option<f64>,
    /// Epochs without improvement on validation after which training ends before its last epoch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub early_stopping: Option<u64>,
    /// What an improvement must exceed, in the unit of what is watched.
    pub early_stopping_min_delta: f64,
    /// What must improve.
    pub early_stopping_monitor: Monitor,
    /// Seed of everything random: first weights, order of the rows, split, dropout.
    pub seed: u64,
    /// Threads; all that the process may use if not given. The result does not depend on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<usize>,
    /// What training computes on, where the command line does not say: `"cpu"` if not given. In Rust the backend says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceName>,
    /// How many devices of that kind share each batch; 1 if not given.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub devices: Option<usize>,
    /// Threads that read and decode batches ahead of the step; chosen by the kind of data if not given. The result does not
    /// depend on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub loader_threads: Option<usize>,
    /// Keep the weights of the epoch that did best on validation instead of the last.
    pub keep_best: bool,
    /// Steps between checkpoints, beside those by time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checkpoint_every_steps: Option<u64>,
    /// Seconds between checkpoints.
    pub checkpoint_every_seconds: f64,
    /// Time that one session may take, data loading included, such as `"2h"`: after it a checkpoint is written and training stops, to
    /// go on later. Looked at after every step, so that a session always makes progress.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_time: Option<Time>,
    /// Steps in a row with a loss or gradient that is not finite before training stops. Such steps change nothing.
    pub max_nonfinite_steps: u64,
}

impl Default for TrainConfig {
    fn default() -> TrainConfig {
        TrainConfig {
            epochs: 10,
            batch_size: 64,
            accumulate: 1,
            clip_norm: None,
            clip_value: None,
            ema: None,
            early_stopping: None,
            early_stopping_min_delta: 0.0,
            early_stopping_monitor: Monitor::Metric,
            seed: 0,
            threads: None,
            device: None,
            devices: None,
            loader_threads: None,
            keep_best: true,
            checkpoint_every_steps: None,
            checkpoint_every_seconds: 60.0,
            max_time: None,
            max_nonfinite_steps: 10,
        }
    }
}
