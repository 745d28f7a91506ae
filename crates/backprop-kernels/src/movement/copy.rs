use super::boxes::BoxCopy;
use super::row_major;
use crate::{DType, Kernel};

/// One strided copy: `target[target_offset + Σ i·target_strides] = source[source_offset + Σ i·source_strides]`.
#[derive(Clone, Debug)]
pub struct CopyPart {
    /// Number of the source operand.
    pub source: usize,
    /// Extents of the copied box.
    pub dims: Vec<usize>,
    /// Element stride of the source per dimension: 0 broadcasts, negative reverses.
    pub source_strides: Vec<isize>,
    /// Element offset of the first source element.
    pub source_offset: isize,
    /// Element stride of the target per dimension; no two positions may fall together.
    pub target_strides: Vec<isize>,
    /// Element offset of the first target element.
    pub target_offset: isize,
}

/// What a [`StridedCopy`] writes everywhere before it copies.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FillValue {
    /// The low bytes of these bits.
    Bits(u64),
    /// The one element of that operand, read at run time.
    Operand(usize),
}

/// Any number of strided copies into one output, after an optional fill of all of it.
///
/// The parts write disjoint elements of the output, which overlaps no other operand.
pub struct StridedCopy {
    parts: Vec<(CopyPart, BoxCopy)>,
    fill: Option<FillValue>,
    size: usize,
    output: usize,
    elements: usize,
}

/// Elements a task fills.
const FILLED: usize = 65_536;

impl StridedCopy {
    /// Plans copies into operand `output` of that many elements.
    pub fn new(dtype: DType, output: usize, elements: usize, parts: Vec<CopyPart>, fill: Option<FillValue>) -> StridedCopy {
        let size = dtype.size();
        let plan = |part: CopyPart| {
            let boxes = BoxCopy::new(&part.dims, &part.source_strides, &part.target_strides, size);
            (part, boxes)
        };
        StridedCopy { parts: parts.into_iter().map(plan).collect(), fill, size, output, elements }
    }

    /// Fills operand 0.
    pub fn fill(dtype: DType, elements: usize, bits: u64) -> StridedCopy {
        StridedCopy::new(dtype, 0, elements, Vec::new(), Some(FillValue::Bits(bits)))
    }

    /// Copies a strided view of operand 0 into the row-major operand 1 of shape `dims`: a transpose, slice, reversal or
    /// broadcast, or several of them at once.
    pub fn view(dtype: DType, dims: &[usize], strides: &[isize], offset: isize) -> StridedCopy {
        let part = CopyPart {
            source: 0,
            dims: dims.to_vec(),
            source_strides: strides.to_vec(),
            source_offset: offset,
            target_strides: row_major(dims),
            target_offset: 0,
        };
        StridedCopy::new(dtype, 1, dims.iter().product(), vec![part], None)
    }

    /// Joins row-major operands of these shapes, which differ along `dim` only, into the operand after them.
    pub fn concatenate(dtype: DType, shapes: &[&[usize]], dim: usize) -> StridedCopy {
        let mut dims = shapes.first().map_or(Vec::new(), |shape| shape.to_vec());
        if let Some(size) = dims.get_mut(dim) {
            *size = shapes.iter().map(|shape| shape[dim]).sum();
        }
        let target = row_major(&dims);
        let mut before = 0;
        let mut part = |(source, shape): (usize, &&[usize])| {
            let target_offset = before as isize * target[dim];
            before += shape[dim];
            CopyPart {
                source,
                dims: shape.to_vec(),
                source_strides: row_major(shape),
                source_offset: 0,
                target_strides: target.clone(),
                target_offset,
            }
        };
        let parts = shapes.iter().enumerate().map(&mut part).collect();
        StridedCopy::new(dtype, shapes.len(), dims.iter().product(), parts, None)
    }

