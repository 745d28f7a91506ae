//! Training: a configuration becomes programs, data flow through them, and what happens is reported as [events](crate::events).
//!
//! Nothing here prints. What a run leaves behind goes to its [folder](crate::run), if it has one. Everything random is a function of
//! the run's seed and the step, so a run that goes on from a checkpoint ends with the same bits as one that was never interrupted.

mod error;
mod feed;
mod input;
mod inspect;
mod loader;
mod patience;
mod pipeline;
mod program;
mod progress;
mod session;
mod stepwise;
mod stop;
mod task;

pub use error::TrainError;
pub use inspect::{Inspection, LayerMemory};
pub(crate) use stepwise::{Outcome, Stepwise};
pub use stop::{Flow, Reply, Stop, StopReason, Stopped};
pub use task::{Part, Task};

use crate::{
    checkpoint::Tensors,
    config::{Config, Time},
    events::Score,
    loss::{Loss, LossSpec},
    metrics::Metric,
    model::{Model, ModelError},
    nn::{Mode, Sequential, StateKind, StateSpec, layer_table},
    optim::Optimizer,
    run::Run,
    step::{EMA, GROUPS, Step, initial_state},
};
use backprop_core::{
    DType, Error, Graph, HostTensor,
    exec::{Backend, Store},
};
use backprop_data::Parts;
use feed::Pass;
use loader::Loader;
use program::Compiled;
use progress::{Identity, Progress, Scoring, Sums};
use std::{collections::VecDeque, sync::Arc, time::Instant};

/// A run in memory: data, programs, the tensors that live between steps, and where training stands.
///
/// ```no_run
/// use backprop::{config::Config, core::exec::Backend, train::Trainer};
///
/// # fn example(backend: &dyn Backend) -> Result<(), Box<dyn std::error::Error>> {
/// let config = Config::load("models/mlp-digits.toml".as_ref(), &["train.epochs=5".into()])?;
/// let summary = Trainer::new(config, backend)?.train(None, &mut |_event| {})?;
/// println!("{:?}", summary.scores);
/// # Ok(())
/// # }
/// ```
pub struct Trainer<'b> {
    config: Config,
    task: Task,
    step: Step,
    scoring: Scoring,
    backend: &'b dyn Backend,
    loader: Loader,
    specs: Vec<StateSpec>,
    store: Store,
    /// Compiled steps by batch size: the full one and the remainder.
    training: Vec<(usize, Compiled)>,
    evaluation: Vec<(usize, Compiled)>,
    progress: Progress,
    /// Steps whose results are not known yet, the oldest first.
    under_way: VecDeque<pipeline::Started>,
    best: Option<Tensors>,
    warnings: Vec<String>,
    load_seconds: f64,
    compile_seconds: f64,
    stop: Stop,
    max_time: Option<Time>,
    /// When this session began.
    begun: Instant,
}

