use super::{Clock, Rates, Schedule, Unit, increasing};
use serde::{Deserialize, Serialize};

/// Schedules one after the other, each from its own step 0 to the next milestone. PyTorch's `SequentialLR`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Sequence {
    /// Where the second, third, … schedule begins, increasing.
    pub milestones: Vec<u64>,
    /// What `milestones` count.
    #[serde(default)]
    pub unit: Unit,
    /// The schedules, one more than milestones.
    pub parts: Vec<Schedule>,
}

impl Sequence {
    /// The parts with the epochs at which the second, third, … begins.
    pub fn new(parts: impl Into<Vec<Schedule>>, milestones: impl Into<Vec<u64>>) -> Sequence {
        Sequence { milestones: milestones.into(), unit: Unit::Epoch, parts: parts.into() }
    }

    pub(super) fn rates(&self, base: f64, at: Clock) -> Rates {
        let steps = |milestone: &u64| milestone.saturating_mul(at.steps_of(self.unit));
        let begun = self.milestones.iter().filter(|m| steps(m) <= at.step).count().min(self.parts.len().saturating_sub(1));
        let begin = begun.checked_sub(1).map_or(0, |last| steps(&self.milestones[last]));
        let end = self.milestones.get(begun).map_or(at.total_steps, steps).min(at.total_steps);
        let Some(part) = self.parts.get(begun) else { return Rates { learning_rate: base, momentum: None } };
        part.rates(base, Clock { total_steps: end, ..at }.after(begin))
    }

    pub(super) fn validate(&self) -> Result<(), String> {
        increasing(&self.milestones)?;
        let (parts, milestones) = (self.parts.len(), self.milestones.len());
        if parts != milestones + 1 {
            return Err(format!("milestones must be one fewer than parts, but there are {milestones} for {parts}"));
        }
        for (i, part) in self.parts.iter().enumerate() {
            if matches!(part, Schedule::Plateau(_) | Schedule::Sequential(_)) {
                return Err(format!("part {i}: a plateau or another sequence cannot be part of a sequence"));
            }
            part.validate().map_err(|e| format!("part {i}: {e}"))?;
        }
        Ok(())
    }
}
