//! Bringing images to one size.
//!
//! A separable triangle filter that widens with the reduction, as PIL's and torchvision's antialiased bilinear resampling. Own code
//! because the bits of a training run must not depend on the processor: sums of f32 products in a fixed order.

use serde::{Deserialize, Serialize};

use super::decode::Pixels;

/// How an image of another aspect ratio is brought to the size of the network's input.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Fit {
    /// The largest part of the right aspect ratio about the centre.
    #[default]
    Crop,
    /// The whole image, its aspect ratio changed.
    Stretch,
    /// The whole image in its aspect ratio, centred on black.
    Pad,
}

/// A part of one axis: from where, how long, in pixels.
#[derive(Clone, Copy)]
struct Span {
    start: f32,
    length: f32,
}

/// The weights that form one output pixel: the first input pixel, then one weight per pixel.
struct Taps {
    first: usize,
    weights: Vec<f32>,
}

/// Resizes an image to `[height, width]`.
pub(super) fn resize(pixels: Pixels, size: [usize; 2], fit: Fit) -> Vec<u8> {
    let [height, width] = size;
    let whole = [pixels.height, pixels.width].map(|n| Span { start: 0.0, length: n as f32 });
    match fit {
        _ if size == [pixels.height, pixels.width] => pixels.values,
        Fit::Stretch => resample(&pixels, whole, size),
        Fit::Crop => {
            let scale = (pixels.height as f32 / height as f32).min(pixels.width as f32 / width as f32);
            let cut = |have: usize, want: usize| {
                let length = (want as f32 * scale).min(have as f32);
                Span { start: (have as f32 - length) / 2.0, length }
            };
            resample(&pixels, [cut(pixels.height, height), cut(pixels.width, width)], size)
        }
        Fit::Pad => {
            let scale = (pixels.height as f32 / height as f32).max(pixels.width as f32 / width as f32);
            let inner = |have: usize, want: usize| ((have as f32 / scale).round() as usize).clamp(1, want);
            let inside = [inner(pixels.height, height), inner(pixels.width, width)];
            padded(&resample(&pixels, whole, inside), inside, size, pixels.channels)
        }
    }
}

/// Puts an image in the middle of a larger black one.
fn padded(values: &[u8], inside: [usize; 2], size: [usize; 2], channels: usize) -> Vec<u8> {
    let mut out = vec![0; size[0] * size[1] * channels];
    let (top, left) = ((size[0] - inside[0]) / 2, (size[1] - inside[1]) / 2);
    let rows = values.chunks_exact(inside[1] * channels);
    for (row, to) in rows.zip(out.chunks_exact_mut(size[1] * channels).skip(top)) {
        to[left * channels..][..row.len()].copy_from_slice(row);
    }
    out
}

/// The weights of every output pixel of one axis.
fn taps(have: usize, span: Span, want: usize) -> Vec<Taps> {
    let scale = span.length / want as f32;
    let reach = scale.max(1.0);
    let tap = |i: usize| {
        let centre = span.start + (i as f32 + 0.5) * scale;
        let first = ((centre - reach).floor().max(0.0) as usize).min(have - 1);
        let last = ((centre + reach).ceil().max(1.0) as usize).clamp(first + 1, have);
        let weight = |j: usize| (1.0 - ((j as f32 + 0.5 - centre) / reach).abs()).max(0.0);
        let mut weights: Vec<f32> = (first..last).map(weight).collect();
        let sum: f32 = weights.iter().sum();
        if sum > 0.0 {
            weights.iter_mut().for_each(|w| *w /= sum);
        }
        Taps { first, weights }
    };
    (0..want).map(tap).collect()
}

fn resample(pixels: &Pixels, [down, right]: [Span; 2], [height, width]: [usize; 2]) -> Vec<u8> {
    let channels = pixels.channels;
    let columns = taps(pixels.width, right, width);
    let rows = taps(pixels.height, down, height);
    // Across first, for the rows that are needed.
    let from = rows.iter().map(|t| t.first).min().unwrap_or(0);
    let to = rows.iter().map(|t| t.first + t.weights.len()).max().unwrap_or(0);
    let needed = &pixels.values[from * pixels.width * channels..to * pixels.width * channels];
    let narrow = match channels {
        1 => across::<1, 1>(needed, pixels.width, &columns),
        // Four values a pixel are one vector.
        _ => across::<3, 4>(needed, pixels.width, &columns),
    };
    let mut sums = vec![0.0_f32; width * channels];
    let mut out = Vec::with_capacity(height * width * channels);
    for tap in &rows {
        sums.fill(0.0);
        for (w, row) in tap.weights.iter().zip(narrow.chunks_exact(width * channels).skip(tap.first - from)) {
            sums.iter_mut().zip(row).for_each(|(s, v)| *s += w * v);
        }
        // 255.4 is 255. By way of i32: a conversion to bytes takes one value at a time.
        out.extend(sums.iter().map(|s| (s + 0.5).clamp(0.0, 255.0) as i32 as u8));
    }
    out
}

/// The sums along rows of `width` pixels of `C` channels, which are `N` values apart while they are summed.
fn across<const C: usize, const N: usize>(values: &[u8], width: usize, columns: &[Taps]) -> Vec<f32> {
    let (pixels, _) = values.as_chunks::<C>();
    let mut wide = vec![[0.0_f32; N]; width];
    let mut out = Vec::with_capacity(values.len() / (width * C) * columns.len() * C);
    for row in pixels.chunks_exact(width) {
        for (to, from) in wide.iter_mut().zip(row) {
            to.iter_mut().zip(from).for_each(|(t, &v)| *t = f32::from(v));
        }
        for tap in columns {
            let mut sum = [0.0_f32; N];
            for (w, pixel) in tap.weights.iter().zip(&wide[tap.first..]) {
                sum.iter_mut().zip(pixel).for_each(|(s, v)| *s += w * v);
            }
            out.extend_from_slice(&sum[..C]);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pixels(height: usize, width: usize, values: &[u8]) -> Pixels {
        Pixels { height, width, channels: values.len() / (height * width), values: values.to_vec() }
    }

    #[test]
    fn halving_weighs_the_neighbours() {
        // Output 0 has its centre at 1.0 and reaches to 3: weights 0.75, 0.75, 0.25 of pixels 0, 1, 2 by their distance.
        let out = resize(pixels(1, 4, &[0, 0, 70, 140]), [1, 2], Fit::Stretch);
        assert_eq!(out, [10, 90]);
    }

    #[test]
    fn constant_images_stay_constant() {
        for fit in [Fit::Crop, Fit::Stretch] {
            for (height, width) in [(1, 1), (3, 7), (64, 5), (100, 100)] {
                let image = pixels(height, width, &vec![200; height * width * 3]);
                assert_eq!(resize(image.clone(), [9, 13], fit), [200; 9 * 13 * 3], "{height}×{width} {fit:?}");
            }
        }
    }

    #[test]
    fn cropping_takes_the_middle_and_padding_keeps_all() {
        let image = pixels(2, 4, &[1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(resize(image.clone(), [2, 2], Fit::Crop), [2, 3, 6, 7]);
        assert_eq!(resize(image.clone(), [4, 4], Fit::Pad), [0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 0, 0, 0, 0]);
    }
}