impl<'b> Trainer<'b> {
    /// Loads the data and traces the network on them. Parameters get their first values when they are first needed.
    ///
    /// # Errors
    /// Data that cannot be read; a network, loss or optimizer that does not fit them: the message shows the line of the configuration.
    pub fn new(config: Config, backend: &'b dyn Backend) -> Result<Trainer<'b>, TrainError> {
        Trainer::of(config, backend, Task::load)
    }

    /// As [`new`](Self::new), on data that the program brings: columns in memory, or any [`Dataset`](backprop_data::Dataset) of its own.
    /// The other keys of `[data]` hold: the share for validation, scales, which columns are used.
    ///
    /// ```
    /// use backprop::{config::Config, core::{Isa, exec::native::Native}, data::{Column, InMemory, Parts, Source}, prelude::*};
    /// use std::sync::Arc;
    ///
    /// // y = 2a − b
    /// let x: Vec<f32> = (0..400).map(|i| (i * 37 % 101) as f32 / 101.0).collect();
    /// let y: Vec<f32> = x.chunks(2).map(|p| 2.0 * p[0] - p[1]).collect();
    /// let data = InMemory::new("measured").with_column(Column::input("x", &[2]), x)?.with_column(Column::target("y", &[]), y)?;
    /// let parts = Parts::shuffled(Arc::new(data)).with_test(0.2, 1)?;
    ///
    /// let network = Sequential::new().push(Linear::new(1));
    /// let mut config = Config::new(Source::Memory {}, network, Mse::new(), Adam::new(0.05));
    /// config.train.epochs = 100;
    /// let backend = Native::new(1, Isa::detect());
    /// let summary = Trainer::with_parts(config, parts, &backend)?.train(None, &mut |_| {})?;
    /// assert!(summary.scores["test_rmse"] < 0.2);
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    ///
    /// # Errors
    /// As [`new`](Self::new).
    pub fn with_parts(config: Config, parts: Parts, backend: &'b dyn Backend) -> Result<Trainer<'b>, TrainError> {
        Trainer::of(config, backend, |config| Task::of_parts(config, parts))
    }

    fn of(
        config: Config,
        backend: &'b dyn Backend,
        task: impl FnOnce(&Config) -> Result<Task, TrainError>,
    ) -> Result<Trainer<'b>, TrainError> {
        let begun = Instant::now();
        config.loss.validate().map_err(|e| config.error_at("loss", e))?;
        config.optimizer.rule.validate().map_err(|e| config.error_at("optimizer", e))?;
        for (i, group) in config.optimizer.groups.iter().enumerate() {
            group.validate().map_err(|e| config.error_at(&format!("{GROUPS}{i}.match"), e))?;
        }
        config.schedule.validate().map_err(|e| config.error_at("schedule", e))?;
        check_metrics(&config)?;
        let clock = Instant::now();
        let mut task = task(&config)?;
        let load_seconds = clock.elapsed().as_secs_f64();
        let mut config = config;
        config.loss = task.balanced(&config)?.unwrap_or(config.loss);
        let config = config;
        check_validation(&config, &task)?;
        check_parts(&config, &task)?;
        let step = step_of(&config, &task).run_ahead(backend.depth() > 1);
        fit_output(&config, &mut task)?;
        let loader = Loader::new(Arc::clone(task.feed()), loader_threads(&config, &task));
        let spec = task.batch_spec(task.batch_size());
        let traced = step.train(&spec).map_err(|e| located(&config, e))?;
        let (specs, scoring) = (traced.state, Scoring::new(step.metrics(), &traced.graph));
        let identity = Identity { seed: config.train.seed, train_rows: task.rows(Part::Train), batch_size: task.batch_size() };
        let mut progress = Progress { identity, ..Progress::default() };
        progress.sums.reset(scoring.sums);
        let (training, evaluation, warnings) = (Vec::new(), Vec::new(), Vec::new());
        let max_time = config.train.max_time;
        Ok(Trainer {
            config,
            task,
            step,
            scoring,
            backend,
            loader,
            specs,
            store: Store::new(),
            training,
            evaluation,
            progress,
            under_way: VecDeque::new(),
            best: None,
            warnings,
            load_seconds,
            compile_seconds: 0.0,
            stop: Stop::new(),
            max_time,
            begun,
        })
    }

    /// Goes on where the newest checkpoint of the run stands; from the beginning if it has none.
    ///
    /// # Errors
    /// If no checkpoint can be read, or they are of another network or other data.
    pub fn resume(&mut self, run: &Run) -> Result<(), TrainError> {
        let Some(checkpoint) = run.checkpoints().load::<Progress>()? else { return Ok(()) };
        if checkpoint.progress.identity != self.progress.identity {
            return Err(TrainError::Mismatch {
                what: format!("the checkpoint of {}", run.folder().display()),
                why: format!("it is of {:?}, here it is {:?}", checkpoint.progress.identity, self.progress.identity),
            });
        }
        self.put(checkpoint.state, |_| true, "the checkpoint")?;
        self.progress = checkpoint.progress;
        self.progress.sums.fit(self.scoring.sums);
        self.best = checkpoint.best;
        self.warnings = checkpoint.warnings;
        Ok(())
    }

    /// Takes the weights that a run kept.
    ///
    /// # Errors
    /// If there are none, they are damaged, or of another network.
    pub fn load_weights(&mut self, run: &Run) -> Result<(), TrainError> {
        let what = run.weights_file().display().to_string();
        self.put(run.weights()?, is_weight, &what)
    }

    /// Loss and metrics of the current weights (their averages, if there are any) over a part of the data; `None` if there is no such part.
    ///
    /// # Errors
    /// What reading the data gave; [`TrainError::Stopped`] if it was asked to stop.
    pub fn evaluate(&mut self, part: Part) -> Result<Option<Score>, TrainError> {
        if self.task.rows(part) == 0 {
            return Ok(None);
        }
        self.initialise()?;
        self.compile_for(part, Mode::Evaluate)?;
        self.swap_averages();
        let score = self.measure(part);
        self.swap_averages();
        score.map(Some)
    }

    /// Loss and metrics over a part of the data by the tensors that the store has under the weights' names.
    fn measure(&mut self, part: Part) -> Result<Score, TrainError> {
        let mut sums = Sums::default();
        sums.reset(self.scoring.sums);
        self.loader.begin(Pass { part, shuffled: None, position: 0 })?;
        loop {
            self.stop_if_asked()?;
            let Some(batch) = self.loader.next()? else { break };
            let compiled = find(&mut self.evaluation, batch.rows)?;
            sums.add(&compiled.run(&mut self.store, batch, None)?, batch.rows);
        }
        // What an evaluation waited is not a training step's.
        self.loader.take_intake();
        Ok(self.scoring.score(&sums))
    }

    /// A handle that asks this trainer to stop, from any thread.
    pub fn stop_handle(&self) -> Stop {
        self.stop.clone()
    }

    /// Limits the time of this session, instead of `train.max_time`.
    pub fn limit_time(&mut self, time: Time) {
        self.max_time = Some(time);
    }

    /// A model of the weights as they are now, in memory.
    ///
    /// # Errors
    /// If there are no weights yet: before [`train`](Self::train) or [`prepare`](Self::prepare).
    pub fn model(&self) -> Result<Model, ModelError> {
        let weights = self.weights().map(|(name, tensor)| (name.to_owned(), tensor.clone())).collect();
        Model::new(self.config.clone(), self.task.coding().clone(), weights)
    }

    /// Name of the main metric, as `accuracy` or `mse`; `loss` where the loss is all there is.
    pub fn metric(&self) -> &str {
        self.scoring.name()
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// The data.
    pub fn task(&self) -> &Task {
        &self.task
    }

    /// The tensors that live between steps.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The training graph for a batch of `rows` rows.
    ///
    /// # Errors
    /// If the network does not fit such a batch.
    pub fn graph(&self, rows: usize) -> Result<Graph, TrainError> {
        let traced = self.step.train(&self.task.batch_spec(rows)).map_err(|e| located(&self.config, e))?;
        Ok(traced.graph)
    }

    /// Compiles the step for the full batches of a part and for what remains at its end.
    fn compile_for(&mut self, part: Part, mode: Mode) -> Result<(), TrainError> {
        let (full, rows) = (self.task.batch_size(), self.task.rows(part));
        for size in [full.min(rows), rows % full] {
            if size > 0 {
                self.compile(mode, size)?;
            }
        }
        Ok(())
    }

    /// Compiles the step for batches of `rows` rows, unless it is compiled.
    fn compile(&mut self, mode: Mode, rows: usize) -> Result<(), TrainError> {
        let list = if mode == Mode::Train { &self.training } else { &self.evaluation };
        if list.iter().any(|(n, _)| *n == rows) {
            return Ok(());
        }
        let clock = Instant::now();
        let spec = self.task.batch_spec(rows);
        let traced = if mode == Mode::Train { self.step.train(&spec) } else { self.step.evaluate(&spec) };
        let graph = traced.map_err(|e| located(&self.config, e))?.graph;
        let compiled = Compiled::new(self.backend, &graph)?;
        self.check_memory(compiled.memory().arena as u64)?;
        let list = if mode == Mode::Train { &mut self.training } else { &mut self.evaluation };
        list.push((rows, compiled));
        self.compile_seconds += clock.elapsed().as_secs_f64();
        Ok(())
    }

    /// Gives the tensors that live between steps their first values, unless they have values.
    fn initialise(&mut self) -> Result<(), TrainError> {
        if !self.store.is_empty() {
            return Ok(());
        }
        self.check_memory(0)?;
        let values = initial_state(&self.specs, self.config.train.seed);
        for (name, value) in values.map_err(|e| self.config.error_at("layers", e.to_string()))? {
            self.store.insert(name, value);
        }
        if self.backend.depth() > 1 {
            self.clear();
        }
        Ok(())
    }

    /// The data input of every step with the run's seed.
    fn seed(&self) -> Result<HostTensor, TrainError> {
        let seed = self.config.train.seed;
        Ok(HostTensor::new([2], &[seed as u32, (seed >> 32) as u32]).map_err(Error::Run)?)
    }

    /// Bytes of the tensors that live between steps.
    fn state_bytes(&self) -> usize {
        self.specs.iter().fold(0, |sum, spec| sum.saturating_add(spec.ty.bytes()))
    }

    /// Refuses what cannot fit before it is tried: running out of memory would end the process without a word.
    fn check_memory(&self, arena: u64) -> Result<(), TrainError> {
        let state = self.state_bytes() as u64;
        let of_device = self.backend.memory_limit().map(|limit| (limit, "the device"));
        let of_machine = || crate::machine::memory_limit().map(|limit| (limit, "this machine or its container"));
        match of_device.or_else(of_machine) {
            Some((limit, of)) if state.saturating_add(arena) > limit => Err(TrainError::Memory { state, arena, limit, of }),
            _ => Ok(()),
        }
    }

    /// Replaces the tensors that `belongs` selects by those of the same names.
    fn put(&mut self, tensors: Tensors, belongs: impl Fn(&StateSpec) -> bool, what: &str) -> Result<(), TrainError> {
        let wanted: Vec<&StateSpec> = self.specs.iter().filter(|s| belongs(s)).collect();
        let mismatch = |why: String| TrainError::Mismatch { what: what.into(), why };
        if let Some((name, _)) = tensors.iter().find(|(name, _)| !wanted.iter().any(|s| s.name == *name)) {
            return Err(mismatch(format!("it has `{name}`, which the network does not have")));
        }
        for spec in &wanted {
            match tensors.iter().find(|(name, _)| *name == spec.name) {
                None => return Err(mismatch(format!("it lacks `{}`", spec.name))),
                Some((_, t)) if *t.ty() != spec.ty => {
                    return Err(mismatch(format!("`{}` is {} there and {} here", spec.name, t.ty(), spec.ty)));
                }
                Some(_) => {}
            }
        }
        self.initialise()?;
        self.store.fetch()?;
        // Weights alone are their own averages.
        let alone = !tensors.iter().any(|(name, _)| name.starts_with(EMA));
        for (name, tensor) in tensors {
            if let Some(average) = self.store.get_mut(&format!("{EMA}{name}")).filter(|_| alone) {
                average.clone_from(&tensor);
            }
            self.store.insert(name, tensor);
        }
        Ok(())
    }

    /// The current parameters and statistics: their averages, where there are any.
    fn weights(&self) -> impl Iterator<Item = (&str, &HostTensor)> {
        let names = self.specs.iter().filter(|s| is_weight(s)).map(|s| s.name.as_str());
        names.filter_map(|name| Some((name, weight(&self.store, name)?)))
    }

    /// Exchanges weights and their averages, so that programs that read the weights find the averages, and back.
    fn swap_averages(&mut self) {
        for spec in &self.specs {
            if let Some(name) = spec.name.strip_prefix(EMA) {
                self.store.swap(name, &spec.name);
            }
        }
    }
}

/// The current value of a weight: its average, if there is one.
fn weight<'s>(store: &'s Store, name: &str) -> Option<&'s HostTensor> {
    store.get(&format!("{EMA}{name}")).or_else(|| store.get(name))
}

