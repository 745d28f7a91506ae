//! Learning-rate schedules: pure functions of the step, evaluated on the host.

use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

/// What a schedule sets for one step.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Rates {
    /// Learning rate.
    pub learning_rate: f64,
    /// Momentum (Adam's β₁) instead of the optimizer's own.
    pub momentum: Option<f64>,
}

/// How the learning rate changes during training, told apart by `type` in TOML.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Schedule {
    /// [`Constant`]
    Constant(Constant),
    /// [`Cosine`]
    Cosine(Cosine),
    /// [`OneCycle`]
    OneCycle(OneCycle),
}

/// The optimizer's rate throughout, after a warm-up if there is one.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Constant {
    /// Steps during which the rate rises linearly.
    #[serde(default)]
    pub warmup_steps: u64,
    /// Share of the rate that the warm-up starts from.
    #[serde(default = "default_start_factor")]
    pub warmup_start_factor: f64,
}

/// From the optimizer's rate down to a least one along half a cosine: Loshchilov and Hutter, "SGDR".
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cosine {
    /// The rate at the end.
    #[serde(default)]
    pub min_learning_rate: f64,
    /// Steps during which the rate rises linearly.
    #[serde(default)]
    pub warmup_steps: u64,
    /// Share of the rate that the warm-up starts from.
    #[serde(default = "default_start_factor")]
    pub warmup_start_factor: f64,
}

/// Up to the optimizer's rate and down again, with momentum the other way round: Smith and Topin, "Super-Convergence".
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OneCycle {
    /// Share of the steps during which the rate rises.
    pub pct_start: f64,
    /// The first rate is the optimizer's divided by this.
    pub div_factor: f64,
    /// The last rate is the first divided by this.
    pub final_div_factor: f64,
    /// Shape of both parts.
    pub anneal_strategy: Anneal,
    /// Whether momentum changes too.
    pub cycle_momentum: bool,
    /// Least momentum, at the highest rate.
    pub base_momentum: f64,
    /// Largest momentum, at the first and last rate.
    pub max_momentum: f64,
}

/// Shape of a transition.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Anneal {
    /// Half a cosine.
    Cos,
    /// A straight line.
    Linear,
}

impl Anneal {
    fn between(self, start: f64, end: f64, share: f64) -> f64 {
        match self {
            Anneal::Cos => end + (start - end) / 2.0 * (1.0 + (PI * share).cos()),
            Anneal::Linear => (end - start) * share + start,
        }
    }
}

/// PyTorch's `LinearLR`.
fn default_start_factor() -> f64 {
    1.0 / 3.0
}

impl Default for Constant {
    fn default() -> Constant {
        Constant { warmup_steps: 0, warmup_start_factor: default_start_factor() }
    }
}

impl Default for Cosine {
    fn default() -> Cosine {
        Cosine { min_learning_rate: 0.0, warmup_steps: 0, warmup_start_factor: default_start_factor() }
    }
}

/// PyTorch's `OneCycleLR`.
impl Default for OneCycle {
    fn default() -> OneCycle {
        OneCycle {
            pct_start: 0.3,
            div_factor: 25.0,
            final_div_factor: 1e4,
            anneal_strategy: Anneal::Cos,
            cycle_momentum: true,
            base_momentum: 0.85,
            max_momentum: 0.95,
        }
    }
}

impl Default for Schedule {
    fn default() -> Schedule {
        Schedule::Constant(Constant::default())
    }
}

impl Schedule {
    /// Names that can stand as `type` in TOML.
    pub const TYPES: &[&str] = &["constant", "cosine", "one_cycle"];

    /// The rates of step `step` (from 0) of `total_steps`, for the optimizer's learning rate `base`. After the last step: the
    /// last step's rates.
    pub fn rates(&self, base: f64, step: u64, total_steps: u64) -> Rates {
        let fixed = |learning_rate| Rates { learning_rate, momentum: None };
        match self {
            Schedule::Constant(c) => fixed(warm_up(base, step, c.warmup_steps, c.warmup_start_factor).unwrap_or(base)),
            Schedule::Cosine(c) => fixed(
                warm_up(base, step, c.warmup_steps, c.warmup_start_factor).unwrap_or_else(|| c.rate(base, step, total_steps)),
            ),
            Schedule::OneCycle(c) => c.rates(base, step, total_steps),
        }
    }

    /// Checks the schedule's numbers.
    ///
    /// # Errors
    /// A sentence saying which number is wrong.
    pub fn validate(&self) -> Result<(), String> {
        let within = |name: &str, value: f64, low: f64, high: f64| {
            let fits = value.is_finite() && (low..=high).contains(&value);
            if fits { Ok(()) } else { Err(format!("{name} must be a number from {low} to {high}, got {value}")) }
        };
        match self {
            Schedule::Constant(c) => within("warmup_start_factor", c.warmup_start_factor, 0.0, 1.0),
            Schedule::Cosine(c) => {
                within("min_learning_rate", c.min_learning_rate, 0.0, f64::MAX)?;
                within("warmup_start_factor", c.warmup_start_factor, 0.0, 1.0)
            }
            Schedule::OneCycle(c) => {
                within("pct_start", c.pct_start, 0.0, 1.0)?;
                within("div_factor", c.div_factor, 1.0, f64::MAX)?;
                within("final_div_factor", c.final_div_factor, 1.0, f64::MAX)?;
                within("base_momentum", c.base_momentum, 0.0, 1.0)?;
                within("max_momentum", c.max_momentum, c.base_momentum, 1.0)
            }
        }
    }
}

/// The rate during the warm-up, `None` after it.
fn warm_up(base: f64, step: u64, steps: u64, start_factor: f64) -> Option<f64> {
    (step < steps).then(|| base * (start_factor + (1.0 - start_factor) * step as f64 / steps as f64))
}

impl Cosine {
    fn rate(&self, base: f64, step: u64, total_steps: u64) -> f64 {
        let length = total_steps.saturating_sub(self.warmup_steps).max(1) as f64;
        let share = ((step - self.warmup_steps) as f64 / length).min(1.0);
        Anneal::Cos.between(base, self.min_learning_rate, share)
    }
}

impl OneCycle {
    fn rates(&self, base: f64, step: u64, total_steps: u64) -> Rates {
        let first = base / self.div_factor;
        let last = first / self.final_div_factor;
        let (peak, end) = (self.pct_start * total_steps as f64 - 1.0, total_steps.max(1) as f64 - 1.0);
        let at = (step as f64).min(end);
        let part = |start: f64, stop: f64| if stop > start { (at - start) / (stop - start) } else { 1.0 };
        let between = |start, end, share| self.anneal_strategy.between(start, end, share);
        let (learning_rate, momentum) = if at <= peak {
            let share = part(0.0, peak);
            (between(first, base, share), between(self.max_momentum, self.base_momentum, share))
        } else {
            // A peak before step 0 counts as one at step 0, so that the rate starts at its highest.
            let share = part(peak.max(0.0), end);
            (between(base, last, share), between(self.base_momentum, self.max_momentum, share))
        };
        Rates { learning_rate, momentum: self.cycle_momentum.then_some(momentum) }
    }
}
