//! Executables: compiled programs.

use std::{fmt, mem, ptr};

use super::{
    buffer::Buffer,
    client::Client,
    element::ElementType,
    error::Error,
    options::CompileOptions,
    plugin::Plugin,
    raw,
    stored::Origin,
    table::{pointer, slice},
};

/// The type of a tensor.
pub(super) type TensorType = (ElementType, Vec<usize>);

/// A compiled program on its devices.
pub struct Executable {
    loaded: Loaded,
    outputs: Vec<TensorType>,
    arguments: Option<Vec<TensorType>>,
    devices: usize,
    partitioned: bool,
    origin: Origin,
}

/// The plugin's two objects, destroyed once.
struct Loaded {
    raw: *mut raw::LoadedExecutable,
    client: Client,
    compiled: Option<Compiled>,
}

/// An executable that need not be on a device.
pub(super) struct Compiled {
    raw: *mut raw::Executable,
    plugin: Plugin,
}

// SAFETY: executables may be run and asked on any thread, by many at a time.
unsafe impl Send for Loaded {}
// SAFETY: as above.
unsafe impl Sync for Loaded {}
// SAFETY: as above.
unsafe impl Send for Compiled {}
// SAFETY: as above.
unsafe impl Sync for Compiled {}

impl Drop for Loaded {
    fn drop(&mut self) {
        self.compiled = None;
        // SAFETY: nobody else has it; its client is alive.
        unsafe { self.client.plugin().table().free::<raw::LoadedExecutableDestroy>(|a| a.executable = self.raw) };
    }
}

impl Drop for Compiled {
    fn drop(&mut self) {
        // SAFETY: nobody else has it.
        unsafe { self.plugin.table().free::<raw::ExecutableDestroy>(|a| a.executable = self.raw) };
    }
}

/// How much memory an execution needs on a device, in bytes, by the compiler's count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CompiledMemory {
    /// The program itself.
    pub code: u64,
    /// Arguments.
    pub arguments: u64,
    /// Results, with those in the memory of arguments.
    pub outputs: u64,
    /// Results in the memory of donated arguments.
    pub aliased: u64,
    /// Everything between.
    pub temporary: u64,
}

impl fmt::Debug for Executable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Executable({} devices, {} outputs)", self.devices, self.outputs.len())
    }
}

impl Executable {
    /// # Safety
    ///
    /// `raw` is an executable of this client that nobody else destroys.
    pub(super) unsafe fn new(
        client: &Client,
        raw: *mut raw::LoadedExecutable,
        options: &CompileOptions,
        origin: Origin,
        arguments: Option<Vec<TensorType>>,
    ) -> Result<Executable, Error> {
        let mut loaded = Loaded { raw, client: client.clone(), compiled: None };
        let table = client.plugin().table();
        // SAFETY: the executable is alive, and what it answers is ours to destroy.
        let compiled = unsafe {
            let got = table.call::<raw::LoadedExecutableGetExecutable>(|a| a.loaded_executable = raw)?;
            Compiled::new(client.plugin(), got.executable)
        };
        let outputs = compiled.outputs()?;
        // SAFETY: the executable is alive.
        let devices = unsafe { table.call::<raw::LoadedExecutableAddressableDevices>(|a| a.executable = raw) }?.num_devices;
        loaded.compiled = Some(compiled);
        Ok(Executable { loaded, outputs, arguments, devices, partitioned: options.partitions > 1, origin })
    }

    /// Types of the arguments, if the program's text has its `main` in the pretty form with types of ours.
    pub fn arguments(&self) -> Option<&[(ElementType, Vec<usize>)]> {
        self.arguments.as_deref()
    }

    /// Types of the results.
    pub fn outputs(&self) -> &[(ElementType, Vec<usize>)] {
        &self.outputs
    }

    /// Number of devices it runs on.
    pub fn devices(&self) -> usize {
        self.devices
    }

    /// The memory it needs; nothing where the plugin does not know.
    pub fn memory(&self) -> Option<CompiledMemory> {
        self.loaded.compiled.as_ref()?.memory()
    }

