//! Clients: the running devices of a plugin.

use std::{fmt, ptr, sync::Arc};

use super::{
    buffer::Buffer,
    device::Device,
    element::ElementType,
    error::Error,
    event::Event,
    executable::Executable,
    options::CompileOptions,
    plugin::Plugin,
    raw, signature,
    stored::Origin,
    table::{pointer, slice},
    value::{Value, named},
};

/// The format of a program: StableHLO as text or bytecode.
const FORMAT: &str = "mlir";

/// A plugin's devices, started. Clones are the same client; buffers and executables keep it alive.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    handle: Handle,
    platform: String,
    platform_version: String,
    devices: Vec<Device>,
}

/// The plugin's object, destroyed once, after everything that was made with it.
struct Handle {
    raw: *mut raw::Client,
    plugin: Plugin,
}

// SAFETY: PJRT's clients may be used from any thread, by many at a time.
unsafe impl Send for Handle {}
// SAFETY: as above.
unsafe impl Sync for Handle {}

impl Drop for Handle {
    fn drop(&mut self) {
        // SAFETY: buffers and executables hold this by `Arc`, so that none is left.
        unsafe { self.plugin.table().free::<raw::ClientDestroy>(|a| a.client = self.raw) };
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Client({}, {} devices)", self.platform(), self.devices().len())
    }
}

impl Client {
    pub(super) fn new(plugin: &Plugin, options: &[(&str, Value)]) -> Result<Client, Error> {
        let options = named(options);
        let table = plugin.table();
        // SAFETY: the options live during the call; there is one process, so that no callbacks are needed.
        let raw = unsafe {
            table.call::<raw::ClientCreate>(|a| {
                a.create_options = pointer(&options);
                a.num_options = options.len();
            })
        }?;
        let handle = Handle { raw: raw.client, plugin: plugin.clone() };
        // SAFETY: the client is alive, and what it answers lives as long; the texts are copied.
        unsafe {
            let name = table.call::<raw::ClientPlatformName>(|a| a.client = handle.raw)?;
            let version = table.call::<raw::ClientPlatformVersion>(|a| a.client = handle.raw)?;
            let devices = table.call::<raw::ClientAddressableDevices>(|a| a.client = handle.raw)?;
            Ok(Client(Arc::new(Inner {
                platform: table.text(name.platform_name, name.platform_name_size),
                platform_version: table.text(version.platform_version, version.platform_version_size),
                devices: slice(devices.devices, devices.num_devices)
                    .iter()
                    .map(|d| Device::new(plugin, *d))
                    .collect::<Result<_, _>>()?,
                handle,
            })))
        }
    }

    /// The plugin it belongs to.
    pub fn plugin(&self) -> &Plugin {
        &self.0.handle.plugin
    }

    /// The platform: `cpu`, `cuda`, `rocm`, `tpu`.
    pub fn platform(&self) -> &str {
        &self.0.platform
    }

    /// The version of the platform's software, in the plugin's words.
    pub fn platform_version(&self) -> &str {
        &self.0.platform_version
    }

    /// The devices of this process.
    pub fn devices(&self) -> &[Device] {
        &self.0.devices
    }

    /// Compiles a program, StableHLO in text form with a function `main`.
    ///
    /// A program that says so (`tf.aliasing_output`, `jax.buffer_donor`) consumes arguments: their buffers cannot be used
    /// after an execution, and their memory is the results'.
    pub fn compile(&self, program: &str, options: &CompileOptions) -> Result<Executable, Error> {
        self.enough_devices(options)?;
        let encoded = options.encode()?;
        let program_struct = program_of(program);
        // SAFETY: program and options live during the call.
        let compiled = unsafe {
            self.plugin().table().call::<raw::ClientCompile>(|a| {
                a.client = self.raw();
                a.program = &program_struct;
                a.compile_options = encoded.as_ptr();
                a.compile_options_size = encoded.len();
            })
        }?;
        let arguments = signature::main(program).map(|main| main.arguments);
        // SAFETY: the executable is new and ours.
        unsafe { Executable::new(self, compiled.executable, options, self.origin(&encoded), arguments) }
    }

