use super::{Group, Groups, StepTrace, TracedGraph, initial_state, trace_step};
use crate::{
    loss::Loss,
    metrics::{self, Metric},
    nn::{Layer, LayerRow, Mode, StateKind, StateSpec, layer_table},
};
use backprop_core::{DType, Error, Graph, HostTensor, Tensor, Type};
use std::sync::Arc;

/// Types of one batch.
#[derive(Clone, PartialEq, Debug)]
pub struct BatchSpec {
    /// The model's input, batch dimension first.
    pub x: Type,
    /// The targets.
    pub y: Type,
}

/// The default training step: one model, one loss, one optimizer.
///
/// ```
/// use backprop::prelude::*;
///
/// let model = Sequential::new().push(Linear::new(16)).push(Relu::new()).push(Linear::new(3));
/// let step = Step::new(model, CrossEntropy::new(), Sgd::new(0.1).momentum(0.9)).metric(Accuracy::default()).clip_norm(1.0);
/// let batch = BatchSpec { x: Type::new(DType::F32, [8, 4]), y: Type::new(DType::I32, [8]) };
/// let traced = step.trace(&batch)?;
/// assert_eq!(traced.parameters().count(), 4);
/// assert_eq!(traced.initial_state(1)?.len(), 8); // with the momentum of each
/// # Ok::<(), backprop::Error>(())
/// ```
#[derive(Clone, Debug)]
pub struct Step {
    model: Arc<dyn Layer>,
    loss: Arc<dyn Loss>,
    metrics: Vec<Arc<dyn Metric>>,
    groups: Groups,
    dtype: DType,
}

impl Step {
    /// A step without metrics and clipping, at a constant rate, in `f32`.
    pub fn new(model: impl Layer, loss: impl Loss + 'static, optimizer: impl crate::optim::Optimizer + 'static) -> Step {
        let groups = Groups(vec![Group::new("", optimizer)]);
        Step { model: Arc::new(model), loss: Arc::new(loss), metrics: Vec::new(), groups, dtype: DType::F32 }
    }

    /// Adds a metric.
    pub fn metric(mut self, metric: impl Metric + 'static) -> Step {
        self.metrics.push(Arc::new(metric));
        self
    }

    /// The learning rate by step.
    pub fn schedule(mut self, schedule: crate::schedule::Schedule) -> Step {
        self.groups.0.iter_mut().for_each(|g| g.schedule = schedule);
        self
    }

    /// Largest global norm of the gradient.
    pub fn clip_norm(mut self, limit: f64) -> Step {
        self.groups.0.iter_mut().for_each(|g| g.clip_norm = Some(limit));
        self
    }

    /// Element type of parameters: `f32`, or `f64` for checks.
    pub fn dtype(mut self, dtype: DType) -> Step {
        self.dtype = dtype;
        self
    }

    /// The parameter group, which gives the runtime vector of every step.
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// The metrics in order.
    pub fn metrics(&self) -> &[Arc<dyn Metric>] {
        &self.metrics
    }

    /// The training graph. Data inputs: `hyper`, `seed`, `step`, `x`, `y`. Data outputs: `loss_sum`, `weight`, for each
    /// metric its sums as `metric/NAME/0`, `metric/NAME/1`, …, then `grad_norm` (before clipping), `finite`; all `f32[]`, but
    /// sums may have other shapes, and be `f64`. State outputs: parameters, optimizer state, statistics.
    ///
    /// # Errors
    /// If the numbers of the loss or optimizer are not valid, or the model does not fit the batch.
    pub fn train(&self, batch: &BatchSpec) -> Result<TracedGraph, Error> {
        self.loss.validate().and_then(|()| self.groups.validate()).map_err(Error::Invalid)?;
        self.metrics.iter().try_for_each(|m| m.validate()).map_err(Error::Invalid)?;
        trace_step(&self.groups, self.dtype, Mode::Train, |t| {
            let mean = self.measure(t, batch);
            if let Some(update) = t.update("", mean, |_| true) {
                t.output("grad_norm", update.norm.convert(DType::F32));
            }
        })
    }

