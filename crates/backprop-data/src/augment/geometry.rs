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
pub(super) fn warp(image: &mut [f32], scratch: &mut Vec<f32>, shape: [usize; 3], map: Affine, edge: Edge) {
    match shape[2] {
        1 => warp_padded::<1, 1>(image, scratch, shape, map, edge),
        // Four values a pixel are one vector.
        3 => warp_padded::<3, 4>(image, scratch, shape, map, edge),
        channels => {
            scratch.clear();
            scratch.extend_from_slice(image);
            for channel in 0..channels {
                warp_channel(scratch, image, shape, channel, map, edge);
            }
        }
    }
}

/// The upper left of the four pixels around a place, and the weight of the lower and right ones.
#[derive(Clone, Copy, Default)]
struct Place {
    y: i32,
    x: i32,
    down: f32,
    right: f32,
}

impl Place {
    fn new(map: &Affine, y: f32, x: f32) -> Self {
        let (sy, sx) = (map.yy * y + map.yx * x + map.y0, map.xy * y + map.xx * x + map.x0);
        let (y, x) = (floor(sy), floor(sx));
        Self { y, x, down: sy - y as f32, right: sx - x as f32 }
    }

    fn mix<const N: usize>(&self, [a, b, c, d]: [&[f32; N]; 4]) -> [f32; N] {
        let mut mixed = [0.0; N];
        for i in 0..N {
            let (top, bottom) = (a[i] + (b[i] - a[i]) * self.right, c[i] + (d[i] - c[i]) * self.right);
            mixed[i] = top + (bottom - top) * self.down;
        }
        mixed
    }

    /// Numbers of the four pixels.
    fn corners(&self, [height, width]: [usize; 2], edge: Edge) -> [Option<usize>; 4] {
        let (y, x) = (self.y as isize, self.x as isize);
        let at = |y, x| Some(edge.index(y, height)? * width + edge.index(x, width)?);
        [at(y, x), at(y, x + 1), at(y + 1, x), at(y + 1, x + 1)]
    }
}

/// The largest whole number not above `v`. `f32::floor` is a call where SSE 4.1 cannot be taken for granted.
fn floor(v: f32) -> i32 {
    let whole = v as i32;
    whole.saturating_sub(i32::from(v < whole as f32))
}

/// Pixels whose places are computed before the first of them is mixed: loops that become vectors.
const RUN: usize = 32;

/// Pixels of `C` channels, which are `N` values apart in the scratch.
fn warp_padded<const C: usize, const N: usize>(
    image: &mut [f32],
    scratch: &mut Vec<f32>,
    [height, width, _]: [usize; 3],
    map: Affine,
    edge: Edge,
) {
    let (results, _) = image.as_chunks_mut::<C>();
    scratch.resize(results.len() * N, 0.0);
    let (pixels, _) = scratch.as_chunks_mut::<N>();
    pixels.iter_mut().zip(&*results).for_each(|(to, from)| to[..C].copy_from_slice(from));
    let (mut places, mut mixed) = ([Place::default(); RUN], [[0.0; N]; RUN]);
    // Upper left pixels whose three neighbours are in the image.
    let inside = [height, width].map(|n| n as u32 - 1);
    for (y, row) in results.chunks_exact_mut(width).enumerate() {
        for (first, run) in (0..).step_by(RUN).zip(row.chunks_mut(RUN)) {
            places.iter_mut().zip(first..).for_each(|(place, x)| *place = Place::new(&map, y as f32, x as f32));
            for (place, to) in places.iter().zip(&mut mixed).take(run.len()) {
                *to = if (place.y as u32) < inside[0] && (place.x as u32) < inside[1] {
                    let i = place.y as usize * width + place.x as usize;
                    let (top, bottom) = (&pixels[i..i + 2], &pixels[i + width..i + width + 2]);
                    place.mix([&top[0], &top[1], &bottom[0], &bottom[1]])
                } else {
                    let corners = place.corners([height, width], edge);
                    place.mix(corners.map(|i| i.map_or(&[0.0; N], |i| &pixels[i])))
                };
            }
            run.iter_mut().zip(&mixed).for_each(|(to, from)| to.copy_from_slice(&from[..C]));
        }
    }
}

fn warp_channel(from: &[f32], to: &mut [f32], [height, width, channels]: [usize; 3], channel: usize, map: Affine, edge: Edge) {
    for (y, row) in to.chunks_exact_mut(width * channels).enumerate() {
        for (x, result) in row.chunks_exact_mut(channels).enumerate() {
            let place = Place::new(&map, y as f32, x as f32);
            let corners = place.corners([height, width], edge).map(|i| [i.map_or(0.0, |i| from[i * channels + channel])]);
            [result[channel]] = place.mix(corners.each_ref());
        }
    }
}

/// Shows the image from `[dy, dx]` pixels further down and right, then mirrored `[down, across]`.
pub(super) fn shift(
    image: &mut [f32],
    scratch: &mut Vec<f32>,
    [height, width, channels]: [usize; 3],
    [dy, dx]: [isize; 2],
    [down, across]: [bool; 2],
    edge: Edge,
) {
    scratch.clear();
    scratch.extend_from_slice(image);
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
