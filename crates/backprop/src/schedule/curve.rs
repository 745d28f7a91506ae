use super::{Anneal, Clock, Curve, Unit, at_least_one, default_start_factor, increasing, positive, tenth, within};
use serde::{Deserialize, Serialize};

/// Gives a curve its place in the schedule and the methods that set its warm-up.
macro_rules! curve {
    ($curve:ident, $rate:expr, $validate:expr) => {
        impl $curve {
            /// Steps during which the rate rises linearly.
            pub fn warmup_steps(mut self, steps: u64) -> $curve {
                self.warmup_steps = steps;
                self
            }

            /// Share of the rate that the warm-up starts from.
            pub fn warmup_start_factor(mut self, factor: f64) -> $curve {
                self.warmup_start_factor = factor;
                self
            }
        }

        impl Curve for $curve {
            fn warm_up(&self) -> (u64, f64) {
                (self.warmup_steps, self.warmup_start_factor)
            }
            fn rate(&self, base: f64, at: Clock) -> f64 {
                let rate: fn(&$curve, f64, Clock) -> f64 = $rate;
                rate(self, base, at)
            }
            fn validate(&self) -> Result<(), String> {
                let validate: fn(&$curve) -> Result<(), String> = $validate;
                validate(self)
            }
        }
    };
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

curve!(Constant, |_, base, _| base, |_| Ok(()));

impl Default for Constant {
    fn default() -> Constant {
        Constant { warmup_steps: 0, warmup_start_factor: default_start_factor() }
    }
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

impl Default for Cosine {
    fn default() -> Cosine {
        Cosine { min_learning_rate: 0.0, warmup_steps: 0, warmup_start_factor: default_start_factor() }
    }
}

curve!(Cosine, |c, base, at| Anneal::Cos.between(base, c.min_learning_rate, at.share(Unit::Step, None)), |c| within(
    "min_learning_rate",
    c.min_learning_rate,
    0.0,
    f64::MAX
));

/// A factor on the rate every so many epochs. PyTorch's `StepLR`.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StepDecay {
    /// Units from one reduction to the next.
    pub step_size: u64,
    /// Factor of each.
    #[serde(default = "tenth")]
    pub gamma: f64,
    /// What `step_size` counts.
    #[serde(default)]
    pub unit: Unit,
    /// Steps during which the rate rises linearly.
    #[serde(default)]
    pub warmup_steps: u64,
    /// Share of the rate that the warm-up starts from.
    #[serde(default = "default_start_factor")]
    pub warmup_start_factor: f64,
}

impl StepDecay {
    /// A tenth every `step_size` epochs.
    pub fn new(step_size: u64) -> StepDecay {
        let warmup_start_factor = default_start_factor();
        StepDecay { step_size, gamma: tenth(), unit: Unit::Epoch, warmup_steps: 0, warmup_start_factor }
    }
}

curve!(StepDecay, |c, base, at| base * c.gamma.powf((at.whole(c.unit) / c.step_size.max(1)) as f64), |c| {
    at_least_one("step_size", c.step_size)?;
    positive("gamma", c.gamma)
});

/// A factor on the rate at each of several epochs. PyTorch's `MultiStepLR`.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MultiStepDecay {
    /// Units after which the rate is reduced, increasing.
    pub milestones: Vec<u64>,
    /// Factor of each.
    #[serde(default = "tenth")]
    pub gamma: f64,
    /// What `milestones` count.
    #[serde(default)]
    pub unit: Unit,
    /// Steps during which the rate rises linearly.
    #[serde(default)]
    pub warmup_steps: u64,
    /// Share of the rate that the warm-up starts from.
    #[serde(default = "default_start_factor")]
    pub warmup_start_factor: f64,
}

impl MultiStepDecay {
    /// A tenth at each of these epochs.
    pub fn new(milestones: impl Into<Vec<u64>>) -> MultiStepDecay {
        let (milestones, warmup_start_factor) = (milestones.into(), default_start_factor());
        MultiStepDecay { milestones, gamma: tenth(), unit: Unit::Epoch, warmup_steps: 0, warmup_start_factor }
    }
}

curve!(
    MultiStepDecay,
    |c, base, at| base * c.gamma.powf(c.milestones.iter().filter(|m| **m <= at.whole(c.unit)).count() as f64),
    |c| {
        increasing(&c.milestones)?;
        positive("gamma", c.gamma)
    }
);

/// A factor on the rate over every epoch, step by step. PyTorch's `ExponentialLR` at the beginning of each epoch.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ExponentialDecay {
    /// Factor of one unit.
    pub gamma: f64,
    /// The unit.
    #[serde(default)]
    pub unit: Unit,
    /// Steps during which the rate rises linearly.
    #[serde(default)]
    pub warmup_steps: u64,
    /// Share of the rate that the warm-up starts from.
    #[serde(default = "default_start_factor")]
    pub warmup_start_factor: f64,
}

impl ExponentialDecay {
    /// A factor per epoch.
    pub fn new(gamma: f64) -> ExponentialDecay {
        ExponentialDecay { gamma, unit: Unit::Epoch, warmup_steps: 0, warmup_start_factor: default_start_factor() }
    }
}

