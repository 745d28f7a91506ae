//! Buffers and layouts of memory.

use std::ffi::{c_int, c_void};

use super::{Buffer, Event, functions};

functions! {
    58 PJRT_Buffer_Destroy "freeing a buffer" BufferDestroy { buffer: *mut Buffer }
    59 PJRT_Buffer_ElementType "reading a buffer's type" BufferElementType { buffer: *mut Buffer, element: c_int }
    60 PJRT_Buffer_Dimensions "reading a buffer's shape" BufferDimensions {
        buffer: *mut Buffer, dims: *const i64, num_dims: usize,
    }
    70 PJRT_Buffer_ToHostBuffer "copying a tensor from the device" BufferToHostBuffer {
        buffer: *mut Buffer, host_layout: *mut MemoryLayout, destination: *mut c_void, destination_size: usize, event: *mut Event,
    }
    72 PJRT_Buffer_ReadyEvent "waiting for a result" BufferReadyEvent { buffer: *mut Buffer, event: *mut Event }
    73 PJRT_Buffer_UnsafePointer "reading a buffer's address" BufferUnsafePointer { buffer: *mut Buffer, pointer: usize }
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct MemoryLayoutTiled {
    pub struct_size: usize,
    pub extension_start: *mut c_void,
    pub minor_to_major: *const i64,
    pub minor_to_major_size: usize,
    pub tile_dims: *const i64,
    pub tile_dim_sizes: *const usize,
    pub num_tiles: usize,
}

/// `PJRT_Buffer_MemoryLayout` in its tiled form, the larger of the two: with no tiles it is an order of dimensions.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct MemoryLayout {
    pub struct_size: usize,
    pub extension_start: *mut c_void,
    pub tiled: MemoryLayoutTiled,
    pub kind: c_int,
}

/// `PJRT_Buffer_MemoryLayout_Type_Tiled`.
pub const LAYOUT_TILED: c_int = 0;
