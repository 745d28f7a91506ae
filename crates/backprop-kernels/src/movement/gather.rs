use super::boxes::BoxCopy;
use super::index::{Batch, Indices};
use super::row_major;
use crate::{DType, Kernel};

/// Dimension numbers of a gather, StableHLO's names and meaning.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GatherSpec {
    /// Shape of the operand.
    pub operand: Vec<usize>,
    /// Shape of the indices.
    pub indices: Vec<usize>,
    /// Dimensions of the output that run over a slice, ascending.
    pub offset_dims: Vec<usize>,
    /// Dimensions of the operand that a slice of size 1 drops.
    pub collapsed_slice_dims: Vec<usize>,
    /// The operand dimension each component of an index vector points into.
    pub start_index_map: Vec<usize>,
    /// Dimension of the indices that holds the vectors; equal to their rank if every index is a vector of one.
    pub index_vector_dim: usize,
    /// Extents of a slice of the operand.
    pub slice_sizes: Vec<usize>,
}

impl GatherSpec {
    /// Row lookup: `output[i…] = table[indices[i…]]` for a table of `rows` × `width`.
    pub fn rows(rows: usize, width: usize, indices: &[usize]) -> GatherSpec {
        GatherSpec {
            operand: vec![rows, width],
            indices: indices.to_vec(),
            offset_dims: vec![indices.len()],
            collapsed_slice_dims: vec![0],
            start_index_map: vec![0],
            index_vector_dim: indices.len(),
            slice_sizes: vec![1, width],
        }
    }

    /// Shape of the output.
    pub fn output(&self) -> Vec<usize> {
        let mut batch = (0..self.indices.len()).filter(|&d| d != self.index_vector_dim).map(|d| self.indices[d]);
        let mut slice = (0..self.operand.len())
            .filter(|d| !self.collapsed_slice_dims.contains(d))
            .map(|d| self.slice_sizes.get(d).copied().unwrap_or(0));
        let rank = batch.clone().count() + slice.clone().count();
        let size = |d: usize| if self.offset_dims.contains(&d) { slice.next() } else { batch.next() };
        (0..rank).map_while(size).collect()
    }
}

/// Copies slices of the operand found at run time; start indices are clamped so that the slice fits.
///
/// Operands: operand, indices, output, all row-major; the output overlaps no other.
pub struct Gather {
    batch: Batch,
    window: BoxCopy,
    /// (operand stride, largest start) per component of an index vector.
    components: Vec<(isize, i64)>,
    index: DType,
    size: usize,
    group: usize,
}

/// Elements a task copies.
const TASK: usize = 32_768;

impl Gather {
    /// Plans a gather. `None` if a dimension number does not fit the shapes or the index type is no integer.
    pub fn new(spec: &GatherSpec, dtype: DType, index: DType) -> Option<Gather> {
        let (rank, output) = (spec.operand.len(), spec.output());
        let fits = spec.slice_sizes.len() == rank
            && spec.index_vector_dim <= spec.indices.len()
            && spec.slice_sizes.iter().zip(&spec.operand).all(|(slice, size)| slice <= size)
            && spec.start_index_map.iter().chain(&spec.collapsed_slice_dims).all(|&d| d < rank)
            && spec.collapsed_slice_dims.iter().all(|&d| spec.slice_sizes[d] == 1)
            && spec.offset_dims.iter().all(|&d| d < output.len())
            && spec.offset_dims.len() + spec.collapsed_slice_dims.len() == rank
            && spec.indices.get(spec.index_vector_dim).copied().unwrap_or(1) == spec.start_index_map.len();
        if !fits || !Indices::supports(index) {
            return None;
        }
        let (from, to) = (row_major(&spec.operand), row_major(&output));
        let kept: Vec<usize> = (0..rank).filter(|d| !spec.collapsed_slice_dims.contains(d)).collect();
        let pick = |strides: &[isize], dims: &[usize]| dims.iter().map(|&d| strides[d]).collect::<Vec<_>>();
        let shape: Vec<usize> = kept.iter().map(|&d| spec.slice_sizes[d]).collect();
        let window = BoxCopy::new(&shape, &pick(&from, &kept), &pick(&to, &spec.offset_dims), dtype.size());
        let batch_dims: Vec<usize> = (0..output.len()).filter(|d| !spec.offset_dims.contains(d)).collect();
        let batch = Batch::new(&spec.indices, spec.index_vector_dim, &pick(&to, &batch_dims));
        let largest = |&d: &usize| (from[d], (spec.operand[d] - spec.slice_sizes[d]) as i64);
        let components = spec.start_index_map.iter().map(largest).collect();
        let group = (TASK / shape.iter().product::<usize>().max(1)).max(1);
        Some(Gather { batch, window, components, index, size: dtype.size(), group })
    }
}

impl Kernel for Gather {
    fn tasks(&self, _stage: usize) -> usize {
        self.batch.len().div_ceil(self.group) * self.window.boxes()
    }

    unsafe fn run(&self, _stage: usize, task: usize, operands: &[*mut u8], _workspace: *mut u8, _scratch: *mut u8) {
        let (group, part) = (task / self.window.boxes(), task % self.window.boxes());
        let indices = Indices { dtype: self.index, address: operands[1] };
        let whole = self.window.contiguous().filter(|_| self.window.boxes() == 1);
        for position in group * self.group..((group + 1) * self.group).min(self.batch.len()) {
            let (at, offset) = self.batch.offsets(position);
            // SAFETY: clamped starts keep the slice in the operand; the output's slices are disjoint.
            unsafe {
                let mut start = 0;
                for (c, &(stride, largest)) in self.components.iter().enumerate() {
                    start += indices.at(at + c * self.batch.component).clamp(0, largest) as isize * stride;
                }
                let source = operands[0].offset(start * self.size as isize);
                let target = operands[2].offset(offset * self.size as isize);
                match whole {
                    Some(bytes) => std::ptr::copy_nonoverlapping(source, target, bytes),
                    None => self.window.run(part, source, target),
                }
            }
        }
    }
}
