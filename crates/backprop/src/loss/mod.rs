//! Losses: each gives a sum and the weight it stands for; only the training step divides. Accumulation, ignored positions and a
//! smaller last batch are then exact.

mod likelihood;
mod numbers;

pub use likelihood::{Focal, KlDiv, Nll};
pub use numbers::{Huber, L1, LogCosh, PoissonNll, Quantile, SmoothL1};

use crate::nn::{
    custom_vjp_with_residuals,
    functional::{log1p_exp_neg_abs, spread},
};
use backprop_core::{DType, HostTensor, Shape, Tensor, Type};
use serde::{Deserialize, Serialize};
use std::fmt::Debug;

/// A sum and the weight it stands for, both scalars of the output's element type.
#[derive(Clone, Copy, Debug)]
pub struct Weighted<'g> {
    /// Sum over the batch.
    pub sum: Tensor<'g>,
    /// Number of summands, or the sum of their weights.
    pub weight: Tensor<'g>,
}

impl<'g> Weighted<'g> {
    /// The sum divided by the weight.
    #[track_caller]
    pub fn mean(self) -> Tensor<'g> {
        self.sum / self.weight
    }
}

/// What training makes small.
pub trait Loss: Debug + Send + Sync {
    /// Traces the loss of a model's output against the targets.
    fn forward<'g>(&self, output: Tensor<'g>, target: Tensor<'g>) -> Weighted<'g>;

    /// What metrics compare with the targets and predictions show: logits where the targets are `classes`, else numbers of the
    /// targets' kind. The output itself, unless the loss reads it in another way.
    fn prediction<'g>(&self, output: Tensor<'g>, classes: bool) -> Tensor<'g> {
        let _ = classes;
        output
    }

    /// Whether targets that are numbers may be scaled. Counts and probabilities mean something else then.
    fn allows_scaled_targets(&self) -> bool {
        true
    }

    /// Checks the loss's numbers.
    ///
    /// # Errors
    /// A sentence saying which number is wrong.
    fn validate(&self) -> Result<(), String> {
        Ok(())
    }
}

macro_rules! losses {
    ($($loss:ident($name:literal)),* $(,)?) => {
        /// The library's losses, told apart by `type` in TOML.
        #[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
        #[serde(tag = "type", rename_all = "snake_case")]
        #[expect(missing_docs, reason = "a loss is documented at its type, which the schema then quotes")]
        pub enum LossSpec {
            $(#[serde(rename = $name)] $loss($loss),)*
        }

        $(impl From<$loss> for LossSpec {
            fn from(loss: $loss) -> LossSpec {
                LossSpec::$loss(loss)
            }
        })*

        impl LossSpec {
            /// Names that can stand as `type` in TOML.
            pub const TYPES: &[&str] = &[$($name),*];

            fn get(&self) -> &dyn Loss {
                match self {
                    $(LossSpec::$loss(loss) => loss,)*
                }
            }
        }
    };
}

losses! {
    CrossEntropy("cross_entropy"),
    Nll("nll"),
    Focal("focal"),
    BceWithLogits("bce_with_logits"),
    KlDiv("kl_div"),
    Mse("mse"),
    L1("l1"),
    Huber("huber"),
    SmoothL1("smooth_l1"),
    LogCosh("log_cosh"),
    Quantile("quantile"),
    PoissonNll("poisson_nll"),
}

impl Loss for LossSpec {
    fn forward<'g>(&self, output: Tensor<'g>, target: Tensor<'g>) -> Weighted<'g> {
        self.get().forward(output, target)
    }
    fn prediction<'g>(&self, output: Tensor<'g>, classes: bool) -> Tensor<'g> {
        self.get().prediction(output, classes)
    }
    fn allows_scaled_targets(&self) -> bool {
        self.get().allows_scaled_targets()
    }
    fn validate(&self) -> Result<(), String> {
        self.get().validate()
    }
}

/// Cross-entropy of logits `[.., classes]` against class indices `[..]`. An index that is neither a class nor `ignore_index`
/// makes the loss NaN, so that no update is made.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CrossEntropy {
    /// Positions with this target count neither in the sum nor in the weight.
    #[serde(default = "default_ignore_index")]
    pub ignore_index: i32,
    /// Share of the target that is spread evenly over all classes.
    #[serde(default)]
    pub label_smoothing: f64,
    /// Weight of each class, or `"balanced"`; all 1 unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight: Option<ClassWeights>,
}

