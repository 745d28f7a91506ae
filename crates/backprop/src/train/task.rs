use super::TrainError;
use crate::{
    config::Config,
    nn::{AnyLayer, LayerSpec},
    optim::OptimizerSpec,
    step::BatchSpec,
};
use backprop_core::{DType, HostTensor, Type};
use backprop_data::{
    BatchType, Batches, Column, Dataset, Kind, LoadOptions, Loaded, Order, Parts, Remainder, Scale, coding::Coding,
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
    parts: Parts,
    input: usize,
    target: usize,
    scale: Scale,
    target_scale: Scale,
    /// Shape of one row's target.
    target_shape: Vec<usize>,
    batch_size: usize,
    coding: Coding,
    findings: Vec<String>,
}

impl Task {
    /// Loads the data that a configuration names, splits off the validation part and measures the scale on the rest.
    ///
    /// # Errors
    /// Data that cannot be read, columns that are not there.
    pub fn load(config: &Config) -> Result<Task, TrainError> {
        let options = &config.data.options;
        let options = LoadOptions {
            // Paths of a configuration read from a file are absolute by now.
            base: Path::new(""),
            validation: options.validation,
            seed: config.train.seed,
            normalize: options.normalize,
            normalize_target: options.normalize_target,
            input: options.input.as_deref(),
            target: options.target.as_deref(),
        };
        let loaded = config.data.source.load(&options);
        let loaded = loaded.map_err(|e| config.error_at(&format!("data.{}", e.key), e.error.to_string()))?;
        let Loaded { parts, input, target, scale, target_scale, coding, findings } = loaded;
        let all = matches!(config.optimizer, OptimizerSpec::GradientDescent(_));
        let batch_size = if all { parts.train.len() } else { config.train.batch_size.min(parts.train.len()) };
        let target_shape = parts.train.columns()[target].shape.clone();
        let task = Task { parts, input, target, scale, target_scale, target_shape, batch_size, coding, findings };
        task.check_vocabulary(config)?;
        Ok(task)
    }

    /// An embedding smaller than the vocabulary would meet tokens it does not have.
    fn check_vocabulary(&self, config: &Config) -> Result<(), TrainError> {
        let Kind::Token(vocabulary) = &self.column(self.input).kind else { return Ok(()) };
        match config.layers.first() {
            Some(LayerSpec { layer: AnyLayer::Embedding(e), .. }) if e.num_embeddings < vocabulary.len() => {
                let message = format!(
                    "num_embeddings is {}, but the text has {} different characters; set num_embeddings = {}",
                    e.num_embeddings,
                    vocabulary.len(),
                    vocabulary.len()
                );
                Err(config.error_at("layers.0.num_embeddings", message).into())
            }
            _ => Ok(()),
        }
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
        match &self.column(self.target).kind {
            Kind::Number => None,
            Kind::Class(classes) => Some(classes.count()),
            Kind::Token(vocabulary) => Some(vocabulary.len()),
        }
    }

    /// Rows of a part; 0 if there is no such part.
    pub fn rows(&self, part: Part) -> usize {
        self.part(part).map_or(0, |data| data.len())
    }

    /// Rows per step.
    pub fn batch_size(&self) -> usize {
        self.batch_size
    }

    /// The types of a batch of `rows` rows.
    pub fn batch_spec(&self, rows: usize) -> BatchSpec {
        let ty = |column: &Column, shape: &[usize]| {
            let dtype = if column.kind.batch_type() == BatchType::F32 { DType::F32 } else { DType::I32 };
            Type::new(dtype, std::iter::once(rows).chain(shape.iter().copied()).collect::<Vec<_>>())
        };
        let (input, target) = (self.column(self.input), self.column(self.target));
        BatchSpec { x: ty(input, &input.shape), y: ty(target, &self.target_shape) }
    }

    /// Gives targets that are numbers the shape of the network's output, where they have as many elements: the images that an
    /// autoencoder restores as rows of numbers, the single number of a regression.
    pub(super) fn shape_targets_as(&mut self, output: &[usize]) {
        let elements: usize = output.iter().product();
        if self.column(self.target).kind == Kind::Number && elements == self.column(self.target).elements() {
            self.target_shape = output.to_vec();
        }
    }

    /// The batches of a training epoch (from 0), beginning at row `position` of its order.
    pub fn epoch(&self, seed: u64, epoch: u64, position: usize) -> Result<Batches, TrainError> {
        let order = Order::new(seed, epoch, self.parts.train.len());
        Ok(Batches::new(order, self.batch_size, Remainder::Keep)?.starting_at(position))
    }

    /// The batches of a part in sequence.
    pub(super) fn sequence(&self, part: Part) -> Result<Batches, TrainError> {
        Ok(Batches::new(Order::sequential(self.rows(part)), self.batch_size, Remainder::Keep)?)
    }

    /// Reads rows of a part into a batch of as many rows. Allocates nothing.
    pub(super) fn fill(&self, part: Part, rows: &[usize], batch: &mut Batch) -> Result<(), TrainError> {
        let Some(data) = self.part(part) else { return Ok(()) };
        fill(&**data, self.input, rows, &self.scale, &mut batch.x)?;
        fill(&**data, self.target, rows, &self.target_scale, &mut batch.y)
    }

    fn part(&self, part: Part) -> Option<&Arc<dyn Dataset>> {
        match part {
            Part::Train => Some(&self.parts.train),
            Part::Validation => self.parts.validation.as_ref(),
            Part::Test => self.parts.test.as_ref(),
        }
    }

    fn column(&self, number: usize) -> &Column {
        &self.parts.train.columns()[number]
    }
}

/// Buffers of one batch size.
pub(super) struct Batch {
    pub(super) x: HostTensor,
    pub(super) y: HostTensor,
}

impl Batch {
    pub(super) fn new(spec: BatchSpec) -> Batch {
        Batch { x: HostTensor::zeros(spec.x), y: HostTensor::zeros(spec.y) }
    }
}

fn fill(data: &dyn Dataset, column: usize, rows: &[usize], scale: &Scale, to: &mut HostTensor) -> Result<(), TrainError> {
    if let Some(out) = to.as_mut_slice::<f32>() {
        data.fill_f32(column, rows, scale, out)?;
    } else if let Some(out) = to.as_mut_slice::<i32>() {
        data.fill_i32(column, rows, out)?;
    }
    Ok(())
}
