use super::{Clock, Curve, default_start_factor, tenth, within};
use serde::{Deserialize, Serialize};

/// A factor on the rate whenever validation has not improved for some epochs. PyTorch's `ReduceLROnPlateau`. Needs a validation
/// part; where it stands is kept in the checkpoint.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Plateau {
    /// Factor of each reduction.
    pub factor: f64,
    /// Epochs without improvement that are borne; the next one reduces the rate.
    pub patience: u64,
    /// What must be exceeded to count as an improvement.
    pub threshold: f64,
    /// What `threshold` is a share of.
    pub threshold_mode: ThresholdMode,
    /// Epochs after a reduction that are not counted.
    pub cooldown: u64,
    /// The rate is not reduced below this.
    pub min_learning_rate: f64,
    /// What must improve.
    pub monitor: Monitor,
    /// Steps during which the rate rises linearly.
    pub warmup_steps: u64,
    /// Share of the rate that the warm-up starts from.
    pub warmup_start_factor: f64,
}

/// What a threshold is a share of.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ThresholdMode {
    /// Of the best value so far.
    #[default]
    Rel,
    /// Of nothing: it is in the value's unit.
    Abs,
}

/// What of the validation is watched.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Monitor {
    /// The main metric; the loss where there is no other.
    #[default]
    Metric,
    /// The loss.
    Loss,
}

impl Default for Plateau {
    fn default() -> Plateau {
        Plateau {
            factor: tenth(),
            patience: 10,
            threshold: 1e-4,
            threshold_mode: ThresholdMode::Rel,
            cooldown: 0,
            min_learning_rate: 0.0,
            monitor: Monitor::Metric,
            warmup_steps: 0,
            warmup_start_factor: default_start_factor(),
        }
    }
}

/// Where a [`Plateau`] stands.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize)]
pub struct PlateauState {
    /// The best value so far.
    pub best: Option<f64>,
    /// Epochs since then, or since the last reduction.
    pub bad_epochs: u64,
    /// Epochs of the cooldown that are left.
    pub cooldown: u64,
    /// Reductions so far.
    pub reductions: u64,
}

/// A smaller change of the rate is not made, as in PyTorch.
const EPS: f64 = 1e-8;

impl Plateau {
    /// Notes the value of an epoch. What is not a number is no improvement.
    ///
    /// ```
    /// use backprop::schedule::{Plateau, PlateauState};
    ///
    /// let (plateau, mut state) = (Plateau { patience: 1, ..Plateau::default() }, PlateauState::default());
    /// for loss in [0.9, 0.8, 0.85, 0.81] {
    ///     plateau.observe(&mut state, loss, false);
    /// }
    /// assert_eq!((state.best, state.reductions), (Some(0.8), 1));
    /// ```
    pub fn observe(&self, state: &mut PlateauState, value: f64, higher_is_better: bool) {
        if self.improves(state.best, value, higher_is_better) {
            (state.best, state.bad_epochs) = (Some(value), 0);
        } else {
            state.bad_epochs += 1;
        }
        if state.cooldown > 0 {
            (state.cooldown, state.bad_epochs) = (state.cooldown - 1, 0);
        }
        if state.bad_epochs > self.patience {
            *state = PlateauState { reductions: state.reductions + 1, cooldown: self.cooldown, bad_epochs: 0, ..*state };
        }
    }

    fn improves(&self, best: Option<f64>, value: f64, higher: bool) -> bool {
        let Some(best) = best else { return !value.is_nan() };
        let sign = if higher { 1.0 } else { -1.0 };
        let limit = match self.threshold_mode {
            ThresholdMode::Rel => best * (1.0 + sign * self.threshold),
            ThresholdMode::Abs => best + sign * self.threshold,
        };
        if higher { value > limit } else { value < limit }
    }
}

impl Curve for Plateau {
    fn warm_up(&self) -> (u64, f64) {
        (self.warmup_steps, self.warmup_start_factor)
    }

    fn rate(&self, base: f64, at: Clock) -> f64 {
        let mut rate = base;
        for _ in 0..at.reductions {
            let next = (rate * self.factor).max(self.min_learning_rate);
            if rate - next <= EPS {
                break;
            }
            rate = next;
        }
        rate
    }

    fn validate(&self) -> Result<(), String> {
        if !(0.0..1.0).contains(&self.factor) {
            return Err(format!("factor must be at least 0 and below 1, got {}", self.factor));
        }
        within("threshold", self.threshold, 0.0, f64::MAX)?;
        within("min_learning_rate", self.min_learning_rate, 0.0, f64::MAX)
    }
}
