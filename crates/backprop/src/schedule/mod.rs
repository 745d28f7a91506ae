//! Learning-rate schedules: pure functions of the step, evaluated on the host. Only a [`Plateau`] looks at how training goes.
//!
//! Lengths are in epochs, or in steps with `unit = "step"`: the unit in which PyTorch's scheduler would be stepped. What counts
//! whole units (`step`, `multi_step`) changes at their beginnings; all others change with every step. `warmup_steps` and
//! `total_steps` are steps. A schedule begins, at its own step 0, after its warm-up.

mod curve;
mod one_cycle;
mod plateau;
mod sequence;

pub use curve::{Constant, Cosine, CosineRestarts, ExponentialDecay, LinearDecay, MultiStepDecay, PolynomialDecay, StepDecay};
pub use one_cycle::{Anneal, OneCycle};
pub use plateau::{Monitor, Plateau, PlateauState, ThresholdMode};
pub use sequence::Sequence;

use serde::{Deserialize, Serialize};

/// What a schedule sets for one step.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rates {
    /// Learning rate.
    pub learning_rate: f64,
    /// Momentum (Adam's β₁) instead of the optimizer's own.
    pub momentum: Option<f64>,
}

/// Where training stands, as schedules see it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Clock {
    /// The step, from 0.
    pub step: u64,
    /// Steps in total.
    pub total_steps: u64,
    /// Steps per epoch; 0 counts as 1.
    pub steps_per_epoch: u64,
    /// How often the rate was reduced on a plateau; see [`PlateauState`].
    pub reductions: u64,
}

impl Clock {
    /// Step `step` (from 0) of `total_steps`, all of one epoch.
    pub fn new(step: u64, total_steps: u64) -> Clock {
        Clock { step, total_steps, steps_per_epoch: total_steps, reductions: 0 }
    }

    /// With that many steps per epoch.
    pub fn steps_per_epoch(mut self, steps: u64) -> Clock {
        self.steps_per_epoch = steps;
        self
    }

    /// The clock of what begins after `steps` steps.
    fn after(self, steps: u64) -> Clock {
        Clock { step: self.step.saturating_sub(steps), total_steps: self.total_steps.saturating_sub(steps), ..self }
    }

    fn steps_of(self, unit: Unit) -> u64 {
        if unit == Unit::Step { 1 } else { self.steps_per_epoch.max(1) }
    }

    /// Whole units done. After the last step: as at the last step's end.
    fn whole(self, unit: Unit) -> u64 {
        self.step / self.steps_of(unit)
    }

    /// Units done, with the fraction of the present one.
    fn exact(self, unit: Unit) -> f64 {
        self.step as f64 / self.steps_of(unit) as f64
    }

    /// Share of `units` that is done, at most 1; of all steps if they are not given.
    fn share(self, unit: Unit, units: Option<u64>) -> f64 {
        let steps = units.map_or(self.total_steps, |n| n.saturating_mul(self.steps_of(unit)));
        (self.step as f64 / steps.max(1) as f64).min(1.0)
    }
}

/// What the lengths of a schedule count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    /// Epochs.
    #[default]
    Epoch,
    /// Steps.
    Step,
}

/// How the learning rate changes during training, told apart by `type` in TOML.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
#[expect(missing_docs, reason = "a schedule is documented at its type, which the schema then quotes")]
pub enum Schedule {
    Constant(Constant),
    Cosine(Cosine),
    OneCycle(OneCycle),
    Step(StepDecay),
    MultiStep(MultiStepDecay),
    Exponential(ExponentialDecay),
    Polynomial(PolynomialDecay),
    Linear(LinearDecay),
    CosineRestarts(CosineRestarts),
    Plateau(Plateau),
    Sequential(Sequence),
}

impl Default for Schedule {
    fn default() -> Schedule {
        Schedule::Constant(Constant::default())
    }
}

impl Schedule {
    /// Names that can stand as `type` in TOML.
    pub const TYPES: &[&str] = &[
        "constant",
        "cosine",
        "one_cycle",
        "step",
        "multi_step",
        "exponential",
        "polynomial",
        "linear",
        "cosine_restarts",
        "plateau",
        "sequential",
    ];

