//! A trained model in use: raw input in, labels, probabilities or values out.
//!
//! What a model makes of raw input (scales, categories, vocabulary, image size, names of classes) is stored with the run and applied
//! here, so that a prediction sees the bits that training saw.

mod generate;
mod predictions;
mod workers;

pub use generate::Generate;
pub use predictions::{Outcome, Predictions};

use crate::{
    config::Config,
    loss::Loss,
    nn::{Layer, Mode, Sequential, functional},
    run::{Run, RunError},
    step::{Groups, TracedGraph, trace_step},
    train::{Task, TrainError},
};
use backprop_core::{
    DType, Error, HostTensor, Isa, Tensor, Type,
    exec::{Backend, native::Native},
};
use backprop_data::{
    DataError,
    coding::{Coding, RawInput, SampleValues, Samples, TargetCoding},
};
use std::{path::Path, sync::Arc};
use workers::Workers;

/// Why a model cannot be loaded or used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ModelError {
    /// The run, its configuration or its weights cannot be read, or do not fit each other.
    #[error(transparent)]
    Run(#[from] TrainError),
    /// The input is not what the model reads.
    #[error(transparent)]
    Input(#[from] DataError),
    /// The model is used for what it was not trained for.
    #[error("{0}")]
    Use(String),
    /// The engine refused what it was given.
    #[error(transparent)]
    Engine(#[from] Error),
}

impl From<RunError> for ModelError {
    fn from(error: RunError) -> ModelError {
        ModelError::Run(error.into())
    }
}

/// A trained model. `Send` and `Sync`: several threads predict at once from one model, each with memory of its own (a copy of the
/// weights for each that predicts at the same moment).
///
/// A row's prediction is the same to the bit whatever rows come with it, on any number of threads.
///
/// ```no_run
/// use backprop::{data::coding::RawInput, model::Model};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let model = Model::load("runs/mlp-digits-1".as_ref())?;
/// let pixels = vec![0.0; 64];
/// let predictions = model.predict(&RawInput::Numbers(&pixels))?;
/// println!("{} with probability {}", predictions.label(0), predictions.confidence(0));
/// # Ok(())
/// # }
/// ```
pub struct Model {
    config: Config,
    coding: Coding,
    workers: Workers,
}

/// What a program gives.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub(crate) enum Output {
    /// What [`Predictions`] are made of.
    Prediction,
    /// What the network itself gives.
    Raw,
}

impl Model {
    /// The model of a finished run, or of the best weights so far in the newest checkpoint of one that is not. It computes on one
    /// thread; a server gives it [a backend](Self::on) of its own.
    ///
    /// # Errors
    /// A folder that is not a run, damaged files, no weights yet.
    pub fn load(run: &Path) -> Result<Model, ModelError> {
        let (run, config) = Run::open(run)?;
        let coding = match run.coding()? {
            Some(coding) => coding,
            // Runs of the first programs did not store it: their data say the same.
            None => Task::load(&config)?.coding().clone(),
        };
        Model::new(config, coding, run.newest_weights()?)
    }

    /// A model of its parts: weights and statistics by PyTorch's names.
    ///
    /// # Errors
    /// Weights that are not those of the network.
    pub fn new(config: Config, coding: Coding, weights: Vec<(String, HostTensor)>) -> Result<Model, ModelError> {
        let workers = Workers::new(Arc::new(Native::new(1, Isa::detect())), weights);
        let model = Model { config, coding, workers };
        model.check_weights()?;
        Ok(model)
    }

    /// The same model on another backend: the host chooses threads and instruction set. While one caller uses a backend's threads,
    /// others compute on their own.
    pub fn on(self, backend: Arc<dyn Backend>) -> Model {
        Model { workers: self.workers.on(backend), ..self }
    }

    /// The configuration it was trained with.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// From raw input to what the network reads, and from its output to what people read.
    pub fn coding(&self) -> &Coding {
        &self.coding
    }

    /// Predictions for raw input: files, bytes of a file, texts or numbers.
    ///
    /// # Errors
    /// Input that cannot be read or is not of the kind the model was trained on; a model whose output does not fit its targets.
    pub fn predict(&self, input: &RawInput) -> Result<Predictions, ModelError> {
        self.predict_samples(self.coding.input.encode(input)?)
    }

    /// Predictions for samples as [`InputCoding::encode`](backprop_data::coding::InputCoding::encode) gives them.
    ///
    /// # Errors
    /// As [`predict`](Self::predict).
    pub fn predict_samples(&self, samples: Samples) -> Result<Predictions, ModelError> {
        let Samples { names, shape, values, truth } = samples;
        let ty = Type::new(DType::F32, [&[names.len()], &shape[..]].concat());
        let x = match &values {
            SampleValues::F32(v) => HostTensor::new(ty.shape, v),
            SampleValues::I32(v) => HostTensor::new(ty.shape, v),
        };
        let output = self.run(&x.map_err(Error::Run)?, Output::Prediction)?;
        Predictions::new(&self.coding.target, names, &output, truth)
    }

    /// What the network gives for a batch `[N, …]` as the network reads it: scaled numbers or tokens.
    ///
    /// # Errors
    /// A batch that the network does not fit.
    pub fn predict_tensor(&self, x: &HostTensor) -> Result<HostTensor, ModelError> {
        self.run(x, Output::Raw)
    }

    fn run(&self, x: &HostTensor, output: Output) -> Result<HostTensor, ModelError> {
        self.workers.run(x, output, &|ty| self.trace(ty, output))
    }

    /// The graph for one batch. Data input `x`, data output `output` `[N, …]`.
    fn trace(&self, x: &Type, output: Output) -> Result<TracedGraph, ModelError> {
        let network = Sequential::from(self.config.layers.clone());
        let traced = trace_step(&Groups::default(), DType::F32, Mode::Evaluate, |t| {
            let x = t.input("x", x.clone());
            let y = network.forward(&mut t.scope, x);
            let y = if output == Output::Raw { y } else { self.readable(x, y) };
            t.output("output", y);
        });
        traced.map_err(|e| crate::train::located(&self.config, e).into())
    }

    /// From the network's output to probabilities `[N, classes]`, numbers `[N, outputs]`, or errors of the reconstruction `[N, 1]`.
    fn readable<'g>(&self, x: Tensor<'g>, y: Tensor<'g>) -> Tensor<'g> {
        let rows = y.dim(0);
        let classes = matches!(self.coding.target, TargetCoding::Class { .. } | TargetCoding::Token { .. });
        let y = self.config.loss.prediction(y, classes);
        match &self.coding.target {
            TargetCoding::Class { classes, .. } if y.shape().elements() == rows && classes.len() == 2 => {
                let second = y.reshape([rows, 1]).logistic();
                (1.0 - second).concatenate(&[second], 1)
            }
            TargetCoding::Class { .. } => functional::softmax(y, -1),
            // What comes after the last position.
            TargetCoding::Token { .. } => {
                let (steps, tokens) = (y.dim(1), y.dim(-1));
                functional::softmax(y.slice_dim(1, steps.saturating_sub(1), steps).reshape([rows, tokens]), -1)
            }
            TargetCoding::Number { .. } => y.reshape([rows, y.shape().elements() / rows.max(1)]),
            TargetCoding::Input => {
                let difference = y.reshape(x.shape()) - x;
                let dims: Vec<usize> = (1..x.rank()).collect();
                (difference * difference).mean(&dims).reshape([rows, 1])
            }
        }
    }

    /// Whether the weights are those of the network, for one row.
    fn check_weights(&self) -> Result<(), ModelError> {
        let shape = [&[1], &self.coding.input.shape()[..]].concat();
        let dtype = match self.coding.input.batch_type() {
            backprop_data::BatchType::F32 => DType::F32,
            backprop_data::BatchType::I32 => DType::I32,
        };
        let traced = self.trace(&Type::new(dtype, shape), Output::Raw)?;
        for spec in &traced.state {
            let found = self.workers.weight(&spec.name);
            if found.is_none_or(|t| *t.ty() != spec.ty) {
                let found = found.map_or("there is no such tensor".into(), |t| format!("it is {}", t.ty()));
                let why = format!("`{}` must be {}, but {found}", spec.name, spec.ty);
                return Err(TrainError::Mismatch { what: "the file of the weights".into(), why }.into());
            }
        }
        Ok(())
    }
}
