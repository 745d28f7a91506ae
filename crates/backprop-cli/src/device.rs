//! What computes.

use crate::{
    args::{DeviceOptions, IsaName, PrecisionName},
    devices,
    failure::Failure,
};
use backprop::{
    accelerator::{DeviceName, Finder, Usable},
    compile_cache::CompileCache,
    config::TrainConfig,
    core::{
        Isa,
        exec::{
            Backend,
            native::{Native, Options},
            pjrt::{Cache, Pjrt, PjrtOptions, Plugin},
        },
        stablehlo::Precision,
    },
    machine,
};
use std::sync::Arc;

/// Key of the device in a configuration.
const CONFIGURED: &str = "train.device";

/// What was asked for on the command line and in the configuration.
pub(crate) struct Wanted<'o> {
    options: &'o DeviceOptions,
    device: DeviceName,
    /// Who named the device, for messages.
    named_by: &'static str,
    devices: Option<usize>,
    threads: Option<usize>,
    /// Whether kernels are timed.
    profile: bool,
}

impl<'o> Wanted<'o> {
    /// For training: the command line, else the configuration.
    pub(crate) fn for_training(options: &'o DeviceOptions, config: &TrainConfig) -> Wanted<'o> {
        let (configured, devices) = (config.device.clone(), options.devices.or(config.devices));
        match configured {
            Some(device) if options.device.is_none() => {
                Wanted { options, device, named_by: CONFIGURED, devices, threads: config.threads, profile: false }
            }
            _ => Wanted { devices, ..Wanted::for_use(options, config) },
        }
    }

    /// For using what was trained, perhaps elsewhere: the command line alone says on which device.
    pub(crate) fn for_use(options: &'o DeviceOptions, config: &TrainConfig) -> Wanted<'o> {
        let device = options.device.clone().unwrap_or_default();
        Wanted { options, device, named_by: "--device", devices: options.devices, threads: config.threads, profile: false }
    }

    /// The same, with kernels timed if that is wanted.
    pub(crate) fn measured(self, profile: bool) -> Wanted<'o> {
        Wanted { profile, ..self }
    }

    /// The number of threads asked for on the command line, else in the configuration, else all there are.
    pub(crate) fn threads(&self) -> usize {
        self.options.threads.or(self.threads).unwrap_or_else(machine::threads)
    }

    /// The backend that was asked for.
    pub(crate) fn backend(&self) -> Result<Box<dyn Backend>, Failure> {
        if self.device == DeviceName::Cpu {
            return self.native();
        }
        let (threads, isa) = (self.options.threads.is_some(), self.options.isa.is_some());
        for (option, given) in [("--threads", threads), ("--isa", isa), ("--profile", self.profile)] {
            if given {
                return Err(self.refused(&format!("{option} is for the cpu; leave it out")));
            }
        }
        let usable = Finder::new(devices::prober()?).find(&self.device).map_err(|why| self.refused(&why.to_string()))?;
        let (there, wanted) = (usable.report.devices.len(), self.devices.unwrap_or(1));
        // A plugin for processors makes as many devices as it is asked for.
        if wanted > there && usable.report.platform != "cpu" {
            return Err(self.refused(&format!("{wanted} devices were asked for, and there {}", are(there))));
        }
        open(&usable, self.program()).map_err(|why| self.refused(&why))
    }

    /// What of it a program for accelerators depends on.
    pub(crate) fn program(&self) -> PjrtOptions {
        let precision = match self.precision() {
            PrecisionName::Highest => Precision::Highest,
            PrecisionName::Tf32 => Precision::Fast,
        };
        PjrtOptions { devices: self.devices.unwrap_or(1), precision, ..PjrtOptions::default() }
    }

    /// The instruction set and the number of threads, where the processor computes.
    pub(crate) fn processor(&self) -> Result<Option<(Isa, usize)>, Failure> {
        if self.device != DeviceName::Cpu {
            return Ok(None);
        }
        Ok(Some((instruction_set(self.options.isa)?, self.threads())))
    }

    /// How exactly products are formed.
    pub(crate) fn precision(&self) -> PrecisionName {
        self.options.precision.unwrap_or_default()
    }

    fn native(&self) -> Result<Box<dyn Backend>, Failure> {
        if self.precision() != PrecisionName::Highest {
            return Err(self.refused("it always computes in full f32; leave out --precision, or give highest"));
        }
        if self.devices.is_some_and(|n| n > 1) {
            return Err(self.refused("it is one device, whose threads share each batch; leave out --devices and train.devices"));
        }
        let isa = instruction_set(self.options.isa)?;
        Ok(Box::new(Native::new(self.threads(), isa).with(Options { profile: self.profile, ..Options::default() })))
    }

    fn refused(&self, why: &str) -> Failure {
        // What is wrong with a plugin names its file.
        let device = if matches!(self.device, DeviceName::Plugin(_)) { "pjrt".into() } else { self.device.to_string() };
        let otherwise = if self.named_by == CONFIGURED { "; --device cpu goes before the configuration" } else { "" };
        Failure::Arguments(format!("{} {device}: {why}{otherwise}", self.named_by))
    }
}

/// The instruction set of that name, or the best there is.
pub(crate) fn instruction_set(name: Option<IsaName>) -> Result<Isa, Failure> {
    let isa = match name {
        None => Isa::detect(),
        Some(IsaName::Portable) => Isa::Portable,
        Some(IsaName::Avx2) => Isa::Avx2,
        Some(IsaName::Avx512) => Isa::Avx512,
    };
    if Isa::available().contains(&isa) {
        return Ok(isa);
    }
    let names: Vec<_> = Isa::available().iter().map(|isa| isa.name()).collect();
    Err(Failure::Arguments(format!("this processor does not have {isa}; it has {}", names.join(", "))))
}

fn are(count: usize) -> String {
    if count == 1 { "is 1".into() } else { format!("are {count}") }
}

/// The backend of a plugin.
fn open(usable: &Usable, options: PjrtOptions) -> Result<Box<dyn Backend>, String> {
    let plugin = Plugin::load(&usable.candidate.path).map_err(|e| e.to_string())?;
    let cache = CompileCache::of_user().map(|cache| Arc::new(cache) as Arc<dyn Cache>);
    let opened = Pjrt::open(&plugin, PjrtOptions { cache, ..options }).map_err(|e| e.to_string())?;
    Ok(Box::new(opened))
}
