use super::{
    Group, Groups, ParameterGroup, StepTrace, TracedGraph, Update, accumulate, initial_state, parameter_group, trace::Member,
    trace_step,
};
use crate::{
    loss::{Loss, Weighted},
    metrics::{self, Metric},
    nn::{Layer, LayerRow, Mode, Scope, StateKind, StateSpec, layer_table},
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

/// Name of the group of parameters that belong to no other.
const BASE: &str = "";

/// Scope of what concerns a parameter group, whose number follows: its key in TOML.
pub(crate) const GROUPS: &str = "optimizer.groups.";

fn group_name(number: usize) -> String {
    format!("{GROUPS}{number}")
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
    unit: Option<Unit>,
    /// How parameters of no group are updated.
    base: Group,
    parameter_groups: Vec<ParameterGroup>,
    /// What follows from these two: the base, then each parameter group that is not frozen.
    groups: Groups,
    /// Parts in which a training batch is taken.
    accumulate: usize,
    /// Whether steps are started before the results of earlier ones are known.
    ahead: bool,
    dtype: DType,
}

impl Step {
    /// A step without metrics and clipping, at a constant rate, in `f32`.
    pub fn new(model: impl Layer, loss: impl Loss + 'static, optimizer: impl crate::optim::Optimizer + 'static) -> Step {
        let base = Group::new(BASE, optimizer);
        Step {
            model: Arc::new(model),
            loss: Arc::new(loss),
            metrics: Vec::new(),
            unit: None,
            groups: Groups(vec![base.clone()]),
            base,
            parameter_groups: Vec::new(),
            accumulate: 1,
            ahead: false,
            dtype: DType::F32,
        }
    }

    /// Adds a metric.
    pub fn metric(mut self, metric: impl Metric + 'static) -> Step {
        self.metrics.push(Arc::new(metric));
        self
    }

    /// Metrics of numbers compare in the unit of the data: how outputs and targets come back to it.
    pub fn unit(mut self, unit: Unit) -> Step {
        self.unit = Some(unit);
        self
    }

    /// The learning rate by step.
    pub fn schedule(self, schedule: crate::schedule::Schedule) -> Step {
        self.with_base(|base| base.schedule(schedule))
    }

    /// Largest global norm of the gradient, of all groups together; a larger gradient is scaled down to it.
    pub fn clip_norm(self, limit: f64) -> Step {
        self.with_base(|base| base.clip_norm(limit))
    }

    /// Largest magnitude of a gradient's element, after it was scaled; a larger one is cut to it. PyTorch's `clip_grad_value_`.
    pub fn clip_value(self, limit: f64) -> Step {
        self.with_base(|base| base.clip_value(limit))
    }

    /// Keeps an exponential moving average of parameters and statistics as the state `ema/NAME`; see [`Group::ema`].
    pub fn ema(self, decay: f64) -> Step {
        self.with_base(|base| base.ema(decay))
    }

    /// Takes a training batch in at most that many parts, one after the other: their gradients, losses and metrics are added and
    /// divided once, so that the result is that of the whole batch (up to rounding) while memory falls. A part has ⌈rows / parts⌉
    /// rows, the last the rest. Dropout draws what it draws for the whole batch; batch norm normalises each part by itself and moves
    /// its running statistics on with every part.
    pub fn accumulate(mut self, parts: usize) -> Step {
        self.accumulate = parts.max(1);
        self
    }

    /// Makes the training step one that may be started before the results of earlier ones are known; see [`StepTrace::run_ahead`].
    #[must_use]
    pub fn run_ahead(mut self, ahead: bool) -> Step {
        self.ahead = ahead;
        self
    }

    /// Adds a group of parameters that are updated in a way of their own. Of several the first that matches holds.
    pub fn group(mut self, group: ParameterGroup) -> Step {
        self.parameter_groups.push(group);
        self.with_base(|base| base)
    }

    fn with_base(mut self, change: impl FnOnce(Group) -> Group) -> Step {
        self.base = change(self.base);
        let derived = self.parameter_groups.iter().enumerate().filter(|(_, group)| !group.frozen);
        // What cannot be derived is an error of `validate`.
        let derived = derived.filter_map(|(i, group)| group.of(&self.base, group_name(i)).ok());
        self.groups = Groups(std::iter::once(self.base.clone()).chain(derived).collect());
        self
    }

    /// Element type of parameters: `f32`, or `f64` for checks.
    pub fn dtype(mut self, dtype: DType) -> Step {
        self.dtype = dtype;
        self
    }

    /// The groups of parameters, which give the runtime vector of every step.
    pub fn groups(&self) -> &Groups {
        &self.groups
    }

    /// The metrics in order.
    pub fn metrics(&self) -> &[Arc<dyn Metric>] {
        &self.metrics
    }

    /// The training graph. Data inputs: `hyper`, `seed`, `step`, `x`, `y`. Data outputs: `loss_sum`, `loss_weight`, for each
    /// metric its sums as `metric/NAME/0`, `metric/NAME/1`, …, then `grad_norm` (before clipping), `finite`; all `f32[]`, but
    /// sums may have other shapes, and be `f64`. State outputs: parameters, optimizer state, statistics.
    ///
    /// # Errors
    /// If the numbers of the loss or optimizer are not valid, or the model does not fit the batch.
    pub fn train(&self, batch: &BatchSpec) -> Result<TracedGraph, Error> {
        self.validate().map_err(Error::Invalid)?;
        trace_step(&self.groups, self.dtype, Mode::Train, |t| {
            if self.ahead {
                t.run_ahead();
            }
            let data = self.data(t, batch);
            let update =
                if self.accumulate > 1 { accumulate::trace(self, t, data, self.accumulate) } else { self.whole(t, data) };
            if let Some(update) = update {
                t.output("grad_norm", update.norm.convert(DType::F32));
            }
        })
    }

    /// Traces the training step on a batch as a whole.
    fn whole<'g>(&self, t: &mut StepTrace<'g>, [x, y]: [Tensor<'g>; 2]) -> Option<Update<'g>> {
        let measured = self.measure(&mut t.scope, x, y);
        self.give(t, &measured);
        let mean = {
            let _scope = t.builder().scope("loss");
            measured.loss.mean()
        };
        self.check_groups(&t.scope);
        let members = self.members(t)?;
        Some(t.update_members(mean, &members))
    }

    /// The parameters that are updated, with their groups.
    pub(super) fn members<'g>(&self, t: &StepTrace<'g>) -> Option<Vec<Member<'g>>> {
        let names: Vec<String> = (0..self.parameter_groups.len()).map(group_name).collect();
        t.members(|spec| self.group_of(spec, &names))
    }

    /// Checks everything that does not depend on the batch.
    fn validate(&self) -> Result<(), String> {
        self.loss.validate()?;
        self.groups.validate()?;
        for (i, group) in self.parameter_groups.iter().enumerate() {
            let derived = group.validate().and_then(|()| group.of(&self.base, String::new()).map(drop));
            derived.map_err(|e| format!("parameter group {i}: {e}"))?;
        }
        self.metrics.iter().try_for_each(|m| m.validate())
    }

    /// Makes a pattern that matches no parameter, or a network of which nothing is trained, an error of the graph.
    pub(super) fn check_groups(&self, scope: &Scope<'_>) {
        let b = scope.builder();
        let parameters: Vec<StateSpec> = scope.parameters().into_iter().map(|(spec, _)| spec).collect();
        let names = || parameters.iter().map(|p| p.name.as_str()).collect::<Vec<_>>().join(", ");
        for (i, group) in self.parameter_groups.iter().enumerate() {
            let _scope = b.scope(&group_name(i));
            for pattern in group.patterns.list() {
                if !parameters.iter().any(|p| parameter_group::matches(pattern, &p.name)) {
                    b.fail("match", &[], format!("`{pattern}` matches no parameter; there are {}", names()));
                }
            }
        }
        let frozen = |p: &StateSpec| self.parameter_groups.iter().find(|g| g.matches(p)).is_some_and(|g| g.frozen);
        if let Some(last) = self.parameter_groups.iter().rposition(|g| g.frozen)
            && parameters.iter().all(frozen)
        {
            let _scope = b.scope(&group_name(last));
            b.fail("match", &[], format!("every parameter is frozen, so nothing would be trained: {}", names()));
        }
    }

    /// Name of the group of a parameter, of those that the parameter groups have; `None` if it is frozen.
    fn group_of<'n>(&self, parameter: &StateSpec, names: &'n [String]) -> Option<&'n str> {
        match self.parameter_groups.iter().position(|group| group.matches(parameter)) {
            Some(i) => (!self.parameter_groups[i].frozen).then(|| names[i].as_str()),
            None => Some(BASE),
        }
    }

    /// The evaluation graph. Data inputs: `x`, `y`. Data outputs: `loss_sum`, `loss_weight`, metrics as in training.
    ///
    /// # Errors
    /// If the model does not fit the batch.
    pub fn evaluate(&self, batch: &BatchSpec) -> Result<TracedGraph, Error> {
        trace_step(&Groups::default(), self.dtype, Mode::Evaluate, |t| {
            let [x, y] = self.data(t, batch);
            let measured = self.measure(&mut t.scope, x, y);
            self.give(t, &measured);
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

    /// The data inputs of a batch.
    fn data<'g>(&self, t: &StepTrace<'g>, batch: &BatchSpec) -> [Tensor<'g>; 2] {
        [t.input("x", batch.x.clone()), t.input("y", batch.y.clone())]
    }

    /// Traces model, loss and metrics.
    pub(super) fn measure<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>, y: Tensor<'g>) -> Measured<'g> {
        let b = cx.builder();
        let output = self.model.forward(cx, x);
        let (loss, prediction) = {
            let _scope = b.scope("loss");
            let loss = self.loss.forward(output, y);
            (loss, (!self.metrics.is_empty()).then(|| self.loss.prediction(output.stop_gradient(), y.dtype().is_int())))
        };
        let (prediction, y) = match (prediction, &self.unit) {
            (Some(p), _) if y.dtype().is_int() => (Some(two_classes(p, y)), y),
            (Some(p), Some(unit)) if p.ty() == y.ty() => (Some(unit.restore(p)), unit.restore(y)),
            (p, _) => (p, y),
        };
        let mut metrics = Vec::new();
        for (i, metric) in self.metrics.iter().enumerate() {
            let (_scope, Some(prediction)) = (b.scope(&format!("metrics.{i}")), prediction) else { continue };
            let sums = metric.forward(prediction, y).into_iter().enumerate();
            metrics.extend(sums.map(|(n, sum)| (format!("{}{}/{n}", metrics::OUTPUT, metric.name()), sum)));
        }
        Measured { loss, metrics }
    }

    /// Adds what was measured as outputs.
    pub(super) fn give<'g>(&self, t: &StepTrace<'g>, measured: &Measured<'g>) {
        t.output("loss_sum", measured.loss.sum.convert(DType::F32));
        t.output("loss_weight", measured.loss.weight.convert(DType::F32));
        for (name, sum) in &measured.metrics {
            t.output(name.clone(), if sum.dtype() == DType::F64 { *sum } else { sum.convert(DType::F32) });
        }
    }
}

