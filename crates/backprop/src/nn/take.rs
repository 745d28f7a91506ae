use super::{Layer, Scope};
use backprop_core::{HostTensor, Tensor, op::Gather};
use serde::{Deserialize, Serialize};

/// The elements of `x` at fixed positions along a dimension. Positions must lie within it.
#[track_caller]
pub(super) fn take<'g>(x: Tensor<'g>, dim: usize, positions: &[usize]) -> Tensor<'g> {
    let rank = x.rank();
    let mut slice_sizes = x.shape().to_vec();
    slice_sizes[dim] = 1;
    let gather = Gather {
        offset_dims: (0..rank).filter(|&d| d != dim).collect(),
        collapsed_dims: vec![dim],
        start_index_map: vec![dim],
        slice_sizes,
    };
    let index = positions.iter().map(|&p| i32::try_from(p)).collect::<Result<Vec<i32>, _>>().map_err(|e| e.to_string());
    match index.and_then(|index| HostTensor::new([index.len(), 1], &index)) {
        Ok(index) => x.gather(x.builder().constant(index), gather),
        Err(message) => x.builder().fail("take", &[x.ty()], message),
    }
}

/// A dimension that may count from the end, without the batch's.
pub(super) fn sample_dim(x: Tensor<'_>, dim: isize) -> Result<usize, String> {
    let rank = x.rank() as isize;
    let at = if dim < 0 { dim.saturating_add(rank) } else { dim };
    if (1..rank).contains(&at) {
        return Ok(at as usize);
    }
    Err(format!("dim = {dim} is not a dimension of a sample: the input has {rank} dimensions, the first of them the batch"))
}

/// A part of one dimension, the last one unless given: `len` positions from `start` on, or a list of positions.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Select {
    /// First position.
    #[serde(default)]
    pub start: usize,
    /// Number of positions; all from `start` on unless given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub len: Option<usize>,
    /// Positions in any order, repeated or not, in place of `start` and `len`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub indices: Option<Vec<usize>>,
    /// Dimension; negative counts from the end. Not the batch's.
    #[serde(default = "super::spec_last")]
    pub dim: isize,
}

impl Select {
    /// `len` positions from `start` on, of the last dimension.
    pub fn range(start: usize, len: usize) -> Select {
        Select { start, len: Some(len), indices: None, dim: -1 }
    }

    /// Positions of the last dimension, in any order.
    pub fn indices(indices: impl Into<Vec<usize>>) -> Select {
        Select { start: 0, len: None, indices: Some(indices.into()), dim: -1 }
    }

    /// Dimension; negative counts from the end.
    pub fn dim(mut self, dim: isize) -> Select {
        self.dim = dim;
        self
    }

    fn apply<'g>(&self, x: Tensor<'g>) -> Result<Tensor<'g>, String> {
        let dim = sample_dim(x, self.dim)?;
        let extent = x.shape()[dim];
        let Some(indices) = &self.indices else {
            let len = self.len.unwrap_or(extent.saturating_sub(self.start));
            let end = self.start.checked_add(len).filter(|&end| end <= extent && len > 0);
            let wrong = || format!("positions {} and the {len} from there are not all within the extent {extent}", self.start);
            return end.map(|end| x.slice_dim(dim, self.start, end)).ok_or_else(wrong);
        };
        if self.start != 0 || self.len.is_some() {
            return Err("takes either indices, or start and len, not both".into());
        }
        if indices.is_empty() {
            return Err("indices must name at least one position".into());
        }
        match indices.iter().find(|&&i| i >= extent) {
            Some(i) => Err(format!("index {i} does not exist: the extent is {extent}, positions count from 0")),
            None => Ok(take(x, dim, indices)),
        }
    }
}

impl Layer for Select {
    fn forward<'g>(&self, cx: &mut Scope<'g>, x: Tensor<'g>) -> Tensor<'g> {
        self.apply(x).unwrap_or_else(|message| cx.builder().fail("select", &[x.ty()], message))
    }
}