/// Weights of classes.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(untagged, expecting = "must be a list with one weight for each class, or \"balanced\"")]
pub enum ClassWeights {
    /// One for each class.
    Given(Vec<f64>),
    /// By how rare a class is.
    By(Balance),
}

/// How class weights follow from the data.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Balance {
    /// n / (classes · n_c) for n rows of the training part, n_c of them of class c, so that every class weighs the same (scikit-learn's
    /// formula). The configuration of the run has the numbers.
    Balanced,
}

impl ClassWeights {
    /// The weights that balance classes of these sizes. A class that does not occur weighs 1.
    pub fn balancing(counts: &[usize]) -> ClassWeights {
        let (rows, classes) = (counts.iter().sum::<usize>() as f64, counts.len() as f64);
        let weight = |&n: &usize| if n == 0 { 1.0 } else { rows / (classes * n as f64) };
        ClassWeights::Given(counts.iter().map(weight).collect())
    }

    /// The numbers, where they are known.
    fn given(&self) -> Option<&[f64]> {
        match self {
            ClassWeights::Given(weights) => Some(weights),
            ClassWeights::By(Balance::Balanced) => None,
        }
    }
}

/// What is wrong with weights of classes, if anything.
fn check_class_weights(weights: Option<&[f64]>) -> Result<(), String> {
    match weights.into_iter().flatten().find(|w| !w.is_finite() || **w < 0.0) {
        Some(w) => Err(format!("class weights must be finite and not negative, got {w}")),
        None => Ok(()),
    }
}

/// PyTorch's.
pub(crate) const fn default_ignore_index() -> i32 {
    -100
}

impl Default for CrossEntropy {
    fn default() -> CrossEntropy {
        CrossEntropy { ignore_index: default_ignore_index(), label_smoothing: 0.0, weight: None }
    }
}

impl CrossEntropy {
    /// PyTorch's defaults: ignores −100, no smoothing, no class weights.
    pub fn new() -> CrossEntropy {
        CrossEntropy::default()
    }

    /// Positions with this target are ignored.
    pub fn ignore_index(mut self, index: i32) -> CrossEntropy {
        self.ignore_index = index;
        self
    }

    /// Share of the target that is spread evenly over all classes.
    pub fn label_smoothing(mut self, share: f64) -> CrossEntropy {
        self.label_smoothing = share;
        self
    }

    /// Weight of each class.
    pub fn weight(mut self, weight: impl Into<Vec<f64>>) -> CrossEntropy {
        self.weight = Some(ClassWeights::Given(weight.into()));
        self
    }

    /// The weights that are known.
    fn weights(&self) -> Option<&[f64]> {
        self.weight.as_ref().and_then(ClassWeights::given)
    }

    /// What is wrong with the operands, if anything.
    fn complaint(&self, logits: Tensor<'_>, target: Tensor<'_>) -> Option<String> {
        let (l, t) = (logits.shape(), target.shape());
        if !logits.dtype().is_float() || l.is_empty() || l[..l.len() - 1] != t[..] {
            return Some("needs logits [.., classes] and one class index for each position [..]".into());
        }
        if !matches!(target.dtype(), DType::I32 | DType::I64) {
            return Some("needs class indices of type i32; for numbers as targets use mse or bce_with_logits".into());
        }
        match self.weights() {
            None if self.weight.is_some() => Some(
                "balanced weights follow from the data: Trainer fills them in, or give ClassWeights::balancing(counts)".into(),
            ),
            Some(w) if w.len() != l[l.len() - 1] => Some(format!("{} class weights for {} classes", w.len(), l[l.len() - 1])),
            _ => None,
        }
    }

