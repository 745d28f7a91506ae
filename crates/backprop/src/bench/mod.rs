//! Measuring the training step of a configuration: how long it takes, what it computes, how much memory it needs.
//!
//! The step is the whole of it: forward pass, loss, backward pass, clipping and update, on inputs that are handed over from host memory
//! every time. Batches go round, the learning rate stays what the optimizer says. The losses of the first steps let the same network in
//! another framework be compared, from the same [weights and batches](export).

mod dropout;
mod error;
mod files;
mod kernels;
mod rows;
mod times;
mod work;

pub use backprop_kernels::ceilings::Ceilings;
pub use dropout::without_dropout;
pub use error::BenchError;
pub use files::{Exported, export};
pub use kernels::{KernelCase, KernelSpeed, kernel_cases};
pub use times::Times;
pub(crate) use work::product_flops;

use crate::{
    config::Config,
    schedule::Schedule,
    train::{Outcome, Stepwise, TrainError, Trainer},
};
use backprop_core::exec::{Backend, Profile};
use serde::Serialize;
use std::{
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

/// Batches that go round where no others are given: one for each of the first losses.
pub const BATCHES: usize = 10;

/// The least steps to warm up.
pub const WARM_UP: usize = 10;

/// The least time to warm up, and the most steps that are made to reach it.
const WARM_UP_TIME: (Duration, usize) = (Duration::from_millis(300), 2000);

/// How long steps that overlap are timed together: long beside the wait for the last of them.
const WINDOW: Duration = Duration::from_millis(50);

/// What a measurement begins from.
#[derive(Clone, Debug, Default)]
pub struct BenchOptions {
    /// Rows per step instead of `train.batch_size`.
    pub batch: Option<usize>,
    /// Parameters and statistics by name, in safetensors; by default the configuration's first values.
    pub weights: Option<PathBuf>,
    /// An archive of NumPy arrays `x` and `y`, `[batches, rows, …]`; by default the configuration's first batches.
    pub data: Option<PathBuf>,
    /// Whether nothing is dropped, so that losses can be compared with those of another random generator.
    pub no_dropout: bool,
}

/// What is known of a step before it runs.
#[derive(Clone, Debug, Serialize)]
pub struct StepFacts {
    /// Rows per step.
    pub batch: usize,
    /// Number of trained values.
    pub parameters: usize,
    /// Seconds that tracing, differentiating and compiling took.
    pub compile_s: f64,
    /// Bytes planned for every intermediate value.
    pub arena_bytes: usize,
    /// Bytes of parameters, optimizer state and statistics.
    pub state_bytes: usize,
    /// Floating-point operations of a step, in thousands of millions; a multiplication and an addition are two.
    pub gflop_per_step: f64,
    /// Those of products and convolutions, by their definition: what an algorithm with fewer saves is not taken off.
    pub gflop_of_products: f64,
}

/// How long to measure.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Length {
    /// At least so many steps.
    Steps(u64),
    /// At least so long, and at least one step.
    Time(Duration),
}

/// A training step, ready to be measured.
///
/// ```
/// use backprop::{bench::{BenchOptions, Length, StepBench, WARM_UP}, config::Config, data::Source, prelude::*};
/// use backprop::core::{Isa, exec::native::Native};
///
/// let network = Sequential::new().push(Flatten::new()).push(Linear::new(10));
/// let config = Config::new(Source::Digits {}, network, CrossEntropy::new(), Sgd::new(0.1));
/// let backend = Native::new(1, Isa::detect());
/// let mut bench = StepBench::new(config, &backend, &BenchOptions::default())?;
/// let losses = bench.losses(10)?;
/// assert!(losses[9] < losses[0]);
/// bench.warm_up(WARM_UP)?;
/// assert_eq!(bench.measure(Length::Steps(5))?.steps(), 5);
/// # Ok::<(), backprop::bench::BenchError>(())
/// ```
pub struct StepBench<'b> {
    steps: Stepwise<'b>,
    facts: StepFacts,
    /// Where the first values of the weights are, if not in the configuration's seed.
    weights: Option<PathBuf>,
    /// Steps that are timed together.
    together: u64,
    nonfinite: u64,
}

