//! Early stopping: training ends when validation has not improved for some epochs.

use serde::{Deserialize, Serialize};

/// How long validation has not improved.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Patience {
    /// The best value so far.
    best: Option<f64>,
    /// Epochs since then.
    pub(super) bad_epochs: u64,
}

impl Patience {
    /// Notes the value of an epoch. It improves if it is better than the best by more than `min_delta`; what is not a number never
    /// does.
    pub(super) fn observe(&mut self, value: f64, higher_is_better: bool, min_delta: f64) {
        let improves = match self.best {
            None => !value.is_nan(),
            Some(best) if higher_is_better => value > best + min_delta,
            Some(best) => value < best - min_delta,
        };
        (self.best, self.bad_epochs) = if improves { (Some(value), 0) } else { (self.best, self.bad_epochs + 1) };
    }
}

#[cfg(test)]
mod tests {
    use super::Patience;

    #[test]
    fn improvements_must_exceed_the_least_difference() {
        let epochs = |values: &[f64], higher, delta| {
            let mut patience = Patience::default();
            values.iter().map(|v| patience.observe(*v, higher, delta)).for_each(drop);
            patience.bad_epochs
        };
        assert_eq!(epochs(&[0.5, 0.6, 0.6, 0.59], true, 0.0), 2);
        assert_eq!(epochs(&[0.5, 0.6, 0.6, 0.59], false, 0.0), 3);
        assert_eq!(epochs(&[1.0, 0.95, 0.91, 0.89], false, 0.1), 0);
        assert_eq!(epochs(&[1.0, 0.95, 0.91, 0.9], false, 0.1), 3);
        assert_eq!(epochs(&[f64::NAN, f64::NAN, 3.0, f64::NAN], false, 0.0), 1);
    }
}
