use super::{TrainError, feed::Feed};
use crate::{
    config::{Config, DataOptions},
    loss::{Balance, ClassWeights, CrossEntropy, Focal, Loss, LossSpec, Nll, default_ignore_index},
    metrics::{Accuracy, MetricSpec, Perplexity},
    nn::{AnyLayer, LayerSpec},
    optim::OptimizerSpec,
    step::{BatchSpec, Unit},
};
use backprop_data::{
    Column, Kind, LoadError, LoadOptions, Loaded, NormaliseTarget, Parts, Scale, coding::Coding, coding::TargetCoding,
};
use std::{path::Path, sync::Arc};

/// A part of the data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Part {
    /// What is trained on.
    Train,
    /// What the weights are chosen by.
    Validation,
    /// What the final figure is measured on.
    Test,
}

/// The data of a run as the network sees them: parts, the columns used, the scale of numbers.
pub struct Task {
    feed: Arc<Feed>,
    coding: Coding,
    findings: Vec<String>,
}

impl Task {
    /// Loads the data that a configuration names, splits off the validation part and measures the scale on the rest.
    ///
    /// # Errors
    /// Data that cannot be read, columns that are not there.
    pub fn load(config: &Config) -> Result<Task, TrainError> {
        let loaded = config.data.source.load(&load_options(config)?);
        Task::of(config, loaded.map_err(|e| at_key(config, &e))?)
    }

    /// The data that a program brings, split and scaled as the configuration says.
    ///
    /// # Errors
    /// Columns that are not there, a share out of range.
    pub fn of_parts(config: &Config, parts: Parts) -> Result<Task, TrainError> {
        let loaded = Loaded::from_parts(parts, &load_options(config)?);
        Task::of(config, loaded.map_err(|e| at_key(config, &e))?)
    }

    fn of(config: &Config, loaded: Loaded) -> Result<Task, TrainError> {
        let DataOptions { augment, .. } = &config.data.options;
        let Loaded { parts, input, target, scale, target_scale, coding, findings } = loaded;
        let all = matches!(config.optimizer.rule, OptimizerSpec::GradientDescent(_));
        let batch_size = if all { parts.train.len() } else { config.train.batch_size.min(parts.train.len()) };
        let columns = parts.train.columns();
        let target_shape = columns[target].shape.clone();
        let augment = (!augment.is_none()).then(|| augment.clone());
        if let Some(augment) = &augment {
            let shape = if columns[input].kind == Kind::Number { columns[input].shape.as_slice() } else { &[] };
            augment.check(shape).map_err(|e| config.error_at("data.augment", e.to_string()))?;
        }
        let task = Task {
            feed: Arc::new(Feed { parts, input, target, scale, target_scale, target_shape, batch_size, augment }),
            coding,
            findings,
        };
        task.check_vocabulary(config)?;
        Ok(task)
    }

    /// An embedding smaller than the vocabulary would meet tokens it does not have.
    fn check_vocabulary(&self, config: &Config) -> Result<(), TrainError> {
        let Kind::Token(vocabulary) = &self.column(self.feed.input).kind else { return Ok(()) };
        match config.layers.first() {
            Some(LayerSpec { layer: AnyLayer::Embedding(e), .. }) if e.num_embeddings < vocabulary.len() => {
                let tokens = vocabulary.len();
                let message = format!(
                    "num_embeddings is {}, but the text has {tokens} different {}; set num_embeddings = {tokens}",
                    e.num_embeddings,
                    vocabulary.unit().plural(),
                );
                Err(config.error_at("layers.0.num_embeddings", message).into())
            }
            _ => Ok(()),
        }
    }

    /// The metrics of a configuration, or those that suit the target.
    pub(super) fn metrics(&self, config: &Config) -> Vec<MetricSpec> {
        if !config.metrics.is_empty() {
            return config.metrics.clone();
        }
        let ignore_index = match &config.loss {
            LossSpec::CrossEntropy(CrossEntropy { ignore_index, .. })
            | LossSpec::Nll(Nll { ignore_index, .. })
            | LossSpec::Focal(Focal { ignore_index, .. }) => *ignore_index,
            _ => default_ignore_index(),
        };
        let accuracy = MetricSpec::Accuracy(Accuracy { ignore_index });
        match &self.coding.target {
            TargetCoding::Class { .. } => vec![accuracy],
            TargetCoding::Token { .. } => vec![accuracy, MetricSpec::Perplexity(Perplexity { ignore_index })],
            TargetCoding::Number { .. } => {
                vec![
                    MetricSpec::Rmse(Default::default()),
                    MetricSpec::Mae(Default::default()),
                    MetricSpec::R2(Default::default()),
                ]
            }
            TargetCoding::Input if matches!(config.loss, LossSpec::Mse(_)) => vec![MetricSpec::Mse(Default::default())],
            TargetCoding::Input => Vec::new(),
        }
    }