impl<'b> StepBench<'b> {
    /// Loads data and weights, and compiles the step.
    ///
    /// # Errors
    /// A configuration that does not fit its data; weights or batches of another network; data that cannot be read.
    pub fn new(config: Config, backend: &'b dyn Backend, options: &BenchOptions) -> Result<StepBench<'b>, BenchError> {
        let mut config = config;
        config.schedule = Schedule::default();
        if options.no_dropout {
            config.layers = without_dropout(&config.layers).map_err(TrainError::from)?;
        }
        config.train.batch_size = options.batch.unwrap_or(config.train.batch_size);
        let trainer = Trainer::new(config, backend)?;
        let mut steps = match &options.data {
            Some(file) => {
                let batches = files::batches(file, &trainer, options.batch)?;
                Stepwise::on_batches(trainer, batches)?
            }
            None => {
                let there = trainer.task().batch_size();
                if let Some(wanted) = options.batch.filter(|&n| n != there) {
                    return Err(BenchError::Rows { wanted, there });
                }
                Stepwise::on_first_batches(trainer, BATCHES)?
            }
        };
        // Before compiling: what does not fit is told at once.
        take_weights(&mut steps, options.weights.as_deref())?;
        let (compile_s, memory) = steps.compile()?;
        let [flops, products] = steps.flops()?.map(|flops| flops as f64 / 1e9);
        let facts = StepFacts {
            batch: steps.rows(),
            parameters: steps.parameters(),
            compile_s,
            arena_bytes: memory.arena,
            state_bytes: steps.state_bytes(),
            gflop_per_step: flops,
            gflop_of_products: products,
        };
        Ok(StepBench { steps, facts, weights: options.weights.clone(), together: 1, nonfinite: 0 })
    }

    /// What is known of the step.
    pub fn facts(&self) -> &StepFacts {
        &self.facts
    }

    /// Steps so far whose loss or gradients were not finite: they changed nothing.
    pub fn nonfinite_steps(&self) -> u64 {
        self.nonfinite
    }

    /// The losses of the first steps, from the first weights and the first batch.
    ///
    /// # Errors
    /// If the device fails; weights that cannot be read any more.
    pub fn losses(&mut self, count: usize) -> Result<Vec<f64>, BenchError> {
        self.steps.reset()?;
        take_weights(&mut self.steps, self.weights.as_deref())?;
        let loss = |_| {
            self.steps.start()?;
            Ok(self.finish()?.loss)
        };
        (0..count).map(loss).collect()
    }

    /// Makes at least so many steps, until caches, threads and clocks have settled; about how long one takes.
    ///
    /// # Errors
    /// If the device fails.
    pub fn warm_up(&mut self, least: usize) -> Result<Duration, BenchError> {
        let least = least.max(1);
        let (time, most) = WARM_UP_TIME;
        let (clock, mut made, mut step) = (Instant::now(), 0, Duration::ZERO);
        while made < least || clock.elapsed() < time && made < most {
            step = self.run(least as u64)? / least as u32;
            made += least;
        }
        if self.steps.depth() > 1 {
            let together = WINDOW.as_secs_f64() / step.as_secs_f64().max(1e-6);
            self.together = together.ceil().max(1.0) as u64;
        }
        Ok(step)
    }

    /// Times steps. Where they overlap they are timed together, so many that the wait for the last of them hardly counts.
    ///
    /// # Errors
    /// If the device fails.
    pub fn measure(&mut self, length: Length) -> Result<Times, BenchError> {
        self.measure_together(length, self.together)
    }

    /// As [`measure`](Self::measure), with so many steps timed together.
    ///
    /// # Errors
    /// If the device fails.
    pub fn measure_together(&mut self, length: Length, steps: u64) -> Result<Times, BenchError> {
        let (clock, mut times) = (Instant::now(), Times::default());
        loop {
            times.add(self.run(steps)?, steps);
            let done = match length {
                Length::Steps(steps) => times.steps() >= steps,
                Length::Time(time) => clock.elapsed() >= time,
            };
            if done {
                return Ok(times);
            }
        }
    }

    /// Makes at least so many steps and says where their time went, kernel by kernel; `None` if the backend does not measure it (see
    /// [`Options::profile`](backprop_core::exec::native::Options)).
    ///
    /// # Errors
    /// If the device fails.
    pub fn profile(&mut self, length: Length) -> Result<Option<Profile>, BenchError> {
        self.steps.profile()?;
        self.measure(length)?;
        Ok(self.steps.profile()?)
    }

    /// Makes steps, as many under way as the device takes; how long that took.
    fn run(&mut self, steps: u64) -> Result<Duration, BenchError> {
        let depth = self.steps.depth() as u64;
        let clock = Instant::now();
        let (mut started, mut finished) = (0, 0);
        while finished < steps {
            while started < steps && started - finished < depth {
                self.steps.start()?;
                started += 1;
            }
            self.finish()?;
            finished += 1;
        }
        Ok(clock.elapsed())
    }

    fn finish(&mut self) -> Result<Outcome, BenchError> {
        let outcome = self.steps.finish()?;
        self.nonfinite += u64::from(!outcome.finite);
        Ok(outcome)
    }
}

fn take_weights(steps: &mut Stepwise<'_>, file: Option<&Path>) -> Result<(), BenchError> {
    let Some(file) = file else { return Ok(()) };
    let weights = files::weights(file)?;
    steps.take_weights(weights, &file.display().to_string()).map_err(|e| BenchError::of_weights(file, e))
}

#[cfg(test)]
mod tests;
