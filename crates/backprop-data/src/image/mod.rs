//! Folders of PNG and JPEG images.

mod decode;
mod folder;
mod labels;
mod orient;
mod resize;
mod survey;

use std::fmt;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::{DataError, LabelKind, Stream};

pub(crate) use folder::files;
pub use resize::Fit;
pub use survey::Survey;

/// Images in a folder: one sub-folder per class (`photos/cat/1.jpg`), the same below `train`, `validation` (or `val`) and `test`,
/// or a CSV file of labels. Folders may be nested; hidden files are ignored, files that are not images are counted and reported.
/// Without labels the images are data for an autoencoder: `target = "image"`.
///
/// Every image becomes `[height, width, channels]` bytes: turned upright by its EXIF data, transparency dropped, 16 bits rounded to
/// 8, CMYK converted to colours, resized by an antialiased triangle filter. Columns are called `image` and `label`.
///
/// ```
/// use backprop_data::{Fit, ImageFolder, ImageSize, Source};
///
/// let source: Source = toml::from_str("source = 'folder'\npath = 'photos'\nimage_size = [48, 64]\nfit = 'pad'")?;
/// let Source::Folder(ImageFolder { image_size, fit, .. }) = source else { unreachable!() };
/// assert_eq!((image_size, fit), (Some(ImageSize::Sides([48, 64])), Fit::Pad));
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ImageFolder {
    /// The folder.
    pub path: PathBuf,
    /// CSV file of labels with a header; files are named in it relative to `path`, with or without their ending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub labels: Option<PathBuf>,
    /// Column of `labels` that names the files; without it `file`, or the first.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_column: Option<String>,
    /// Column of `labels` that holds the labels; without it `label`, or the second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label_column: Option<String>,
    /// What the labels of `labels` are.
    #[serde(default)]
    pub label_kind: LabelKind,
    /// Size that images are brought to: one number for squares, or `[height, width]`. Without it all images must have one size.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_size: Option<ImageSize>,
    /// How images of another aspect ratio are brought to `image_size`.
    #[serde(default)]
    pub fit: Fit,
    /// 1 for grey, 3 for colours; without it 1 if all images are grey, otherwise 3.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channels: Option<usize>,
    /// Share of the images that is the test part, where there is no folder for it.
    #[serde(default = "default_test")]
    pub test: f64,
    /// Whether decoded images are kept in a temporary file: `true`, `false` (in memory), or by their size.
    #[serde(default)]
    pub stream: Stream,
    /// Folder for that file, which has no name and goes with the process; by default the system's for temporary files.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub spill: Option<PathBuf>,
}

fn default_test() -> f64 {
    0.2
}

/// Height and width that images are brought to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(untagged)]
pub enum ImageSize {
    /// Squares.
    Square(usize),
    /// Height, then width.
    Sides([usize; 2]),
}

impl ImageSize {
    /// Height and width.
    pub fn sides(self) -> [usize; 2] {
        match self {
            ImageSize::Square(n) => [n, n],
            ImageSize::Sides(sides) => sides,
        }
    }
}

/// The shape of the network's input, and how images are brought to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, try_from = "Unchecked")]
pub struct Frame {
    height: usize,
    width: usize,
    channels: usize,
    fit: Fit,
}

/// The stored form, not yet checked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    height: usize,
    width: usize,
    channels: usize,
    fit: Fit,
}

impl TryFrom<Unchecked> for Frame {
    type Error = DataError;

    fn try_from(u: Unchecked) -> Result<Self, DataError> {
        Frame::new([u.height, u.width], u.channels, u.fit)
    }
}

impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let colour = if self.channels == 1 { "grey" } else { "in colour" };
        write!(f, "{}×{} pixels {colour}", self.height, self.width)
    }
}

impl Frame {
    /// Images of `[height, width]` with 1 or 3 channels.
    ///
    /// # Errors
    /// A size of 0 or beyond 100 megapixels, another number of channels.
    pub fn new([height, width]: [usize; 2], channels: usize, fit: Fit) -> Result<Self, DataError> {
        let error = |setting, why| Err(DataError::ImageSetting { setting, why });
        let pixels = height.saturating_mul(width);
        if pixels == 0 || pixels > decode::MAX_PIXELS {
            return error("image_size", format!("must be 1 or more and up to {} pixels in all", decode::MAX_PIXELS));
        }
        if channels != 1 && channels != 3 {
            return error("channels", format!("must be 1 (grey) or 3 (colours), not {channels}"));
        }
        Ok(Self { height, width, channels, fit })
    }

    /// `[height, width, channels]`.
    pub fn shape(&self) -> [usize; 3] {
        [self.height, self.width, self.channels]
    }

    /// Decodes a PNG or JPEG image and brings it to this size: training and prediction both do it here. `name` stands in messages.
    ///
    /// # Errors
    /// Bytes that are not an image, or a damaged one.
    pub fn decode(&self, name: &str, bytes: &[u8]) -> Result<Vec<u8>, DataError> {
        let pixels = decode::decode(name, bytes)?.with_channels(self.channels);
        Ok(resize::resize(pixels, [self.height, self.width], self.fit))
    }
}