    /// How scaled targets come back to the unit of the data; `None` where they are not scaled.
    pub(super) fn unit(&self) -> Option<Unit> {
        match &self.coding.target {
            TargetCoding::Number { scale, log, .. } if *log || *scale != Scale::identity() => {
                Some(Unit { shift: scale.shift().to_vec(), factor: scale.factor().to_vec(), log: *log })
            }
            _ => None,
        }
    }

    /// The loss of a configuration with the weights that balance the classes of the training part, if it asks for such.
    pub(super) fn balanced(&self, config: &Config) -> Result<Option<LossSpec>, TrainError> {
        let LossSpec::CrossEntropy(loss) = &config.loss else { return Ok(None) };
        if !matches!(loss.weight, Some(ClassWeights::By(Balance::Balanced))) {
            return Ok(None);
        }
        let Kind::Class(classes) = &self.column(self.feed.target).kind else {
            let message = "only classes can be balanced, and this target is not one class per row; leave `weight` out";
            return Err(config.error_at("loss.weight", message).into());
        };
        let (mut counts, mut labels) = (vec![0; classes.count()], [0; 1024]);
        let rows: Vec<usize> = (0..self.rows(Part::Train)).collect();
        for run in rows.chunks(labels.len()) {
            let labels = &mut labels[..run.len()];
            self.feed.parts.train.fill_i32(self.feed.target, run, labels)?;
            labels.iter().for_each(|&label| counts[label as usize] += 1);
        }
        Ok(Some(LossSpec::CrossEntropy(CrossEntropy { weight: Some(ClassWeights::balancing(&counts)), ..loss.clone() })))
    }

    /// How raw input becomes what the network reads, and its output what people read.
    pub fn coding(&self) -> &Coding {
        &self.coding
    }

    /// What was found in the data that a person should know.
    pub fn findings(&self) -> &[String] {
        &self.findings
    }

    /// Number of classes or tokens that the network must tell apart; `None` if the target is numbers.
    pub fn classes(&self) -> Option<usize> {
        match &self.column(self.feed.target).kind {
            Kind::Number => None,
            Kind::Class(classes) => Some(classes.count()),
            Kind::Token(vocabulary) => Some(vocabulary.len()),
        }
    }

    /// Rows of a part; 0 if there is no such part.
    pub fn rows(&self, part: Part) -> usize {
        self.feed.rows(part)
    }

    /// Rows per step.
    pub fn batch_size(&self) -> usize {
        self.feed.batch_size
    }

    /// The types of a batch of `rows` rows.
    pub fn batch_spec(&self, rows: usize) -> BatchSpec {
        self.feed.batch_spec(rows)
    }

    /// Gives targets that are numbers the shape of the network's output, where they have as many elements: the images that an
    /// autoencoder restores as rows of numbers, the single number of a regression.
    pub(super) fn shape_targets_as(&mut self, output: &[usize]) {
        if let Some(feed) = Arc::get_mut(&mut self.feed) {
            feed.shape_targets_as(output);
        }
    }

    /// Gives back the memory of the data. No batch can be filled any more; what their columns are is still known.
    pub(super) fn forget_rows(&mut self) {
        self.feed = Arc::new(Feed { parts: self.feed.parts.without_rows(), ..Feed::clone(&self.feed) });
    }

    /// What batches are filled from.
    pub(super) fn feed(&self) -> &Arc<Feed> {
        &self.feed
    }

    fn column(&self, number: usize) -> &Column {
        self.feed.column(number)
    }
}

fn load_options(config: &Config) -> Result<LoadOptions<'_>, TrainError> {
    let options = &config.data.options;
    let normalize_target = match options.normalize_target {
        how if config.loss.allows_scaled_targets() => how,
        NormaliseTarget::Auto | NormaliseTarget::None => NormaliseTarget::None,
        NormaliseTarget::Standard | NormaliseTarget::Log => {
            let message = "this loss reads targets as counts or probabilities, which mean something else when they are scaled; \
                           write \"none\" or leave normalize_target out";
            return Err(config.error_at("data.normalize_target", message).into());
        }
    };
    Ok(LoadOptions {
        // Paths of a configuration read from a file are absolute by now.
        base: Path::new(""),
        validation: options.validation,
        seed: config.train.seed,
        normalize: options.normalize,
        normalize_target,
        input: options.input.as_deref(),
        target: options.target.as_deref(),
    })
}

/// An error of the data at its line of the configuration.
fn at_key(config: &Config, error: &LoadError) -> TrainError {
    config.error_at(&format!("data.{}", error.key), error.error.to_string()).into()
}
