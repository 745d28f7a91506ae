use super::geometry::{Geometry, WindowSpec};
use crate::simd::per_isa;
use crate::{DType, Isa, Kernel};

/// Channels a task handles together: their selection stays in registers and the first-level cache.
const BLOCK: usize = 64;
/// Marks a window without any element.
const NONE: u32 = u32::MAX;

/// An element type with a maximum to select by.
trait Real: Copy + PartialOrd + std::ops::Add<Output = Self> + Default + 'static {}
impl Real for f32 {}
impl Real for f64 {}

/// `(best, selected, values, n, position, first)`: selects, per channel, this position if its value is larger, or the first NaN.
type ChooseFn = unsafe fn(*mut u8, *mut u32, *const u8, usize, u32, bool);
/// `(target, selected, values, n, position)`: adds the values of the channels that selected this position.
type AddFn = unsafe fn(*mut u8, *const u32, *const u8, usize, u32);

/// # Safety
/// All lists hold `n` elements.
#[inline(always)]
unsafe fn choose_body<T: Real, const FMA: bool>(
    best: *mut u8,
    selected: *mut u32,
    values: *const u8,
    n: usize,
    position: u32,
    first: bool,
) {
    // SAFETY: promised by the caller.
    let (best, selected, values) = unsafe {
        (
            std::slice::from_raw_parts_mut(best.cast::<T>(), n),
            std::slice::from_raw_parts_mut(selected, n),
            std::slice::from_raw_parts(values.cast::<T>(), n),
        )
    };
    if first {
        best.copy_from_slice(values);
        selected.fill(position);
        return;
    }
    for ((best, selected), &x) in best.iter_mut().zip(selected).zip(values) {
        // A NaN is the only value that differs from itself.
        #[allow(clippy::eq_op, reason = "the test for NaN of a generic float")]
        let replaces = (*best == *best) & ((x > *best) | (x != x));
        *best = if replaces { x } else { *best };
        *selected = if replaces { position } else { *selected };
    }
}

/// # Safety
/// All lists hold `n` elements.
#[inline(always)]
unsafe fn add_body<T: Real, const FMA: bool>(target: *mut u8, selected: *const u32, values: *const u8, n: usize, position: u32) {
    // SAFETY: promised by the caller.
    let (target, selected, values) = unsafe {
        (
            std::slice::from_raw_parts_mut(target.cast::<T>(), n),
            std::slice::from_raw_parts(selected, n),
            std::slice::from_raw_parts(values.cast::<T>(), n),
        )
    };
    for ((target, &selected), &x) in target.iter_mut().zip(selected).zip(values) {
        *target = if selected == position { *target + x } else { *target };
    }
}

per_isa! {
    fn choose[T: Real](best: *mut u8, selected: *mut u32, values: *const u8, n: usize, position: u32, first: bool) = choose_body
}
per_isa! {
    fn add[T: Real](target: *mut u8, selected: *const u32, values: *const u8, n: usize, position: u32) = add_body
}

/// What both selecting kernels share: a task is one batch entry and one block of channels.
struct Selection {
    geometry: Geometry,
    size: usize,
    choose: ChooseFn,
    add: AddFn,
}

impl Selection {
    fn new(spec: &WindowSpec, dtype: DType, isa: Isa) -> Option<Selection> {
        let geometry = Geometry::new(spec)?;
        u32::try_from(geometry.positions()).ok()?;
        let (choose, add): (ChooseFn, AddFn) = match dtype {
            DType::F32 => (choose::<f32>(isa), add::<f32>(isa)),
            DType::F64 => (choose::<f64>(isa), add::<f64>(isa)),
            _ => return None,
        };
        Some(Selection { geometry, size: dtype.size(), choose, add })
    }

    fn blocks(&self) -> usize {
        self.geometry.channels.div_ceil(BLOCK)
    }

    /// Batch entry, first channel and number of channels of a task.
    fn part(&self, task: usize) -> (usize, usize, usize) {
        let first = task % self.blocks() * BLOCK;
        (task / self.blocks(), first, BLOCK.min(self.geometry.channels - first))
    }

    /// Bytes from one position to the next.
    fn row(&self) -> usize {
        self.geometry.channels * self.size
    }

    /// Selects, per channel, the position of the first largest element under a window into `selected`.
    ///
    /// # Safety
    /// `input` is the batch entry's first channel of the task; `best` and `selected` hold a block.
    unsafe fn select(&self, window: usize, input: *const u8, channels: usize, best: *mut u8, selected: *mut u32) {
        let mut first = true;
        self.geometry.each(window, &mut |position| {
            // SAFETY: the position lies in the input.
            unsafe {
                (self.choose)(best, selected, input.add(position * self.row()), channels, position as u32, first);
            }
            first = false;
        });
        if first {
            // SAFETY: promised by the caller.
            unsafe { std::slice::from_raw_parts_mut(selected, channels) }.fill(NONE);
        }
    }
}

