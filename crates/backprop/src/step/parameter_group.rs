use super::Group;
use crate::nn::StateSpec;
use serde::{Deserialize, Serialize};

/// Parameters, by patterns of their names, that are updated in a way of their own or not at all. Of several groups the first that
/// matches holds; parameters of no group are updated by the optimizer as it is.
///
/// ```
/// use backprop::prelude::*;
///
/// let model = Sequential::new().push(Linear::new(8)).push(LayerNorm::new()).push(Linear::new(3));
/// let step = Step::new(model, CrossEntropy::new(), AdamW::new(1e-3))
///     .group(ParameterGroup::new(["layers.0.*"]).frozen())
///     .group(ParameterGroup::new(["*.bias", "layers.1.*"]).weight_decay(0.0));
/// let traced = step.trace(&BatchSpec { x: Type::new(DType::F32, [8, 4]), y: Type::new(DType::I32, [8]) })?;
/// // Six parameters; the two of the first layer have no optimizer state.
/// assert_eq!(traced.state.len(), 6 + 2 * 4);
/// # Ok::<(), backprop::Error>(())
/// ```
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ParameterGroup {
    /// Patterns of parameter names, such as `layers.0.*` or `*.bias`: `*` stands for any characters, `?` for one.
    #[serde(rename = "match")]
    pub patterns: Patterns,
    /// Learning rate instead of the optimizer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning_rate: Option<f64>,
    /// Factor on the optimizer's learning rate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub learning_rate_factor: Option<f64>,
    /// Weight decay instead of the optimizer's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub weight_decay: Option<f64>,
    /// Whether these parameters stay as they are: no gradient is computed for them, and no optimizer state kept. As in PyTorch, the
    /// running statistics of such layers still follow the batches.
    #[serde(default)]
    pub frozen: bool,
}

/// One pattern, or several.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum Patterns {
    /// One.
    One(String),
    /// Several, of which any may match.
    Several(Vec<String>),
}

impl Patterns {
    /// The patterns.
    pub fn list(&self) -> &[String] {
        match self {
            Patterns::One(pattern) => std::slice::from_ref(pattern),
            Patterns::Several(patterns) => patterns,
        }
    }
}

impl ParameterGroup {
    /// The parameters whose names match any of the patterns, updated as all others.
    pub fn new<P: Into<String>>(patterns: impl IntoIterator<Item = P>) -> ParameterGroup {
        ParameterGroup {
            patterns: Patterns::Several(patterns.into_iter().map(Into::into).collect()),
            learning_rate: None,
            learning_rate_factor: None,
            weight_decay: None,
            frozen: false,
        }
    }

    /// Learning rate instead of the optimizer's.
    pub fn learning_rate(mut self, rate: f64) -> ParameterGroup {
        self.learning_rate = Some(rate);
        self
    }

    /// Factor on the optimizer's learning rate.
    pub fn learning_rate_factor(mut self, factor: f64) -> ParameterGroup {
        self.learning_rate_factor = Some(factor);
        self
    }

    /// Weight decay instead of the optimizer's.
    pub fn weight_decay(mut self, weight_decay: f64) -> ParameterGroup {
        self.weight_decay = Some(weight_decay);
        self
    }

    /// These parameters stay as they are.
    pub fn frozen(mut self) -> ParameterGroup {
        self.frozen = true;
        self
    }

    /// Whether a parameter belongs to the group.
    pub fn matches(&self, parameter: &StateSpec) -> bool {
        self.patterns.list().iter().any(|pattern| matches(pattern, &parameter.name))
    }

    /// Checks what does not depend on the network.
    ///
    /// # Errors
    /// A sentence saying what is wrong.
    pub fn validate(&self) -> Result<(), String> {
        let changes = self.learning_rate.is_some() || self.learning_rate_factor.is_some() || self.weight_decay.is_some();
        let number = |name: &str, value: Option<f64>, zero: bool| match value {
            Some(v) if !v.is_finite() || v < 0.0 || v == 0.0 && !zero => {
                Err(format!("{name} must be a number {}, got {v}", if zero { "of 0 or more" } else { "above 0" }))
            }
            _ => Ok(()),
        };
        number("learning_rate", self.learning_rate, false)?;
        number("learning_rate_factor", self.learning_rate_factor, false)?;
        number("weight_decay", self.weight_decay, true)?;
        match () {
            () if self.patterns.list().is_empty() => Err("a group needs at least one pattern".into()),
            () if self.learning_rate.is_some() && self.learning_rate_factor.is_some() => {
                Err("a group has a learning_rate or a learning_rate_factor, not both; leave one of them out".into())
            }
            () if self.frozen && changes => {
                Err("a frozen group is not updated, so it has no learning rate and no weight decay; leave them out".into())
            }
            () => Ok(()),
        }
    }

    /// The group of the step, called `name`, that differs from the base in what is given here.
    ///
    /// # Errors
    /// If the optimizer has no weight decay that could be another.
    pub(super) fn of(&self, base: &Group, name: String) -> Result<Group, String> {
        let rate = self.learning_rate.or(self.learning_rate_factor.map(|factor| factor * base.optimizer.learning_rate()));
        let decayed = |decay| base.optimizer.with_weight_decay(decay).ok_or("this optimizer has no weight decay; leave it out");
        let optimizer = self.weight_decay.map_or(Ok(base.optimizer.clone()), decayed)?;
        Ok(Group { name, optimizer, learning_rate: rate, ..base.clone() })
    }
}

/// Whether a name is what a pattern describes: `*` stands for any characters, also none, `?` for one.
pub(super) fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    // The last star, and where what it stands for ends: a mismatch lets it take one character more.
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => (p, n) = (p + 1, n + 1),
            _ => {
                let Some((at, taken)) = star else { return false };
                star = Some((at, taken + 1));
                (p, n) = (at + 1, taken + 1);
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn patterns_describe_names() {
        let name = "layers.10.body.layers.0.bias";
        for pattern in ["*", name, "*.bias", "layers.*", "layers.1?.*", "*body*", "*.layers.*.bias", "l*s.10.*0.b*s**"] {
            assert!(matches(pattern, name), "{pattern}");
        }
        for pattern in ["", "layers", "*.weight", "layers.1.*", "?", "layers.?.*", "*bias.", "bias"] {
            assert!(!matches(pattern, name), "{pattern}");
        }
        assert!(matches("", "") && matches("*", "") && !matches("?", ""));
    }
}
