//! What computes.

use crate::{
    args::{DeviceOptions, DevicesOptions, IsaName},
    failure::Failure,
    output,
};
use backprop::{
    core::{
        Isa,
        exec::{Backend, native::Native},
    },
    machine,
};

/// The number of threads asked for on the command line, else in the configuration, else all there are.
pub(crate) fn threads(options: &DeviceOptions, configured: Option<usize>) -> usize {
    options.threads.or(configured).unwrap_or_else(machine::threads)
}

/// The backend that was asked for.
pub(crate) fn backend(options: &DeviceOptions, threads: usize) -> Result<Native, Failure> {
    let isa = match options.isa {
        None => Isa::detect(),
        Some(IsaName::Portable) => Isa::Portable,
        Some(IsaName::Avx2) => Isa::Avx2,
        Some(IsaName::Avx512) => Isa::Avx512,
    };
    if !Isa::available().contains(&isa) {
        return Err(Failure::Arguments(format!("this processor does not have {isa}; it has {}", names().join(", "))));
    }
    Ok(Native::new(threads, isa))
}

fn names() -> Vec<&'static str> {
    Isa::available().iter().map(|isa| isa.name()).collect()
}

/// `backprop devices`.
pub(crate) fn run(options: &DevicesOptions) -> Result<(), Failure> {
    let (threads, isa) = (machine::threads(), Isa::detect());
    let description = Native::new(threads, isa).describe();
    if options.json {
        output::json(&serde_json::json!({
            "device": "cpu", "description": description, "threads": threads, "isa": isa.name(), "isa_available": names(),
        }));
    } else {
        output::line(&format!("{description}; instruction sets: {}", names().join(", ")));
    }
    Ok(())
}
