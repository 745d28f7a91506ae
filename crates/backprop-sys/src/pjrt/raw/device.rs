//! Devices and their descriptions.

use std::ffi::c_int;

use super::{Device, DeviceDescription, functions};

functions! {
    23 PJRT_DeviceDescription_Id "reading a device's number" DeviceDescriptionId {
        description: *mut DeviceDescription, id: c_int,
    }
    26 PJRT_DeviceDescription_Kind "reading a device's kind" DeviceDescriptionKind {
        description: *mut DeviceDescription, kind: *const u8, kind_size: usize,
    }
    28 PJRT_DeviceDescription_ToString "reading a device's description" DeviceDescriptionToString {
        description: *mut DeviceDescription, text: *const u8, text_size: usize,
    }
    29 PJRT_Device_GetDescription "reading a device's description" DeviceGetDescription {
        device: *mut Device, description: *mut DeviceDescription,
    }
    34 PJRT_Device_MemoryStats "reading a device's use of memory" DeviceMemoryStats {
        device: *mut Device,
        bytes_in_use: i64,
        peak_bytes_in_use: i64, peak_bytes_in_use_is_set: bool,
        num_allocs: i64, num_allocs_is_set: bool,
        largest_alloc_size: i64, largest_alloc_size_is_set: bool,
        bytes_limit: i64, bytes_limit_is_set: bool,
        bytes_reserved: i64, bytes_reserved_is_set: bool,
        peak_bytes_reserved: i64, peak_bytes_reserved_is_set: bool,
        bytes_reservable_limit: i64, bytes_reservable_limit_is_set: bool,
        largest_free_block_bytes: i64, largest_free_block_bytes_is_set: bool,
        pool_bytes: i64, pool_bytes_is_set: bool,
        peak_pool_bytes: i64, peak_pool_bytes_is_set: bool,
        peak_allocated_bytes: i64, peak_allocated_bytes_is_set: bool,
    }
}
