//! Accelerators through PJRT plugins: the graph becomes StableHLO text, which the plugin compiles for its devices.
//!
//! State stays in the devices' memory; every step is given the memory of the tensors it replaces. Over several devices the plugin
//! partitions the one program by the sharding of its inputs (Shardy): the rows of a batch are split, everything else is on every
//! device.

mod pack;
mod program;

pub use backprop_sys::pjrt::Plugin;
pub use program::{PjrtProgram, Resident};

use super::{Backend, Program};
use crate::{
    DType, Error, Graph,
    pass::{self, Inline, Pass},
    stablehlo::{self, Joined, Layout, Precision},
};
use backprop_sys::pjrt::{Client, CompileOptions, ElementType, Error as PjrtError, Executable, Value};
use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

/// Runs under way at once: enough that a device with steps of a tenth of a millisecond never waits for the host.
const DEPTH: usize = 8;

/// Compiled programs kept from one process to the next.
pub trait Cache: Send + Sync {
    /// What was kept under a key.
    fn get(&self, key: &str) -> Option<Vec<u8>>;

    /// Keeps a program. What cannot be kept is compiled again.
    fn put(&self, key: &str, program: &[u8]);
}

/// How graphs are compiled and where they run.
#[derive(Clone)]
pub struct PjrtOptions {
    /// How exactly products of `f32` are formed.
    pub precision: Precision,
    /// Devices that share each step.
    pub devices: usize,
    /// Names of the data inputs whose rows are split over the devices.
    pub split: Vec<String>,
    /// Run our passes before the plugin's. Results may differ in rounding only.
    pub optimize: bool,
    /// Where compiled programs are kept.
    pub cache: Option<Arc<dyn Cache>>,
}

impl Default for PjrtOptions {
    fn default() -> PjrtOptions {
        let split = ["x", "y"].map(String::from).into();
        PjrtOptions { precision: Precision::default(), devices: 1, split, optimize: true, cache: None }
    }
}

/// The devices of one plugin as a backend.
#[derive(Clone)]
pub struct Pjrt {
    client: Client,
    plugin: Plugin,
    options: PjrtOptions,
    /// Tells the devices of one client from those of another.
    id: u64,
}

impl Pjrt {
    /// Opens the first devices that a plugin drives.
    ///
    /// # Errors
    /// If the plugin has no device (no driver, no card), or fewer than are asked for.
    pub fn open(plugin: &Plugin, options: PjrtOptions) -> Result<Pjrt, Error> {
        let mut client = client(plugin).map_err(device_error)?;
        // The devices of the plugin for processors are made up: as many as are asked for.
        if client.platform() == "cpu" && client.devices().len() < options.devices {
            let count = Value::Int(options.devices as i64);
            client = plugin.client(&[("cpu_device_count", count)]).map_err(device_error)?;
        }
        let (wanted, found) = (options.devices.max(1), client.devices().len());
        if found < wanted {
            let message = format!("{wanted} devices are asked for, but {} has {found}; use --devices {found}", client.platform());
            return Err(Error::Device(message));
        }
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let options = PjrtOptions { devices: options.devices.max(1), ..options };
        Ok(Pjrt { client, plugin: plugin.clone(), options, id: NEXT.fetch_add(1, Ordering::Relaxed) })
    }

    /// The same devices with other options; the number of devices stays.
    #[must_use]
    pub fn with(&self, options: PjrtOptions) -> Pjrt {
        Pjrt { options: PjrtOptions { devices: self.options.devices, ..options }, ..self.clone() }
    }

    /// Compiles a graph to a program that can be inspected.
    ///
    /// # Errors
    /// If the graph is not valid, or the plugin cannot compile it.
    pub fn build(&self, graph: &Graph) -> Result<PjrtProgram, Error> {
        let Written { packed, layout, text } = write(graph, &self.options)?;
        let executable = self.executable(&text)?;
        PjrtProgram::new(self, graph, packed, &layout, executable)
    }

    fn compile_options(&self) -> CompileOptions {
        let devices = self.options.devices;
        // By default XLA for processors loses a NaN in a maximum or minimum, against StableHLO's definition.
        let exact = ("xla_cpu_enable_fast_min_max".into(), Value::Bool(false));
        let options = if self.client.platform() == "cpu" { vec![exact] } else { Vec::new() };
        CompileOptions { replicas: 1, partitions: devices, shardy: devices > 1, options }
    }