fn is_weight(spec: &StateSpec) -> bool {
    spec.kind != StateKind::Optimizer
}

fn find(list: &mut [(usize, Compiled)], rows: usize) -> Result<&mut Compiled, TrainError> {
    let found = list.iter_mut().find(|(n, _)| *n == rows).map(|(_, compiled)| compiled);
    found.ok_or_else(|| Error::Run(format!("no program was compiled for {rows} rows")).into())
}

/// The step of a configuration.
fn step_of(config: &Config, task: &Task) -> Step {
    let model = Sequential::from(config.layers.clone());
    let train = &config.train;
    let mut step = Step::new(model, config.loss.clone(), config.optimizer.rule).schedule(config.schedule.clone());
    step = config.optimizer.groups.iter().cloned().fold(step, Step::group);
    step = train.clip_norm.into_iter().fold(step, Step::clip_norm);
    step = train.clip_value.into_iter().fold(step, Step::clip_value);
    step = train.ema.into_iter().fold(step, Step::ema).accumulate(train.accumulate);
    step = task.metrics(config).into_iter().fold(step, Step::metric);
    task.unit().into_iter().fold(step, Step::unit)
}

/// Each metric once: their sums are told apart by their names.
fn check_metrics(config: &Config) -> Result<(), TrainError> {
    for (i, metric) in config.metrics.iter().enumerate() {
        let said = if config.metrics[..i].iter().any(|m| m.name() == metric.name()) {
            Err(format!("`{}` is among the metrics already; leave one of them out", metric.name()))
        } else {
            metric.validate()
        };
        said.map_err(|e| config.error_at(&format!("metrics.{i}"), e))?;
    }
    Ok(())
}

