//! Targets of ahead-of-time compilation: the descriptions of GPUs that XLA's GPU plugins carry as text.

use std::{fs, path::Path};

use super::error::Error;

/// Bytes a description may have; they have 1,000 to 6,000.
const LENGTHS: std::ops::Range<usize> = 200..65_536;

/// A device that a plugin can compile for, without it being here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Its name: `NVIDIA H100 80GB HBM3`.
    pub name: String,
    /// Its platform: `CUDA`, `ROCM`. Plugins carry descriptions for others' platforms too.
    pub platform: String,
    /// The text form of XLA's `GpuTargetConfigProto`, for the option `target_config` of a topology.
    pub config: String,
}

/// The targets in a plugin's file: texts between zero bytes. It is read as a whole, some hundred megabytes.
pub(super) fn read(path: &Path) -> Result<Vec<Target>, Error> {
    let bytes = fs::read(path).map_err(|e| Error::File { path: path.to_path_buf(), reason: format!("cannot be read: {e}") })?;
    let texts = bytes.split(|byte| *byte == 0).filter(|text| LENGTHS.contains(&text.len()));
    Ok(texts.filter_map(|text| target(str::from_utf8(text).ok()?)).collect())
}

fn target(text: &str) -> Option<Target> {
    let value = |key: &str| text.split_once(key)?.1.strip_prefix(": \"")?.split('"').next().map(str::to_string);
    if !text.contains("gpu_device_info {") {
        return None;
    }
    Some(Target { name: value("device_description_str")?, platform: value("platform_name")?, config: text.to_string() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptions_are_found_between_other_bytes() {
        let filler = "# filler\n".repeat(30);
        let text = format!("{filler}gpu_device_info {{\n}}\nplatform_name: \"CUDA\"\ndevice_description_str: \"A 1\"\n");
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), [&b"\x7fELF\xff\0\0"[..], text.as_bytes(), b"\0gpu_device_info {\0", filler.as_bytes()].concat())
            .unwrap();
        let wanted = Target { name: "A 1".into(), platform: "CUDA".into(), config: text };
        assert_eq!(read(file.path()).unwrap(), [wanted]);
    }
}