    /// The compiled program as bytes, for [`Client::load`].
    pub fn serialize(&self) -> Result<Vec<u8>, Error> {
        match &self.loaded.compiled {
            Some(compiled) => Ok(self.origin.wrap(self.arguments.as_deref(), &compiled.serialize()?)),
            None => Err(Error::Invalid("this executable cannot be serialised".into())),
        }
    }

    /// Runs the program: one list of arguments per device, one list of results per device.
    ///
    /// Returns when the work is enqueued. Results can be given to the next execution at once; [`Buffer::wait`] and
    /// [`Buffer::read`] wait for them, and report what went wrong in between. Number and types of the arguments are checked,
    /// because plugins take a wrong type of the same size for the right one.
    pub fn execute(&self, arguments: &[Vec<&Buffer>]) -> Result<Vec<Vec<Buffer>>, Error> {
        self.check(arguments)?;
        let count = arguments.first().map_or(0, Vec::len);
        let handles: Vec<Vec<*mut raw::Buffer>> = arguments.iter().map(|l| l.iter().map(|b| b.raw()).collect()).collect();
        let lists: Vec<*const *mut raw::Buffer> = handles.iter().map(|list| pointer(list)).collect();
        let mut results = vec![vec![ptr::null_mut::<raw::Buffer>(); self.outputs.len()]; arguments.len()];
        let places: Vec<*mut *mut raw::Buffer> = results.iter_mut().map(|list| list.as_mut_ptr()).collect();
        // SAFETY: numbers and null pointers are valid when zero.
        let mut options: raw::ExecuteOptions = unsafe { mem::zeroed() };
        options.struct_size = size_of::<raw::ExecuteOptions>();
        // SAFETY: all lists live during the call and are as long as said; the arguments are alive, of this client.
        unsafe {
            self.loaded.client.plugin().table().call::<raw::LoadedExecutableExecute>(|a| {
                a.executable = self.loaded.raw;
                a.options = &mut options;
                a.argument_lists = lists.as_ptr();
                a.num_devices = lists.len();
                a.num_args = count;
                a.output_lists = places.as_ptr();
            })
        }?;
        // SAFETY: the plugin has filled every place with a new buffer that is ours.
        let owned = results.into_iter().map(|list| unsafe { self.own(list) });
        // All are owned before one of them may fail, so that none is lost.
        owned.collect::<Vec<_>>().into_iter().map(|list| list.into_iter().map(|b| self.typed(b)).collect()).collect()
    }

    /// # Safety
    ///
    /// The buffers are this program's results on one device, and nobody else destroys them.
    unsafe fn own(&self, results: Vec<*mut raw::Buffer>) -> Vec<Buffer> {
        let client = &self.loaded.client;
        let each = results.into_iter().zip(&self.outputs);
        // SAFETY: the caller's promise.
        each.map(|(raw, (element, dims))| unsafe { Buffer::new(client, raw, *element, dims.clone()) }).collect()
    }

    /// A result of a partitioned program is a part of the whole: its own shape counts.
    fn typed(&self, buffer: Buffer) -> Result<Buffer, Error> {
        if self.partitioned { buffer.with_own_type() } else { Ok(buffer) }
    }

    fn check(&self, arguments: &[Vec<&Buffer>]) -> Result<(), Error> {
        if arguments.len() != self.devices {
            let (wanted, given) = (self.devices, arguments.len());
            return Err(Error::Invalid(format!(
                "the program takes {wanted} lists of arguments, one per device; {given} were given"
            )));
        }
        for (device, list) in arguments.iter().enumerate() {
            let wanted = self.arguments.as_ref().map_or(arguments[0].len(), Vec::len);
            if list.len() != wanted {
                let given = list.len();
                return Err(Error::Invalid(format!("the program takes {wanted} arguments; device {device} was given {given}")));
            }
            list.iter().enumerate().try_for_each(|(i, buffer)| self.check_one(i, buffer))?;
        }
        Ok(())
    }

