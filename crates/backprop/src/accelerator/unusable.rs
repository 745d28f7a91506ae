//! Why an accelerator cannot be used.

use super::{PLUGIN_VARIABLE, Platform, SECONDS_VARIABLE};
use std::path::{Path, PathBuf};

/// Why an accelerator cannot be used, and what would help.
#[derive(Clone, PartialEq, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Unusable {
    /// The processor is no accelerator.
    #[error("the processor needs no plugin")]
    Native,
    /// No plugin was found; perhaps there is no driver either.
    #[error("{}; install one with: {}", self.reason(), platform.install())]
    NoPlugin {
        /// What it would be for.
        platform: Platform,
        /// What is missing of the driver.
        driver: Option<&'static str>,
    },
    /// A plugin, but no driver.
    #[error("{missing}; {}", remedy(*platform))]
    NoDriver {
        /// What it would be for.
        platform: Platform,
        /// What is missing.
        missing: &'static str,
        /// The plugin that was found.
        plugin: PathBuf,
    },
    /// A driver that is too old for the plugin.
    #[error(
        "the NVIDIA driver {version} is too old for {}, which is made for CUDA {cuda} and needs driver {needed} or newer; update the \
         driver{}", path.display(),
        if *cuda > 12 { ", or use CUDA 12: pip install 'jax-cuda12-plugin[with-cuda]'" } else { "" }
    )]
    OldDriver {
        /// The plugin.
        path: PathBuf,
        /// Version of the driver.
        version: String,
        /// Major version of CUDA.
        cuda: u32,
        /// Major version of the driver it needs.
        needed: u32,
    },
    /// The user may not use the device.
    #[error("this user may not open {}; add it to the group that owns the file, most often `render`", device.display())]
    NotPermitted {
        /// The device.
        device: PathBuf,
    },
    /// `pjrt` without a path, and no variable.
    #[error("it needs a plugin: name one as pjrt:/path/plugin.so or in the environment variable {PLUGIN_VARIABLE}")]
    NotNamed,
    /// A variable of another form.
    #[error(
        "{PLUGIN_VARIABLE} must be a path, or NAME=PATH with cuda, rocm, tpu or pjrt as names and ; between several, not {value}"
    )]
    BadVariable {
        /// What it is.
        value: String,
    },
    /// A limit that is none.
    #[error("{SECONDS_VARIABLE} must be a whole number of seconds from 1, not {value}")]
    BadSeconds {
        /// What it is.
        value: String,
    },
    /// It could not be loaded, or has no device: as it says itself.
    #[error("{message}")]
    Refused {
        /// The plugin.
        path: PathBuf,
        /// What it says.
        message: String,
    },
    /// The process that loaded it ended.
    #[error(
        "the plugin {} ended the process ({how}){}; it is damaged or does not fit this machine: install it anew", path.display(),
        if said.is_empty() { String::new() } else { format!(" and said: {said}") }
    )]
    Crashed {
        /// The plugin.
        path: PathBuf,
        /// `signal 11`, `exit code 1`.
        how: String,
        /// The last it wrote.
        said: String,
    },
    /// It did not come back.
    #[error(
        "the plugin {} did not answer within {seconds} s; if its devices need longer to start, set {SECONDS_VARIABLE}; if another \
         program uses them, end it", path.display()
    )]
    Hung {
        /// The plugin.
        path: PathBuf,
        /// How long it was waited for.
        seconds: u64,
    },
    /// It is for something else.
    #[error("{} is a plugin for {found}, not for {}", path.display(), wanted.name())]
    OtherPlatform {
        /// The plugin.
        path: PathBuf,
        /// What was asked for.
        wanted: Platform,
        /// What it says it is for.
        found: String,
    },
    /// It works and has nothing to compute on.
    #[error("the plugin {} finds no device", path.display())]
    NoDevices {
        /// The plugin.
        path: PathBuf,
    },
    /// The process that was to load it could not be started.
    #[error("cannot start a process to look at the plugin {}: {why}", path.display())]
    NoProbe {
        /// The plugin.
        path: PathBuf,
        /// Why.
        why: String,
    },
}

impl Unusable {
    /// The message without the command of [`install`](Self::install).
    pub fn reason(&self) -> String {
        match self {
            Unusable::NoPlugin { platform, driver } => {
                let driver = driver.map_or(String::new(), |missing| format!(", and {missing}"));
                format!("no plugin for {} was found{driver}", platform.hardware())
            }
            other => other.to_string(),
        }
    }

    /// The plugin that was found where its driver is missing.
    pub fn plugin(&self) -> Option<&Path> {
        match self {
            Unusable::NoDriver { plugin, .. } => Some(plugin),
            _ => None,
        }
    }

    /// The command that would install what is missing.
    pub fn install(&self) -> Option<&'static str> {
        match self {
            Unusable::NoPlugin { platform, .. } => Some(platform.install()),
            _ => None,
        }
    }
}

/// What to do where a driver is missing.
fn remedy(platform: Platform) -> &'static str {
    match platform {
        Platform::Cuda => "install the driver of the card, or start the container with its GPUs (docker run --gpus all)",
        Platform::Rocm => {
            "install the driver amdgpu, or start the container with its GPUs (docker run --device /dev/kfd --device /dev/dri)"
        }
        Platform::Tpu => "use a machine that has one",
    }
}