/// What watches the validation needs one.
fn check_validation(config: &Config, task: &Task) -> Result<(), TrainError> {
    let watches = [
        ("train.early_stopping", "early stopping", config.train.early_stopping.is_some()),
        ("schedule", "a plateau schedule", config.schedule.plateau().is_some()),
    ];
    match watches.iter().find(|(.., there)| *there && task.rows(Part::Validation) == 0) {
        None => Ok(()),
        Some((key, what, _)) => {
            let message =
                format!("{what} watches the validation, but there is no validation part; set data.validation, such as 0.1");
            Err(config.error_at(key, message).into())
        }
    }
}

/// A part has at least one row.
fn check_parts(config: &Config, task: &Task) -> Result<(), TrainError> {
    let (parts, rows) = (config.train.accumulate, task.batch_size());
    if parts <= rows {
        return Ok(());
    }
    let message = format!("a step of {rows} rows cannot be taken in {parts} parts; set at most {rows}, or a larger batch_size");
    Err(config.error_at("train.accumulate", message).into())
}

/// Threads that fill batches: none where that is nothing but copying, else by default half of those that compute, at least one.
fn loader_threads(config: &Config, task: &Task) -> usize {
    let default =
        || if task.feed().is_copy() { 0 } else { config.train.threads.unwrap_or_else(crate::machine::threads).div_ceil(2) };
    config.train.loader_threads.unwrap_or_else(default)
}

