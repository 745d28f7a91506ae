//! The memory programs work in.

use crate::host::Line;
use std::{
    alloc,
    mem::MaybeUninit,
    ptr::NonNull,
    sync::atomic::{AtomicBool, Ordering},
};

/// A large page of x86-64 and of most ARM systems, in bytes.
const LARGE: usize = 2 << 20;

/// The arena and the threads' scratch memory; grown to what the largest program needs, then reused.
#[derive(Default)]
pub struct Workspace {
    arena: Memory,
    scratch: Memory,
}

impl Workspace {
    /// Makes room; contents are lost where it had to grow.
    pub(crate) fn reserve(&mut self, arena: usize, scratch: usize) {
        self.arena.grow(arena);
        self.scratch.grow(scratch);
    }

    /// Addresses of the arena and of the scratch memory.
    pub(crate) fn addresses(&mut self) -> (*mut u8, *mut u8) {
        (self.arena.address.as_ptr(), self.scratch.address.as_ptr())
    }

    /// Overwrites everything with bytes that make floats NaN and integers absurd.
    pub(crate) fn poison(&mut self) {
        for memory in [&mut self.arena, &mut self.scratch] {
            // SAFETY: the memory is this one's own, all of it.
            unsafe { memory.address.as_ptr().write_bytes(0xff, memory.layout.size()) };
        }
    }

    /// Bytes held now.
    pub fn bytes(&self) -> usize {
        self.arena.layout.size() + self.scratch.layout.size()
    }
}

/// Memory of any content. In large pages, where the system has them: kernels go through many megabytes in strides of a page or more,
/// and each page whose place the processor does not remember costs a walk through tables.
struct Memory {
    address: NonNull<u8>,
    layout: alloc::Layout,
}

// SAFETY: the memory belongs to this value alone and is only reached through it.
unsafe impl Send for Memory {}
// SAFETY: as above; a shared reference reaches nothing of it.
unsafe impl Sync for Memory {}

impl Default for Memory {
    fn default() -> Memory {
        Memory { address: NonNull::<Line>::dangling().cast(), layout: alloc::Layout::new::<()>() }
    }
}

impl Memory {
    fn new(bytes: usize) -> Memory {
        let align = if bytes >= LARGE { LARGE } else { size_of::<Line>() };
        let layout = alloc::Layout::from_size_align(bytes.next_multiple_of(align), align);
        let layout = layout.unwrap_or_else(|_| alloc::handle_alloc_error(alloc::Layout::new::<u8>()));
        // SAFETY: not of size zero.
        let address = unsafe { alloc::alloc(layout) };
        let address = NonNull::new(address).unwrap_or_else(|| alloc::handle_alloc_error(layout));
        if align == LARGE {
            advise_large_pages(address, layout.size());
        }
        Memory { address, layout }
    }

    fn grow(&mut self, bytes: usize) {
        if self.layout.size() < bytes {
            // What was held goes first.
            *self = Memory::default();
            if bytes >= LARGE && RETURNS.load(Ordering::Relaxed) {
                return_small_blocks();
            }
            *self = Memory::new(bytes);
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        if self.layout.size() > 0 {
            // SAFETY: allocated with this layout.
            unsafe { alloc::dealloc(self.address.as_ptr(), self.layout) };
        }
    }
}

/// Asks for large pages wherever such a page lies in memory that has not been written yet.
pub(crate) fn in_large_pages<T>(memory: &mut [MaybeUninit<T>]) {
    let range = memory.as_mut_ptr_range();
    let (start, end) = (range.start.addr().next_multiple_of(LARGE), range.end.addr() / LARGE * LARGE);
    if let (Some(bytes @ 1..), Some(first)) = (end.checked_sub(start), NonNull::new(range.start)) {
        let skipped = start - range.start.addr();
        // SAFETY: the first such page lies in the memory.
        advise_large_pages(unsafe { first.cast::<u8>().byte_add(skipped) }, bytes);
    }
}

/// Asks for large pages; without them all works the same.
fn advise_large_pages(address: NonNull<u8>, bytes: usize) {
    #[cfg(target_os = "linux")]
    {
        use std::ffi::{c_int, c_void};
        /// `MADV_HUGEPAGE` of Linux.
        const HUGE: c_int = 14;
        unsafe extern "C" {
            fn madvise(address: *mut c_void, length: usize, advice: c_int) -> c_int;
        }
        // SAFETY: the advice changes no content, and the range is memory of this process that begins at a page.
        unsafe { madvise(address.as_ptr().cast(), bytes, HUGE) };
    }
    #[cfg(not(target_os = "linux"))]
    let _ = (address, bytes);
}

/// Whether the program wants freed blocks to go back to the system.
static RETURNS: AtomicBool = AtomicBool::new(false);

/// For programs to call when they start: what is freed goes back to the system, blocks of 4 MiB and more as soon as they are freed, smaller
/// ones before a step's memory is taken.
///
/// The GNU C library begins to keep large blocks for later ones once the first has been freed, and keeps small ones between those in
/// use. What is initialised, loaded and compiled before training would then stay in the process beside the tensors that are trained: 61
/// MB of ResNet-18's 361. With other C libraries nothing is changed.
pub fn return_freed_blocks() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        use std::ffi::c_int;
        /// `M_MMAP_THRESHOLD` of the GNU C library; set once, it is not raised any more.
        const MMAP_THRESHOLD: c_int = -3;
        unsafe extern "C" {
            fn mallopt(parameter: c_int, value: c_int) -> c_int;
        }
        // SAFETY: where blocks come from is the allocator's own business.
        unsafe { mallopt(MMAP_THRESHOLD, 4 << 20) };
        RETURNS.store(true, Ordering::Relaxed);
    }
}

/// Gives whole pages between blocks in use back to the system: one to three milliseconds.
fn return_small_blocks() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            fn malloc_trim(pad: usize) -> std::ffi::c_int;
        }
        // SAFETY: touches nothing that is in use.
        unsafe { malloc_trim(0) };
    }
}

#[cfg(test)]
mod tests {
    /// Bytes of this process that are in memory now.
    fn resident() -> i64 {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        pages.split_whitespace().nth(1).unwrap().parse::<i64>().unwrap() * 4096
    }

    #[test]
    fn freed_blocks_go_back_to_the_system() {
        if !cfg!(all(target_os = "linux", target_env = "gnu")) {
            return;
        }
        super::return_freed_blocks();
        // The first one freed is what would make the library keep the others.
        drop(std::hint::black_box(vec![1u8; 24 << 20]));
        let before = resident();
        let block = std::hint::black_box(vec![1u8; 24 << 20]);
        let behind = std::hint::black_box(vec![1u8; 3 << 20]);
        drop(block);
        let kept = resident() - before;
        drop(behind);
        assert!(kept < 16 << 20, "{kept} bytes are kept of 24 MiB");

        let before = resident();
        let small: Vec<Vec<u8>> = (0..384).map(|_| std::hint::black_box(vec![1u8; 64 << 10])).collect();
        let behind = std::hint::black_box(vec![1u8; 64 << 10]);
        drop(small);
        super::Workspace::default().reserve(super::LARGE, 0);
        let kept = resident() - before;
        drop(behind);
        assert!(kept < 16 << 20, "{kept} bytes are kept of 24 MiB in small blocks");
    }
}
