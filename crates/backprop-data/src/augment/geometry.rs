//! Moving pixels: shifts, mirror images, and bilinear sampling along an affine map.

/// What stands beyond the image.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Edge {
    /// Zero.
    Zero,
    /// The image, mirrored at the centres of its outermost pixels.
    Reflect,
    /// The nearest pixel.
    Clamp,
}

impl Edge {
    /// The pixel that stands for position `i` of `n`; `None` is the value 0.
    pub(super) fn index(self, i: isize, n: usize) -> Option<usize> {
        let last = n as isize - 1;
        match self {
            _ if (0..=last).contains(&i) => Some(i as usize),
            Edge::Zero => None,
            Edge::Clamp => Some(i.clamp(0, last) as usize),
            Edge::Reflect => {
                let period = (2 * last).max(1);
                let i = i.rem_euclid(period);
                Some(i.min(period - i).min(last) as usize)
            }
        }
    }
}

/// Where the pixel `(y, x)` of the result comes from, in pixels: `(yy·y + yx·x + y0, xy·y + xx·x + x0)`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Affine {
    pub(super) yy: f32,
    pub(super) yx: f32,
    pub(super) y0: f32,
    pub(super) xy: f32,
    pub(super) xx: f32,
    pub(super) x0: f32,
}

impl Affine {
    /// A cut-out that begins at the edges `(y, x)`, of `down` times the height and `across` times the width. Pixels have their
    /// centre at a half.
    pub(super) fn cut(y: f32, x: f32, down: f32, across: f32) -> Self {
        Self { yy: down, yx: 0.0, y0: y + 0.5 * down - 0.5, xy: 0.0, xx: across, x0: x + 0.5 * across - 0.5 }
    }

    /// Turns anticlockwise by `degrees` about the centre, enlarges by `factor`, then shifts down and right by `[dy, dx]` pixels.
    pub(super) fn about_centre([height, width]: [usize; 2], degrees: f32, factor: f32, [dy, dx]: [f32; 2]) -> Self {
        let (sin, cos) = sin_cos(f64::from(degrees));
        let (sin, cos) = ((sin / f64::from(factor)) as f32, (cos / f64::from(factor)) as f32);
        let (cy, cx) = ((height as f32 - 1.0) / 2.0, (width as f32 - 1.0) / 2.0);
        // The inverse of turning by the angle turns back; y points down.
        let (ty, tx) = (cy + dy, cx + dx);
        Self { yy: cos, yx: sin, y0: cy - cos * ty - sin * tx, xy: -sin, xx: cos, x0: cx + sin * ty - cos * tx }
    }
}

/// Sine and cosine by their Taylor series on ±45°, to the last bits of f64: the same on every machine, as the system's are not.
pub(super) fn sin_cos(degrees: f64) -> (f64, f64) {
    let quarter = (degrees / 90.0).round();
    let x = (degrees - 90.0 * quarter) * (std::f64::consts::PI / 180.0);
    let series = |first: f64, from: i32| {
        let (mut sum, mut term) = (first, first);
        for k in 0..8 {
            let n = f64::from(from + 2 * k);
            term *= -x * x / ((n + 1.0) * (n + 2.0));
            sum += term;
        }
        sum
    };
    let (sin, cos) = (series(x, 1), series(1.0, 0));
    match (quarter as i64).rem_euclid(4) {
        0 => (sin, cos),
        1 => (cos, -sin),
        2 => (-sin, -cos),
        _ => (-cos, sin),
    }
}

/// Samples the image along a map, between four pixels linearly.
pub(super) fn warp(image: &mut [f32], scratch: &mut [f32], shape: [usize; 3], map: Affine, edge: Edge) {
    scratch.copy_from_slice(image);
    match shape[2] {
        1 => warp_channels::<1>(scratch, image, shape, map, edge),
        3 => warp_channels::<3>(scratch, image, shape, map, edge),
        _ => {
            for channel in 0..shape[2] {
                warp_channel(scratch, image, shape, channel, map, edge);
            }
        }
    }
}

/// The four pixels around a place and the weight of the lower and right ones.
struct Place {
    y: isize,
    x: isize,
    down: f32,
    right: f32,
}

impl Place {
    fn new(map: &Affine, y: usize, x: usize) -> Self {
        let (y, x) = (y as f32, x as f32);
        let (sy, sx) = (map.yy * y + map.yx * x + map.y0, map.xy * y + map.xx * x + map.x0);
        let (y, x) = (floor(sy), floor(sx));
        Self { y: y as isize, x: x as isize, down: sy - y as f32, right: sx - x as f32 }
    }

