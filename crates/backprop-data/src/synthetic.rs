//! Made-up data for tests and first experiments: a pure function of their settings.

use crate::order::mix;
use crate::{Classes, Column, DataError, InMemory, machine};

/// Clusters of points around one centre per class, easily told apart.
///
/// Columns: `point` of shape `[features]`, `label`. Centres lie in `[-2, 2]` per feature; points
/// deviate by about 0.5. Labels go round: row `i` has class `i mod classes`.
///
/// # Errors
/// A number that is 0; more data than memory can hold.
pub fn clusters(rows: usize, features: usize, classes: usize, seed: u64) -> Result<InMemory, DataError> {
    nonzero([("rows", rows), ("features", features), ("classes", classes)])?;
    clustered("synthetic clusters", Column::input("point", &[features]), rows, classes, seed)
}

/// As [`clusters`], the features arranged as images.
///
/// Columns: `image` of shape `[height, width, channels]`, `label`.
///
/// # Errors
/// A number that is 0; more data than memory can hold.
pub fn images(rows: usize, shape: [usize; 3], classes: usize, seed: u64) -> Result<InMemory, DataError> {
    let [height, width, channels] = shape;
    nonzero([("rows", rows), ("height", height), ("width", width), ("channels", channels), ("classes", classes)])?;
    clustered("synthetic images", Column::input("image", &shape), rows, classes, seed)
}

fn clustered(name: &str, input: Column, rows: usize, classes: usize, seed: u64) -> Result<InMemory, DataError> {
    let features = input.elements();
    let elements = made(name, rows, features)?;
    let centre = |class: usize, j: usize| 4.0 * uniform(seed, 0, class * features + j) - 2.0;
    let value = |i: usize| {
        let class = (i / features) % classes;
        centre(class, i % features) + 0.5 * bell(seed, 1, i)
    };
    let values: Vec<f32> = (0..elements).map(value).collect();
    let labels: Vec<i32> = (0..rows).map(|row| (row % classes) as i32).collect();
    InMemory::new(name).with_column(input, values)?.with_column(Column::label("label", Classes::numbered(classes)), labels)
}

/// A linear law with noise: `value = Σ wⱼ · pointⱼ + 1 + noise · ε`, weights in `[-1, 1]`, points
/// and ε of deviation 1.
///
/// Columns: `point` of shape `[features]`, `value`.
///
/// # Errors
/// A number that is 0; more data than memory can hold.
pub fn linear(rows: usize, features: usize, noise: f32, seed: u64) -> Result<InMemory, DataError> {
    nonzero([("rows", rows), ("features", features)])?;
    let name = "synthetic linear law";
    let points: Vec<f32> = (0..made(name, rows, features)?).map(|i| bell(seed, 1, i)).collect();
    let value = |(row, point): (usize, &[f32])| {
        let terms = point.iter().enumerate();
        let law: f32 = terms.map(|(j, x)| (2.0 * uniform(seed, 0, j) - 1.0) * x).sum();
        law + 1.0 + noise * bell(seed, 2, row)
    };
    let values: Vec<f32> = points.chunks(features).enumerate().map(value).collect();
    InMemory::new(name)
        .with_column(Column::input("point", &[features]), points)?
        .with_column(Column::target("value", &[]), values)
}

fn nonzero<const N: usize>(numbers: [(&'static str, usize); N]) -> Result<(), DataError> {
    match numbers.into_iter().find(|&(_, n)| n == 0) {
        Some((what, _)) => Err(DataError::Zero { what }),
        None => Ok(()),
    }
}

/// Number of values that are to be made, if memory can hold them.
fn made(name: &str, rows: usize, features: usize) -> Result<usize, DataError> {
    let elements = rows.saturating_mul(features);
    let bytes = (elements as u64).saturating_mul(size_of::<f32>() as u64);
    match machine::memory_limit() {
        Some(limit) if bytes > limit => Err(DataError::TooLarge { data: name.into(), bytes, limit }),
        _ => Ok(elements),
    }
}

/// A number in `[0, 1)` of 24 bits.
fn uniform(seed: u64, stream: u64, i: usize) -> f32 {
    let bits = mix(mix(mix(seed) ^ stream) ^ i as u64);
    (bits >> 40) as f32 / (1_u32 << 24) as f32
}

/// Mean 0, variance 1, nearly normal: twelve uniform numbers less 6. It needs no logarithm, whose
/// last bit would differ between platforms.
fn bell(seed: u64, stream: u64, i: usize) -> f32 {
    let sum: f32 = (0..12).map(|k| uniform(seed, stream, 12 * i + k)).sum();
    sum - 6.0
}
