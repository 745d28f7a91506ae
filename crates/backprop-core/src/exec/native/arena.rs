//! The memory programs work in.

use crate::host::Line;

/// The arena and the threads' scratch memory; grown to what the largest program needs, then reused.
#[derive(Default)]
pub struct Workspace {
    arena: Vec<Line>,
    scratch: Vec<Line>,
}

fn lines(bytes: usize) -> usize {
    bytes.div_ceil(size_of::<Line>())
}

fn grow(memory: &mut Vec<Line>, bytes: usize) {
    if memory.len() < lines(bytes) {
        *memory = Vec::new();
        // Zeroed memory comes untouched from the system: pages nobody writes to cost nothing.
        *memory = vec![bytemuck::Zeroable::zeroed(); lines(bytes)];
    }
}

impl Workspace {
    /// Makes room; contents are lost where it had to grow.
    pub(crate) fn reserve(&mut self, arena: usize, scratch: usize) {
        grow(&mut self.arena, arena);
        grow(&mut self.scratch, scratch);
    }

    /// Addresses of the arena and of the scratch memory.
    pub(crate) fn addresses(&mut self) -> (*mut u8, *mut u8) {
        (self.arena.as_mut_ptr().cast(), self.scratch.as_mut_ptr().cast())
    }

    /// Overwrites everything with bytes that make floats NaN and integers absurd.
    pub(crate) fn poison(&mut self) {
        for memory in [&mut self.arena, &mut self.scratch] {
            bytemuck::cast_slice_mut::<Line, u8>(memory).fill(0xff);
        }
    }

    /// Bytes held now.
    pub fn bytes(&self) -> usize {
        (self.arena.len() + self.scratch.len()) * size_of::<Line>()
    }
}
