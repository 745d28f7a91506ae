use super::boxes::BoxCopy;
use super::index::Indices;
use super::row_major;
use crate::{DType, Kernel};

/// Start positions read at run time, one scalar operand per dimension.
struct Starts {
    first: usize,
    index: DType,
    /// (stride, largest start) per dimension.
    dims: Vec<(isize, i64)>,
}

impl Starts {
    fn new(whole: &[usize], part: &[usize], first: usize, index: DType) -> Option<Starts> {
        let fits = whole.len() == part.len() && part.iter().zip(whole).all(|(part, whole)| part <= whole);
        if !fits || !Indices::supports(index) {
            return None;
        }
        let largest = whole.iter().zip(part).map(|(whole, part)| (whole - part) as i64);
        Some(Starts { first, index, dims: row_major(whole).into_iter().zip(largest).collect() })
    }

    /// Element offset of the clamped start.
    ///
    /// # Safety
    /// The start operands hold one index each.
    unsafe fn offset(&self, operands: &[*mut u8]) -> isize {
        let start = |(d, &(stride, largest)): (usize, &(isize, i64))| {
            let index = Indices { dtype: self.index, address: operands[self.first + d] };
            // SAFETY: promised by the caller.
            unsafe { index.at(0) }.clamp(0, largest) as isize * stride
        };
        self.dims.iter().enumerate().map(start).sum()
    }
}

/// A slice whose start is read at run time and clamped so that it fits.
///
/// Operands: operand, one start scalar per dimension, output; row-major, the output overlaps no other.
pub struct DynamicSlice {
    starts: Starts,
    copy: BoxCopy,
    size: usize,
}

impl DynamicSlice {
    /// Plans a slice of extents `sizes`. `None` if it cannot fit or the index type is no integer.
    pub fn new(operand: &[usize], sizes: &[usize], dtype: DType, index: DType) -> Option<DynamicSlice> {
        let starts = Starts::new(operand, sizes, 1, index)?;
        let copy = BoxCopy::new(sizes, &row_major(operand), &row_major(sizes), dtype.size());
        Some(DynamicSlice { starts, copy, size: dtype.size() })
    }
}

impl Kernel for DynamicSlice {
    fn tasks(&self, _stage: usize) -> usize {
        self.copy.boxes()
    }

    unsafe fn run(&self, _stage: usize, task: usize, operands: &[*mut u8], _workspace: *mut u8, _scratch: *mut u8) {
        // SAFETY: the clamped start keeps the slice in the operand.
        unsafe {
            let offset = self.starts.offset(operands) * self.size as isize;
            self.copy.run(task, operands[0].offset(offset), operands[1 + self.starts.dims.len()]);
        }
    }
}

/// The operand with a part replaced, whose start is read at run time and clamped so that it fits.
///
/// Operands: operand, update, one start scalar per dimension, output; row-major, the output may be exactly the operand and overlaps
/// no other.
pub struct DynamicUpdateSlice {
    starts: Starts,
    copy: BoxCopy,
    size: usize,
    elements: usize,
}

/// Elements a task copies of the operand.
const COPIED: usize = 65_536;

impl DynamicUpdateSlice {
    /// Plans an update of shape `update`. `None` if it cannot fit or the index type is no integer.
    pub fn new(operand: &[usize], update: &[usize], dtype: DType, index: DType) -> Option<DynamicUpdateSlice> {
        let starts = Starts::new(operand, update, 2, index)?;
        let copy = BoxCopy::new(update, &row_major(update), &row_major(operand), dtype.size());
        Some(DynamicUpdateSlice { starts, copy, size: dtype.size(), elements: operand.iter().product() })
    }
}

impl Kernel for DynamicUpdateSlice {
    fn stages(&self) -> usize {
        2
    }

    fn tasks(&self, stage: usize) -> usize {
        if stage == 0 { self.elements.div_ceil(COPIED) } else { self.copy.boxes() }
    }

    unsafe fn run(&self, stage: usize, task: usize, operands: &[*mut u8], _workspace: *mut u8, _scratch: *mut u8) {
        let output = operands[2 + self.starts.dims.len()];
        // SAFETY: the ranges lie in the operands; the clamped start keeps the update in the output.
        unsafe {
            if stage > 0 {
                let offset = self.starts.offset(operands) * self.size as isize;
                self.copy.run(task, operands[1], output.offset(offset));
            } else if operands[0] != output {
                let (from, to) = (task * COPIED * self.size, ((task + 1) * COPIED).min(self.elements) * self.size);
                std::ptr::copy_nonoverlapping(operands[0].add(from), output.add(from), to - from);
            }
        }
    }
}
