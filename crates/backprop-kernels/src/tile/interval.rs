//! A program evaluated over any interval of the row-major order of its iteration space, for a consumer such as a reduction.

use super::access::is_contiguous;
use super::collapse::collapse;
use super::machine::{Machine, Region, SMALLEST_TILE, cost};
use super::program::{Definition, MAX_RANK, Reg, TileError, TileProgram};
use crate::Isa;

/// A compiled program whose one result is handed out tile by tile.
pub(crate) struct Interval {
    machine: Machine,
    dims: Vec<usize>,
    /// Extents of a whole box.
    full: [usize; MAX_RANK],
    result: Reg,
    cost: f64,
    /// Operand, offset, size of elements and elements handed out at a time, if the result is an operand in its own order.
    plain: Option<(usize, isize, usize, usize)>,
}

/// Elements of an operand that are handed out at a time, about: they stay in the first-level cache.
const PIECE: usize = 4096;

impl Interval {
    /// All intervals will start, and but for the last one end, at multiples of `aligned` elements.
    pub(crate) fn new(program: &TileProgram, result: Reg, aligned: usize, isa: Isa) -> Result<Interval, TileError> {
        program.dtype(result).ok_or(TileError::UnknownRegister(result))?;
        let program = collapse(program);
        let dims = if program.dims.is_empty() { vec![1] } else { program.dims.clone() };
        let fixed = fixed_dims(&dims, aligned);
        let machine = Machine::new(&program, isa, |d| d + fixed < dims.len(), &[result])?;
        let block: usize = dims[dims.len() - fixed..].iter().product();
        let mut full = [1; MAX_RANK];
        full[dims.len() - fixed..dims.len()].copy_from_slice(&dims[dims.len() - fixed..]);
        if fixed < dims.len() {
            full[dims.len() - fixed - 1] = machine.tile() / block;
        }
        let plain = plain(&program, result, aligned);
        Ok(Interval { machine, dims, full, result, cost: cost(&program), plain })
    }

    /// Estimated nanoseconds per element.
    pub(crate) fn cost(&self) -> f64 {
        self.cost
    }

    pub(crate) fn scratch(&self) -> usize {
        self.machine.scratch()
    }

    /// Evaluates elements `start .. start + len` and hands them to `consume(values, count)` piece by piece, in order. `first`
    /// holds for the first call of a task in this scratch.
    ///
    /// # Safety
    /// As [`Kernel::run`](crate::Kernel::run); the interval lies in the iteration space.
    #[inline(always)]
    pub(crate) unsafe fn each(
        &self,
        start: usize,
        len: usize,
        first: bool,
        operands: &[*mut u8],
        scratch: *mut u8,
        mut consume: impl FnMut(*const u8, usize),
    ) {
        if let Some((operand, offset, size, piece)) = self.plain {
            for done in (0..len).step_by(piece) {
                // SAFETY: the caller's promise.
                let values = unsafe { operands[operand].offset((offset + (start + done) as isize) * size as isize) };
                consume(values, piece.min(len - done));
            }
            return;
        }
        let rank = self.dims.len();
        let (mut done, mut first) = (0, first);
        while done < len {
            let (origin, shape, count) = self.largest_box(start + done, len - done);
            let region = Region { origin: &origin[..rank], shape: &shape[..rank], full: &self.full[..rank], first };
            // SAFETY: the caller's promise; the box is a part of the interval.
            let values = unsafe {
                self.machine.run(region, operands, scratch);
                *self.machine.value(self.result, scratch)
            };
            consume(values, count);
            done += count;
            first = false;
        }
    }

    /// The largest box of whole trailing dimensions that starts at a linear index and has at most `len` elements.
    fn largest_box(&self, start: usize, len: usize) -> ([usize; MAX_RANK], [usize; MAX_RANK], usize) {
        let limit = len.min(self.machine.tile());
        let (mut origin, mut shape) = ([0; MAX_RANK], [1; MAX_RANK]);
        let mut rest = start;
        for d in (0..self.dims.len()).rev() {
            origin[d] = rest % self.dims[d];
            rest /= self.dims[d];
        }
        let mut block = 1;
        for d in (0..self.dims.len()).rev() {
            shape[d] = (self.dims[d] - origin[d]).min(limit / block);
            if shape[d] == 0 {
                shape[d] = 1;
                break;
            }
            block *= shape[d];
            if shape[d] < self.dims[d] {
                break;
            }
        }
        (origin, shape, block)
    }
}

/// Where a result is an operand in its own order; pieces are whole stretches of `aligned` elements, if those are short.
fn plain(program: &TileProgram, result: Reg, aligned: usize) -> Option<(usize, isize, usize, usize)> {
    let value = &program.values[usize::from(result.0)];
    let piece = if aligned <= PIECE { PIECE / aligned.max(1) * aligned.max(1) } else { PIECE };
    match &value.definition {
        Definition::Load { operand, strides, offset } if is_contiguous(&program.dims, strides) => {
            Some((*operand, *offset, value.dtype.size(), piece))
        }
        _ => None,
    }
}

/// How many of the last dimensions every box covers whole: those that lie in one aligned stretch and surely fit a tile.
fn fixed_dims(dims: &[usize], aligned: usize) -> usize {
    let blocks = dims.iter().rev().scan(1, |block, &extent| {
        *block *= extent;
        Some(*block)
    });
    blocks.take_while(|&block| block > 0 && block <= SMALLEST_TILE && aligned.is_multiple_of(block)).count()
}
