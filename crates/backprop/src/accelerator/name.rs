//! Names of devices.

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use std::{
    borrow::Cow,
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
};

/// A kind of accelerator that has a plugin.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Platform {
    /// NVIDIA's GPUs.
    Cuda,
    /// AMD's GPUs.
    Rocm,
    /// Google's TPUs.
    Tpu,
}

impl Platform {
    /// All of them.
    pub const ALL: [Platform; 3] = [Platform::Cuda, Platform::Rocm, Platform::Tpu];

    /// The platform that the name of a plugin's file contains.
    pub(super) fn of_file(path: &Path) -> Option<Platform> {
        let name = path.file_name()?.to_string_lossy().to_lowercase();
        Platform::ALL.into_iter().find(|platform| name.contains(platform.name()))
    }

    /// As `--device` has it, and as plugins name themselves.
    pub fn name(self) -> &'static str {
        match self {
            Platform::Cuda => "cuda",
            Platform::Rocm => "rocm",
            Platform::Tpu => "tpu",
        }
    }

    /// What it computes on, for people.
    pub fn hardware(self) -> &'static str {
        match self {
            Platform::Cuda => "NVIDIA GPUs",
            Platform::Rocm => "AMD GPUs",
            Platform::Tpu => "TPUs",
        }
    }

    /// The command that installs its plugin with what it needs.
    pub fn install(self) -> &'static str {
        match self {
            // The extra brings the CUDA libraries; neither needs JAX.
            Platform::Cuda => "pip install 'jax-cuda13-plugin[with-cuda]'",
            // The ROCm libraries come with ROCm itself.
            Platform::Rocm => "pip install jax-rocm7-pjrt",
            Platform::Tpu => "pip install libtpu",
        }
    }
}

/// What to compute on: `cpu`, `cuda`, `rocm`, `tpu`, `pjrt:/path/plugin.so`, or `pjrt` for the plugin that
/// [`PLUGIN_VARIABLE`](super::PLUGIN_VARIABLE) names. In TOML a string.
///
/// ```
/// use backprop::accelerator::{DeviceName, Platform};
///
/// let device: DeviceName = "cuda".parse()?;
/// assert_eq!(device, DeviceName::Platform(Platform::Cuda));
/// # Ok::<(), String>(())
/// ```
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum DeviceName {
    /// The native executor.
    #[default]
    Cpu,
    /// An accelerator whose plugin is looked for.
    Platform(Platform),
    /// A plugin by its path, or the one of the environment variable.
    Plugin(Option<PathBuf>),
}

/// What a name looks like.
const EXPECTED: &str = "cpu, cuda (NVIDIA), rocm (AMD), tpu or pjrt:/path/plugin.so";

impl FromStr for DeviceName {
    type Err = String;

    fn from_str(text: &str) -> Result<DeviceName, String> {
        if let Some(platform) = Platform::ALL.into_iter().find(|p| p.name() == text) {
            return Ok(DeviceName::Platform(platform));
        }
        match (text, text.strip_prefix("pjrt:")) {
            ("cpu", _) => Ok(DeviceName::Cpu),
            ("pjrt", _) => Ok(DeviceName::Plugin(None)),
            (_, Some("")) => Err("pjrt: needs the path of a plugin, as in pjrt:/path/plugin.so".into()),
            (_, Some(path)) => Ok(DeviceName::Plugin(Some(path.into()))),
            _ => Err(format!("expected {EXPECTED}, found \"{text}\"")),
        }
    }
}

impl fmt::Display for DeviceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            DeviceName::Cpu => f.write_str("cpu"),
            DeviceName::Platform(platform) => f.write_str(platform.name()),
            DeviceName::Plugin(None) => f.write_str("pjrt"),
            DeviceName::Plugin(Some(path)) => write!(f, "pjrt:{}", path.display()),
        }
    }
}

impl Serialize for DeviceName {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DeviceName {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<DeviceName, D::Error> {
        struct Visitor;
        impl de::Visitor<'_> for Visitor {
            type Value = DeviceName;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<DeviceName, E> {
                text.parse().map_err(|_| E::invalid_value(de::Unexpected::Str(text), &self))
            }
        }
        d.deserialize_str(Visitor)
    }
}

impl JsonSchema for DeviceName {
    fn schema_name() -> Cow<'static, str> {
        "DeviceName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "pattern": "^(cpu|cuda|rocm|tpu|pjrt(:.+)?)$",
            "description": "What to compute on: `cpu`, `cuda` (NVIDIA), `rocm` (AMD), `tpu`, `pjrt:/path/plugin.so`, or `pjrt` for the \
                plugin that the environment variable `BACKPROP_PJRT_PLUGIN` names.",
        })
    }
}