/// An error of tracing at the line of the layer it happened in.
pub(crate) fn located(config: &Config, error: Error) -> TrainError {
    let Error::Graph(graph) = error else { return error.into() };
    let operands: Vec<String> = graph.operands.iter().map(ToString::to_string).collect();
    let operands = if operands.is_empty() { String::new() } else { format!(" (operands: {})", operands.join(", ")) };
    let message = format!("{}: {}{operands}", graph.op, graph.message);
    match graph.path.as_str() {
        "" => config.error_at("layers", message).into(),
        "loss" => config.error_at("loss", message).into(),
        metric if metric.starts_with("metrics.") => config.error_at(metric, message).into(),
        group if group.starts_with(GROUPS) => config.error_at(&format!("{group}.match"), graph.message).into(),
        layer => config.error_at_layer(layer, message).into(),
    }
}

/// Compares the network's output with the targets: numbers take its shape; fewer outputs than classes would make every loss NaN.
fn fit_output(config: &Config, task: &mut Task) -> Result<(), TrainError> {
    let model = Sequential::from(config.layers.clone());
    let table = layer_table(&model, DType::F32, task.batch_spec(1).x).map_err(|e| located(config, e))?;
    // Rows of the top level are those whose path has one name after `layers`.
    let Some(last) = table.iter().rfind(|row| row.path.matches('.').count() == 1) else { return Ok(()) };
    task.shape_targets_as(last.output.shape.get(1..).unwrap_or_default());
    let outputs = last.output.shape.last().copied().unwrap_or(0);
    match (task.classes(), &config.loss) {
        (Some(classes), LossSpec::BceWithLogits(_)) if classes != 2 => {
            let message =
                format!("tells two classes apart, but the data have {classes}; use cross_entropy and one output for each");
            Err(config.error_at("loss", message).into())
        }
        (Some(classes), LossSpec::CrossEntropy(_) | LossSpec::Nll(_) | LossSpec::Focal(_)) if outputs < classes => {
            let message = format!(
                "the network gives {outputs} outputs, but the data have {classes} classes; the last layer must give one output for each"
            );
            Err(config.error_at_layer(&last.path, message).into())
        }
        _ => Ok(()),
    }
}
