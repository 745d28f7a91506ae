//! Weights and batches in files, so that several frameworks can begin from the same.

use super::{BenchError, Stepwise};
use crate::{
    checkpoint::Tensors,
    config::Config,
    files,
    nn::{AnyLayer, LayerSpec},
    train::{TrainError, Trainer},
};
use backprop_core::{DType, HostTensor, Type, exec::Backend};
use backprop_data::{
    Values,
    npy::{self, Array},
};
use std::path::{Path, PathBuf};

/// Names of the arrays.
const ARRAYS: [&str; 2] = ["x", "y"];

/// The weights in a file.
pub(super) fn weights(file: &Path) -> Result<Tensors, BenchError> {
    files::from_safetensors(&files::read(file)?).map_err(|why| BenchError::Weights { file: file.into(), why })
}

/// The batches in a file: inputs and targets of each. All have as many rows, `rows` if that is given.
pub(super) fn batches(file: &Path, trainer: &Trainer<'_>, rows: Option<usize>) -> Result<Vec<[HostTensor; 2]>, BenchError> {
    let bytes = files::read(file)?;
    let spec = trainer.task().batch_spec(1);
    let limits = [vocabulary(trainer.config()), trainer.task().classes()];
    let mut stacks = Vec::new();
    for ((array, ty), limit) in ARRAYS.into_iter().zip([spec.x, spec.y]).zip(limits) {
        let stack = npy::parse_npz(&file.display().to_string(), &bytes, array)?;
        let wrong = |why: String| BenchError::Batches { file: file.into(), array, why };
        stacks.push(split(stack, &ty, limit, rows).map_err(wrong)?);
    }
    let (Some(y), Some(x)) = (stacks.pop(), stacks.pop()) else { return Ok(Vec::new()) };
    let counts = |of: &[HostTensor]| (of.len(), of.first().and_then(|t| t.shape().first().copied()).unwrap_or(0));
    let ((x_batches, x_rows), (y_batches, y_rows)) = (counts(&x), counts(&y));
    if (x_batches, x_rows) != (y_batches, y_rows) {
        let why = format!("{y_batches} batches of {y_rows} rows, but x has {x_batches} of {x_rows}; both need the same");
        return Err(BenchError::Batches { file: file.into(), array: ARRAYS[1], why });
    }
    Ok(x.into_iter().zip(y).map(|(x, y)| [x, y]).collect())
}

/// Number of different tokens that the network can read, where it begins with an embedding.
fn vocabulary(config: &Config) -> Option<usize> {
    match config.layers.first() {
        Some(LayerSpec { layer: AnyLayer::Embedding(embedding), .. }) => Some(embedding.num_embeddings),
        _ => None,
    }
}

/// Cuts an array of batches along its first axis. `ty` is the type of one row, after an axis for the rows of a batch; whole numbers
/// go from 0 to below `limit`.
fn split(array: Array, ty: &Type, limit: Option<usize>, rows: Option<usize>) -> Result<Vec<HostTensor>, String> {
    let row = ty.shape.get(1..).unwrap_or_default();
    let wanted = || {
        let rows = rows.map_or("rows".into(), |n| n.to_string());
        let sizes: String = row.iter().map(|n| format!(", {n}")).collect();
        format!("the network takes {} [batches, {rows}{sizes}]", ty.dtype)
    };
    let Array { sizes, values } = array;
    let fits = matches!(sizes.as_slice(), [_, n, rest @ ..] if rest == row && rows.is_none_or(|rows| rows == *n));
    if !fits {
        return Err(format!("has sizes {sizes:?}; {}", wanted()));
    }
    let shape = &sizes[1..];
    let size: usize = shape.iter().product();
    match (values, ty.dtype) {
        (Values::F32(v), DType::F32) => v.chunks_exact(size).map(|batch| HostTensor::new(shape, batch)).collect(),
        (Values::F32(_), DType::I32) => Err(format!("holds real numbers; {}", wanted())),
        (values, DType::I32) => {
            let whole = whole(values);
            let limit = limit.unwrap_or(usize::MAX);
            if let Some(beyond) = whole.iter().find(|&&v| v < 0 || v as usize >= limit) {
                let last = limit.saturating_sub(1);
                return Err(format!("holds {beyond}; whole numbers go from 0 to {last} here"));
            }
            whole.chunks_exact(size).map(|batch| HostTensor::new(shape, batch)).collect()
        }
        _ => Err(format!("holds whole numbers; {}", wanted())),
    }
}

/// Whole numbers in 32 bits.
fn whole(values: Values) -> Vec<i32> {
    match values {
        Values::U8(v) => v.into_iter().map(i32::from).collect(),
        Values::I16(v) => v.into_iter().map(i32::from).collect(),
        Values::I32(v) => v,
        Values::F32(_) => Vec::new(),
    }
}

/// What [`export`] wrote.
#[derive(Clone, Debug)]
pub struct Exported {
    /// Parameters and statistics.
    pub weights: PathBuf,
    /// Number of tensors among them.
    pub tensors: usize,
    /// Batches.
    pub data: PathBuf,
    /// Types of inputs and targets of one batch.
    pub batch: [Type; 2],
}

/// Writes what a measurement begins from into a folder: `weights.safetensors`, the first values of parameters and statistics by PyTorch's
/// names, and `data.npz`, the first `count` full batches as the network sees them, stacked: `x` and `y`, `[batches, rows, …]`.
///
/// # Errors
/// A configuration that does not fit its data; files that are there or cannot be written.
pub fn export(config: Config, backend: &dyn Backend, folder: &Path, count: usize) -> Result<Exported, BenchError> {
    let (weights_file, data) = (folder.join("weights.safetensors"), folder.join("data.npz"));
    if let Some(file) = [&weights_file, &data].into_iter().find(|file| file.exists()) {
        return Err(BenchError::Exists { file: file.clone() });
    }
    let mut steps = Stepwise::on_first_batches(Trainer::new(config, backend)?, count)?;
    let batch = steps.batch_types();
    let [x, y] = [0, 1].map(|side| stack(&batch[side], steps.batches().map(|given| given[side])));
    let (x, y) = (x?, y?);
    let archive = npy::to_npz(&data.display().to_string(), &[(ARRAYS[0], &x), (ARRAYS[1], &y)])?;
    let weights = steps.weights()?;
    files::create_folder(folder)?;
    let tensors = weights.len();
    files::replace(&weights_file, &files::to_safetensors(weights))?;
    files::replace(&data, &archive)?;
    Ok(Exported { weights: weights_file, tensors, data, batch })
}

/// Tensors of one type as an array with an axis more.
fn stack<'t>(ty: &Type, tensors: impl Iterator<Item = &'t HostTensor>) -> Result<Array, BenchError> {
    let tensors: Vec<&HostTensor> = tensors.collect();
    let sizes = std::iter::once(tensors.len()).chain(ty.shape.iter().copied()).collect();
    let values = match ty.dtype {
        DType::F32 => Values::F32(tensors.iter().filter_map(|t| t.as_slice::<f32>()).flatten().copied().collect()),
        DType::I32 => Values::I32(tensors.iter().filter_map(|t| t.as_slice::<i32>()).flatten().copied().collect()),
        other => {
            let why = format!("batches of {other} have no form in an archive");
            return Err(TrainError::Engine(backprop_core::Error::Invalid(why)).into());
        }
    };
    Ok(Array { sizes, values })
}
