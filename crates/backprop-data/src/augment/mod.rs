//! Random changes of training images, so that a network sees no image twice in the same way.
//!
//! Every change is a pure function of (seed, epoch, row, image): it does not depend on threads, on the order of rows or on which
//! other changes are on. All arithmetic is IEEE f32 and f64 in a fixed order, without functions of the system's library, so the
//! bits are the same on every machine.

mod colour;
mod geometry;

use serde::{Deserialize, Serialize};

use crate::DataError;
use crate::order::{GOLDEN_GAMMA, Stream, mix};
use geometry::{Affine, Edge};

/// Random changes of the training images, made anew in every epoch: validation, test and prediction see images as they are. The
/// changes that are given are made in this order: `random_resized_crop`; `rotate`, `scale` and `translate` together; `crop` and
/// `flip`; `brightness`, `contrast`, `saturation`, `hue`; `erase`.
///
/// ```
/// use backprop_data::{Augment, Draw, Flip};
///
/// let augment: Augment = toml::from_str("flip = 'horizontal'\ncrop = 4")?;
/// assert_eq!(augment, Augment { flip: Some(Flip::Horizontal), crop: 4, ..Augment::default() });
/// let (mut image, mut scratch) = (vec![100.0; 28 * 28], Vec::new());
/// augment.apply(&mut image, &mut scratch, [28, 28, 1], Draw { seed: 1, epoch: 0, row: 7 })?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Augment {
    /// Mirrors every second image: `horizontal` exchanges left and right. `both` draws for each direction.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub flip: Option<Flip>,
    /// Shifts the image by up to this many pixels in each direction (a padding by as many, then a random crop of the old size).
    #[serde(skip_serializing_if = "is_zero")]
    pub crop: usize,
    /// Turns the image about its centre by up to this many degrees in either direction, 0 to 180. Values are interpolated.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rotate: Option<f32>,
    /// Enlarges the image by a factor drawn from this range, as `[0.9, 1.1]`; the size of the image stays.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scale: Option<[f32; 2]>,
    /// Shifts the image by up to this share of its height and width, 0 to 1, in fractions of pixels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub translate: Option<f32>,
    /// What stands where `crop`, `rotate`, `scale` and `translate` look beyond the image.
    #[serde(skip_serializing_if = "is_default")]
    pub padding: Padding,
    /// Cuts out a part whose share of the area is drawn from this range, as `[0.5, 1.0]`, of an aspect ratio from 3:4 to 4:3, and
    /// enlarges it to the old size.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub random_resized_crop: Option<[f32; 2]>,
    /// Multiplies all values by a factor from `1 − brightness` to `1 + brightness`. Colours are changed within 0 to 255.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub brightness: Option<f32>,
    /// Multiplies differences from the image's mean grey by a factor from `1 − contrast` to `1 + contrast`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contrast: Option<f32>,
    /// Multiplies differences from each pixel's grey by a factor from `1 − saturation` to `1 + saturation`. For images of 3 channels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub saturation: Option<f32>,
    /// Turns the hue by up to this share of the colour circle in either direction, 0 to 0.5. For images of 3 channels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hue: Option<f32>,
    /// Probability, 0 to 1, that a rectangle of 2 to 33 % of the area and an aspect ratio up to 3.3 is covered by the image's mean.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub erase: Option<f32>,
}

/// In which directions images are mirrored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Flip {
    /// Left and right are exchanged.
    Horizontal,
    /// Top and bottom are exchanged.
    Vertical,
    /// Each of the two with probability 1/2.
    Both,
}

/// What stands beyond the edge of an image.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Padding {
    /// Value 0: black.
    #[default]
    Zero,
    /// The image mirrored at its outermost pixels, which are not repeated.
    Reflect,
}

/// Which random change an image gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Draw {
    /// Seed of the run.
    pub seed: u64,
    /// Epoch, from 0.
    pub epoch: u64,
    /// Row of the training part.
    pub row: u64,
}

/// Each random number has a place of its own: what one change draws does not depend on whether another is on. The numbers are
/// part of the checkpoint contract and must not change.
#[derive(Clone, Copy)]
enum Slot {
    CropArea = 0,
    CropAspect = 1,
    CropAcross = 2,
    CropY = 3,
    CropX = 4,
    Angle = 5,
    Scale = 6,
    ShiftY = 7,
    ShiftX = 8,
    PadY = 9,
    PadX = 10,
    FlipX = 11,
    FlipY = 12,
    Brightness = 13,
    Contrast = 14,
    Saturation = 15,
    Hue = 16,
    Erase = 17,
    EraseArea = 18,
    EraseAspect = 19,
    EraseAcross = 20,
    EraseY = 21,
    EraseX = 22,
}

/// The random numbers of one image.
#[derive(Clone, Copy)]
struct Draws(u64);

