//! Text as tokens.

use serde::{Deserialize, Serialize};

use super::{RawInput, SampleValues, Samples};
use crate::labels::{self, Wanted};
use crate::text::{self, PAD, Unit, Vocabulary};
use crate::{DataError, open, open::Input};

/// Text as tokens of a vocabulary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TextCoding {
    /// What a token is, and which there are.
    pub vocabulary: Vocabulary,
    /// Tokens per sample in training.
    pub sequence: usize,
    /// On which side shorter texts are filled up to `sequence` tokens; longer ones are cut at their end. Without it, prediction
    /// takes texts of any length as they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pad: Option<PadSide>,
    /// Column of the texts in CSV files that are predicted; without it `text`, or the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub text_column: Option<String>,
}

/// On which side a text is filled up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum PadSide {
    /// Padding follows the text.
    #[default]
    End,
    /// Padding comes before the text.
    Start,
}

impl TextCoding {
    /// Texts as they are, in samples of `sequence` tokens.
    pub fn characters(vocabulary: Vocabulary, sequence: usize) -> Self {
        Self { vocabulary, sequence, pad: None, text_column: None }
    }

    /// Encodes each text as one sample: texts, text files, or the lines of CSV files. Where samples are not filled up, all must
    /// have the same number of tokens.
    ///
    /// # Errors
    /// Files that cannot be read, texts of different lengths, an unknown token.
    pub fn encode(&self, raw: &RawInput) -> Result<Samples, DataError> {
        let mut samples = Samples { names: Vec::new(), shape: Vec::new(), values: SampleValues::I32(Vec::new()), truth: None };
        match raw {
            RawInput::Texts(texts) => {
                for (i, text) in texts.iter().enumerate() {
                    self.sample(&mut samples, (i + 1).to_string(), text)?;
                }
            }
            RawInput::Bytes(name, bytes) => self.file(&mut samples, name, bytes)?,
            RawInput::Files(files) => {
                for file in *files {
                    self.file(&mut samples, &file.display().to_string(), &open::bytes(file)?)?;
                }
            }
            RawInput::Numbers(_) => return Err(DataError::RawKind { needed: "text", found: "numbers" }),
        }
        if samples.shape.is_empty() {
            samples.shape = vec![0];
        }
        Ok(samples)
    }

    /// Adds the text of a file, or the texts of a CSV file.
    fn file(&self, samples: &mut Samples, name: &str, bytes: &[u8]) -> Result<(), DataError> {
        if self.vocabulary.unit() == Unit::Byte && self.pad.is_none() {
            let bytes = Input::bytes(name, bytes)?.rest()?;
            return self.add(samples, name.into(), self.vocabulary.encode_bytes(&bytes));
        }
        let text = text::decode(Input::bytes(name, bytes)?)?;
        let plain = name.trim_end_matches(".gz").to_lowercase();
        if self.pad.is_none() || !(plain.ends_with(".csv") || plain.ends_with(".tsv")) {
            return self.sample(samples, name.into(), &text);
        }
        let wanted = Wanted { key: "text_column", given: self.text_column.as_deref(), usual: "text", place: 0 };
        for (i, text) in labels::column(name, &text, &wanted)?.iter().enumerate() {
            self.sample(samples, format!("{name}:{}", i + 1), text)?;
        }
        Ok(())
    }

    fn sample(&self, samples: &mut Samples, name: String, text: &str) -> Result<(), DataError> {
        let mut tokens = Vec::new();
        self.push(text, &mut tokens)?;
        self.add(samples, name, tokens)
    }

    fn add(&self, samples: &mut Samples, name: String, tokens: Vec<i32>) -> Result<(), DataError> {
        let expected = samples.shape.first().copied().unwrap_or(tokens.len());
        if expected != tokens.len() || tokens.is_empty() {
            return Err(DataError::TextLength { data: name, found: tokens.len(), expected });
        }
        samples.shape = vec![expected];
        samples.names.push(name);
        if let SampleValues::I32(all) = &mut samples.values {
            all.extend(tokens);
        }
        Ok(())
    }

    /// Appends the tokens of a text, filled up or cut where that is the coding.
    pub(crate) fn push(&self, text: &str, tokens: &mut Vec<i32>) -> Result<(), DataError> {
        let mut found = self.vocabulary.encode(text)?;
        let Some(side) = self.pad else {
            tokens.append(&mut found);
            return Ok(());
        };
        found.truncate(self.sequence);
        let padding = std::iter::repeat_n(PAD, self.sequence - found.len());
        match side {
            PadSide::End => tokens.extend(found.into_iter().chain(padding)),
            PadSide::Start => tokens.extend(padding.chain(found)),
        }
        Ok(())
    }
}
