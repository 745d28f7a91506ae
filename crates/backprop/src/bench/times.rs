use std::time::Duration;

/// Times of steps.
#[derive(Clone, Debug, Default)]
pub struct Times {
    /// Milliseconds of one step: of each, or the mean of each group of steps that were timed together. In the order they were made.
    step_ms: Vec<f64>,
    steps: u64,
}

impl Times {
    /// Adds `steps` steps that took `time` together.
    pub(super) fn add(&mut self, time: Duration, steps: u64) {
        self.step_ms.push(time.as_secs_f64() * 1e3 / steps.max(1) as f64);
        self.steps += steps;
    }

    /// Number of steps.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Milliseconds of one step, as often as was looked at the clock.
    pub fn step_ms(&self) -> &[f64] {
        &self.step_ms
    }

    /// The milliseconds that a share of the steps takes at most, such as 0.5 for the median; between two measured ones in proportion. NaN
    /// without any.
    pub fn quantile(&self, share: f64) -> f64 {
        let mut sorted = self.step_ms.clone();
        sorted.sort_by(f64::total_cmp);
        let at = share.clamp(0.0, 1.0) * sorted.len().saturating_sub(1) as f64;
        let (below, part) = (at.floor() as usize, at.fract());
        match (sorted.get(below), sorted.get(below + 1)) {
            (Some(low), Some(high)) => low + (high - low) * part,
            (Some(only), None) => *only,
            _ => f64::NAN,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_lie_between_what_was_measured() {
        let mut times = Times::default();
        assert!(times.quantile(0.5).is_nan());
        for ms in [4, 1, 3, 2] {
            times.add(Duration::from_millis(ms * 10), 10);
        }
        assert_eq!(times.steps(), 40);
        let near = |share: f64, ms: f64| assert!((times.quantile(share) - ms).abs() < 1e-9, "{share}: {}", times.quantile(share));
        near(0.0, 1.0);
        near(0.5, 2.5);
        near(0.9, 3.7);
        near(1.0, 4.0);
    }
}