impl Draws {
    fn new(draw: Draw) -> Self {
        Self(mix(mix(mix(mix(draw.seed) ^ Stream::Augment as u64) ^ draw.epoch) ^ draw.row))
    }

    fn bits(self, slot: Slot) -> u64 {
        mix(self.0.wrapping_add(GOLDEN_GAMMA.wrapping_mul(slot as u64)))
    }

    /// A number in `[0, 1)` of 24 bits.
    fn uniform(self, slot: Slot) -> f32 {
        (self.bits(slot) >> 40) as f32 / (1_u32 << 24) as f32
    }

    /// A number in `[low, high]`.
    fn between(self, slot: Slot, low: f32, high: f32) -> f32 {
        low + (high - low) * self.uniform(slot)
    }

    /// A whole number in `0..=most`.
    fn below(self, slot: Slot, most: usize) -> usize {
        ((u128::from(self.bits(slot)) * (most as u128 + 1)) >> 64) as usize
    }

    /// Heads or tails.
    fn coin(self, slot: Slot) -> bool {
        self.bits(slot) >> 63 == 1
    }
}

fn is_zero(n: &usize) -> bool {
    *n == 0
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Most that a factor of `scale` can be.
const MAX_SCALE: f32 = 100.0;

impl Augment {
    /// Whether no change is on.
    pub fn is_none(&self) -> bool {
        *self == Self { padding: self.padding, ..Self::default() }
    }

    /// Checks the settings, also against the images' shape `[height, width, channels]`.
    ///
    /// # Errors
    /// A setting out of range, one that needs colour for images without, a crop larger than the image.
    pub fn check(&self, shape: &[usize]) -> Result<(), DataError> {
        if self.is_none() {
            return Ok(());
        }
        let &[height, width, channels] = shape else {
            return Err(DataError::NoImages { shape: shape.to_vec() });
        };
        let error = |key, why| Err(DataError::Augment { key, why });
        let ranges = [
            ("rotate", self.rotate, 180.0, "degrees from 0 to 180"),
            ("translate", self.translate, 1.0, "a share from 0 to 1"),
            ("brightness", self.brightness, f32::MAX, "a finite number of 0 or more"),
            ("contrast", self.contrast, f32::MAX, "a finite number of 0 or more"),
            ("saturation", self.saturation, f32::MAX, "a finite number of 0 or more"),
            ("hue", self.hue, 0.5, "a share of the colour circle from 0 to 0.5"),
            ("erase", self.erase, 1.0, "a probability from 0 to 1"),
        ];
        for (key, value, most, needed) in ranges {
            if value.is_some_and(|v| !(0.0..=most).contains(&v)) {
                return error(key, format!("must be {needed}"));
            }
        }
        let ordered = |range: Option<[f32; 2]>, most: f32| range.is_none_or(|[a, b]| 0.0 < a && a <= b && b <= most);
        if !ordered(self.scale, MAX_SCALE) {
            return error("scale", "must be two factors above 0, the smaller first, as [0.9, 1.1]".into());
        }
        if !ordered(self.random_resized_crop, 1.0) {
            return error("random_resized_crop", "must be two shares above 0 up to 1, the smaller first, as [0.5, 1.0]".into());
        }
        if self.crop > 0 && self.crop >= height.min(width) {
            let why = format!("{} pixels would leave nothing of images of {height}×{width} pixels", self.crop);
            return error("crop", why);
        }
        for (key, set) in [("saturation", self.saturation.is_some()), ("hue", self.hue.is_some())] {
            if set && channels != 3 {
                return error(key, format!("needs images of 3 channels, these have {channels}; remove it"));
            }
        }
        Ok(())
    }

    /// Changes one image of `shape` `[height, width, channels]`, channel-last, of raw values (0 to 255 for bytes), in place. The
    /// scratch grows to what such an image needs in the first calls; later ones allocate nothing.
    ///
    /// # Errors
    /// An image whose length is not that of the shape.
    pub fn apply(&self, image: &mut [f32], scratch: &mut Vec<f32>, shape: [usize; 3], draw: Draw) -> Result<(), DataError> {
        let expected = shape.iter().fold(1_usize, |n, &d| n.saturating_mul(d));
        if image.len() != expected {
            let (data, column) = ("an image to change".into(), format!("{shape:?}"));
            return Err(DataError::Buffer { data, column, expected, found: image.len() });
        }
        if image.is_empty() {
            return Ok(());
        }
        let draws = Draws::new(draw);
        if let Some(map) = self.resized_crop(draws, shape) {
            geometry::warp(image, scratch, shape, map, Edge::Clamp);
        }
        let edge = match self.padding {
            Padding::Zero => Edge::Zero,
            Padding::Reflect => Edge::Reflect,
        };
        if let Some(map) = self.affine(draws, shape) {
            geometry::warp(image, scratch, shape, map, edge);
        }
        self.move_and_mirror(draws, image, scratch, shape, edge);
        self.jitter(draws, image, shape[2]);
        if self.erase.is_some_and(|p| draws.uniform(Slot::Erase) < p) {
            erase(draws, image, shape);
        }
        Ok(())
    }

    /// The part that `random_resized_crop` shows.
    fn resized_crop(&self, draws: Draws, [height, width, _]: [usize; 3]) -> Option<Affine> {
        let [low, high] = self.random_resized_crop?;
        let (height, width) = (height as f32, width as f32);
        let share = draws.between(Slot::CropArea, low, high).clamp(0.0, 1.0);
        // Uniform in the longer side over the shorter: no exponential, which would differ between machines.
        let aspect = aspect(draws, Slot::CropAspect, Slot::CropAcross, 4.0 / 3.0);
        let h = (share * height * width / aspect).sqrt().min(height);
        let w = (share * height * width * aspect).sqrt().min(width);
        let (y, x) = (draws.between(Slot::CropY, 0.0, height - h), draws.between(Slot::CropX, 0.0, width - w));
        Some(Affine::cut(y, x, h / height, w / width))
    }

    /// The inverse of turning, enlarging and shifting: where an output pixel comes from.
    fn affine(&self, draws: Draws, [height, width, _]: [usize; 3]) -> Option<Affine> {
        if self.rotate.is_none() && self.scale.is_none() && self.translate.is_none() {
            return None;
        }
        let degrees = self.rotate.map_or(0.0, |r| draws.between(Slot::Angle, -r, r));
        let factor = self.scale.map_or(1.0, |[low, high]| draws.between(Slot::Scale, low, high));
        let share = self.translate.unwrap_or(0.0);
        let shift = |slot, size: usize| draws.between(slot, -share, share) * size as f32;
        let shift = [shift(Slot::ShiftY, height), shift(Slot::ShiftX, width)];
        Some(Affine::about_centre([height, width], degrees, factor, shift))
    }

    fn move_and_mirror(&self, draws: Draws, image: &mut [f32], scratch: &mut Vec<f32>, shape: [usize; 3], edge: Edge) {
        let pad = self.crop.min(isize::MAX as usize / 4);
        let offset = |slot| draws.below(slot, 2 * pad) as isize - pad as isize;
        let (dy, dx) = (offset(Slot::PadY), offset(Slot::PadX));
        let across = matches!(self.flip, Some(Flip::Horizontal | Flip::Both)) && draws.coin(Slot::FlipX);
        let down = matches!(self.flip, Some(Flip::Vertical | Flip::Both)) && draws.coin(Slot::FlipY);
        if dy != 0 || dx != 0 || down {
            geometry::shift(image, scratch, shape, [dy, dx], [down, across], edge);
        } else if across {
            geometry::mirror_rows(image, shape);
        }
    }

    fn jitter(&self, draws: Draws, image: &mut [f32], channels: usize) {
        let factor = |range: f32, slot| draws.between(slot, (1.0 - range).max(0.0), 1.0 + range);
        if let Some(range) = self.brightness {
            colour::brightness(image, factor(range, Slot::Brightness));
        }
        if let Some(range) = self.contrast {
            colour::contrast(image, channels, factor(range, Slot::Contrast));
        }
        if channels != 3 {
            return;
        }
        if let Some(range) = self.saturation {
            colour::saturation(image, factor(range, Slot::Saturation));
        }
        if let Some(range) = self.hue {
            colour::hue(image, draws.between(Slot::Hue, -range, range));
        }
    }
}

/// Width over height: from 1 to `most`, or its inverse.
fn aspect(draws: Draws, slot: Slot, across: Slot, most: f32) -> f32 {
    let ratio = draws.between(slot, 1.0, most);
    if draws.coin(across) { ratio } else { 1.0 / ratio }
}

/// Covers a rectangle (Zhong et al., "Random erasing data augmentation", 2017) by the mean of each channel.
fn erase(draws: Draws, image: &mut [f32], [height, width, channels]: [usize; 3]) {
    let area = draws.between(Slot::EraseArea, 0.02, 0.33) * height as f32 * width as f32;
    let aspect = aspect(draws, Slot::EraseAspect, Slot::EraseAcross, 3.3);
    let h = ((area / aspect).sqrt().round() as usize).clamp(1, height);
    let w = ((area * aspect).sqrt().round() as usize).clamp(1, width);
    let (y, x) = (draws.below(Slot::EraseY, height - h), draws.below(Slot::EraseX, width - w));
    for channel in 0..channels {
        let mean = colour::mean(image, channel, channels);
        for row in y..y + h {
            let start = (row * width + x) * channels + channel;
            image[start..].iter_mut().step_by(channels).take(w).for_each(|v| *v = mean);
        }
    }
}

#[cfg(test)]
mod tests;
