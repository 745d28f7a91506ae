//! Clients: platform, devices, compilation and uploads.

use std::ffi::{c_int, c_void};

use super::{Buffer, Client, Device, Event, LoadedExecutable, Memory, MemoryLayout, NamedValue, Program, functions};

functions! {
    10 PJRT_Client_Create "starting the device" ClientCreate {
        create_options: *const NamedValue, num_options: usize,
        kv_get_callback: *const c_void, kv_get_user_arg: *mut c_void,
        kv_put_callback: *const c_void, kv_put_user_arg: *mut c_void,
        client: *mut Client,
        kv_try_get_callback: *const c_void, kv_try_get_user_arg: *mut c_void,
    }
    11 PJRT_Client_Destroy "closing the device" ClientDestroy { client: *mut Client }
    12 PJRT_Client_PlatformName "reading the platform's name" ClientPlatformName {
        client: *mut Client, platform_name: *const u8, platform_name_size: usize,
    }
    14 PJRT_Client_PlatformVersion "reading the platform's version" ClientPlatformVersion {
        client: *mut Client, platform_version: *const u8, platform_version_size: usize,
    }
    16 PJRT_Client_AddressableDevices "listing the devices" ClientAddressableDevices {
        client: *mut Client, devices: *const *mut Device, num_devices: usize,
    }
    20 PJRT_Client_Compile "compiling the program" ClientCompile {
        client: *mut Client, program: *const Program,
        compile_options: *const u8, compile_options_size: usize,
        executable: *mut LoadedExecutable,
    }
    22 PJRT_Client_BufferFromHostBuffer "copying a tensor to the device" BufferFromHostBuffer {
        client: *mut Client, data: *const c_void, element: c_int,
        dims: *const i64, num_dims: usize,
        byte_strides: *const i64, num_byte_strides: usize,
        host_buffer_semantics: c_int,
        device: *mut Device, memory: *mut Memory, device_layout: *mut MemoryLayout,
        done_with_host_buffer: *mut Event, buffer: *mut Buffer,
    }
}

/// `PJRT_HostBufferSemantics_kImmutableOnlyDuringCall`: the plugin has copied the bytes when the call returns.
pub const IMMUTABLE_ONLY_DURING_CALL: c_int = 0;
