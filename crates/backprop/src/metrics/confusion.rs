//! Metrics of which classes are taken for which.

use super::{Metric, classes::class_complaint};
use crate::loss::default_ignore_index;
use backprop_core::{Tensor, Type};
use serde::{Deserialize, Serialize};

/// How the values of all classes become one.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Average {
    /// The mean over the classes that occur, as target or as prediction.
    #[default]
    Macro,
    /// Over all positions together: for one label per position this is the accuracy.
    Micro,
    /// The mean weighted by how often each class is the target.
    Weighted,
}

macro_rules! by_class {
    ($(#[$doc:meta])* $layer:ident, $name:literal, $value:expr) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(default, deny_unknown_fields)]
        pub struct $layer {
            /// How the values of all classes become one.
            pub average: Average,
            /// Positions with this target do not count.
            pub ignore_index: i32,
        }

        impl Default for $layer {
            fn default() -> $layer {
                $layer { average: Average::default(), ignore_index: default_ignore_index() }
            }
        }

        impl Metric for $layer {
            fn name(&self) -> String {
                $name.into()
            }

            fn higher_is_better(&self) -> bool {
                true
            }

            /// For each class how often it was hit, predicted, and the target.
            fn forward<'g>(&self, output: Tensor<'g>, target: Tensor<'g>) -> Vec<Tensor<'g>> {
                match class_complaint($name, output, target) {
                    Some(failed) => vec![failed],
                    None => {
                        let [predicted, actual] = one_hot(output, target, self.ignore_index);
                        vec![(predicted * actual).sum(&[0]), predicted.sum(&[0]), actual.sum(&[0])]
                    }
                }
            }

            fn value(&self, sums: &[f64]) -> f64 {
                average(self.average, sums, $value)
            }
        }
    };
}

by_class!(
    /// Share of the positions predicted as a class that are of it.
    Precision,
    "precision",
    |hits, predicted, _| hits / predicted
);
by_class!(
    /// Share of the positions of a class that are predicted as such.
    Recall,
    "recall",
    |hits, _, actual| hits / actual
);
by_class!(
    /// The harmonic mean of precision and recall.
    F1,
    "f1",
    |hits, predicted, actual| 2.0 * hits / (predicted + actual)
);

/// One value from hits, predictions and targets per class. A class of which a share is not defined counts as 0, as in scikit-learn.
fn average(how: Average, sums: &[f64], value: fn(f64, f64, f64) -> f64) -> f64 {
    let classes = sums.len() / 3;
    let triple = |c: usize| (sums[c], sums[classes + c], sums[2 * classes + c]);
    let of = |(hits, predicted, actual): (f64, f64, f64)| {
        Some(value(hits, predicted, actual)).filter(|v| v.is_finite()).unwrap_or(0.0)
    };
    let all = (0..classes).map(triple);
    match how {
        Average::Micro => of(all.fold((0.0, 0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1, a.2 + b.2))),
        Average::Macro => {
            let (sum, count) = all.filter(|t| t.1 + t.2 > 0.0).fold((0.0, 0.0), |(s, n), t| (s + of(t), n + 1.0));
            sum / count
        }
        Average::Weighted => {
            let (sum, count) = all.fold((0.0, 0.0), |(s, n), t| (s + t.2 * of(t), n + t.2));
            sum / count
        }
    }
}

/// Predicted and true class of each position as rows `[positions, classes]` of zeros and a one; zeros where the target is ignored.
fn one_hot<'g>(output: Tensor<'g>, target: Tensor<'g>, ignore_index: i32) -> [Tensor<'g>; 2] {
    let (classes, positions) = (output.dim(-1), target.shape().elements());
    let (logits, target) = (output.reshape([positions, classes]), target.reshape([positions]));
    let chosen = logits.arg_max(1).1.convert(target.dtype());
    let each = output.builder().iota(Type::new(target.dtype(), [positions, classes]), 1);
    let spread = |x: Tensor<'g>| x.broadcast_in_dim([positions, classes], &[0]);
    let counts = spread(target.not_equal(f64::from(ignore_index)));
    [chosen, target].map(|class| (each.equal(spread(class)) & counts).convert(output.dtype()))
}

/// How often a position of each class was taken for each class: a table, no number. `backprop eval` shows it.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ConfusionMatrix {
    /// Positions with this target do not count.
    pub ignore_index: i32,
}

impl Default for ConfusionMatrix {
    fn default() -> ConfusionMatrix {
        ConfusionMatrix { ignore_index: default_ignore_index() }
    }
}

impl Metric for ConfusionMatrix {
    fn name(&self) -> String {
        "confusion_matrix".into()
    }

    fn higher_is_better(&self) -> bool {
        true
    }

    fn forward<'g>(&self, output: Tensor<'g>, target: Tensor<'g>) -> Vec<Tensor<'g>> {
        match class_complaint("confusion_matrix", output, target) {
            Some(failed) => vec![failed],
            None => {
                let [predicted, actual] = one_hot(output, target, self.ignore_index);
                vec![actual.transpose(&[1, 0]).matmul(predicted)]
            }
        }
    }

    fn value(&self, _: &[f64]) -> f64 {
        f64::NAN
    }

    fn confusion(&self, sums: &[f64]) -> Option<Vec<Vec<u64>>> {
        let classes = sums.len().isqrt();
        Some(sums.chunks(classes.max(1)).map(|row| row.iter().map(|n| *n as u64).collect()).collect())
    }
}
