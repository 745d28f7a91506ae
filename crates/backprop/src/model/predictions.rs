use super::ModelError;
use backprop_core::HostTensor;
use backprop_data::coding::{TargetCoding, Truth};
use std::borrow::Cow;

/// What a model says of samples.
#[derive(Clone, PartialEq, Debug)]
pub struct Predictions {
    /// What the samples are called: files, line numbers.
    pub names: Vec<String>,
    /// What is said of them.
    pub outcome: Outcome,
    /// The answers, where they stand in the input.
    pub truth: Option<Truth>,
}

/// What is predicted.
#[derive(Clone, PartialEq, Debug)]
pub enum Outcome {
    /// One of several classes. Of a model of text: the next token.
    Classes {
        /// What is classified, as `species`.
        name: String,
        /// The classes.
        classes: Vec<String>,
        /// Probability of each class, sample by sample.
        probabilities: Vec<f32>,
    },
    /// Quantities in the unit of the data.
    Numbers {
        /// Their names.
        names: Vec<String>,
        /// The quantities, sample by sample.
        values: Vec<f32>,
    },
    /// Of an autoencoder: the mean squared error with which each sample is restored, in the scale that the network sees. What is
    /// unlike the training data is restored badly.
    Reconstruction {
        /// The error of each sample.
        errors: Vec<f32>,
    },
}

impl Predictions {
    /// Reads the model's output `[N, outputs]`.
    pub(super) fn new(
        target: &TargetCoding,
        names: Vec<String>,
        output: &HostTensor,
        truth: Option<Truth>,
    ) -> Result<Predictions, ModelError> {
        let mut values = output.as_slice::<f32>().map(<[f32]>::to_vec).unwrap_or_default();
        let outputs = values.len() / names.len().max(1);
        let expect = |what: &str, expected: usize| {
            if outputs == expected {
                return Ok(());
            }
            let message = format!("the model gives {outputs} outputs per sample, but its run has {expected} {what}");
            Err(ModelError::Use(message))
        };
        let outcome = match target {
            TargetCoding::Class { name, classes } => {
                // A network may have more outputs than there are classes.
                let classes = (0..outputs.max(classes.len()))
                    .map(|i| classes.get(i).cloned().unwrap_or_else(|| i.to_string()))
                    .collect::<Vec<_>>();
                expect("classes", classes.len())?;
                Outcome::Classes { name: name.clone(), classes, probabilities: values }
            }
            TargetCoding::Token { vocabulary } => {
                let classes: Vec<String> = (0..outputs).map(|i| vocabulary.decode(&[i as i32])).collect();
                Outcome::Classes { name: "next".into(), classes, probabilities: values }
            }
            TargetCoding::Number { names, .. } => {
                expect("quantities to predict", names.len())?;
                target.decode(&mut values);
                Outcome::Numbers { names: names.clone(), values }
            }
            TargetCoding::Input => Outcome::Reconstruction { errors: values },
        };
        Ok(Predictions { names, outcome, truth })
    }

    /// Number of samples.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether there are no samples.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The outputs of a sample: probabilities, quantities, or the error of its reconstruction.
    pub fn row(&self, sample: usize) -> &[f32] {
        let (Outcome::Classes { probabilities: all, .. }
        | Outcome::Numbers { values: all, .. }
        | Outcome::Reconstruction { errors: all }) = &self.outcome;
        let width = all.len() / self.len().max(1);
        all.get(sample * width..(sample + 1) * width).unwrap_or_default()
    }

    /// The classes of a sample with their probabilities, the likeliest first; among equals in the order of the classes. Empty where
    /// quantities are predicted.
    pub fn ranking(&self, sample: usize) -> Vec<(&str, f32)> {
        let Outcome::Classes { classes, .. } = &self.outcome else { return Vec::new() };
        let mut ranking: Vec<(&str, f32)> = classes.iter().map(String::as_str).zip(self.row(sample).iter().copied()).collect();
        ranking.sort_by(|a, b| b.1.total_cmp(&a.1));
        ranking
    }

    /// The likeliest class, or the first quantity as text.
    pub fn label(&self, sample: usize) -> Cow<'_, str> {
        match (self.ranking(sample).first(), self.row(sample).first()) {
            (Some((label, _)), _) => Cow::Borrowed(label),
            (None, Some(value)) => Cow::Owned(value.to_string()),
            (None, None) => Cow::Borrowed(""),
        }
    }

    /// The probability of the likeliest class; NaN where quantities are predicted.
    pub fn confidence(&self, sample: usize) -> f32 {
        self.ranking(sample).first().map_or(f32::NAN, |(_, p)| *p)
    }
}
