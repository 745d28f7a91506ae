//! Accelerators: which PJRT plugins this machine has, and why one cannot be used.
//!
//! A plugin is a shared library that somebody else made. A damaged one can end the process that loads it, or never come back; so a
//! [`Prober`] lets a child process load it first. The `backprop` program starts itself with a hidden argument; a program of one's
//! own gives a command that prints [`probe_line`], or probes in its own process.
//!
//! ```no_run
//! use backprop::accelerator::{Finder, Prober};
//!
//! let finder = Finder::new(Prober::in_process());
//! match finder.find(&"cuda".parse()?) {
//!     Ok(usable) => println!("{} devices by {}", usable.report.devices.len(), usable.candidate.path.display()),
//!     Err(why) => println!("{why}"),
//! }
//! # Ok::<(), String>(())
//! ```

mod driver;
mod name;
mod places;
mod probe;
#[cfg(test)]
mod tests;
mod unusable;

pub use name::{DeviceName, Platform};
pub use places::{Candidate, Host, PLUGIN_VARIABLE};
pub use probe::{ChipReport, Prober, Report, SECONDS_VARIABLE, probe_line};
pub use unusable::Unusable;

use driver::Driver;
use std::{path::PathBuf, thread};

/// Finds accelerators: on a host, by a prober.
pub struct Finder {
    host: Host,
    prober: Prober,
}

/// A plugin that was loaded and has devices.
#[derive(Clone, PartialEq, Debug)]
pub struct Usable {
    /// Where it is.
    pub candidate: Candidate,
    /// What it says of itself.
    pub report: Report,
}

/// What there is of one kind of accelerator.
#[derive(Debug)]
pub struct Finding {
    /// How it is asked for.
    pub device: DeviceName,
    /// The plugin and its devices, or why there is none to use.
    pub result: Result<Usable, Unusable>,
}

impl Finder {
    /// Looks on this machine, with the environment of this process.
    pub fn new(prober: Prober) -> Finder {
        Finder::on(Host::this(), prober)
    }

    /// Looks on a host.
    pub fn on(host: Host, prober: Prober) -> Finder {
        Finder { host, prober }
    }

    /// Everything there is, or why not: NVIDIA, AMD, TPU, and the plugin of [`PLUGIN_VARIABLE`] where it is for none of them.
    pub fn survey(&self) -> Vec<Finding> {
        let mut devices: Vec<DeviceName> = Platform::ALL.map(DeviceName::Platform).into();
        if !matches!(self.host.named_plugin(None), Ok(None)) {
            devices.push(DeviceName::Plugin(None));
        }
        // A plugin takes a second or two to look for its devices.
        thread::scope(|scope| {
            let find = |device: DeviceName| {
                let result = self.find(&device);
                Finding { device, result }
            };
            let running: Vec<_> = devices.into_iter().map(|device| scope.spawn(move || find(device))).collect();
            running.into_iter().filter_map(|thread| thread.join().ok()).collect()
        })
    }

    /// The plugin to use for a device: the first that works, in the order that [`Host::candidates`] has them.
    ///
    /// # Errors
    /// Why there is none: of several that do not work, why the first does not.
    pub fn find(&self, device: &DeviceName) -> Result<Usable, Unusable> {
        match device {
            DeviceName::Cpu => Err(Unusable::Native),
            DeviceName::Plugin(Some(path)) => self.find_named(path.clone()),
            DeviceName::Plugin(None) => self.find_named(self.host.named_plugin(None)?.ok_or(Unusable::NotNamed)?),
            DeviceName::Platform(platform) => self.find_platform(*platform),
        }
    }

    fn find_named(&self, plugin: PathBuf) -> Result<Usable, Unusable> {
        let result = self.probed(Candidate::named(plugin.clone(), None), None);
        // The plugin for TPUs waits for minutes where there is none.
        let (Err(Unusable::Hung { .. } | Unusable::Crashed { .. }), Some(platform)) = (&result, Platform::of_file(&plugin))
        else {
            return result;
        };
        match Driver::of(platform, &self.host).absent() {
            Some(missing) => Err(Unusable::NoDriver { platform, missing, plugin }),
            None => result,
        }
    }

    fn find_platform(&self, platform: Platform) -> Result<Usable, Unusable> {
        let candidates = self.host.candidates(platform)?;
        let driver = Driver::of(platform, &self.host);
        let Some(first) = candidates.first() else {
            return Err(Unusable::NoPlugin { platform, driver: driver.absent() });
        };
        if let Some(missing) = driver.absent() {
            return Err(Unusable::NoDriver { platform, missing, plugin: first.path.clone() });
        }
        let mut reason = None;
        for candidate in candidates {
            match self.probed(candidate.clone(), Some(platform)) {
                Ok(usable) => return Ok(usable),
                Err(why) => {
                    reason.get_or_insert(driver.explain(&candidate, &self.host).unwrap_or(why));
                }
            }
        }
        Err(reason.unwrap_or(Unusable::NoPlugin { platform, driver: None }))
    }

    fn probed(&self, candidate: Candidate, platform: Option<Platform>) -> Result<Usable, Unusable> {
        let path = candidate.path.clone();
        let report = self.prober.probe(&path)?;
        match platform {
            Some(wanted) if !report.platform.eq_ignore_ascii_case(wanted.name()) => {
                Err(Unusable::OtherPlatform { path, wanted, found: report.platform })
            }
            _ if report.devices.is_empty() => Err(Unusable::NoDevices { path }),
            _ => Ok(Usable { candidate, report }),
        }
    }
}
