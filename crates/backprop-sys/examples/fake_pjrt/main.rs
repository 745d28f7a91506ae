//! A PJRT plugin without a device, for tests: it answers every question, executes nothing, and fails on demand.
//!
//! It compiles any text whose `main` has a signature it can read. A result is the argument whose memory it takes
//! (`tf.aliasing_output`), or the argument that `return` names, or ones of the right shape where
//! elements are floating-point numbers or truth values (a step of training counts as finite by them), else zeros.
//!
//! The environment variable `FAKE_PJRT`, or the client's option `fake`, chooses its behaviour:
//!
//! | value | behaviour |
//! |---|---|
//! | `ok`, or nothing | as above |
//! | `old` | says that it speaks version 0.40 |
//! | `major` | says that it speaks version 1.0 |
//! | `short` | its table of functions ends before the outputs of executables |
//! | `nodevice` | UNAVAILABLE when a client is made |
//! | `abort` | kills the process when a client is made |
//! | `hang` | sleeps forever when a client is made |
//! | `nocompile` | INVALID_ARGUMENT with a line and a column when a program is compiled |
//! | `exhausted-upload` | RESOURCE_EXHAUSTED when a tensor is uploaded |
//! | `exhausted` | RESOURCE_EXHAUSTED when a program is run |
//! | `late` | running a program succeeds, and its results are RESOURCE_EXHAUSTED |
//!
//! `FAKE_PJRT_AFTER`, or the client's option `after`, is a number of uploads or runs that succeed before the last three fail.
//! The option `cpu_device_count` is the number of devices, 1 if it is not given. `fake_pjrt_live` counts objects not freed.

mod buffer;
mod client;
mod executable;
mod object;

use std::{ffi::c_void, ptr};

use backprop_sys::pjrt::raw;

use object::{Serve, entry, entry_void};

/// Number of objects that were given out and not freed.
#[unsafe(no_mangle)]
pub extern "C" fn fake_pjrt_live() -> i64 {
    object::live()
}

/// What PJRT asks a plugin for.
#[unsafe(no_mangle)]
pub extern "C" fn GetPjrtApi() -> *const raw::Api {
    let behaviour = std::env::var("FAKE_PJRT").unwrap_or_default();
    let (major, minor) = match behaviour.as_str() {
        "old" => (0, 40),
        "major" => (1, 0),
        _ => (raw::MAJOR, raw::MINOR),
    };
    let version = raw::ApiVersion { struct_size: size_of::<raw::ApiVersion>(), extension_start: ptr::null_mut(), major, minor };
    let functions = [ptr::null(); raw::FUNCTIONS];
    let mut api = raw::Api { struct_size: size_of::<raw::Api>(), extension_start: ptr::null_mut(), version, functions };
    fill(&mut api);
    if behaviour == "short" {
        // What stands behind the end of a table must not be called.
        let end = <raw::ExecutableOutputElementTypes as raw::Function>::SLOT;
        api.struct_size = raw::API_HEAD + end * size_of::<*const c_void>();
        api.functions[end..].fill(ptr::dangling());
    }
    Box::leak(Box::new(api))
}

fn put<F: Serve>(api: &mut raw::Api) {
    api.functions[F::SLOT] = entry::<F> as *const c_void;
}

fn put_void<F: Serve>(api: &mut raw::Api) {
    api.functions[F::SLOT] = entry_void::<F> as *const c_void;
}

/// Topologies are left out: a plugin without them is one that tests need too.
fn fill(api: &mut raw::Api) {
    put_void::<raw::ErrorDestroy>(api);
    put_void::<raw::ErrorMessage>(api);
    put::<raw::ErrorGetCode>(api);
    put::<raw::PluginInitialize>(api);
    put::<raw::PluginAttributes>(api);
    put::<raw::EventDestroy>(api);
    put::<raw::EventIsReady>(api);
    put::<raw::EventAwait>(api);
    put::<raw::ClientCreate>(api);
    put::<raw::ClientDestroy>(api);
    put::<raw::ClientPlatformName>(api);
    put::<raw::ClientPlatformVersion>(api);
    put::<raw::ClientAddressableDevices>(api);
    put::<raw::ClientCompile>(api);
    put::<raw::BufferFromHostBuffer>(api);
    put::<raw::DeviceDescriptionId>(api);
    put::<raw::DeviceDescriptionKind>(api);
    put::<raw::DeviceDescriptionToString>(api);
    put::<raw::DeviceGetDescription>(api);
    put::<raw::DeviceMemoryStats>(api);
    put::<raw::ExecutableDestroy>(api);
    put::<raw::ExecutableNumOutputs>(api);
    put::<raw::ExecutableSerialize>(api);
    put::<raw::LoadedExecutableDestroy>(api);
    put::<raw::LoadedExecutableGetExecutable>(api);
    put::<raw::LoadedExecutableAddressableDevices>(api);
    put::<raw::LoadedExecutableExecute>(api);
    put::<raw::ExecutableDeserializeAndLoad>(api);
    put::<raw::ExecutableOutputElementTypes>(api);
    put::<raw::ExecutableOutputDimensions>(api);
    put::<raw::ExecutableGetCompiledMemoryStats>(api);
    put::<raw::BufferDestroy>(api);
    put::<raw::BufferElementType>(api);
    put::<raw::BufferDimensions>(api);
    put::<raw::BufferToHostBuffer>(api);
    put::<raw::BufferReadyEvent>(api);
    put::<raw::BufferUnsafePointer>(api);
}