/// Scores of two classes where the model gives one for each target, of the second: the first has 0.
fn two_classes<'g>(prediction: Tensor<'g>, target: Tensor<'g>) -> Tensor<'g> {
    if prediction.shape().elements() != target.shape().elements() {
        return prediction;
    }
    let second = prediction.reshape([&target.shape()[..], &[1]].concat());
    second.builder().zeros(second.ty()).concatenate(&[second], target.rank())
}

/// From the scale that a network is trained on back to the unit of the data: `value / factor + shift`, then e to it if the logarithm was
/// scaled. Factors and shifts go round over the elements of a row.
#[derive(Clone, PartialEq, Debug)]
pub struct Unit {
    /// Added after the division.
    pub shift: Vec<f32>,
    /// What values were multiplied by.
    pub factor: Vec<f32>,
    /// Whether the logarithm was scaled.
    pub log: bool,
}

impl Unit {
    /// A tensor `[N, …]` of scaled values in the unit of the data.
    fn restore<'g>(&self, scaled: Tensor<'g>) -> Tensor<'g> {
        let row = &scaled.shape()[1..];
        let along = |values: &[f32]| {
            let elements = row.iter().product::<usize>();
            let all: Vec<f64> = values.iter().copied().cycle().take(elements).map(f64::from).collect();
            let constant = HostTensor::from_f64(scaled.dtype(), row, &all).ok()?;
            let dims: Vec<usize> = (1..scaled.rank()).collect();
            Some(scaled.builder().constant(constant).broadcast_in_dim(scaled.shape(), &dims))
        };
        let (Some(factor), Some(shift)) = (along(&self.factor), along(&self.shift)) else { return scaled };
        let value = scaled / factor + shift;
        if self.log { value.exp() } else { value }
    }
}

/// Loss and metrics of some rows, as sums.
pub(super) struct Measured<'g> {
    pub(super) loss: Weighted<'g>,
    /// Sums of metrics by the names of their outputs.
    metrics: Vec<(String, Tensor<'g>)>,
}

impl<'g> Measured<'g> {
    /// The loss's sum and weight, then the sums of metrics.
    pub(super) fn sums(&self) -> Vec<Tensor<'g>> {
        [self.loss.sum, self.loss.weight].into_iter().chain(self.metrics.iter().map(|(_, sum)| *sum)).collect()
    }

    /// Names of the outputs of metrics.
    pub(super) fn names(&self) -> Vec<String> {
        self.metrics.iter().map(|(name, _)| name.clone()).collect()
    }

    /// From what [`sums`](Self::sums) and [`names`](Self::names) gave.
    pub(super) fn from_sums(sums: &[Tensor<'g>], names: Vec<String>) -> Option<Measured<'g>> {
        let (&[sum, weight], metrics) = sums.split_first_chunk()?;
        Some(Measured { loss: Weighted { sum, weight }, metrics: names.into_iter().zip(metrics.iter().copied()).collect() })
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
