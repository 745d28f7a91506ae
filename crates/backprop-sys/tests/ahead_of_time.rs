//! Compiling for GPUs that are not there, with the plugins that `BACKPROP_PJRT_CUDA_PLUGIN` and `BACKPROP_PJRT_ROCM_PLUGIN` name.
//!
//! CUDA's needs `ptxas`, which is found on the PATH and in the Python package `nvidia-cuda-nvcc` beside the plugin. ROCm's needs
//! the libraries of ROCm to be loaded; libraries of the same names in LD_LIBRARY_PATH whose functions only fail are enough.

use std::path::Path;

use backprop_sys::pjrt::{CompileOptions, Error, Plugin, Target, Value};

/// Variables that name a plugin, its platform, a target of it and the platform of another.
const PLUGINS: [(&str, &str, &str, &str); 2] = [
    ("BACKPROP_PJRT_CUDA_PLUGIN", "cuda", "NVIDIA H100 80GB HBM3", "ROCM"),
    ("BACKPROP_PJRT_ROCM_PLUGIN", "rocm", "MI300X", "CUDA"),
];

/// Tries every plugin that is named.
fn each(test: impl Fn(Plugin, &str, &str, &str)) {
    for (variable, platform, target, other) in PLUGINS {
        match std::env::var_os(variable) {
            Some(path) => test(Plugin::load(Path::new(&path)).unwrap(), platform, target, other),
            None => eprintln!("skipped: no plugin ({platform}): {}", std::thread::current().name().unwrap_or_default()),
        }
    }
}

fn options(target: &Target) -> [(&'static str, Value); 2] {
    [("target_config", Value::Text(target.config.clone())), ("topology", Value::Text("1x1x1".into()))]
}

const PROGRAM: &str = "
func.func @main(%x: tensor<256x512xf32> {tf.aliasing_output = 0 : i32}, %y: tensor<512x512xf32>)
    -> (tensor<256x512xf32>, tensor<f32>) {
  %dot = stablehlo.dot_general %x, %y, contracting_dims = [1] x [0] : (tensor<256x512xf32>, tensor<512x512xf32>) -> tensor<256x512xf32>
  %zero = stablehlo.constant dense<0.0> : tensor<f32>
  %sum = stablehlo.reduce(%dot init: %zero) applies stablehlo.add across dimensions = [0, 1]
    : (tensor<256x512xf32>, tensor<f32>) -> tensor<f32>
  return %dot, %sum : tensor<256x512xf32>, tensor<f32>
}";

#[test]
fn a_program_is_compiled_for_a_gpu_that_is_not_here() {
    each(|plugin, platform, name, _| {
        let targets = plugin.targets().unwrap();
        let target = targets.iter().find(|t| t.name == name).unwrap();
        let topology = plugin.topology("", &options(target)).unwrap();
        assert_eq!(topology.platform_name().unwrap(), platform);
        assert_eq!(topology.devices().unwrap()[0].kind, name);
        let one = CompileOptions::default();
        assert!(topology.compile(PROGRAM, &one).unwrap().program.len() > 1000);
        let wrong = topology.compile("func.func @main(%x: tensor<f32>) -> tensor<f32> { return %y : tensor<f32> }", &one);
        assert!(wrong.unwrap_err().to_string().contains("1:58"));
    });
}

/// The plugin would take it, and die.
#[test]
fn a_target_of_another_platform_is_refused() {
    each(|plugin, _, _, other| {
        let targets = plugin.targets().unwrap();
        let target = targets.iter().find(|t| t.platform == other).unwrap();
        let error = plugin.topology("", &options(target)).unwrap_err();
        assert!(matches!(&error, Error::Invalid(reason) if reason.contains("describes a device of")), "{error:?}");
    });
}

#[test]
fn where_no_gpu_is_the_client_says_so() {
    each(|plugin, platform, _, _| match plugin.client(&[]) {
        Ok(client) => assert_eq!(client.platform(), platform),
        Err(error) => assert!(error.to_string().contains("No visible GPU devices"), "{error}"),
    });
}
