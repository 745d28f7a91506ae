//! Topologies: devices described, not present, to compile for ahead of time.

use std::fmt;

use super::{
    client::program_of,
    error::Error,
    executable::{Compiled, CompiledMemory},
    options::CompileOptions,
    plugin::Plugin,
    raw, signature,
    stored::Origin,
    table::{pointer, slice},
    value::{Value, named},
};

/// Devices that need not be here.
pub struct Topology {
    raw: *mut raw::TopologyDescription,
    plugin: Plugin,
}

// SAFETY: topologies are constant; compiling for them may be done on any thread.
unsafe impl Send for Topology {}
// SAFETY: as above.
unsafe impl Sync for Topology {}

/// What a plugin says about a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeviceDescription {
    /// Its number among all devices of the platform.
    pub id: i32,
    /// What it is: `NVIDIA H100 80GB HBM3`.
    pub kind: String,
    /// The plugin's text for it, with its place.
    pub description: String,
}

/// A program compiled for devices that need not be here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AheadOfTime {
    /// The bytes that [`super::Client::load`] takes where the devices are.
    pub program: Vec<u8>,
    /// The memory it needs there; nothing where the plugin does not know.
    pub memory: Option<CompiledMemory>,
}

impl Drop for Topology {
    fn drop(&mut self) {
        // SAFETY: nobody else has it.
        unsafe { self.plugin.table().free::<raw::TopologyDescriptionDestroy>(|a| a.topology = self.raw) };
    }
}

impl fmt::Debug for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Topology({:?})", self.plugin)
    }
}

impl Topology {
    pub(super) fn new(plugin: &Plugin, name: &str, options: &[(&str, Value)]) -> Result<Topology, Error> {
        let values = named(options);
        // SAFETY: name and options live during the call.
        let made = unsafe {
            plugin.table().call::<raw::TopologyDescriptionCreate>(|a| {
                a.topology_name = name.as_ptr();
                a.topology_name_size = name.len();
                a.create_options = pointer(&values);
                a.num_options = values.len();
            })
        }?;
        let topology = Topology { raw: made.topology, plugin: plugin.clone() };
        topology.check_platform(options)?;
        Ok(topology)
    }

    /// A target of another platform is taken, and compiling for it is a segmentation fault.
    fn check_platform(&self, options: &[(&str, Value)]) -> Result<(), Error> {
        let own = self.platform_name()?;
        for (name, value) in options {
            let Value::Text(text) = value else { continue };
            let wanted = text.split_once("platform_name: \"").and_then(|(_, rest)| rest.split('"').next());
            if let Some(wanted) = wanted.filter(|wanted| !wanted.eq_ignore_ascii_case(&own)) {
                let plugin = self.plugin.path().display();
                return Err(Error::Invalid(format!("`{name}` describes a device of {wanted}; {plugin} compiles for {own}")));
            }
        }
        Ok(())
    }

    /// The platform: `cuda`, `rocm`, `tpu`.
    pub fn platform_name(&self) -> Result<String, Error> {
        let table = self.plugin.table();
        // SAFETY: the topology is alive, and its name lives as long; it is copied.
        unsafe {
            let name = table.call::<raw::TopologyDescriptionPlatformName>(|a| a.topology = self.raw)?;
            Ok(table.text(name.platform_name, name.platform_name_size))
        }
    }

    /// Its devices.
    pub fn devices(&self) -> Result<Vec<DeviceDescription>, Error> {
        // SAFETY: the topology is alive, and its descriptions live as long.
        unsafe {
            let list = self.plugin.table().call::<raw::TopologyDescriptionGetDeviceDescriptions>(|a| a.topology = self.raw)?;
            slice(list.descriptions, list.num_descriptions).iter().map(|d| describe(&self.plugin, *d)).collect()
        }
    }

    /// Compiles a program for these devices.
    pub fn compile(&self, text: &str, options: &CompileOptions) -> Result<AheadOfTime, Error> {
        let encoded = options.encode()?;
        let program = program_of(text);
        // SAFETY: program and options live during the call; the executable is new and ours.
        let compiled = unsafe {
            let made = self.plugin.table().call::<raw::Compile>(|a| {
                a.topology = self.raw;
                a.program = &program;
                a.compile_options = encoded.as_ptr();
                a.compile_options_size = encoded.len();
            })?;
            Compiled::new(&self.plugin, made.executable)
        };
        let device = self.devices()?.into_iter().next().map_or_else(String::new, |device| device.kind);
        let origin = Origin::new(&self.plugin, &self.platform_name()?, &device, &encoded);
        let arguments = signature::main(text).map(|main| main.arguments);
        let program = origin.wrap(arguments.as_deref(), &compiled.serialize()?);
        Ok(AheadOfTime { program, memory: compiled.memory() })
    }
}

/// # Safety
///
/// `description` is one of this plugin's, and alive.
pub(super) unsafe fn describe(plugin: &Plugin, description: *mut raw::DeviceDescription) -> Result<DeviceDescription, Error> {
    let table = plugin.table();
    // SAFETY: the caller's promise; the texts live as long as the description and are copied.
    unsafe {
        let id = table.call::<raw::DeviceDescriptionId>(|a| a.description = description)?.id;
        let kind = table.call::<raw::DeviceDescriptionKind>(|a| a.description = description)?;
        let text = table.call::<raw::DeviceDescriptionToString>(|a| a.description = description)?;
        Ok(DeviceDescription {
            id,
            kind: table.text(kind.kind, kind.kind_size),
            description: table.text(text.text, text.text_size),
        })
    }
}
