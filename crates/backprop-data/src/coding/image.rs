//! Images of one size.

use serde::{Deserialize, Serialize};

use super::{RawInput, SampleValues, Samples};
use crate::image::{self, Frame};
use crate::{DataError, Scale};

/// PNG and JPEG images of any size, brought to one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ImageCoding {
    /// Size and channels of the network's input, and how images are brought to them.
    pub frame: Frame,
    /// The scale, measured on the training part.
    pub scale: Scale,
}

impl ImageCoding {
    /// Encodes image files, all images in and below a folder, the bytes of an image, or numbers: images of the right size with
    /// values from 0 to 255, channel-last.
    ///
    /// # Errors
    /// Files that cannot be read or are not images, numbers that do not fill whole images.
    pub fn encode(&self, raw: &RawInput) -> Result<Samples, DataError> {
        let shape = self.frame.shape().to_vec();
        let mut samples = Samples { names: Vec::new(), shape, values: SampleValues::F32(Vec::new()), truth: None };
        match raw {
            RawInput::Bytes(name, bytes) => self.push(&mut samples, name, bytes)?,
            RawInput::Files(paths) => {
                for path in *paths {
                    for file in image::files(path)? {
                        self.push(&mut samples, &file.display().to_string(), &crate::open::bytes(&file)?)?;
                    }
                }
            }
            RawInput::Numbers(values) => {
                let elements: usize = samples.shape.iter().product();
                if !values.len().is_multiple_of(elements) {
                    let (values, shape) = (values.len(), samples.shape);
                    return Err(DataError::Shape { data: "input".into(), column: "image".into(), values, shape });
                }
                for (i, image) in values.chunks_exact(elements).enumerate() {
                    self.push_scaled(&mut samples, (i + 1).to_string(), image.to_vec())?;
                }
            }
            RawInput::Texts(_) => return Err(DataError::RawKind { needed: "images", found: "text" }),
        }
        Ok(samples)
    }

    fn push(&self, samples: &mut Samples, name: &str, bytes: &[u8]) -> Result<(), DataError> {
        let pixels = self.frame.decode(name, bytes)?;
        self.push_scaled(samples, name.into(), pixels.into_iter().map(f32::from).collect())
    }

    fn push_scaled(&self, samples: &mut Samples, name: String, mut image: Vec<f32>) -> Result<(), DataError> {
        self.scale.apply(&mut image)?;
        if let SampleValues::F32(all) = &mut samples.values {
            all.append(&mut image);
        }
        samples.names.push(name);
        Ok(())
    }
}