/// Bytes of the best values and of the selected positions.
const SCRATCH: usize = BLOCK * (size_of::<f64>() + size_of::<u32>());

/// Adds each source element to the position of its window's first largest element (first in row-major order; the first NaN
/// before all numbers), StableHLO's `select_and_scatter` with `ge`, `add` and 0: the derivative of a maximum over windows.
///
/// Operands: operand (the windows' input), source (one element per window), output (the operand's shape); row-major, the output
/// overlaps nothing. Additions to one element happen in row-major order of the windows.
pub struct SelectAndScatter {
    selection: Selection,
}

impl SelectAndScatter {
    /// Plans it for `F32` or `F64`; `None` for other types or a specification that does not fit.
    pub fn new(spec: &WindowSpec, dtype: DType, isa: Isa) -> Option<SelectAndScatter> {
        Some(SelectAndScatter { selection: Selection::new(spec, dtype, isa)? })
    }
}

impl Kernel for SelectAndScatter {
    fn tasks(&self, _stage: usize) -> usize {
        self.selection.geometry.batch * self.selection.blocks()
    }

    fn scratch(&self) -> usize {
        SCRATCH
    }

    unsafe fn run(&self, _stage: usize, task: usize, operands: &[*mut u8], _workspace: *mut u8, scratch: *mut u8) {
        let s = &self.selection;
        let (batch, channel, channels) = s.part(task);
        let (windows, positions) = (s.geometry.windows(), s.geometry.positions());
        // SAFETY: positions and windows lie in the batch entry; the block of channels is this task's own.
        unsafe {
            let input = operands[0].add(batch * positions * s.row() + channel * s.size).cast_const();
            let source = operands[1].add(batch * windows * s.row() + channel * s.size).cast_const();
            let output = operands[2].add(batch * positions * s.row() + channel * s.size);
            let (best, selected) = (scratch, scratch.add(BLOCK * size_of::<f64>()).cast::<u32>());
            for position in 0..positions {
                std::ptr::write_bytes(output.add(position * s.row()), 0, channels * s.size);
            }
            for window in 0..windows {
                s.select(window, input, channels, best, selected);
                let values = source.add(window * s.row());
                s.geometry.each(window, &mut |position| {
                    (s.add)(output.add(position * s.row()), selected, values, channels, position as u32);
                });
            }
        }
    }
}

/// For every window the element of a second operand at the position of the window's first largest element (as
/// [`SelectAndScatter`] selects); 0 where a window holds only padding.
///
/// Operands: operand (the windows' input), the second operand of the same shape, output (one element per window); row-major, the
/// output overlaps nothing.
pub struct SelectAndGather {
    selection: Selection,
}

impl SelectAndGather {
    /// Plans it for `F32` or `F64`; `None` for other types or a specification that does not fit.
    pub fn new(spec: &WindowSpec, dtype: DType, isa: Isa) -> Option<SelectAndGather> {
        Some(SelectAndGather { selection: Selection::new(spec, dtype, isa)? })
    }
}

impl Kernel for SelectAndGather {
    fn tasks(&self, _stage: usize) -> usize {
        self.selection.geometry.batch * self.selection.blocks()
    }

    fn scratch(&self) -> usize {
        SCRATCH
    }

    unsafe fn run(&self, _stage: usize, task: usize, operands: &[*mut u8], _workspace: *mut u8, scratch: *mut u8) {
        let s = &self.selection;
        let (batch, channel, channels) = s.part(task);
        let (windows, positions) = (s.geometry.windows(), s.geometry.positions());
        // SAFETY: positions and windows lie in the batch entry; the block of channels is this task's own.
        unsafe {
            let input = operands[0].add(batch * positions * s.row() + channel * s.size).cast_const();
            let second = operands[1].add(batch * positions * s.row() + channel * s.size).cast_const();
            let output = operands[2].add(batch * windows * s.row() + channel * s.size);
            let (best, selected) = (scratch, scratch.add(BLOCK * size_of::<f64>()).cast::<u32>());
            for window in 0..windows {
                s.select(window, input, channels, best, selected);
                let target = output.add(window * s.row());
                std::ptr::write_bytes(target, 0, channels * s.size);
                for c in 0..channels {
                    let position = *selected.add(c);
                    if position != NONE {
                        let from = second.add(position as usize * s.row() + c * s.size);
                        std::ptr::copy_nonoverlapping(from, target.add(c * s.size), s.size);
                    }
                }
            }
        }
    }
}