    fn check_one(&self, index: usize, buffer: &Buffer) -> Result<(), Error> {
        if !buffer.client().is(&self.loaded.client) {
            return Err(Error::Invalid(format!("argument {index} is on a device of another client")));
        }
        let Some((element, dims)) = self.arguments.as_ref().map(|types| &types[index]) else { return Ok(()) };
        // Parts of a partitioned program are smaller than the text says; the plugin compares their sizes.
        let same = *element == buffer.element()
            && if self.partitioned { dims.len() == buffer.dims().len() } else { dims == buffer.dims() };
        if same {
            return Ok(());
        }
        let (wanted, given) = (element.tensor(dims), buffer.element().tensor(buffer.dims()));
        Err(Error::Invalid(format!("argument {index} of the program is a {wanted}; a {given} was given")))
    }
}

impl Compiled {
    /// # Safety
    ///
    /// `raw` is an executable of this plugin that nobody else destroys.
    pub(super) unsafe fn new(plugin: &Plugin, raw: *mut raw::Executable) -> Compiled {
        Compiled { raw, plugin: plugin.clone() }
    }

    fn outputs(&self) -> Result<Vec<TensorType>, Error> {
        let table = self.plugin.table();
        // SAFETY: the executable is alive, and what it answers lives as long; it is copied here. The number of outputs is
        // the length of the two lists.
        unsafe {
            let types = table.call::<raw::ExecutableOutputElementTypes>(|a| a.executable = self.raw)?;
            let shapes = table.call::<raw::ExecutableOutputDimensions>(|a| a.executable = self.raw)?;
            let count = shapes.num_outputs.min(types.num_output_types);
            let ranks = slice(shapes.dim_sizes, count);
            let mut dims = slice(shapes.dims, ranks.iter().sum());
            let mut outputs = Vec::with_capacity(count);
            for (i, (number, rank)) in slice(types.output_types, count).iter().zip(ranks).enumerate() {
                let (own, rest) = dims.split_at(*rank);
                dims = rest;
                outputs.push((element(*number, &format!("output {i} of the program"))?, unsigned(own)?));
            }
            Ok(outputs)
        }
    }

    pub(super) fn memory(&self) -> Option<CompiledMemory> {
        // SAFETY: the executable is alive.
        let stats = unsafe { self.plugin.table().call::<raw::ExecutableGetCompiledMemoryStats>(|a| a.executable = self.raw) };
        let stats = stats.ok()?;
        let bytes = |value: i64| u64::try_from(value).unwrap_or(0);
        Some(CompiledMemory {
            code: bytes(stats.generated_code_size),
            arguments: bytes(stats.argument_size),
            outputs: bytes(stats.output_size),
            aliased: bytes(stats.alias_size),
            temporary: bytes(stats.temp_size),
        })
    }

    pub(super) fn serialize(&self) -> Result<Vec<u8>, Error> {
        // SAFETY: the executable is alive; the bytes live until their deleter is called, and are copied before.
        unsafe {
            let made = self.plugin.table().call::<raw::ExecutableSerialize>(|a| a.executable = self.raw)?;
            let bytes = slice(made.serialized_bytes, made.serialized_bytes_size).to_vec();
            if let Some(delete) = made.serialized_executable_deleter {
                delete(made.serialized_executable);
            }
            Ok(bytes)
        }
    }
}

/// The type of a number, or a sentence about what has it.
pub(super) fn element(number: i32, what: &str) -> Result<ElementType, Error> {
    ElementType::from_number(number)
        .ok_or_else(|| Error::Invalid(format!("{what} has elements of a type that is not supported (PJRT_Buffer_Type {number})")))
}

/// Dimensions of the C API; a dynamic one is negative.
pub(super) fn unsigned(dims: &[i64]) -> Result<Vec<usize>, Error> {
    let all: Result<Vec<usize>, _> = dims.iter().map(|d| usize::try_from(*d)).collect();
    all.map_err(|_| Error::Invalid(format!("a tensor of the program has no fixed shape: {dims:?}")))
}