    /// The program from the cache, or compiled and kept there.
    fn executable(&self, text: &str) -> Result<Executable, Error> {
        let options = self.compile_options();
        let key = self.key(text);
        let kept = self.options.cache.as_ref().and_then(|cache| cache.get(&key));
        // A program that the plugin does not take any more is compiled anew.
        if let Some(executable) = kept.and_then(|program| self.client.load(&program, &options).ok()) {
            return Ok(executable);
        }
        let executable = self.client.compile(text, &options).map_err(device_error)?;
        if let (Some(cache), Ok(program)) = (&self.options.cache, executable.serialize()) {
            cache.put(&key, &program);
        }
        Ok(executable)
    }

    /// What a compiled program depends on: the text, the plugin, the devices, and what the user tells XLA.
    fn key(&self, text: &str) -> String {
        let (major, minor) = self.plugin.version();
        let kinds: Vec<&str> = self.client.devices().iter().map(|d| d.kind.as_str()).collect();
        let device = format!("{} {} {kinds:?} {}", self.client.platform(), self.client.platform_version(), self.options.devices);
        let flags = std::env::var("XLA_FLAGS").unwrap_or_default();
        let whole = format!("{major}.{minor} {device} {flags}\n{text}");
        // Forwards and backwards: two hashes that have nothing in common.
        let backwards: String = whole.chars().rev().collect();
        let hashes = [&whole, &backwards].map(|text| crate::random::stream(text, 0));
        format!("{}-{:016x}{:016x}-{}", self.client.platform(), hashes[0], hashes[1], whole.len())
    }
}

impl Backend for Pjrt {
    fn describe(&self) -> String {
        let (major, minor) = self.plugin.version();
        let kind = self.client.devices().first().map_or("", |d| d.kind.as_str());
        let count = if self.options.devices > 1 { format!("{} × ", self.options.devices) } else { String::new() };
        format!("{} ({count}{kind}, PJRT {major}.{minor})", self.client.platform())
    }

    fn memory_limit(&self) -> Option<u64> {
        self.client.devices().first()?.memory()?.limit
    }

    fn depth(&self) -> usize {
        DEPTH
    }

    fn compile(&self, graph: &Graph) -> Result<Box<dyn Program>, Error> {
        Ok(Box::new(self.build(graph)?))
    }
}

/// A graph in the form a plugin is given it.
struct Written {
    packed: pack::Packed,
    layout: Layout,
    text: String,
}

fn write(graph: &Graph, options: &PjrtOptions) -> Result<Written, Error> {
    crate::graph::verify(graph)?;
    let optimized = if options.optimize {
        pass::optimize(graph, &pass::pipeline(|_| false), &mut |_, _, _| ())
    } else {
        Inline { keep: |_| false }.run(graph)
    };
    let packed = pack::pack(&optimized);
    let mut layout = Layout { devices: options.devices, split: options.split.clone(), ..Layout::default() };
    layout.joined = Joined::of(&packed.graph, &layout);
    let text = stablehlo::module(&packed.graph, options.precision, &layout);
    Ok(Written { packed, layout, text })
}

/// The StableHLO text that plugins are given of a graph. No plugin is needed for it.
///
/// # Errors
/// If the graph is not valid.
pub fn program_text(graph: &Graph, options: &PjrtOptions) -> Result<String, Error> {
    Ok(write(graph, options)?.text)
}

/// The plugin's client. On GPUs it takes memory when programs need it, up to nearly all there is: by default it would take three
/// quarters at once and refuse the rest.
fn client(plugin: &Plugin) -> Result<Client, PjrtError> {
    let file = plugin.path().file_name().unwrap_or_default().to_string_lossy();
    let mut options = vec![("preallocate", Value::Bool(false)), ("memory_fraction", Value::Float(0.95))];
    match file {
        file if file.contains("cuda") => {}
        // One plugin is built of code for both kinds of GPU.
        file if file.contains("rocm") => options.push(("platform_name", Value::Text("ROCM".into()))),
        _ => options.clear(),
    }
    plugin.client(&options)
}

fn device_error(error: PjrtError) -> Error {
    let remedy = if error.is_out_of_memory() {
        "; use a smaller train.batch_size, or take the batch in parts: train.accumulate"
    } else {
        ""
    };
    Error::Device(format!("{error}{remedy}"))
}

fn element(dtype: DType) -> ElementType {
    match dtype {
        DType::Bool => ElementType::Bool,
        DType::U8 => ElementType::U8,
        DType::I32 => ElementType::I32,
        DType::I64 => ElementType::I64,
        DType::U32 => ElementType::U32,
        DType::U64 => ElementType::U64,
        DType::F16 => ElementType::F16,
        DType::BF16 => ElementType::BF16,
        DType::F32 => ElementType::F32,
        DType::F64 => ElementType::F64,
    }
}
