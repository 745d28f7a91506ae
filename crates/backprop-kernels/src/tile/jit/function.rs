use super::code::Code;
use super::emit::{Elements, FLUSH, Frame, emit};
use super::memory::Instructions;
use crate::Isa;

/// Code as a function in memory.
pub(in crate::tile) struct Function {
    instructions: Instructions,
    /// Each constant in all lanes of a slot.
    constants: Vec<[u32; 16]>,
    wide: bool,
}

impl Function {
    /// `None` where the instruction set or the system does not serve, or the code is too large.
    pub(in crate::tile) fn new(code: &Code, streams: &[Elements], isa: Isa) -> Option<Function> {
        let wide = match isa {
            Isa::Avx512 => true,
            Isa::Avx2 => false,
            Isa::Portable => return None,
        };
        let instructions = Instructions::new(&emit(code, streams, wide)?)?;
        Some(Function { instructions, constants: code.constants.iter().map(|&bits| [bits; 16]).collect(), wide })
    }

    /// Runs over `rows` rows of `length` elements: `addresses` of the streams' first rows, and their strides in bytes.
    ///
    /// # Safety
    /// Every element of every stream is there, or one per row where the code reads one per row; `slots` are filled.
    pub(in crate::tile) unsafe fn call(
        &self,
        rows: usize,
        length: usize,
        addresses: &[*const u8],
        strides: &[isize],
        slots: *const u8,
    ) {
        if rows == 0 || length == 0 {
            return;
        }
        let vector = if self.wide { 16 } else { 8 };
        let rest = length % vector;
        let mut lanes = [0; 8];
        match self.wide {
            true => lanes[0] = (1 << rest) - 1,
            false => lanes[..rest].fill(u32::MAX),
        }
        let mut frame = Frame {
            rows,
            length,
            whole: length - rest,
            addresses: addresses.as_ptr(),
            strides: strides.as_ptr(),
            slots,
            constants: self.constants.as_ptr().cast(),
            lanes,
            control: FLUSH,
            control_before: 0,
        };
        // SAFETY: the instructions are a function of a frame in the convention of C; it reads and writes what the caller promises.
        unsafe {
            let function: unsafe extern "C" fn(*mut Frame) = std::mem::transmute(self.instructions.start());
            function(&raw mut frame);
        }
    }
}
