use super::choose::Windows;
use super::geometry::{Geometry, WindowSpec, room};
use crate::reduce::{Loops, Reduction, same_type_loops};
use crate::{DType, Isa, Kernel};

/// Sum, maximum or minimum of every window; padding counts as 0, −∞ or +∞.
///
/// Operands: input, output, both row-major; the output overlaps nothing. A window's elements are joined in row-major order.
pub struct ReduceWindow {
    geometry: Geometry,
    loops: Loops,
    size: usize,
    /// Windows per task.
    group: usize,
}

/// Window elements a task joins.
const TASK: usize = 65_536;

impl ReduceWindow {
    /// Plans a window reduction. `None` if the specification does not fit or elements of that type cannot be reduced so.
    pub fn new(spec: &WindowSpec, reduction: Reduction, dtype: DType, isa: Isa) -> Option<ReduceWindow> {
        let geometry = Geometry::new(spec)?;
        let loops = same_type_loops(reduction, dtype, isa)?;
        let group = (TASK / (geometry.window() * geometry.channels).max(1)).max(1);
        Some(ReduceWindow { geometry, loops, size: dtype.size(), group })
    }
}

impl Kernel for ReduceWindow {
    fn tasks(&self, _stage: usize) -> usize {
        if self.geometry.channels == 0 { 0 } else { (self.geometry.batch * self.geometry.windows()).div_ceil(self.group) }
    }

    fn scratch(&self) -> usize {
        self.geometry.window() * size_of::<usize>()
    }

    unsafe fn run(&self, _stage: usize, task: usize, operands: &[*mut u8], _workspace: *mut u8, scratch: *mut u8) {
        let (windows, positions) = (self.geometry.windows(), self.geometry.positions());
        let (channels, row) = (self.geometry.channels, self.geometry.channels * self.size);
        // SAFETY: the scratch has room for the positions of a window.
        let list = unsafe { room(scratch, self.geometry.window()) };
        let end = ((task + 1) * self.group).min(self.geometry.batch * windows);
        let mut number = task * self.group;
        while number < end {
            let (batch, first) = (number / windows, number % windows);
            let last = windows.min(first + end - number);
            let input = operands[0].wrapping_add(batch * positions * row).cast_const();
            let output = operands[1].wrapping_add(batch * windows * row);
            self.geometry.each(first..last, list, |window, positions, count, step| {
                let windows = Windows { positions, count, step, row, ahead: self.geometry.ahead(), channels };
                // SAFETY: positions lie in the batch entry's input; the windows' rows of the output are this task's own.
                unsafe { (self.loops.windows)(windows, input, output.add(window * row)) };
            });
            number += last - first;
        }
    }
}