    /// The weights of the classes as a constant `[classes]`.
    fn weights_of<'b>(&self, logits: Tensor<'b>) -> Option<Tensor<'b>> {
        let classes = logits.dim(1);
        let weights = self.weights().and_then(|w| HostTensor::from_f64(logits.dtype(), [classes], w).ok());
        weights.map(|w| logits.builder().constant(w))
    }

    /// 1 for each position `[m]`, 0 where ignored, NaN for what is no class.
    fn counts<'b>(&self, logits: Tensor<'b>, target: Tensor<'b>) -> Tensor<'b> {
        let shape = logits.shape();
        let one = logits.builder().full(Type::new(logits.dtype(), &shape[..1]), 1.0);
        let known = target.greater_equal(0.0) & target.less(shape[1] as f64);
        target.not_equal(f64::from(self.ignore_index)).select(known.select(one, one * f64::NAN), one * 0.0)
    }

    /// Where the targets are single classes: the logit of each position's class and the weight of the position, `[m]` each. Nothing but
    /// these logits is read.
    fn of_classes<'b>(&self, logits: Tensor<'b>, target: Tensor<'b>) -> [Tensor<'b>; 2] {
        let (b, shape) = (logits.builder(), logits.shape());
        let class = target.clamp(target.like(0.0), target.like((shape[1] - 1) as f64));
        let place = b.iota(target.ty(), 0) * (shape[1] as f64) + class;
        let flat = [shape.elements(), 1];
        let own = logits.reshape(flat).rows(place).reshape(target.shape());
        let counts = self.counts(logits, target);
        let weight = self.weights_of(logits).map_or(counts, |w| w.rows(class) * counts);
        [own, weight]
    }

    /// Whether the targets of `positions × classes` logits are single classes, and whole numbers can count the logits.
    fn is_of_classes(&self, shape: &Shape) -> bool {
        self.label_smoothing == 0.0 && (1..=i32::MAX as usize).contains(&shape.elements())
    }

    /// The target distribution `[m, classes]` times the class weights, and the weight of each position `[m]`; zero where ignored.
    fn distribution<'b>(&self, logits: Tensor<'b>, target: Tensor<'b>) -> (Tensor<'b>, Tensor<'b>) {
        let (b, shape) = (logits.builder(), logits.shape());
        let here = b.iota(Type::new(target.dtype(), &shape), 1).equal(spread(target, &shape, &[1]));
        let full = |value: f64| b.full(logits.ty(), value);
        let off = self.label_smoothing / shape[1] as f64;
        let share = here.select(full(1.0 - self.label_smoothing + off), full(off));
        let counts = self.counts(logits, target);
        let Some(class_weights) = self.weights_of(logits) else { return (share * spread(counts, &shape, &[1]), counts) };
        let class_weights = class_weights.broadcast_to(&shape);
        let own = here.select(class_weights, full(0.0)).sum(&[1]);
        (share * class_weights * spread(counts, &shape, &[1]), own * counts)
    }
}

impl Loss for CrossEntropy {
    fn forward<'g>(&self, output: Tensor<'g>, target: Tensor<'g>) -> Weighted<'g> {
        if let Some(message) = self.complaint(output, target) {
            let stand_in = output.builder().fail("cross_entropy", &[output.ty(), target.ty()], message);
            return Weighted { sum: stand_in, weight: stand_in };
        }
        let (shape, positions) = (output.shape(), target.shape().elements());
        let logits = output.reshape([positions, shape[shape.len() - 1]]);
        let outputs = custom_vjp_with_residuals(
            "cross_entropy",
            &[logits, target.reshape([positions])],
            1,
            |x| {
                let shape = x[0].shape();
                let highest = x[0].max(&[1]);
                let shifted = (x[0] - spread(highest, &shape, &[1])).exp();
                let log_sum_exp = shifted.sum(&[1]).log() + highest;
                if self.is_of_classes(&shape) {
                    let [own, weight] = self.of_classes(x[0], x[1]);
                    let terms = weight.equal(0.0).select(weight, weight * (log_sum_exp - own));
                    return vec![terms.sum_all(), weight.sum_all(), log_sum_exp];
                }
                let (q, weight) = self.distribution(x[0], x[1]);
                // Where q is 0 nothing counts, not even an infinite logit.
                let terms = q * (spread(log_sum_exp, &shape, &[1]) - x[0]);
                vec![q.equal(0.0).select(q, terms).sum_all(), weight.sum_all(), log_sum_exp]
            },
            |s| {
                let (logits, shape) = (s.inputs[0], s.inputs[0].shape());
                let p = (logits - spread(s.outputs[2], &shape, &[1])).exp();
                if self.is_of_classes(&shape) {
                    let [_, weight] = self.of_classes(logits, s.inputs[1]);
                    let (b, weight) = (logits.builder(), spread(weight * s.cotangents[0], &shape, &[1]));
                    let classes = b.iota(Type::new(s.inputs[1].dtype(), &shape), 1);
                    let here = classes.equal(spread(s.inputs[1], &shape, &[1]));
                    return vec![Some((p - here.select(b.full(p.ty(), 1.0), b.zeros(p.ty()))) * weight), None];
                }
                let (q, _) = self.distribution(logits, s.inputs[1]);
                vec![Some((p * spread(q.sum(&[1]), &shape, &[1]) - q) * s.cotangents[0]), None]
            },
        );
        Weighted { sum: outputs[0], weight: outputs.get(1).copied().unwrap_or(outputs[0]) }
    }