    /// The evaluation graph. Data inputs: `x`, `y`. Data outputs: `loss_sum`, `weight`, metrics as in training.
    ///
    /// # Errors
    /// If the model does not fit the batch.
    pub fn evaluate(&self, batch: &BatchSpec) -> Result<TracedGraph, Error> {
        trace_step(&Groups::default(), self.dtype, Mode::Evaluate, |t| {
            self.measure(t, batch);
        })
    }

    /// The prediction graph. Data input: `x`. Data output: `output`.
    ///
    /// # Errors
    /// If the model does not fit the input.
    pub fn predict(&self, x: &Type) -> Result<TracedGraph, Error> {
        trace_step(&Groups::default(), self.dtype, Mode::Evaluate, |t| {
            let x = t.input("x", x.clone());
            let output = self.model.forward(&mut t.scope, x);
            t.output("output", output);
        })
    }

    /// All graphs for one batch, with the model's table. Another batch size gives other graphs over the same state.
    ///
    /// # Errors
    /// As the parts.
    pub fn trace(&self, batch: &BatchSpec) -> Result<TracedStep, Error> {
        let train = self.train(batch)?;
        Ok(TracedStep {
            evaluate: self.evaluate(batch)?.graph,
            predict: self.predict(&batch.x)?.graph,
            layers: layer_table(&*self.model, self.dtype, batch.x.clone())?,
            train: train.graph,
            state: train.state,
        })
    }

    /// Traces model, loss and metrics, adds their outputs and returns the mean loss.
    fn measure<'g>(&self, t: &mut StepTrace<'g>, batch: &BatchSpec) -> Tensor<'g> {
        let (x, y) = (t.input("x", batch.x.clone()), t.input("y", batch.y.clone()));
        let output = self.model.forward(&mut t.scope, x);
        let loss = {
            let _scope = t.builder().scope("loss");
            let loss = self.loss.forward(output, y);
            t.output("loss_sum", loss.sum.convert(DType::F32));
            t.output("weight", loss.weight.convert(DType::F32));
            loss.mean()
        };
        if !self.metrics.is_empty() {
            self.measure_metrics(t, output.stop_gradient(), y);
        }
        loss
    }

    /// Traces the metrics and adds their sums as outputs.
    fn measure_metrics<'g>(&self, t: &StepTrace<'g>, output: Tensor<'g>, target: Tensor<'g>) {
        let loss = t.builder().scope("loss");
        let output = self.loss.prediction(output);
        drop(loss);
        for (i, metric) in self.metrics.iter().enumerate() {
            let _scope = t.builder().scope(&format!("metrics.{i}"));
            for (n, sum) in metric.forward(output, target).into_iter().enumerate() {
                let sum = if sum.dtype() == DType::F64 { sum } else { sum.convert(DType::F32) };
                t.output(format!("{}{}/{n}", metrics::OUTPUT, metric.name()), sum);
            }
        }
    }
}

/// The graphs of a step for one batch.
#[derive(Clone, Debug)]
pub struct TracedStep {
    /// See [`Step::train`].
    pub train: Graph,
    /// See [`Step::evaluate`].
    pub evaluate: Graph,
    /// See [`Step::predict`].
    pub predict: Graph,
    /// Parameters and statistics in the order they were asked for, then the optimizer's state.
    pub state: Vec<StateSpec>,
    /// The model's table; see [`layer_table`].
    pub layers: Vec<LayerRow>,
}

impl TracedStep {
    /// The parameters in the order they were asked for.
    pub fn parameters(&self) -> impl Iterator<Item = &StateSpec> {
        self.state.iter().filter(|s| s.kind == StateKind::Parameter)
    }

    /// First values of all state, for the run's seed.
    ///
    /// # Errors
    /// If an initialiser does not fit.
    pub fn initial_state(&self, seed: u64) -> Result<Vec<(String, HostTensor)>, Error> {
        initial_state(&self.state, seed)
    }
}
