//! PJRT, the C API of XLA's compilers and devices: a [`Plugin`] makes a [`Client`], which compiles StableHLO text into an
//! [`Executable`] that turns [`Buffer`]s into [`Buffer`]s.
//!
//! The rules of the API that this module keeps, so that nobody else has to:
//!
//! - The table of functions is append-only and may end before or after the one we know; an entry is looked at before it is called.
//! - Structures of arguments are zero-filled, as long as the newest we know and some more: plugins refuse shorter ones only.
//! - A plugin is initialised once in a process and never unloaded; its client lives as long as anything made with it.
//! - Every error, event, buffer and executable is destroyed once, on the ways of failure too.
//! - What would abort the process inside a plugin, or be accepted and give wrong values, is refused before the call.

mod buffer;
mod client;
mod device;
mod element;
mod error;
mod event;
mod executable;
mod file;
mod options;
mod plugin;
pub mod raw;
pub mod signature;
mod stored;
mod table;
mod target;
mod topology;
mod value;

pub use buffer::{Buffer, Pending};
pub use client::Client;
pub use device::{Device, DeviceMemory};
pub use element::ElementType;
pub use error::{Code, Error};
pub use executable::{CompiledMemory, Executable};
pub use options::CompileOptions;
pub use plugin::Plugin;
pub use target::Target;
pub use topology::{AheadOfTime, DeviceDescription, Topology};
pub use value::Value;
