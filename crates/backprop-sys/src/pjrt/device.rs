//! Devices of a client.

use super::{
    error::Error,
    plugin::Plugin,
    raw,
    topology::{DeviceDescription, describe},
};

/// A device. It lives as long as its client.
pub struct Device {
    /// Its number among all devices of the platform.
    pub id: i32,
    /// What it is: `NVIDIA H100 80GB HBM3`, `TPU v5e`, `cpu`.
    pub kind: String,
    /// The plugin's text for it, with its place.
    pub description: String,
    raw: *mut raw::Device,
    plugin: Plugin,
}

// SAFETY: the handle is constant and belongs to the client; its statistics may be read on any thread.
unsafe impl Send for Device {}
// SAFETY: as above.
unsafe impl Sync for Device {}

/// How much memory of a device is in use, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DeviceMemory {
    /// Now.
    pub in_use: u64,
    /// At most since the client was made.
    pub peak: Option<u64>,
    /// What the client may use.
    pub limit: Option<u64>,
}

impl Device {
    /// # Safety
    ///
    /// `raw` is a device of a client of this plugin that outlives the result.
    pub(super) unsafe fn new(plugin: &Plugin, raw: *mut raw::Device) -> Result<Device, Error> {
        // SAFETY: the device is alive, and its description lives as long.
        let DeviceDescription { id, kind, description } = unsafe {
            let description = plugin.table().call::<raw::DeviceGetDescription>(|a| a.device = raw)?.description;
            describe(plugin, description)?
        };
        Ok(Device { id, kind, description, raw, plugin: plugin.clone() })
    }

    /// The use of its memory; nothing where the plugin does not count it, as CPU plugins do not.
    pub fn memory(&self) -> Option<DeviceMemory> {
        // SAFETY: the device belongs to a client that is alive, by `new`.
        let stats = unsafe { self.plugin.table().call::<raw::DeviceMemoryStats>(|a| a.device = self.raw) }.ok()?;
        let bytes = |value: i64| u64::try_from(value).unwrap_or(0);
        Some(DeviceMemory {
            in_use: bytes(stats.bytes_in_use),
            peak: stats.peak_bytes_in_use_is_set.then(|| bytes(stats.peak_bytes_in_use)),
            limit: stats.bytes_limit_is_set.then(|| bytes(stats.bytes_limit)),
        })
    }

    pub(super) fn raw(&self) -> *mut raw::Device {
        self.raw
    }
}