    /// Loads what [`Executable::serialize`] or [`super::Topology::compile`] gave: with the same plugin, on the same kind of
    /// device, with the same options. Anything else, and anything damaged, is refused before the plugin sees it.
    pub fn load(&self, serialized: &[u8], options: &CompileOptions) -> Result<Executable, Error> {
        self.enough_devices(options)?;
        let encoded = options.encode()?;
        let origin = self.origin(&encoded);
        let (arguments, bytes) = origin.unwrap(serialized)?;
        // SAFETY: both byte strings live during the call.
        let loaded = unsafe {
            self.plugin().table().call::<raw::ExecutableDeserializeAndLoad>(|a| {
                a.client = self.raw();
                a.serialized_executable = bytes.as_ptr();
                a.serialized_executable_size = bytes.len();
                a.overridden_compile_options = encoded.as_ptr();
                a.overridden_compile_options_size = encoded.len();
            })
        }?;
        // SAFETY: the executable is new and ours.
        unsafe { Executable::new(self, loaded.loaded_executable, options, origin, arguments) }
    }

    /// Copies a tensor, row-major and dense, to the device of this place in [`Client::devices`].
    pub fn upload(&self, device: usize, element: ElementType, dims: &[usize], bytes: &[u8]) -> Result<Buffer, Error> {
        let signed = self.check_upload(element, dims, bytes)?;
        let devices = self.devices();
        let Some(device) = devices.get(device) else {
            return Err(Error::Invalid(format!("there is no device {device}: {} has {}", self.platform(), devices.len())));
        };
        // SAFETY: the dimensions live during the call, and so do the bytes, of which there are as many as the shape needs.
        let made = unsafe {
            self.plugin().table().call::<raw::BufferFromHostBuffer>(|a| {
                a.client = self.raw();
                a.data = bytes.as_ptr().cast();
                a.element = element.number();
                a.dims = pointer(&signed);
                a.num_dims = signed.len();
                a.host_buffer_semantics = raw::IMMUTABLE_ONLY_DURING_CALL;
                a.device = device.raw();
            })
        }?;
        // SAFETY: buffer and event are new and ours.
        let (buffer, event) = unsafe {
            (Buffer::new(self, made.buffer, element, dims.to_vec()), Event::new(made.done_with_host_buffer, self.plugin()))
        };
        event.wait()?;
        Ok(buffer)
    }

    /// What the plugin would not notice, or read past: the wrong number of bytes, and truth values besides 0 and 1.
    fn check_upload(&self, element: ElementType, dims: &[usize], bytes: &[u8]) -> Result<Vec<i64>, Error> {
        let invalid = |reason: String| Error::Invalid(format!("a {} {reason}", element.tensor(dims)));
        let wanted = element.bytes(dims).ok_or_else(|| invalid("is too large for any memory".into()))?;
        if wanted != bytes.len() {
            return Err(invalid(format!("has {wanted} bytes; {} were given", bytes.len())));
        }
        if element == ElementType::Bool && bytes.iter().any(|b| *b > 1) {
            return Err(invalid("has bytes 0 and 1 only; another was given".into()));
        }
        let signed: Result<Vec<i64>, _> = dims.iter().map(|d| i64::try_from(*d)).collect();
        signed.map_err(|_| invalid("is too large for any memory".into()))
    }

    fn origin(&self, options: &[u8]) -> Origin {
        let device = self.devices().first().map_or("", |device| device.kind.as_str());
        Origin::new(self.plugin(), self.platform(), device, options)
    }

    fn enough_devices(&self, options: &CompileOptions) -> Result<(), Error> {
        let (wanted, have) = (options.replicas.saturating_mul(options.partitions), self.devices().len());
        if wanted <= have {
            return Ok(());
        }
        let (replicas, partitions, platform) = (options.replicas, options.partitions, self.platform());
        Err(Error::Invalid(format!(
            "a program of {replicas} replicas × {partitions} partitions needs {wanted} devices; {platform} has {have}"
        )))
    }

    pub(super) fn raw(&self) -> *mut raw::Client {
        self.0.handle.raw
    }

    pub(super) fn is(&self, other: &Client) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

/// The C form of a program. It points into the text.
pub(super) fn program_of(text: &str) -> raw::Program {
    raw::Program {
        struct_size: size_of::<raw::Program>(),
        extension_start: ptr::null_mut(),
        code: text.as_ptr(),
        code_size: text.len(),
        format: FORMAT.as_ptr(),
        format_size: FORMAT.len(),
    }
}