    /// The rates at a step, for the optimizer's learning rate `base`.
    ///
    /// ```
    /// use backprop::schedule::{Clock, Schedule, StepDecay};
    ///
    /// let schedule = Schedule::Step(StepDecay::new(30)); // a tenth every 30 epochs
    /// let at = |epoch: u64| Clock::new(epoch * 100, 9_000).steps_per_epoch(100);
    /// assert_eq!(schedule.rates(0.5, at(29)).learning_rate, 0.5);
    /// assert_eq!(schedule.rates(0.5, at(30)).learning_rate, 0.05);
    /// ```
    pub fn rates(&self, base: f64, at: Clock) -> Rates {
        let (curve, (steps, start_factor)): (&dyn Curve, _) = match self {
            Schedule::OneCycle(cycle) => return cycle.rates(base, at),
            Schedule::Sequential(sequence) => return sequence.rates(base, at),
            Schedule::Constant(c) => (c, c.warm_up()),
            Schedule::Cosine(c) => (c, c.warm_up()),
            Schedule::Step(c) => (c, c.warm_up()),
            Schedule::MultiStep(c) => (c, c.warm_up()),
            Schedule::Exponential(c) => (c, c.warm_up()),
            Schedule::Polynomial(c) => (c, c.warm_up()),
            Schedule::Linear(c) => (c, c.warm_up()),
            Schedule::CosineRestarts(c) => (c, c.warm_up()),
            Schedule::Plateau(c) => (c, c.warm_up()),
        };
        let warming = (at.step < steps).then(|| base * (start_factor + (1.0 - start_factor) * at.step as f64 / steps as f64));
        Rates { learning_rate: warming.unwrap_or_else(|| curve.rate(base, at.after(steps))), momentum: None }
    }

    /// The plateau that reduces the rate, if this is one.
    pub fn plateau(&self) -> Option<&Plateau> {
        if let Schedule::Plateau(plateau) = self { Some(plateau) } else { None }
    }

    /// Checks the schedule's numbers.
    ///
    /// # Errors
    /// A sentence saying which number is wrong.
    pub fn validate(&self) -> Result<(), String> {
        match self {
            Schedule::OneCycle(c) => c.validate(),
            Schedule::Sequential(c) => c.validate(),
            Schedule::Constant(c) => c.check(),
            Schedule::Cosine(c) => c.check(),
            Schedule::Step(c) => c.check(),
            Schedule::MultiStep(c) => c.check(),
            Schedule::Exponential(c) => c.check(),
            Schedule::Polynomial(c) => c.check(),
            Schedule::Linear(c) => c.check(),
            Schedule::CosineRestarts(c) => c.check(),
            Schedule::Plateau(c) => c.check(),
        }
    }
}

/// A learning rate by step, after a warm-up.
trait Curve {
    /// Steps of the warm-up, and the share of the rate that it starts from.
    fn warm_up(&self) -> (u64, f64);

    /// The rate after the warm-up, with step 0 at its end.
    fn rate(&self, base: f64, at: Clock) -> f64;

    /// Checks the numbers of the curve itself.
    fn validate(&self) -> Result<(), String>;

    /// Checks all numbers.
    fn check(&self) -> Result<(), String> {
        within("warmup_start_factor", self.warm_up().1, 0.0, 1.0)?;
        self.validate()
    }
}

/// PyTorch's `LinearLR`.
fn default_start_factor() -> f64 {
    1.0 / 3.0
}

/// PyTorch's `StepLR`, `MultiStepLR` and `ReduceLROnPlateau`.
fn tenth() -> f64 {
    0.1
}

fn within(name: &str, value: f64, low: f64, high: f64) -> Result<(), String> {
    let fits = value.is_finite() && (low..=high).contains(&value);
    let bounds = if high == f64::MAX { format!("of at least {low}") } else { format!("from {low} to {high}") };
    if fits { Ok(()) } else { Err(format!("{name} must be a number {bounds}, got {value}")) }
}

fn positive(name: &str, value: f64) -> Result<(), String> {
    if value.is_finite() && value > 0.0 { Ok(()) } else { Err(format!("{name} must be a number above 0, got {value}")) }
}

fn at_least_one(name: &str, value: u64) -> Result<(), String> {
    if value > 0 { Ok(()) } else { Err(format!("{name} must be a whole number of 1 or more, got 0")) }
}

/// Lengths from the beginning, each larger than the one before.
fn increasing(milestones: &[u64]) -> Result<(), String> {
    match milestones.windows(2).find(|w| w[1] <= w[0]) {
        _ if milestones.first() == Some(&0) => Err("milestones must be whole numbers of 1 or more, got 0".into()),
        Some(w) => Err(format!("milestones must increase, but {} follows {}", w[1], w[0])),
        None => Ok(()),
    }
}