curve!(ExponentialDecay, |c, base, at| base * c.gamma.powf(at.exact(c.unit)), |c| positive("gamma", c.gamma));

/// From the optimizer's rate down to a least one along a power of the share that is left. PyTorch's `PolynomialLR`.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolynomialDecay {
    /// The power; 1 is a straight line.
    #[serde(default = "one")]
    pub power: f64,
    /// The rate at the end.
    #[serde(default)]
    pub min_learning_rate: f64,
    /// Units after which the end is reached; the end of training if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_iters: Option<u64>,
    /// What `total_iters` counts.
    #[serde(default)]
    pub unit: Unit,
    /// Steps during which the rate rises linearly.
    #[serde(default)]
    pub warmup_steps: u64,
    /// Share of the rate that the warm-up starts from.
    #[serde(default = "default_start_factor")]
    pub warmup_start_factor: f64,
}

impl PolynomialDecay {
    /// A power of the share of training that is left.
    pub fn new(power: f64) -> PolynomialDecay {
        PolynomialDecay {
            power,
            min_learning_rate: 0.0,
            total_iters: None,
            unit: Unit::Epoch,
            warmup_steps: 0,
            warmup_start_factor: default_start_factor(),
        }
    }
}

curve!(
    PolynomialDecay,
    |c, base, at| c.min_learning_rate + (base - c.min_learning_rate) * (1.0 - at.share(c.unit, c.total_iters)).powf(c.power),
    |c| {
        within("power", c.power, 0.0, f64::MAX)?;
        within("min_learning_rate", c.min_learning_rate, 0.0, f64::MAX)?;
        c.total_iters.map_or(Ok(()), |n| at_least_one("total_iters", n))
    }
);

/// A straight line between two factors on the optimizer's rate: by default from 1 down to 0 at the end of training. PyTorch's
/// `LinearLR`, whose defaults make the warm-up that is `warmup_steps` here.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct LinearDecay {
    /// Factor at the beginning.
    #[serde(default = "one")]
    pub start_factor: f64,
    /// Factor at the end.
    #[serde(default)]
    pub end_factor: f64,
    /// Units after which the end is reached; the end of training if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_iters: Option<u64>,
    /// What `total_iters` counts.
    #[serde(default)]
    pub unit: Unit,
    /// Steps during which the rate rises linearly.
    #[serde(default)]
    pub warmup_steps: u64,
    /// Share of the rate that the warm-up starts from.
    #[serde(default = "default_start_factor")]
    pub warmup_start_factor: f64,
}

fn one() -> f64 {
    1.0
}

impl Default for LinearDecay {
    fn default() -> LinearDecay {
        LinearDecay {
            start_factor: one(),
            end_factor: 0.0,
            total_iters: None,
            unit: Unit::Epoch,
            warmup_steps: 0,
            warmup_start_factor: default_start_factor(),
        }
    }
}

curve!(
    LinearDecay,
    |c, base, at| base * Anneal::Linear.between(c.start_factor, c.end_factor, at.share(c.unit, c.total_iters)),
    |c| {
        within("start_factor", c.start_factor, 0.0, 1.0)?;
        within("end_factor", c.end_factor, 0.0, 1.0)?;
        c.total_iters.map_or(Ok(()), |n| at_least_one("total_iters", n))
    }
);

/// Half a cosine again and again, each longer than the one before: Loshchilov and Hutter, "SGDR". PyTorch's
/// `CosineAnnealingWarmRestarts`.
#[derive(Clone, Copy, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CosineRestarts {
    /// Units of the first period.
    pub t_0: u64,
    /// Each period's length divided by that of the one before.
    #[serde(default = "one_time")]
    pub t_mult: u64,
    /// The rate at the end of a period.
    #[serde(default)]
    pub min_learning_rate: f64,
    /// What `t_0` counts.
    #[serde(default)]
    pub unit: Unit,
    /// Steps during which the rate rises linearly.
    #[serde(default)]
    pub warmup_steps: u64,
    /// Share of the rate that the warm-up starts from.
    #[serde(default = "default_start_factor")]
    pub warmup_start_factor: f64,
}

fn one_time() -> u64 {
    1
}

impl CosineRestarts {
    /// Periods of `t_0` epochs, all of one length.
    pub fn new(t_0: u64) -> CosineRestarts {
        let warmup_start_factor = default_start_factor();
        CosineRestarts { t_0, t_mult: 1, min_learning_rate: 0.0, unit: Unit::Epoch, warmup_steps: 0, warmup_start_factor }
    }

    /// Share of the present period that is done.
    fn share(&self, at: Clock) -> f64 {
        let (mut done, mut period) = (at.exact(self.unit), self.t_0.max(1) as f64);
        if self.t_mult <= 1 {
            return done % period / period;
        }
        while done >= period {
            done -= period;
            period *= self.t_mult as f64;
        }
        done / period
    }
}

curve!(CosineRestarts, |c, base, at| Anneal::Cos.between(base, c.min_learning_rate, c.share(at)), |c| {
    at_least_one("t_0", c.t_0)?;
    at_least_one("t_mult", c.t_mult)?;
    within("min_learning_rate", c.min_learning_rate, 0.0, f64::MAX)
});
