use crate::{DType, Isa, Kernel};

/// Which extreme an [`ArgReduce`] finds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum ArgReduction {
    /// The first largest element; the first NaN wins over every number.
    Max,
    /// The first smallest element; the first NaN wins over every number.
    Min,
}

/// The index of the first extreme along one dimension, and its value.
///
/// The input is [outer, length, inner] in row-major order. Operands: input, indices (`I32`, [outer, inner]), values (the input's
/// type, [outer, inner]); neither output overlaps another operand. A length of 0 gives index 0 and leaves the values alone.
pub struct ArgReduce {
    outer: usize,
    length: usize,
    inner: usize,
    run: unsafe fn(&ArgReduce, usize, &[*mut u8]),
    better: ArgReduction,
    group: usize,
}

impl ArgReduce {
    /// Plans the search for `F32` or `F64` data; `None` for other types or a length beyond `i32`.
    pub fn new(shape: [usize; 3], dtype: DType, reduction: ArgReduction, _isa: Isa) -> Option<ArgReduce> {
        let [outer, length, inner] = shape;
        let run: unsafe fn(&ArgReduce, usize, &[*mut u8]) = match dtype {
            DType::F32 => search::<f32>,
            DType::F64 => search::<f64>,
            _ => return None,
        };
        i32::try_from(length).ok()?;
        let group = (32_768 / (length * inner).max(1)).max(1);
        Some(ArgReduce { outer, length, inner, run, better: reduction, group })
    }
}

impl Kernel for ArgReduce {
    fn tasks(&self, _stage: usize) -> usize {
        self.outer.div_ceil(self.group)
    }

    unsafe fn run(&self, _stage: usize, task: usize, operands: &[*mut u8], _workspace: *mut u8, _scratch: *mut u8) {
        // SAFETY: the caller's promise.
        unsafe { (self.run)(self, task, operands) };
    }
}

/// # Safety
/// As [`Kernel::run`].
unsafe fn search<T: PartialOrd + Copy>(kernel: &ArgReduce, task: usize, operands: &[*mut u8]) {
    let (length, inner) = (kernel.length, kernel.inner);
    for outer in task * kernel.group..((task + 1) * kernel.group).min(kernel.outer) {
        // SAFETY: the operands have the documented shapes; tasks own disjoint outer positions.
        let (input, indices, values) = unsafe {
            (
                std::slice::from_raw_parts(operands[0].cast::<T>().add(outer * length * inner), length * inner),
                std::slice::from_raw_parts_mut(operands[1].cast::<i32>().add(outer * inner), inner),
                std::slice::from_raw_parts_mut(operands[2].cast::<T>().add(outer * inner), inner),
            )
        };
        indices.fill(0);
        let Some(first) = input.get(..inner) else { continue };
        values.copy_from_slice(first);
        for (l, row) in input.chunks_exact(inner.max(1)).enumerate().skip(1) {
            for ((best, at), &x) in values.iter_mut().zip(indices.iter_mut()).zip(row) {
                let beats = match kernel.better {
                    ArgReduction::Max => x > *best,
                    ArgReduction::Min => x < *best,
                };
                // A NaN is the only value that differs from itself.
                #[allow(clippy::eq_op, reason = "the test for NaN of a generic float")]
                let replaces = *best == *best && (beats || x != x);
                *best = if replaces { x } else { *best };
                *at = if replaces { l as i32 } else { *at };
            }
        }
    }
}
