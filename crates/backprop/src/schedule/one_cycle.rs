use super::{Clock, Rates, within};
use serde::{Deserialize, Serialize};
use std::f64::consts::PI;

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
    pub(super) fn between(self, start: f64, end: f64, share: f64) -> f64 {
        match self {
            Anneal::Cos => end + (start - end) / 2.0 * (1.0 + (PI * share).cos()),
            Anneal::Linear => (end - start) * share + start,
        }
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

impl OneCycle {
    pub(super) fn rates(&self, base: f64, at: Clock) -> Rates {
        let total_steps = at.total_steps;
        let first = base / self.div_factor;
        let last = first / self.final_div_factor;
        let (peak, end) = (self.pct_start * total_steps as f64 - 1.0, total_steps.max(1) as f64 - 1.0);
        let now = (at.step as f64).min(end);
        let part = |start: f64, stop: f64| if stop > start { (now - start) / (stop - start) } else { 1.0 };
        let between = |start, end, share| self.anneal_strategy.between(start, end, share);
        let (learning_rate, momentum) = if now <= peak {
            let share = part(0.0, peak);
            (between(first, base, share), between(self.max_momentum, self.base_momentum, share))
        } else {
            // A peak before step 0 counts as one at step 0, so that the rate starts at its highest.
            let share = part(peak.max(0.0), end);
            (between(base, last, share), between(self.base_momentum, self.max_momentum, share))
        };
        Rates { learning_rate, momentum: self.cycle_momentum.then_some(momentum) }
    }

    pub(super) fn validate(&self) -> Result<(), String> {
        within("pct_start", self.pct_start, 0.0, 1.0)?;
        within("div_factor", self.div_factor, 1.0, f64::MAX)?;
        within("final_div_factor", self.final_div_factor, 1.0, f64::MAX)?;
        within("base_momentum", self.base_momentum, 0.0, 1.0)?;
        within("max_momentum", self.max_momentum, self.base_momentum, 1.0)
    }
}
