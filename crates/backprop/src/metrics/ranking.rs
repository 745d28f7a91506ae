//! Metrics of how classes are ranked.

use super::{Metric, classes::class_complaint, classes::ratio};
use crate::{
    loss::{CrossEntropy, Loss, default_ignore_index},
    nn::functional,
};
use backprop_core::{Tensor, Type};
use serde::{Deserialize, Serialize};

/// Share of positions whose target is among the `k` classes with the largest outputs. Among equal outputs the first class is ahead, so
/// that `k = 1` is the accuracy.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TopK {
    /// How many classes may be ahead, the target included.
    pub k: usize,
    /// Positions with this target do not count.
    #[serde(default = "default_ignore_index")]
    pub ignore_index: i32,
}

impl TopK {
    /// The target among the first `k`.
    pub fn new(k: usize) -> TopK {
        TopK { k, ignore_index: default_ignore_index() }
    }
}

impl Metric for TopK {
    fn name(&self) -> String {
        format!("top_{}", self.k)
    }

    fn higher_is_better(&self) -> bool {
        true
    }

    fn forward<'g>(&self, output: Tensor<'g>, target: Tensor<'g>) -> Vec<Tensor<'g>> {
        if let Some(failed) = class_complaint("top_k", output, target) {
            return vec![failed];
        }
        let (classes, positions) = (output.dim(-1), target.shape().elements());
        if self.k > classes {
            let message = format!("k is {}, but there are {classes} classes; take a smaller k", self.k);
            return vec![output.builder().fail("top_k", &[output.ty(), target.ty()], message)];
        }
        let (logits, target) = (output.reshape([positions, classes]), target.reshape([positions]));
        let spread = |x: Tensor<'g>| x.broadcast_in_dim([positions, classes], &[0]);
        let each = output.builder().iota(Type::new(target.dtype(), [positions, classes]), 1);
        let own = spread(target);
        let score = spread(each.equal(own).select(logits, output.builder().zeros(logits.ty())).sum(&[1]));
        let ahead = logits.greater(score) | (logits.equal(score) & each.less(own));
        // What is not a number is ahead of nothing and behind nothing: it is no hit.
        let ahead = (ahead | logits.not_equal(logits) | score.not_equal(score)).convert(output.dtype()).sum(&[1]);
        let counted = target.not_equal(f64::from(self.ignore_index));
        let count = |which: Tensor<'g>| which.convert(output.dtype()).sum(&[0]);
        vec![count(ahead.less(self.k as f64) & counted), count(counted)]
    }

    fn value(&self, sums: &[f64]) -> f64 {
        ratio(sums)
    }

    fn validate(&self) -> Result<(), String> {
        if self.k == 0 { Err("k must be at least 1".into()) } else { Ok(()) }
    }
}

/// e to the mean cross-entropy: among how many equally likely tokens the model would have to choose.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Perplexity {
    /// Positions with this target do not count.
    pub ignore_index: i32,
}

impl Default for Perplexity {
    fn default() -> Perplexity {
        Perplexity { ignore_index: default_ignore_index() }
    }
}

impl Metric for Perplexity {
    fn name(&self) -> String {
        "perplexity".into()
    }

    fn higher_is_better(&self) -> bool {
        false
    }

    fn forward<'g>(&self, output: Tensor<'g>, target: Tensor<'g>) -> Vec<Tensor<'g>> {
        let entropy = CrossEntropy::new().ignore_index(self.ignore_index).forward(output, target);
        vec![entropy.sum, entropy.weight]
    }

    fn value(&self, sums: &[f64]) -> f64 {
        ratio(sums).exp()
    }
}

/// Bins of equal width that the probabilities of a class fall into.
const BINS: usize = 256;

/// Area under the receiver operating characteristic: the probability that a position of a class is given a higher probability of it
/// than one of another class. With more than two classes the mean over the classes that occur, each against the rest.
///
/// Probabilities are counted in 256 bins, and two in one bin count as equal: the area is exact but for half of the share of pairs, one of
/// the class and one not, that share a bin.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RocAuc {
    /// Positions with this target do not count.
    pub ignore_index: i32,
}

impl Default for RocAuc {
    fn default() -> RocAuc {
        RocAuc { ignore_index: default_ignore_index() }
    }
}

impl Metric for RocAuc {
    fn name(&self) -> String {
        "roc_auc".into()
    }

    fn higher_is_better(&self) -> bool {
        true
    }

    /// For each class and bin, how many positions of the class and how many of others: `[classes, BINS]` twice.
    fn forward<'g>(&self, output: Tensor<'g>, target: Tensor<'g>) -> Vec<Tensor<'g>> {
        if let Some(failed) = class_complaint("roc_auc", output, target) {
            return vec![failed];
        }
        let (b, classes, positions) = (output.builder(), output.dim(-1), target.shape().elements());
        let (logits, target) = (output.reshape([positions, classes]), target.reshape([positions]));
        let spread = |x: Tensor<'g>| x.broadcast_in_dim([positions, classes], &[0]);
        let each = b.iota(Type::new(target.dtype(), [positions, classes]), 1);
        let (own, other) = (each.equal(spread(target)), each.not_equal(spread(target)));
        let counts = spread(target.not_equal(f64::from(self.ignore_index)));
        let bin = (functional::softmax(logits, -1) * BINS as f64).floor().minimum(BINS as f64 - 1.0);
        let shape = [positions, classes, BINS];
        let here = b.iota(Type::new(output.dtype(), shape), 2).equal(bin.broadcast_in_dim(shape, &[0, 1]));
        let of = |which: Tensor<'g>| (here & which.broadcast_in_dim(shape, &[0, 1])).convert(output.dtype()).sum(&[0]);
        vec![of(own & counts), of(other & counts)]
    }

    fn value(&self, sums: &[f64]) -> f64 {
        let (inside, outside) = sums.split_at(sums.len() / 2);
        let areas: Vec<f64> = inside.chunks(BINS).zip(outside.chunks(BINS)).map(|(i, o)| area(i, o)).collect();
        match areas[..] {
            // Two classes mirror each other.
            [_, second] => second,
            _ => {
                let defined = areas.iter().filter(|a| a.is_finite());
                let (sum, count) = defined.fold((0.0, 0.0), |(s, n), a| (s + a, n + 1.0));
                sum / count
            }
        }
    }
}

/// Share of pairs in which the one inside is in a higher bin; half of those in the same. NaN where one side is empty.
fn area(inside: &[f64], outside: &[f64]) -> f64 {
    let (mut below, mut pairs) = (0.0, 0.0);
    for (i, o) in inside.iter().zip(outside) {
        pairs += i * (below + 0.5 * o);
        below += o;
    }
    pairs / (inside.iter().sum::<f64>() * below)
}
