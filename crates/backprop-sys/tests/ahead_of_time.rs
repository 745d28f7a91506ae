//! Compiling for a GPU that is not there: with the plugin that `BACKPROP_PJRT_CUDA_PLUGIN` names. It needs `ptxas`, which is
//! found on the PATH and in the Python package `nvidia-cuda-nvcc` beside the plugin.

use std::path::Path;

use backprop_sys::pjrt::{CompileOptions, Error, Plugin, Target, Value};

fn plugin() -> Option<Plugin> {
    let Some(path) = std::env::var_os("BACKPROP_PJRT_CUDA_PLUGIN") else {
        eprintln!("skipped: no plugin");
        return None;
    };
    Some(Plugin::load(Path::new(&path)).unwrap())
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
fn a_program_is_compiled_for_an_h100() {
    let Some(plugin) = plugin() else { return };
    let targets = plugin.targets().unwrap();
    let h100 = targets.iter().find(|t| t.name == "NVIDIA H100 80GB HBM3").unwrap();
    let topology = plugin.topology("", &options(h100)).unwrap();
    assert_eq!(topology.platform_name().unwrap(), "cuda");
    assert_eq!(topology.devices().unwrap()[0].kind, h100.name);
    let bytes = topology.compile(PROGRAM, &CompileOptions::default()).unwrap();
    assert!(bytes.len() > 1000);
    let wrong = topology
        .compile("func.func @main(%x: tensor<f32>) -> tensor<f32> { return %y : tensor<f32> }", &CompileOptions::default());
    assert!(wrong.unwrap_err().to_string().contains("1:58"));
}

/// The plugin would take it, and die.
#[test]
fn a_target_of_another_platform_is_refused() {
    let Some(plugin) = plugin() else { return };
    let targets = plugin.targets().unwrap();
    let rocm = targets.iter().find(|t| t.platform == "ROCM").unwrap();
    let error = plugin.topology("", &options(rocm)).unwrap_err();
    assert!(matches!(&error, Error::Invalid(reason) if reason.contains("a device of ROCM")), "{error:?}");
}

#[test]
fn where_no_gpu_is_the_client_says_so() {
    let Some(plugin) = plugin() else { return };
    match plugin.client(&[]) {
        Ok(client) => assert_eq!(client.platform(), "cuda"),
        Err(error) => assert!(error.to_string().contains("No visible GPU devices"), "{error}"),
    }
}
