//! Text as tokens.

use serde::{Deserialize, Serialize};

use super::{RawInput, SampleValues, Samples};
use crate::text::{self, Vocabulary};
use crate::{DataError, open::Input};

/// Text as tokens of a vocabulary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextCoding {
    /// What a token is, and which there are.
    pub vocabulary: Vocabulary,
    /// Tokens per sample in training. Prediction takes texts of any length.
    pub sequence: usize,
}

impl TextCoding {
    /// Characters of a vocabulary in samples of `sequence`.
    pub fn characters(vocabulary: Vocabulary, sequence: usize) -> Self {
        Self { vocabulary, sequence }
    }

    /// Encodes each text as one sample. All must have the same number of tokens.
    ///
    /// # Errors
    /// Files that cannot be read, texts of different lengths, an unknown token.
    pub fn encode(&self, raw: &RawInput) -> Result<Samples, DataError> {
        let texts: Vec<(String, String)> = match raw {
            RawInput::Texts(texts) => texts.iter().enumerate().map(|(i, t)| ((i + 1).to_string(), t.clone())).collect(),
            RawInput::Bytes(name, bytes) => vec![((*name).to_owned(), text::decode(Input::bytes(name, bytes)?)?)],
            RawInput::Files(files) => {
                let read = |f: &std::path::PathBuf| Ok((f.display().to_string(), text::read(f)?));
                files.iter().map(read).collect::<Result<_, DataError>>()?
            }
            RawInput::Numbers(_) => return Err(DataError::RawKind { needed: "text", found: "numbers" }),
        };
        let mut tokens = Vec::new();
        let mut length = None;
        for (name, text) in &texts {
            let encoded = self.vocabulary.encode(text)?;
            if *length.get_or_insert(encoded.len()) != encoded.len() || encoded.is_empty() {
                return Err(DataError::TextLength { data: name.clone(), found: encoded.len(), expected: length.unwrap_or(0) });
            }
            tokens.extend(encoded);
        }
        let names = texts.into_iter().map(|(name, _)| name).collect();
        Ok(Samples { names, shape: vec![length.unwrap_or(0)], values: SampleValues::I32(tokens), truth: None })
    }
}
