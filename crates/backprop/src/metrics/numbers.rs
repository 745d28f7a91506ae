//! Metrics of numbers. Training gives them outputs and targets in the unit of the data, whatever the network was trained on.

use super::{Metric, classes::ratio};
use crate::loss::{Loss, Mse, same_type};
use backprop_core::{DType, Tensor, op::Reducer};
use serde::{Deserialize, Serialize};

/// Squared error per element.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MeanSquaredError {}

/// Root of the mean squared error.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RootMeanSquaredError {}

/// Absolute error per element.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MeanAbsoluteError {}

/// Absolute error by the target's magnitude, per element: 0.1 is ten percent. Targets of 0 do not count.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MeanAbsolutePercentageError {}

/// Coefficient of determination R² = 1 − Σ(y − ŷ)² / Σ(y − ȳ)²: 1 is perfect, 0 as good as always the mean. With several outputs the
/// mean of theirs. NaN where a target does not vary. Sums are formed in f64.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct R2 {}

/// The sum of all elements, in f64.
fn total(x: Tensor<'_>) -> Tensor<'_> {
    x.reduce_in(DType::F64, Reducer::Sum, &(0..x.rank()).collect::<Vec<_>>())
}

/// A number of elements, in f64.
fn count<'g>(of: Tensor<'g>, elements: usize) -> Tensor<'g> {
    of.builder().scalar(DType::F64, elements as f64)
}

/// Sum and count of what a function makes of the differences; an error of the graph where output and target differ in type.
fn of_differences<'g>(
    name: &str,
    output: Tensor<'g>,
    target: Tensor<'g>,
    f: impl Fn(Tensor<'g>) -> Tensor<'g>,
) -> Vec<Tensor<'g>> {
    match same_type(name, output, target) {
        Some(failed) => vec![failed.sum],
        None => vec![total(f(output - target)), count(output, output.shape().elements())],
    }
}

impl Metric for MeanSquaredError {
    fn name(&self) -> String {
        "mse".into()
    }

    fn higher_is_better(&self) -> bool {
        false
    }

    fn forward<'g>(&self, output: Tensor<'g>, target: Tensor<'g>) -> Vec<Tensor<'g>> {
        let squared = Mse {}.forward(output, target);
        vec![squared.sum, squared.weight]
    }

    fn value(&self, sums: &[f64]) -> f64 {
        ratio(sums)
    }
}

impl Metric for RootMeanSquaredError {
    fn name(&self) -> String {
        "rmse".into()
    }

    fn higher_is_better(&self) -> bool {
        false
    }

    fn forward<'g>(&self, output: Tensor<'g>, target: Tensor<'g>) -> Vec<Tensor<'g>> {
        of_differences("rmse", output, target, |d| d * d)
    }

    fn value(&self, sums: &[f64]) -> f64 {
        ratio(sums).sqrt()
    }
}

impl Metric for MeanAbsoluteError {
    fn name(&self) -> String {
        "mae".into()
    }

    fn higher_is_better(&self) -> bool {
        false
    }

    fn forward<'g>(&self, output: Tensor<'g>, target: Tensor<'g>) -> Vec<Tensor<'g>> {
        of_differences("mae", output, target, Tensor::abs)
    }

    fn value(&self, sums: &[f64]) -> f64 {
        ratio(sums)
    }
}

impl Metric for MeanAbsolutePercentageError {
    fn name(&self) -> String {
        "mape".into()
    }

    fn higher_is_better(&self) -> bool {
        false
    }

    fn forward<'g>(&self, output: Tensor<'g>, target: Tensor<'g>) -> Vec<Tensor<'g>> {
        if let Some(failed) = same_type("mape", output, target) {
            return vec![failed.sum];
        }
        let counts = target.not_equal(0.0);
        let shares = counts.select((output - target).abs() / target.abs(), target * 0.0);
        vec![total(shares), total(counts.convert(output.dtype()))]
    }

    fn value(&self, sums: &[f64]) -> f64 {
        ratio(sums)
    }
}

impl Metric for R2 {
    fn name(&self) -> String {
        "r2".into()
    }

    fn higher_is_better(&self) -> bool {
        true
    }

    /// The number of rows, then for each output Σy, Σy² and Σ(y − ŷ)².
    fn forward<'g>(&self, output: Tensor<'g>, target: Tensor<'g>) -> Vec<Tensor<'g>> {
        if let Some(failed) = same_type("r2", output, target) {
            return vec![failed.sum];
        }
        let rows = target.dim(0);
        let columns = |x: Tensor<'g>| x.reshape([rows, x.shape().elements() / rows.max(1)]).convert(DType::F64);
        let (y, error) = (columns(target), columns(output) - columns(target));
        vec![count(y, rows), y.sum(&[0]), (y * y).sum(&[0]), (error * error).sum(&[0])]
    }

    fn value(&self, sums: &[f64]) -> f64 {
        let Some((rows, sums)) = sums.split_first() else { return f64::NAN };
        let outputs = sums.len() / 3;
        let (y, rest) = sums.split_at(outputs);
        let (squares, errors) = rest.split_at(outputs);
        let of = |i: usize| {
            let spread = squares[i] - y[i] * y[i] / rows;
            // What rounding of Σy² leaves of a constant target is no variance.
            if spread <= rows * f64::EPSILON * squares[i] { f64::NAN } else { 1.0 - errors[i] / spread }
        };
        (0..outputs).map(of).sum::<f64>() / outputs as f64
    }
}
