use super::machine::{Machine, Region};
use super::program::{Definition, Reg, TileError, TileProgram};
use crate::Isa;
use crate::ahead::{LINE, prefetch};
use crate::gemm::Epilogue;

/// The dimension of a program that numbers rows.
const ROWS: usize = 1;

/// A tile program applied to the output tile of a product or convolution while it is in cache.
///
/// Its iteration space is [batch, rows, columns] of the product, its [given](TileProgram::given) value the `F32` result.
/// Operands of its loads and stores are numbered as the product's own list, which they extend.
pub struct TileEpilogue {
    machine: Machine,
    given: Option<Reg>,
    streams: Vec<Stream>,
}

/// An operand whose rows a program reads or writes from one end to the other.
struct Stream {
    operand: usize,
    /// Offset and strides of batch and row, in bytes.
    offset: isize,
    batch: isize,
    row: isize,
    /// Bytes of an element.
    size: usize,
}

impl Stream {
    /// Those of a program but for what all rows share, or goes past the caches.
    fn all(program: &TileProgram) -> Vec<Stream> {
        let loads = program.values.iter().filter_map(|value| match &value.definition {
            Definition::Load { operand, strides, offset } => Some((*operand, strides, *offset, value.dtype.size())),
            _ => None,
        });
        let size = |reg: Reg| program.values[usize::from(reg.0)].dtype.size();
        let stores = program.stores.iter().filter(|s| !s.past).map(|s| (s.operand, &s.strides, s.offset, size(s.reg)));
        let stream = |(operand, strides, offset, size): (usize, &Vec<isize>, isize, usize)| {
            let bytes = size as isize;
            let stream = Stream { operand, offset: offset * bytes, batch: strides[0] * bytes, row: strides[ROWS] * bytes, size };
            (strides[2] == 1 && strides[ROWS] != 0).then_some(stream)
        };
        loads.chain(stores).filter_map(stream).collect()
    }
}

impl TileEpilogue {
    /// Plans a program over [batch, rows, columns]. Fails if it has other than three dimensions or stores nothing.
    pub fn new(program: &TileProgram, isa: Isa) -> Result<TileEpilogue, TileError> {
        if program.dims().len() != 3 {
            return Err(TileError::Rank { expected: 3, found: program.dims().len() });
        }
        let given = program.given_register();
        // The parts of a tile that follow each other have other rows: what depends on columns alone is computed once.
        let machine = Machine::new(program, isa, |d| d == ROWS, &[])?;
        Ok(TileEpilogue { machine, given, streams: Stream::all(program) })
    }

    /// Hands a part of the result tile to the program: in place if it is contiguous.
    ///
    /// # Safety
    /// As [`apply`](Epilogue::apply).
    unsafe fn give(&self, part: *const f32, ld: usize, shape: [usize; 3], scratch: *mut u8) {
        let Some(given) = self.given else { return };
        let [_, rows, cols] = shape;
        // SAFETY: the copy lies behind the machine's own scratch and holds a whole tile.
        unsafe {
            let entry = self.machine.value(given, scratch);
            if let Some(stride) = self.machine.row_stride_of_given(scratch) {
                (*entry, *stride) = (part.cast(), (ld * size_of::<f32>()) as isize);
                return;
            }
            if rows == 1 || cols == ld {
                *entry = part.cast();
                return;
            }
            let copy = scratch.add(self.machine.scratch()).cast::<f32>();
            for r in 0..rows {
                std::ptr::copy_nonoverlapping(part.add(r * ld), copy.add(r * cols), cols);
            }
            *entry = copy.cast_const().cast();
        }
    }
}

impl Epilogue for TileEpilogue {
    fn scratch(&self) -> usize {
        self.machine.scratch() + self.machine.tile() * size_of::<f32>()
    }

    unsafe fn apply(
        &self,
        batch: usize,
        row0: usize,
        rows: usize,
        col0: usize,
        cols: usize,
        tile: *const f32,
        ld: usize,
        operands: &[*mut u8],
        scratch: *mut u8,
    ) {
        let width = cols.min(self.machine.tile());
        let height = (self.machine.tile() / width.max(1)).max(1).min(rows);
        for col in (0..cols).step_by(width.max(1)) {
            let full = [1, height, width.min(cols - col)];
            for row in (0..rows).step_by(height.max(1)) {
                let origin = [batch, row0 + row, col0 + col];
                let shape = [1, height.min(rows - row), full[2]];
                // SAFETY: the caller's promise, restricted to a part of the block.
                unsafe {
                    let part = tile.add(row * ld + col);
                    self.give(part, ld, shape, scratch);
                    self.machine.run(Region { origin: &origin, shape: &shape, full: &full, first: row == 0 }, operands, scratch);
                }
            }
        }
        self.machine.publish();
    }

    fn fetch(&self, batch: usize, row0: usize, rows: usize, col0: usize, cols: usize, operands: &[*mut u8]) {
        for stream in &self.streams {
            let first = operands[stream.operand].wrapping_offset(stream.offset + batch as isize * stream.batch);
            let first = first.wrapping_add(col0 * stream.size);
            for row in row0..row0 + rows {
                let at = first.wrapping_offset(row as isize * stream.row);
                (0..cols * stream.size).step_by(LINE).for_each(|byte| prefetch(at.wrapping_add(byte)));
            }
        }
    }
}
