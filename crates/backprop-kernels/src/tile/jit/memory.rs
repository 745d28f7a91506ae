//! Memory that can be executed: written first, then made read-only.

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
pub(super) use linux::Instructions;
#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
pub(super) use nowhere::Instructions;

#[cfg(all(target_os = "linux", target_arch = "x86_64"))]
mod linux {
    use std::ffi::{c_int, c_long, c_void};
    use std::ptr::NonNull;

    unsafe extern "C" {
        fn mmap(address: *mut c_void, length: usize, protection: c_int, flags: c_int, file: c_int, offset: c_long)
        -> *mut c_void;
        fn mprotect(address: *mut c_void, length: usize, protection: c_int) -> c_int;
        fn munmap(address: *mut c_void, length: usize) -> c_int;
    }

    /// `PROT_READ | PROT_WRITE` of Linux.
    const WRITABLE: c_int = 1 | 2;
    /// `PROT_READ | PROT_EXEC`.
    const EXECUTABLE: c_int = 1 | 4;
    /// `MAP_PRIVATE | MAP_ANONYMOUS`.
    const OWN: c_int = 2 | 0x20;

    /// Instructions in memory of their own.
    pub(in super::super) struct Instructions {
        address: NonNull<c_void>,
        length: usize,
    }

    // SAFETY: nobody writes to it any more.
    unsafe impl Send for Instructions {}
    // SAFETY: as above.
    unsafe impl Sync for Instructions {}

    impl Instructions {
        /// Copies instructions there; `None` where the system allows no such memory.
        pub(in super::super) fn new(bytes: &[u8]) -> Option<Instructions> {
            if bytes.is_empty() {
                return None;
            }
            // SAFETY: a new mapping, of any address, that no file backs.
            let address = unsafe { mmap(std::ptr::null_mut(), bytes.len(), WRITABLE, OWN, -1, 0) };
            if address.addr() == usize::MAX {
                return None;
            }
            let instructions = Instructions { address: NonNull::new(address)?, length: bytes.len() };
            // SAFETY: the mapping is as long and can be written; from then on it is only read and executed.
            let done = unsafe {
                address.cast::<u8>().copy_from_nonoverlapping(bytes.as_ptr(), bytes.len());
                mprotect(address, bytes.len(), EXECUTABLE)
            };
            (done == 0).then_some(instructions)
        }

        /// Where they begin.
        pub(in super::super) fn start(&self) -> *const c_void {
            self.address.as_ptr()
        }
    }

    impl Drop for Instructions {
        fn drop(&mut self) {
            // SAFETY: mapped with this length; nothing runs there any more, for whoever runs it holds this value.
            unsafe { munmap(self.address.as_ptr(), self.length) };
        }
    }
}

#[cfg(not(all(target_os = "linux", target_arch = "x86_64")))]
mod nowhere {
    /// There are none: the instructions are those of another processor.
    pub(in super::super) enum Instructions {}

    impl Instructions {
        pub(in super::super) fn new(_: &[u8]) -> Option<Instructions> {
            None
        }

        pub(in super::super) fn start(&self) -> *const std::ffi::c_void {
            match *self {}
        }
    }
}
