//! Numbers of a fixed shape.

use serde::{Deserialize, Serialize};

use super::{RawInput, SampleValues, Samples};
use crate::{DataError, Scale, Values, idx, npy, text};

/// Numbers of a fixed shape: IDX files, arrays, tables of numbers only.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ArrayCoding {
    /// Shape of one sample; images are `[height, width, channels]`.
    pub shape: Vec<usize>,
    /// The scale, measured on the training part.
    pub scale: Scale,
}

impl ArrayCoding {
    fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// Encodes IDX files, .npy files, lines of numbers separated by commas, or numbers.
    ///
    /// # Errors
    /// Files that cannot be read, numbers that do not fill whole samples.
    pub fn encode(&self, raw: &RawInput) -> Result<Samples, DataError> {
        let values = SampleValues::F32(Vec::new());
        let mut samples = Samples { names: Vec::new(), shape: self.shape.clone(), values, truth: None };
        match raw {
            RawInput::Numbers(values) => self.push(&mut samples, "input", values.to_vec())?,
            RawInput::Bytes(name, bytes) => self.push_file(&mut samples, name, bytes)?,
            RawInput::Files(files) => {
                for file in *files {
                    let name = file.display().to_string();
                    self.push_file(&mut samples, &name, &crate::open::bytes(file)?)?;
                }
            }
            RawInput::Texts(_) => return Err(DataError::RawKind { needed: "numbers", found: "text" }),
        }
        Ok(samples)
    }

    fn push_file(&self, samples: &mut Samples, name: &str, bytes: &[u8]) -> Result<(), DataError> {
        if bytes.is_empty() {
            return Err(DataError::Empty { data: name.into() });
        }
        let values = match idx::parse(name, bytes) {
            _ if bytes.starts_with(&npy::MAGIC) => numbers(&npy::parse(name, bytes)?.values),
            Ok(file) => numbers(&file.values),
            Err(DataError::IdxMagic { .. }) => text::numbers(name, bytes)?,
            Err(other) => return Err(other),
        };
        self.push(samples, name, values)
    }

    /// Appends samples from values that are not scaled yet.
    fn push(&self, samples: &mut Samples, name: &str, mut values: Vec<f32>) -> Result<(), DataError> {
        let elements = self.elements();
        if elements == 0 || !values.len().is_multiple_of(elements) {
            let (shape, count) = (self.shape.clone(), values.len());
            return Err(DataError::Shape { data: name.into(), column: "input".into(), values: count, shape });
        }
        let rows = values.len() / elements;
        values.chunks_exact_mut(elements).try_for_each(|sample| self.scale.apply(sample))?;
        samples.names.extend((0..rows).map(|row| if rows == 1 { name.to_owned() } else { format!("{name}:{}", row + 1) }));
        if let SampleValues::F32(all) = &mut samples.values {
            all.append(&mut values);
        }
        Ok(())
    }
}

fn numbers(values: &Values) -> Vec<f32> {
    match values {
        Values::U8(v) => v.iter().map(|&x| f32::from(x)).collect(),
        Values::I16(v) => v.iter().map(|&x| f32::from(x)).collect(),
        Values::I32(v) => v.iter().map(|&x| x as f32).collect(),
        Values::F32(v) => v.clone(),
    }
}
