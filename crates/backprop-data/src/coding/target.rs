//! What a network's output means.

use serde::{Deserialize, Serialize};

use crate::text::Vocabulary;
use crate::{Column, Kind, Scale};

/// What a network's output means.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum TargetCoding {
    /// One class: outputs are scores of the classes (or one score, of the second of two classes).
    Class {
        /// Name of the target.
        name: String,
        /// The classes in the order of the outputs.
        classes: Vec<String>,
    },
    /// Quantities.
    Number {
        /// Their names, in the order of the outputs.
        names: Vec<String>,
        /// What the targets were scaled by; predictions are scaled back.
        scale: Scale,
        /// Whether the logarithm of the target is what was scaled.
        #[serde(default)]
        log: bool,
    },
    /// The next token at every position.
    Token {
        /// The tokens in the order of the outputs.
        vocabulary: Vocabulary,
    },
    /// The input itself, as the network sees it: an autoencoder. Predictions are errors of the reconstruction.
    Input,
}

impl TargetCoding {
    /// The coding of a target column whose numbers are scaled by `scale`.
    pub fn of(column: &Column, is_input: bool, scale: &Scale) -> Self {
        match &column.kind {
            _ if is_input => TargetCoding::Input,
            Kind::Class(classes) => {
                let classes = (0..classes.count()).map(|c| classes.name(c).into_owned()).collect();
                TargetCoding::Class { name: column.name.clone(), classes }
            }
            Kind::Token(vocabulary) => TargetCoding::Token { vocabulary: vocabulary.as_ref().clone() },
            Kind::Number => {
                TargetCoding::Number { names: numbered(&column.name, column.elements()), scale: scale.clone(), log: false }
            }
        }
    }

    /// Brings outputs of a [`Number`](TargetCoding::Number) back to their unit, sample by sample; others stay.
    pub fn decode(&self, outputs: &mut [f32]) {
        let TargetCoding::Number { scale, log, .. } = self else { return };
        scale.undo(outputs);
        if *log {
            outputs.iter_mut().for_each(|v| *v = v.exp());
        }
    }
}

/// `value`, or `value.0`, `value.1`, … where there are several.
fn numbered(name: &str, count: usize) -> Vec<String> {
    match count {
        1 => vec![name.into()],
        _ => (0..count).map(|i| format!("{name}.{i}")).collect(),
    }
}