    fn validate(&self) -> Result<(), String> {
        if !(0.0..=1.0).contains(&self.label_smoothing) {
            return Err(format!("label_smoothing must be in [0, 1], got {}", self.label_smoothing));
        }
        check_class_weights(self.weights())
    }
}

/// Squared error; the weight is the number of elements.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Mse {}

impl Mse {
    /// The loss.
    pub fn new() -> Mse {
        Mse {}
    }
}

impl Loss for Mse {
    fn forward<'g>(&self, output: Tensor<'g>, target: Tensor<'g>) -> Weighted<'g> {
        if let Some(failed) = same_type("mse", output, target) {
            return failed;
        }
        let difference = output - target;
        Weighted { sum: (difference * difference).sum_all(), weight: output.like(output.shape().elements() as f64) }
    }
}

/// Binary cross-entropy of logits against probabilities of the same shape, or one logit per row, of the second of two classes, against
/// the class 0 or 1; the weight is the number of elements.
#[derive(Clone, Copy, PartialEq, Debug, Default, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct BceWithLogits {
    /// Factor on the loss of positive targets.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pos_weight: Option<f64>,
}

impl BceWithLogits {
    /// Positives and negatives alike.
    pub fn new() -> BceWithLogits {
        BceWithLogits::default()
    }

    /// Factor on the loss of positive targets.
    pub fn pos_weight(mut self, weight: f64) -> BceWithLogits {
        self.pos_weight = Some(weight);
        self
    }
}

impl Loss for BceWithLogits {
    /// With softplus(x) = ln(1 + eˣ) = max(x, 0) + ln(1 + e^−|x|): (1 − y)·x + (1 + (w − 1)·y)·softplus(−x).
    fn forward<'g>(&self, output: Tensor<'g>, target: Tensor<'g>) -> Weighted<'g> {
        let one_each = target.dtype().is_int() && target.shape().elements() == output.shape().elements();
        // Another class than 0 and 1 makes the loss NaN, so that no update is made.
        let target = if one_each {
            let class = target.convert(output.dtype()).reshape(output.shape());
            (class.equal(0.0) | class.equal(1.0)).select(class, class * 0.0 + f64::NAN)
        } else {
            target
        };
        if let Some(failed) = same_type("bce_with_logits", output, target) {
            return failed;
        }
        let extra = self.pos_weight.unwrap_or(1.0) - 1.0;
        let outputs = custom_vjp_with_residuals(
            "bce_with_logits",
            &[output, target],
            0,
            |o| {
                let (x, y) = (o[0], o[1]);
                let terms = (1.0 - y) * x + (y * extra + 1.0) * softplus_of_negative(x);
                vec![terms.sum_all()]
            },
            |s| {
                let (x, y, g) = (s.inputs[0], s.inputs[1], s.cotangents[0]);
                let to_x = (1.0 - y) - (y * extra + 1.0) * (-x).logistic();
                let to_y = softplus_of_negative(x) * extra - x;
                vec![Some(to_x * g), Some(to_y * g)]
            },
        );
        Weighted { sum: outputs[0], weight: output.like(output.shape().elements() as f64) }
    }

    fn prediction<'g>(&self, output: Tensor<'g>, classes: bool) -> Tensor<'g> {
        if classes { output } else { output.logistic() }
    }

    fn allows_scaled_targets(&self) -> bool {
        false
    }

    fn validate(&self) -> Result<(), String> {
        match self.pos_weight {
            Some(w) if !w.is_finite() || w < 0.0 => Err(format!("pos_weight must be finite and not negative, got {w}")),
            _ => Ok(()),
        }
    }
}

fn softplus_of_negative(x: Tensor<'_>) -> Tensor<'_> {
    (-x).maximum(0.0) + log1p_exp_neg_abs(x)
}

/// An error of the graph if output and target differ in type.
#[track_caller]
pub(crate) fn same_type<'g>(loss: &str, output: Tensor<'g>, target: Tensor<'g>) -> Option<Weighted<'g>> {
    if output.ty() == target.ty() && output.dtype().is_float() {
        return None;
    }
    let message = if target.dtype().is_int() {
        "needs numbers as targets, but these are classes; take one for classes, such as cross_entropy or accuracy"
    } else {
        "output and target must be of one floating-point type and shape"
    };
    let stand_in = output.builder().fail(loss, &[output.ty(), target.ty()], message.into());
    Some(Weighted { sum: stand_in, weight: stand_in })
}
