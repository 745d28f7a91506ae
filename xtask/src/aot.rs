//! Compiles the training step of every model of the repository for GPUs that need not be here.

use backprop_sys::pjrt::{AheadOfTime, CompileOptions, Plugin, Topology, Value};
use std::{
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

/// A GPU to compile for, and where its plugin comes from.
struct Gpu {
    name: &'static str,
    /// Names the plugin.
    variable: &'static str,
    /// Arguments of `.ci/plugin`: package, file, packages beside it. Those of CUDA bring `ptxas` and `libdevice`; the plugin for ROCm is
    /// of no use without ROCm, which no package has.
    packages: Option<[&'static str; 4]>,
    /// XLA's options by name.
    options: &'static [(&'static str, i64)],
}

/// What the compiler for ROCm says of convolutions where there is no GPU: MIOpen, which computes them, is asked on it for the ways it has.
const NEEDS_GPU: &str = "Null stream executor";

/// Without a GPU nothing can be tuned on it; XLA for ROCm ends the process when it tries to.
const GPUS: [Gpu; 2] = [
    Gpu {
        name: "NVIDIA H100 80GB HBM3",
        variable: "BACKPROP_PJRT_CUDA_PLUGIN",
        packages: Some(["jax-cuda13-pjrt==0.12.0.1", "xla_cuda_plugin.so", "nvidia-cuda-nvcc==13.5.37", "nvidia-nvvm==13.5.37"]),
        options: &[],
    },
    Gpu { name: "MI300X", variable: "BACKPROP_PJRT_ROCM_PLUGIN", packages: None, options: &[("xla_gpu_autotune_level", 0)] },
];

/// A model's training step as StableHLO.
struct Step {
    model: String,
    text: String,
}

/// Compiles with the plugins that are named, and with those that `install` can bring.
pub fn run(install: bool) -> Result<String, String> {
    let steps = steps()?;
    let mut compiled = 0;
    for gpu in &GPUS {
        match plugin(gpu, install)? {
            Some(path) => compiled += compile(gpu, &path, &steps)?,
            None => println!("{}: no plugin; name one in {}{}", gpu.name, gpu.variable, if_installable(gpu)),
        }
    }
    if compiled == 0 { Err("aot: nothing was compiled".into()) } else { Ok(format!("aot: {compiled} programs compiled")) }
}

fn if_installable(gpu: &Gpu) -> &'static str {
    if gpu.packages.is_some() { ", or use --install" } else { "" }
}

/// The steps of all models, as the program prints them.
fn steps() -> Result<Vec<Step>, String> {
    let listed = fs::read_dir("models").map_err(|e| format!("models: {e}"))?;
    let mut files: Vec<PathBuf> = listed.flatten().map(|entry| entry.path()).collect();
    files.sort();
    let step = |file: &PathBuf| {
        let arguments = ["run", "--quiet", "-p", "backprop-cli", "--", "inspect", "--stablehlo"];
        let output = Command::new("cargo").args(arguments).arg(file).output().map_err(|e| format!("cargo: {e}"))?;
        if !output.status.success() {
            return Err(format!("{}: {}", file.display(), String::from_utf8_lossy(&output.stderr)));
        }
        let text = String::from_utf8(output.stdout).map_err(|e| format!("{}: {e}", file.display()))?;
        Ok(Step { model: file.file_stem().unwrap_or_default().to_string_lossy().into_owned(), text })
    };
    files.iter().map(step).collect()
}

/// Where the plugin is.
fn plugin(gpu: &Gpu, install: bool) -> Result<Option<PathBuf>, String> {
    if let Some(path) = env::var_os(gpu.variable) {
        return Ok(Some(path.into()));
    }
    let Some(packages) = gpu.packages.filter(|_| install) else { return Ok(None) };
    let output = Command::new(".ci/plugin").args(packages).output().map_err(|e| format!(".ci/plugin: {e}"))?;
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(Some(String::from_utf8_lossy(&output.stdout).trim().into()))
}

/// Compiles every step for a GPU and prints what came of it.
fn compile(gpu: &Gpu, path: &Path, steps: &[Step]) -> Result<usize, String> {
    let topology = topology(gpu, path).map_err(|e| format!("{}: {e}", gpu.name))?;
    println!("\nfor {} by {}", gpu.name, path.file_name().unwrap_or_default().to_string_lossy());
    println!("{:<20} {:>9} {:>10} {:>11} {:>11}", "model", "lines", "compile s", "memory MiB", "program KiB");
    let named = |(name, value): &(&str, i64)| ((*name).to_string(), Value::Int(*value));
    let options = CompileOptions { options: gpu.options.iter().map(named).collect(), ..CompileOptions::default() };
    let mut compiled = 0;
    for Step { model, text } in steps {
        let clock = Instant::now();
        let made = topology.compile(text, &options);
        let (lines, seconds) = (text.lines().count(), clock.elapsed().as_secs_f64());
        match made {
            Ok(made) => {
                println!("{model:<20} {lines:>9} {seconds:>10.2} {:>11} {:>11}", memory(&made), made.program.len() >> 10);
                compiled += 1;
            }
            Err(error) if error.to_string().contains(NEEDS_GPU) => {
                println!("{model:<20} {lines:>9} its convolutions compile only where the GPU is");
            }
            Err(error) => return Err(format!("{}: {model}: {error}", gpu.name)),
        }
    }
    Ok(compiled)
}

fn topology(gpu: &Gpu, path: &Path) -> Result<Topology, String> {
    let plugin = Plugin::load(path).map_err(|e| e.to_string())?;
    let targets = plugin.targets().map_err(|e| e.to_string())?;
    let target = targets.iter().find(|t| t.name == gpu.name).ok_or("the plugin does not describe this GPU")?;
    let options = [("target_config", Value::Text(target.config.clone())), ("topology", Value::Text("1x1x1".into()))];
    plugin.topology("", &options).map_err(|e| e.to_string())
}

/// Memory of the device that the step needs.
fn memory(made: &AheadOfTime) -> String {
    let needed = made.memory.map(|m| m.code + m.arguments + (m.outputs - m.aliased.min(m.outputs)) + m.temporary);
    needed.map_or_else(|| "unknown".into(), |bytes| format!("{:.1}", bytes as f64 / f64::from(1 << 20)))
}