    /// Pads the row-major operand 0 with the one element of operand 1 into operand 2, StableHLO's `pad`: `low` and `high`
    /// elements at the edges (negative removes), `interior` between neighbours.
    pub fn pad(dtype: DType, dims: &[usize], low: &[isize], high: &[isize], interior: &[usize]) -> StridedCopy {
        let padded = padded_shape(dims, low, high, interior);
        let (source, target) = (row_major(dims), row_major(&padded));
        let mut part = CopyPart {
            source: 0,
            dims: Vec::new(),
            source_strides: source.clone(),
            source_offset: 0,
            target_strides: Vec::new(),
            target_offset: 0,
        };
        for d in 0..dims.len() {
            let step = interior[d] as isize + 1;
            // Elements before the first or after the last visible position are cut off.
            let first = (-low[d]).max(0).div_ceil_signed(step);
            let last = (padded[d] as isize - 1 - low[d]).div_euclid(step).min(dims[d] as isize - 1);
            part.dims.push((last - first + 1).max(0) as usize);
            part.source_offset += first * source[d];
            part.target_offset += (low[d] + first * step) * target[d];
            part.target_strides.push(step * target[d]);
        }
        StridedCopy::new(dtype, 2, padded.iter().product(), vec![part], Some(FillValue::Operand(1)))
    }

    fn copy_stage(&self) -> usize {
        usize::from(self.fill.is_some())
    }

    /// # Safety
    /// As [`Kernel::run`].
    unsafe fn fill_task(&self, value: FillValue, task: usize, operands: &[*mut u8]) {
        let (from, to) = (task * FILLED, ((task + 1) * FILLED).min(self.elements));
        // SAFETY: the range lies in the output; a value operand holds one element.
        unsafe {
            let bits = match value {
                FillValue::Bits(bits) => bits,
                FillValue::Operand(operand) => read_bits(operands[operand], self.size),
            };
            let target = operands[self.output].add(from * self.size);
            crate::tile::splat(self.size, target, bits, to - from);
        }
    }
}

/// Shape of a padded tensor, StableHLO's `pad`.
fn padded_shape(dims: &[usize], low: &[isize], high: &[isize], interior: &[usize]) -> Vec<usize> {
    (0..dims.len())
        .map(|d| {
            let inside = dims[d] + dims[d].saturating_sub(1) * interior[d];
            (inside as isize + low[d] + high[d]).max(0) as usize
        })
        .collect()
}

trait DivCeil {
    fn div_ceil_signed(self, by: isize) -> isize;
}
impl DivCeil for isize {
    fn div_ceil_signed(self, by: isize) -> isize {
        -(-self).div_euclid(by)
    }
}

/// # Safety
/// `address` holds one element of `size` bytes, aligned.
unsafe fn read_bits(address: *const u8, size: usize) -> u64 {
    // SAFETY: promised by the caller.
    unsafe {
        match size {
            1 => u64::from(*address),
            2 => u64::from(*address.cast::<u16>()),
            4 => u64::from(*address.cast::<u32>()),
            _ => *address.cast::<u64>(),
        }
    }
}

impl Kernel for StridedCopy {
    fn stages(&self) -> usize {
        self.copy_stage() + usize::from(!self.parts.is_empty() || self.fill.is_none())
    }

    fn tasks(&self, stage: usize) -> usize {
        if stage < self.copy_stage() {
            return self.elements.div_ceil(FILLED);
        }
        self.parts.iter().map(|(_, boxes)| boxes.boxes()).sum()
    }

    unsafe fn run(&self, stage: usize, task: usize, operands: &[*mut u8], _workspace: *mut u8, _scratch: *mut u8) {
        if let Some(value) = self.fill.filter(|_| stage == 0) {
            // SAFETY: the caller's promise.
            unsafe { self.fill_task(value, task, operands) };
            return;
        }
        let mut number = task;
        for (part, boxes) in &self.parts {
            if number < boxes.boxes() {
                // SAFETY: the caller's promise; the part lies in both operands.
                unsafe {
                    let source = operands[part.source].offset(part.source_offset * self.size as isize);
                    let target = operands[self.output].offset(part.target_offset * self.size as isize);
                    boxes.run(number, source, target);
                }
                return;
            }
            number -= boxes.boxes();
        }
    }
}
