//! Plugins: shared libraries that bring a compiler and its devices.

use std::{
    collections::HashMap,
    env,
    ffi::OsStr,
    fmt, fs,
    path::{Path, PathBuf},
    ptr,
    sync::{Arc, Mutex, PoisonError},
};

use libloading::{Library, Symbol};

use super::{
    client::Client,
    error::Error,
    file, raw,
    table::Table,
    target::{self, Target},
    topology::Topology,
    value::Value,
};

/// The oldest minor version that was tried and works. The header promises less: twelve weeks.
pub(super) const MINOR_LOWEST: i32 = 81;

/// The variable that silences what XLA logs to the standard error: 3 leaves out everything but a fatal error.
const LOG_LEVEL: &str = "TF_CPP_MIN_LOG_LEVEL";

/// Plugins of this process by their canonical path. They are never unloaded: threads that they started live on.
static LOADED: Mutex<Option<HashMap<PathBuf, Plugin>>> = Mutex::new(None);

/// A loaded plugin. Clones are the same plugin, and so is the same file loaded twice.
#[derive(Clone)]
pub struct Plugin(Arc<Table>);

impl fmt::Debug for Plugin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Plugin({}, {:?})", self.path().display(), self.version())
    }
}

impl Plugin {
    /// Loads a plugin: looks at the file, opens it, checks its version and initialises it, once in a process.
    ///
    /// Sets `TF_CPP_MIN_LOG_LEVEL=3` in the environment if it is not set, before the first plugin is opened: XLA reads it
    /// once, and would log to the standard error. Best called before threads are started that read or write the environment.
    ///
    /// A damaged plugin can end the process: try an unknown one in a child process first.
    pub fn load(path: &Path) -> Result<Plugin, Error> {
        file::check(path)?;
        let path = fs::canonicalize(path)
            .map_err(|e| Error::File { path: path.to_path_buf(), reason: format!("cannot be read: {e}") })?;
        let mut loaded = LOADED.lock().unwrap_or_else(PoisonError::into_inner);
        let loaded = loaded.get_or_insert_with(HashMap::new);
        if let Some(plugin) = loaded.get(&path) {
            return Ok(plugin.clone());
        }
        if loaded.is_empty() && env::var_os(LOG_LEVEL).is_none() {
            // SAFETY: Rust's own readers of the environment share a lock with this. Foreign code that reads it unlocked on
            // another thread at this moment is excluded by nothing but the advice above; XLA's own is not loaded yet.
            unsafe { env::set_var(LOG_LEVEL, OsStr::new("3")) };
        }
        let plugin = Plugin(Arc::new(open(&path)?));
        // SAFETY: the structure has no fields besides its size.
        unsafe { plugin.table().call::<raw::PluginInitialize>(|_| ()) }?;
        loaded.insert(path, plugin.clone());
        Ok(plugin)
    }

    /// The file, with no symbolic link in it.
    pub fn path(&self) -> &Path {
        self.0.path()
    }

    /// Major and minor number of the version of the C API that the plugin speaks.
    pub fn version(&self) -> (i32, i32) {
        self.0.version()
    }

    /// Starts the plugin's devices. Options are the plugin's own, such as `cpu_device_count` (an integer) for CPU plugins.
    pub fn client(&self, options: &[(&str, Value)]) -> Result<Client, Error> {
        Client::new(self, options)
    }

    /// Describes devices that need not be here, to compile for them.
    ///
    /// `name` is the plugin's own word for a topology: it may be empty. GPU plugins want the options `target_config`, the
    /// text form of XLA's `GpuTargetConfigProto`, and `topology`, such as `1x1x1` for one device.
    pub fn topology(&self, name: &str, options: &[(&str, Value)]) -> Result<Topology, Error> {
        Topology::new(self, name, options)
    }

    /// The GPUs whose descriptions the plugin carries, for the option `target_config` of [`Plugin::topology`].
    pub fn targets(&self) -> Result<Vec<Target>, Error> {
        target::read(self.path())
    }

    pub(super) fn table(&self) -> &Table {
        &self.0
    }
}

fn open(path: &Path) -> Result<Table, Error> {
    let length = fs::metadata(path).map_or(0, |m| m.len());
    // SAFETY: runs the initialisers of a library that the user named as a plugin; the file is whole and for this machine.
    let library = unsafe { Library::new(path) }.map_err(|e| refused(path, &sentence(&e)))?;
    // Never unloaded: a plugin's threads and its C++ destructors outlive every client.
    let library = Box::leak(Box::new(library));
    // SAFETY: the header gives this function this type.
    let symbol: Result<Symbol<unsafe extern "C" fn() -> *const raw::Api>, _> = unsafe { library.get(b"GetPjrtApi\0") };
    let Ok(get) = symbol else { return Err(Error::NotAPlugin { path: path.to_path_buf() }) };
    // SAFETY: it takes nothing, and returns a table that lives as long as the library.
    let api = unsafe { get() };
    let reason = |text: &str| Error::File { path: path.to_path_buf(), reason: text.into() };
    if ptr::eq(api, ptr::null()) {
        return Err(reason("`GetPjrtApi` of this plugin returns nothing; install the plugin anew"));
    }
    // SAFETY: the first field of a table of any version.
    if unsafe { (*api).struct_size } < raw::API_HEAD {
        return Err(reason("the table of functions of this plugin is damaged; install the plugin anew"));
    }
    // SAFETY: not null, and the library is never unloaded.
    let table = unsafe { Table::new(api, path.to_path_buf(), length) };
    let (major, minor) = table.version();
    if major != raw::MAJOR || minor < MINOR_LOWEST {
        return Err(Error::Version { path: path.to_path_buf(), major, minor });
    }
    // Memory that a plugin still writes to could not be kept, or given back, without these.
    table.require::<raw::EventAwait>()?;
    table.require::<raw::EventDestroy>()?;
    table.require::<raw::BufferDestroy>()?;
    table.require::<raw::ErrorDestroy>()?;
    Ok(table)
}

/// What the loader said: libloading keeps it in the source of its error.
fn sentence(error: &libloading::Error) -> String {
    std::error::Error::source(error).map_or_else(|| error.to_string(), |source| source.to_string())
}

/// The loader's message, `NAME: cannot open shared object file: …` for a library that is not found.
fn refused(path: &Path, message: &str) -> Error {
    let path = path.to_path_buf();
    if let Some((library, _)) = message.split_once(": cannot open shared object file")
        && Path::new(library) != path
    {
        return Error::SharedLibrary { path, library: library.to_string() };
    }
    let reason = message.strip_prefix(&format!("{}: ", path.display())).unwrap_or(message).to_string();
    Error::Open { path, reason }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loaders_messages_become_sentences() {
        let path = Path::new("/plugins/a.so");
        let missing = refused(path, "libcudart.so.13: cannot open shared object file: No such file or directory");
        assert!(matches!(&missing, Error::SharedLibrary { library, .. } if library == "libcudart.so.13"), "{missing:?}");
        let symbol = refused(path, "/plugins/a.so: undefined symbol: foo");
        assert_eq!(symbol.to_string(), "/plugins/a.so: the system's loader refuses this plugin: undefined symbol: foo");
    }
}
