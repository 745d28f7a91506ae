//! `backprop devices`: what this program can compute on here, and why not on the rest.

use crate::{
    args::{DevicesOptions, ProbeOptions},
    failure::Failure,
    output,
};
use backprop::{
    accelerator::{self, ChipReport, Finder, Finding, Prober, Unusable, Usable},
    core::Isa,
    machine,
};
use serde_json::{Value, json};
use std::env;

/// The hidden subcommand that loads a plugin in a process of its own.
pub(crate) const PROBE: &str = "__probe";

/// Columns before what is said of a device.
const INDENT: usize = 6;

/// Looks at plugins by starting this program again.
pub(crate) fn prober() -> Result<Prober, Failure> {
    let program =
        env::current_exe().map_err(|e| Failure::Arguments(format!("cannot find this program to start it again: {e}")))?;
    let prober = Prober::command([program.into(), PROBE.into()]);
    prober.limit_of_environment().map_err(|why| Failure::Arguments(why.to_string()))
}

/// The hidden subcommand.
pub(crate) fn probe(options: &ProbeOptions) -> Result<(), Failure> {
    output::line(&accelerator::probe_line(&options.path));
    Ok(())
}

pub(crate) fn run(options: &DevicesOptions) -> Result<(), Failure> {
    let findings = Finder::new(prober()?).survey();
    let (threads, isa) = (machine::threads(), Isa::detect());
    let names: Vec<_> = Isa::available().iter().map(|isa| isa.name()).collect();
    if options.json {
        let cpu = json!({
            "device": "cpu", "usable": true, "threads": threads, "isa": isa.name(), "isa_available": names,
        });
        let all: Vec<Value> = std::iter::once(cpu).chain(findings.iter().map(object)).collect();
        output::json(&json!({ "devices": all }));
        return Ok(());
    }
    output::line(&format!("{:<INDENT$}{threads} threads, {isa}; instruction sets: {}", "cpu", names.join(", ")));
    for finding in &findings {
        let lines = match &finding.result {
            Ok(usable) => described(usable),
            Err(why) => missing(why),
        };
        for (i, line) in lines.iter().enumerate() {
            let name = if i == 0 { finding.device.to_string() } else { String::new() };
            output::line(&format!("{name:<INDENT$}{line}"));
        }
    }
    Ok(())
}

/// Why there is nothing to use, for people. What is to be copied stays whole.
fn missing(why: &Unusable) -> Vec<String> {
    let mut lines = output::wrapped(&why.reason(), INDENT);
    lines.extend(why.install().map(|command| format!("install it with: {command}")));
    lines.extend(why.plugin().map(|path| format!("plugin: {}", path.display())));
    lines
}

/// What there is, for people.
fn described(usable: &Usable) -> Vec<String> {
    let report = &usable.report;
    let mut kinds: Vec<(&ChipReport, usize)> = Vec::new();
    for chip in &report.devices {
        match kinds.iter_mut().find(|(known, _)| known.kind == chip.kind && known.memory_bytes == chip.memory_bytes) {
            Some((_, count)) => *count += 1,
            None => kinds.push((chip, 1)),
        }
    }
    let kind = |(chip, count): &(&ChipReport, usize)| {
        let memory = chip.memory_bytes.map_or(String::new(), |bytes| format!(", {}", output::bytes(bytes as usize)));
        format!("{count} × {}{memory}", chip.kind)
    };
    let package = usable.candidate.package.as_ref().map_or(String::new(), |package| format!("{package}, "));
    let versions = format!("{package}PJRT C API {}", api(usable));
    let mut lines = output::wrapped(&kinds.iter().map(kind).collect::<Vec<_>>().join("; "), INDENT);
    lines.extend([versions, usable.candidate.path.display().to_string()]);
    lines
}

fn api(usable: &Usable) -> String {
    format!("{}.{}", usable.report.api.0, usable.report.api.1)
}

/// What there is, for programs.
fn object(finding: &Finding) -> Value {
    let device = finding.device.to_string();
    match &finding.result {
        Ok(usable) => json!({
            "device": device, "usable": true, "path": usable.candidate.path, "package": usable.candidate.package, "api": api(usable),
            "platform": usable.report.platform, "platform_version": usable.report.platform_version, "devices": usable.report.devices,
        }),
        Err(why) => {
            json!({ "device": device, "usable": false, "reason": why.reason(), "install": why.install(), "path": why.plugin() })
        }
    }
}
