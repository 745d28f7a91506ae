//! Metrics: what is reported beside the loss.
//!
//! A metric is a list of sums that are formed inside the step, and a function from these sums, added over the batches in f64 and in
//! order, to a number. Sums of parts are sums of the whole: a smaller last batch, accumulation and ignored positions are exact.
//!
//! Metrics see what [`Loss::prediction`](crate::loss::Loss::prediction) makes of the model's output: logits for classes, numbers
//! otherwise.

mod classes;
mod confusion;
mod numbers;
mod ranking;
#[cfg(test)]
mod tests;

pub use classes::Accuracy;
pub use confusion::{Average, ConfusionMatrix, F1, Precision, Recall};
pub use numbers::{MeanAbsoluteError, MeanAbsolutePercentageError, MeanSquaredError, R2, RootMeanSquaredError};
pub use ranking::{Perplexity, RocAuc, TopK};

use backprop_core::{Graph, Tensor};
use serde::{Deserialize, Serialize};
use std::{fmt::Debug, ops::Range, sync::Arc};

/// What is reported beside the loss.
///
/// ```
/// use backprop::prelude::*;
///
/// /// The largest error of all would be no sum; the share of errors above a limit is.
/// #[derive(Debug)]
/// struct FarOff(f64);
///
/// impl Metric for FarOff {
///     fn name(&self) -> String {
///         "far_off".into()
///     }
///     fn higher_is_better(&self) -> bool {
///         false
///     }
///     fn forward<'g>(&self, output: Tensor<'g>, target: Tensor<'g>) -> Vec<Tensor<'g>> {
///         let far = (output - target).abs().greater(self.0);
///         vec![far.convert(output.dtype()).sum_all(), output.like(output.shape().elements() as f64)]
///     }
///     fn value(&self, sums: &[f64]) -> f64 {
///         sums[0] / sums[1]
///     }
/// }
/// let step = Step::new(Linear::new(1), Mse::new(), Sgd::new(0.1)).metric(FarOff(2.0));
/// let batch = BatchSpec { x: Type::new(DType::F32, [8, 4]), y: Type::new(DType::F32, [8, 1]) };
/// assert!(step.evaluate(&batch)?.graph.outputs.iter().any(|o| o.name == "metric/far_off/0"));
/// # Ok::<(), backprop::Error>(())
/// ```
pub trait Metric: Debug + Send + Sync {
    /// Name in reports.
    fn name(&self) -> String;

    /// Whether a larger value is better: which of two epochs is the best depends on it.
    fn higher_is_better(&self) -> bool;

    /// Traces the sums over a batch, of any shapes that depend on the classes or columns alone and not on the rows. No gradient is
    /// taken of them. They leave the step in `f32`, those in `f64` in `f64`.
    fn forward<'g>(&self, output: Tensor<'g>, target: Tensor<'g>) -> Vec<Tensor<'g>>;

    /// The value over all batches that were added: `sums` has the elements of the sums of [`forward`](Self::forward) one after the
    /// other. NaN where it is not defined. Allocates nothing: it is called after every step.
    fn value(&self, sums: &[f64]) -> f64;

    /// How often a position of each class was taken for each class, if that is what is measured: one row for each true class. Such a
    /// metric has no number beside it.
    fn confusion(&self, sums: &[f64]) -> Option<Vec<Vec<u64>>> {
        let _ = sums;
        None
    }

    /// Checks the metric's numbers.
    ///
    /// # Errors
    /// A sentence saying which number is wrong.
    fn validate(&self) -> Result<(), String> {
        Ok(())
    }
}

/// Where the sums of each metric stand in the list of all sums, which are the elements of the outputs `metric/…` of a step's graph,
/// one after the other.
pub fn sum_ranges(metrics: &[Arc<dyn Metric>], graph: &Graph) -> Vec<Range<usize>> {
    let mut end = 0;
    let mut range = |metric: &Arc<dyn Metric>| {
        let prefix = format!("{OUTPUT}{}/", metric.name());
        let own = graph.outputs.iter().filter(|o| o.name.starts_with(&prefix));
        let start = end;
        end += own.map(|o| graph.ty(o.value).elements()).sum::<usize>();
        start..end
    };
    metrics.iter().map(&mut range).collect()
}

/// What the names of the outputs of all metrics start with.
pub(crate) const OUTPUT: &str = "metric/";

macro_rules! metrics {
    ($($variant:ident($metric:ident, $name:literal)),* $(,)?) => {
        /// The library's metrics, told apart by `type` in TOML.
        #[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(tag = "type", rename_all = "snake_case")]
        pub enum MetricSpec {
            $(#[expect(missing_docs, reason = "the type's own words stand in the reference")] #[serde(rename = $name)] $variant($metric),)*
        }

        impl MetricSpec {
            /// Names that can stand as `type` in TOML.
            pub const TYPES: &[&str] = &[$($name),*];

            fn get(&self) -> &dyn Metric {
                match self {
                    $(MetricSpec::$variant(metric) => metric,)*
                }
            }
        }
    };
}

metrics! {
    Accuracy(Accuracy, "accuracy"),
    TopK(TopK, "top_k"),
    Precision(Precision, "precision"),
    Recall(Recall, "recall"),
    F1(F1, "f1"),
    ConfusionMatrix(ConfusionMatrix, "confusion_matrix"),
    RocAuc(RocAuc, "roc_auc"),
    Perplexity(Perplexity, "perplexity"),
    Mse(MeanSquaredError, "mse"),
    Rmse(RootMeanSquaredError, "rmse"),
    Mae(MeanAbsoluteError, "mae"),
    Mape(MeanAbsolutePercentageError, "mape"),
    R2(R2, "r2"),
}

impl Metric for MetricSpec {
    fn name(&self) -> String {
        self.get().name()
    }
    fn higher_is_better(&self) -> bool {
        self.get().higher_is_better()
    }
    fn forward<'g>(&self, output: Tensor<'g>, target: Tensor<'g>) -> Vec<Tensor<'g>> {
        self.get().forward(output, target)
    }
    fn value(&self, sums: &[f64]) -> f64 {
        self.get().value(sums)
    }
    fn confusion(&self, sums: &[f64]) -> Option<Vec<Vec<u64>>> {
        self.get().confusion(sums)
    }
    fn validate(&self) -> Result<(), String> {
        self.get().validate()
    }
}