    fn mix(&self, corners: [f32; 4]) -> f32 {
        let [a, b, c, d] = corners;
        let (top, bottom) = (a + (b - a) * self.right, c + (d - c) * self.right);
        top + (bottom - top) * self.down
    }
}

/// The largest whole number not above `v`. `f32::floor` is a call where SSE 4.1 cannot be taken for granted.
fn floor(v: f32) -> i32 {
    let whole = v as i32;
    whole.saturating_sub(i32::from(v < whole as f32))
}

fn warp_channels<const C: usize>(from: &[f32], to: &mut [f32], [height, width, _]: [usize; 3], map: Affine, edge: Edge) {
    let (pixels, _) = from.as_chunks::<C>();
    let (results, _) = to.as_chunks_mut::<C>();
    for (y, row) in results.chunks_exact_mut(width).enumerate() {
        for (x, result) in row.iter_mut().enumerate() {
            let place = Place::new(&map, y, x);
            let corners = corners(&place, [height, width], edge);
            let corners = corners.map(|i| i.map_or([0.0; C], |i| pixels[i]));
            for (c, value) in result.iter_mut().enumerate() {
                *value = place.mix([corners[0][c], corners[1][c], corners[2][c], corners[3][c]]);
            }
        }
    }
}

fn warp_channel(from: &[f32], to: &mut [f32], [height, width, channels]: [usize; 3], channel: usize, map: Affine, edge: Edge) {
    for (y, row) in to.chunks_exact_mut(width * channels).enumerate() {
        for (x, result) in row.chunks_exact_mut(channels).enumerate() {
            let place = Place::new(&map, y, x);
            let corners = corners(&place, [height, width], edge);
            result[channel] = place.mix(corners.map(|i| i.map_or(0.0, |i| from[i * channels + channel])));
        }
    }
}

/// Numbers of the four pixels around a place.
fn corners(place: &Place, [height, width]: [usize; 2], edge: Edge) -> [Option<usize>; 4] {
    let &Place { y, x, .. } = place;
    if y >= 0 && x >= 0 && y + 1 < height as isize && x + 1 < width as isize {
        let i = y as usize * width + x as usize;
        return [Some(i), Some(i + 1), Some(i + width), Some(i + width + 1)];
    }
    let at = |y, x| Some(edge.index(y, height)? * width + edge.index(x, width)?);
    [at(y, x), at(y, x + 1), at(y + 1, x), at(y + 1, x + 1)]
}

/// Shows the image from `[dy, dx]` pixels further down and right, then mirrored `[down, across]`.
pub(super) fn shift(
    image: &mut [f32],
    scratch: &mut [f32],
    [height, width, channels]: [usize; 3],
    [dy, dx]: [isize; 2],
    [down, across]: [bool; 2],
    edge: Edge,
) {
    scratch.copy_from_slice(image);
    let length = width * channels;
    // The columns that need no look beyond the edge.
    let inside = (-dx).clamp(0, width as isize) as usize..(width as isize - dx).clamp(0, width as isize) as usize;
    for (y, row) in image.chunks_exact_mut(length).enumerate() {
        let y = if down { height - 1 - y } else { y };
        let Some(source) = edge.index(y as isize + dy, height) else {
            row.fill(0.0);
            continue;
        };
        let source = &scratch[source * length..][..length];
        if !inside.is_empty() {
            let start = (inside.start as isize + dx) as usize * channels;
            let (from, to) = (inside.start * channels, inside.end * channels);
            row[from..to].copy_from_slice(&source[start..start + to - from]);
        }
        for x in (0..inside.start.min(width)).chain(inside.end.max(inside.start)..width) {
            let pixel = &mut row[x * channels..][..channels];
            match edge.index(x as isize + dx, width) {
                Some(x) => pixel.copy_from_slice(&source[x * channels..][..channels]),
                None => pixel.fill(0.0),
            }
        }
        if across {
            mirror_row(row, channels);
        }
    }
}

/// Exchanges left and right.
pub(super) fn mirror_rows(image: &mut [f32], [_, width, channels]: [usize; 3]) {
    image.chunks_exact_mut(width * channels).for_each(|row| mirror_row(row, channels));
}

fn mirror_row(row: &mut [f32], channels: usize) {
    match channels {
        1 => row.reverse(),
        3 => row.as_chunks_mut::<3>().0.reverse(),
        _ => {
            let width = row.len() / channels;
            let (left, right) = row.split_at_mut(width / 2 * channels);
            for (a, b) in left.chunks_exact_mut(channels).zip(right.rchunks_exact_mut(channels)) {
                a.swap_with_slice(b);
            }
        }
    }
}
