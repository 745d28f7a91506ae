//! Executables: what they need, what they give, and how they run.

use std::ffi::{c_char, c_int, c_void};

use super::{Buffer, Client, Device, Event, Executable, LoadedExecutable, SerializedExecutable, functions};

functions! {
    40 PJRT_Executable_Destroy "freeing an executable" ExecutableDestroy { executable: *mut Executable }
    44 PJRT_Executable_NumOutputs "reading an executable's outputs" ExecutableNumOutputs {
        executable: *mut Executable, num_outputs: usize,
    }
    49 PJRT_Executable_Serialize "serialising an executable" ExecutableSerialize {
        executable: *const Executable,
        serialized_bytes: *const u8, serialized_bytes_size: usize,
        serialized_executable: *mut SerializedExecutable,
        serialized_executable_deleter: Option<unsafe extern "C" fn(*mut SerializedExecutable)>,
    }
    50 PJRT_LoadedExecutable_Destroy "freeing an executable" LoadedExecutableDestroy { executable: *mut LoadedExecutable }
    51 PJRT_LoadedExecutable_GetExecutable "reading an executable" LoadedExecutableGetExecutable {
        loaded_executable: *mut LoadedExecutable, executable: *mut Executable,
    }
    52 PJRT_LoadedExecutable_AddressableDevices "reading an executable's devices" LoadedExecutableAddressableDevices {
        executable: *mut LoadedExecutable, devices: *const *mut Device, num_devices: usize,
    }
    55 PJRT_LoadedExecutable_Execute "running the program" LoadedExecutableExecute {
        executable: *mut LoadedExecutable, options: *mut ExecuteOptions,
        argument_lists: *const *const *mut Buffer, num_devices: usize, num_args: usize,
        output_lists: *const *mut *mut Buffer, device_complete_events: *mut *mut Event, execute_device: *mut Device,
    }
    56 PJRT_Executable_DeserializeAndLoad "loading a serialised executable" ExecutableDeserializeAndLoad {
        client: *mut Client,
        serialized_executable: *const u8, serialized_executable_size: usize,
        loaded_executable: *mut LoadedExecutable,
        overridden_compile_options: *const u8, overridden_compile_options_size: usize,
        load_options: *const c_void,
    }
    90 PJRT_Executable_OutputElementTypes "reading an executable's outputs" ExecutableOutputElementTypes {
        executable: *mut Executable, output_types: *const c_int, num_output_types: usize,
    }
    91 PJRT_Executable_OutputDimensions "reading an executable's outputs" ExecutableOutputDimensions {
        executable: *mut Executable, num_outputs: usize, dims: *const i64, dim_sizes: *const usize,
    }
    96 PJRT_Executable_GetCompiledMemoryStats "reading an executable's need of memory" ExecutableGetCompiledMemoryStats {
        executable: *mut Executable,
        generated_code_size: i64, argument_size: i64, output_size: i64, alias_size: i64, temp_size: i64,
        host_generated_code_size: i64, host_argument_size: i64, host_output_size: i64, host_alias_size: i64,
        host_temp_size: i64, peak_memory: i64, total_size: i64, total_allocation: i64,
        indefinite_allocations: i64, peak_unpadded_heap: i64,
    }
}

#[repr(C)]
#[derive(Clone, Copy)]
pub struct ExecuteOptions {
    pub struct_size: usize,
    pub extension_start: *mut c_void,
    pub send_callbacks: *mut c_void,
    pub recv_callbacks: *mut c_void,
    pub num_send_ops: usize,
    pub num_recv_ops: usize,
    pub launch_id: c_int,
    pub non_donatable_input_indices: *const i64,
    pub num_non_donatable_input_indices: usize,
    pub context: *mut c_void,
    pub call_location: *const c_char,
    pub num_tasks: usize,
    pub task_ids: *mut c_int,
    pub incarnation_ids: *mut i64,
    pub multi_slice_config: *mut c_void,
    pub use_major_to_minor_data_layout_for_callbacks: bool,
    pub hlo_output_callbacks: *mut c_void,
    pub num_hlo_output_callbacks: usize,
}
