use crate::DType;

/// An index operand: its type and address.
#[derive(Clone, Copy)]
pub(super) struct Indices {
    pub(super) dtype: DType,
    pub(super) address: *const u8,
}

impl Indices {
    /// Whether indices can have that type.
    pub(super) fn supports(dtype: DType) -> bool {
        matches!(dtype, DType::I32 | DType::I64 | DType::U32 | DType::U64 | DType::U8)
    }

    /// The index at a position; what does not fit saturates.
    ///
    /// # Safety
    /// The operand holds an element there.
    #[inline]
    pub(super) unsafe fn at(self, position: usize) -> i64 {
        // SAFETY: promised by the caller.
        unsafe {
            match self.dtype {
                DType::I32 => i64::from(*self.address.cast::<i32>().add(position)),
                DType::U32 => i64::from(*self.address.cast::<u32>().add(position)),
                DType::U64 => i64::try_from(*self.address.cast::<u64>().add(position)).unwrap_or(i64::MAX),
                DType::U8 => i64::from(*self.address.add(position)),
                _ => *self.address.cast::<i64>().add(position),
            }
        }
    }
}

/// Dimensions of an index tensor without its vector dimension, walked in row-major order.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    /// (size, stride in the indices, stride in the other tensor).
    dims: Vec<(usize, usize, isize)>,
    /// Stride in the indices from one component of an index vector to the next.
    pub(super) component: usize,
}

impl Batch {
    /// `others` are the strides of the other tensor along its batch dimensions, in order.
    pub(super) fn new(indices: &[usize], vector_dim: usize, others: &[isize]) -> Batch {
        let strides = super::row_major(indices);
        let kept = (0..indices.len()).filter(|&d| d != vector_dim);
        let dims = kept.zip(others).map(|(d, &other)| (indices[d], strides[d] as usize, other)).collect();
        Batch { dims, component: strides.get(vector_dim).map_or(0, |&s| s as usize) }
    }

    pub(super) fn len(&self) -> usize {
        self.dims.iter().map(|dim| dim.0).product()
    }

    /// Offsets of a batch position in the indices and in the other tensor.
    #[inline]
    pub(super) fn offsets(&self, position: usize) -> (usize, isize) {
        if let [(_, stride, other)] = self.dims[..] {
            return (position * stride, position as isize * other);
        }
        let (mut rest, mut index, mut offset) = (position, 0, 0);
        for &(size, stride, other) in self.dims.iter().rev() {
            index += rest % size * stride;
            offset += (rest % size) as isize * other;
            rest /= size;
        }
        (index, offset)
    }
}
