//! Declarations of the C header `pjrt_c_api.h`, API version 0.114: structures of arguments in the order of their fields there.
//!
//! Nearly every function takes a pointer to its structure of arguments and returns a pointer to an error, null if there is
//! none; [`Function`] says at which place of the table it stands. Public for plugins written in tests, not for use.
#![allow(missing_docs, reason = "names and meanings are those of the C header")]

use std::ffi::{c_int, c_void};

mod buffer;
mod client;
mod device;
mod executable;
mod plugin;
mod topology;

pub use buffer::*;
pub use client::*;
pub use device::*;
pub use executable::*;
pub use plugin::*;
pub use topology::*;

/// The version of the header these declarations follow.
pub const MAJOR: i32 = 0;
pub const MINOR: i32 = 114;

/// Number of functions in the table of that version.
pub const FUNCTIONS: usize = 138;

/// What `GetPjrtApi` returns. `functions` may be shorter or longer than declared: `struct_size` says.
#[repr(C)]
pub struct Api {
    pub struct_size: usize,
    pub extension_start: *mut c_void,
    pub version: ApiVersion,
    pub functions: [*const c_void; FUNCTIONS],
}

#[repr(C)]
pub struct ApiVersion {
    pub struct_size: usize,
    pub extension_start: *mut c_void,
    pub major: c_int,
    pub minor: c_int,
}

/// Bytes of [`Api`] before its functions.
pub const API_HEAD: usize = std::mem::offset_of!(Api, functions);

/// A function of the table, named by its structure of arguments.
///
/// # Safety
///
/// The implementor is `repr(C)`, begins with `struct_size` and `extension_start`, and is valid when zero-filled.
pub unsafe trait Function: Copy {
    /// Its place in the table.
    const SLOT: usize;
    /// Its name in the header.
    const NAME: &'static str;
    /// What a caller does with it, as a noun phrase for messages.
    const WHAT: &'static str;

    /// Sets the size that the structure claims to have.
    fn set_size(&mut self, bytes: usize);
}

/// The signature of nearly every function of the table.
pub type Entry<F> = unsafe extern "C" fn(*mut F) -> *mut Error;

/// Declares opaque handles.
macro_rules! handles {
    ($($name:ident),*) => { $(
        #[repr(C)]
        pub struct $name { _opaque: [u8; 0] }
    )* };
}

/// Declares structures of arguments: slot, name in the header, what it does, Rust name, fields.
macro_rules! functions {
    ($($slot:literal $c:ident $what:literal $name:ident { $($field:ident: $type:ty),* $(,)? })*) => { $(
        #[repr(C)]
        #[derive(Clone, Copy)]
        pub struct $name {
            pub struct_size: usize,
            pub extension_start: *mut std::ffi::c_void,
            $(pub $field: $type,)*
        }

        // SAFETY: `repr(C)`, the two leading fields above; every field is a number, a pointer, a bool or an optional function.
        unsafe impl $crate::pjrt::raw::Function for $name {
            const SLOT: usize = $slot;
            const NAME: &'static str = stringify!($c);
            const WHAT: &'static str = $what;

            fn set_size(&mut self, bytes: usize) {
                self.struct_size = bytes;
            }
        }
    )* };
}
pub(crate) use functions;

handles!(Error, Event, Client, Device, DeviceDescription, Memory, Buffer, Executable, LoadedExecutable, TopologyDescription);
handles!(SerializedExecutable);

#[repr(C)]
#[derive(Clone, Copy)]
pub struct NamedValue {
    pub struct_size: usize,
    pub extension_start: *mut c_void,
    pub name: *const u8,
    pub name_size: usize,
    pub kind: c_int,
    pub value: NamedValueUnion,
    pub value_size: usize,
}

#[repr(C)]
#[derive(Clone, Copy)]
pub union NamedValueUnion {
    pub text: *const u8,
    pub int: i64,
    pub ints: *const i64,
    pub float: f32,
    pub bool: bool,
}

/// `PJRT_NamedValue_Type`.
pub mod named_value {
    pub const TEXT: i32 = 0;
    pub const INT: i32 = 1;
    pub const INTS: i32 = 2;
    pub const FLOAT: i32 = 3;
    pub const BOOL: i32 = 4;
}

/// `PJRT_Program`; `format` is `mlir` for StableHLO, as text or as bytecode.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Program {
    pub struct_size: usize,
    pub extension_start: *mut c_void,
    pub code: *const u8,
    pub code_size: usize,
    pub format: *const u8,
    pub format_size: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sizes that clang gives for the header of version 0.114.
    #[test]
    fn structures_have_the_sizes_of_the_header() {
        assert_eq!(size_of::<Api>(), 1144);
        assert_eq!(size_of::<NamedValue>(), 56);
        assert_eq!(size_of::<Program>(), 48);
        assert_eq!(size_of::<MemoryLayout>(), 80);
        assert_eq!(size_of::<ClientCreate>(), 88);
        assert_eq!(size_of::<ClientCompile>(), 56);
        assert_eq!(size_of::<BufferFromHostBuffer>(), 120);
        assert_eq!(size_of::<BufferToHostBuffer>(), 56);
        assert_eq!(size_of::<DeviceMemoryStats>(), 208);
        assert_eq!(size_of::<ExecuteOptions>(), 144);
        assert_eq!(size_of::<LoadedExecutableExecute>(), 80);
        assert_eq!(size_of::<ExecutableGetCompiledMemoryStats>(), 144);
        assert_eq!(size_of::<ExecutableDeserializeAndLoad>(), 72);
        assert_eq!(size_of::<ExecutableSerialize>(), 56);
        assert_eq!(size_of::<Compile>(), 64);
        assert_eq!(size_of::<TopologyDescriptionCreate>(), 56);
    }
}
