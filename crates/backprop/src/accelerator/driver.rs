//! Whether the driver of an accelerator is there, by the files it makes.

use super::{Candidate, Host, Platform, Unusable};
use std::fs;

/// What is known of a driver.
pub(super) struct Driver {
    platform: Platform,
    present: bool,
    version: Option<String>,
}

/// Oldest driver of NVIDIA for each CUDA, from the release notes of the CUDA toolkit.
const NEEDED: [(u32, u32); 2] = [(12, 525), (13, 580)];

impl Driver {
    pub(super) fn of(platform: Platform, host: &Host) -> Driver {
        let exists = |files: &[&str]| files.iter().any(|file| host.file(file).exists());
        let present = match platform {
            // /dev/dxg: the Windows Subsystem for Linux; /dev/nvhost-ctrl-gpu: Jetson.
            Platform::Cuda => exists(&["/dev/nvidiactl", "/dev/nvhost-ctrl-gpu", "/dev/dxg"]),
            Platform::Rocm => exists(&["/dev/kfd", "/dev/dxg"]),
            Platform::Tpu => exists(&["/dev/accel0"]) || has_numbers(host, "/dev/vfio") || has_numbers(host, "/dev/accel"),
        };
        let version = match platform {
            Platform::Cuda => fs::read_to_string(host.file("/proc/driver/nvidia/version")).ok().and_then(|t| nvidia_version(&t)),
            Platform::Rocm | Platform::Tpu => None,
        };
        Driver { platform, present, version }
    }

    /// What is missing, if the driver is.
    pub(super) fn absent(&self) -> Option<&'static str> {
        if self.present {
            return None;
        }
        Some(match self.platform {
            Platform::Cuda => "no NVIDIA driver (no /dev/nvidiactl)",
            Platform::Rocm => "no AMD GPU driver (no /dev/kfd)",
            Platform::Tpu => "no TPU (no /dev/accel0, no /dev/vfio/0)",
        })
    }

    /// Why a plugin failed, if it is the driver's fault. Asked only after it failed: some cards take a newer CUDA than their driver's.
    pub(super) fn explain(&self, candidate: &Candidate, host: &Host) -> Option<Unusable> {
        let path = candidate.path.clone();
        match self.platform {
            Platform::Cuda => {
                let (cuda, needed) = NEEDED.into_iter().find(|(cuda, _)| Some(*cuda) == candidate.major())?;
                let version = self.version.clone()?;
                let major: u32 = version.split('.').next()?.parse().ok()?;
                (major < needed).then_some(Unusable::OldDriver { path, version, cuda, needed })
            }
            Platform::Rocm => {
                let device = host.file("/dev/kfd");
                let denied = fs::File::options().read(true).write(true).open(&device).err()?;
                (denied.kind() == std::io::ErrorKind::PermissionDenied).then_some(Unusable::NotPermitted { device })
            }
            Platform::Tpu => None,
        }
    }
}

/// Whether a folder has an entry that is a number, as /dev/vfio has one for each device.
fn has_numbers(host: &Host, folder: &str) -> bool {
    let number = |entry: fs::DirEntry| entry.file_name().to_str().is_some_and(|name| name.parse::<u32>().is_ok());
    fs::read_dir(host.file(folder)).is_ok_and(|entries| entries.flatten().any(number))
}

/// The version in /proc/driver/nvidia/version, whose first line is such as
/// `NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build`.
fn nvidia_version(text: &str) -> Option<String> {
    let version = |word: &&str| word.contains('.') && word.split('.').all(|part| part.parse::<u32>().is_ok());
    text.lines().next()?.split_whitespace().find(version).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::nvidia_version;

    #[test]
    fn versions_of_both_kinds_of_module_are_read() {
        let open = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build  (dvs-builder@U22)\nGCC version: 12.2.0";
        let closed = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.104.12  Wed Sep 20 09:35:17 UTC 2023";
        assert_eq!(nvidia_version(open).as_deref(), Some("580.95.05"));
        assert_eq!(nvidia_version(closed).as_deref(), Some("535.104.12"));
        assert_eq!(nvidia_version("NVRM version: none"), None);
    }
}
