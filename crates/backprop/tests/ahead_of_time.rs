//! The training step of every model of the repository, compiled for an H100 that need not be here, by the plugin that
//! `BACKPROP_PJRT_CUDA_PLUGIN` names (the packages `jax-cuda13-pjrt` and `nvidia-cuda-nvcc`). Without it nothing is tested.

use backprop::{
    config::Config,
    core::{
        Isa,
        exec::native::Native,
        pass,
        stablehlo::{Layout, Precision, module},
    },
    train::Trainer,
};
use backprop_sys::pjrt::{CompileOptions, Plugin, Value};
use std::{path::Path, time::Instant};

const VARIABLE: &str = "BACKPROP_PJRT_CUDA_PLUGIN";
const GPU: &str = "NVIDIA H100 80GB HBM3";

#[test]
fn every_model_compiles_for_a_gpu_that_is_not_here() {
    let Some(path) = std::env::var_os(VARIABLE) else { return };
    let plugin = Plugin::load(Path::new(&path)).unwrap_or_else(|e| panic!("{VARIABLE}: {e}"));
    let native = Native::new(1, Isa::detect());
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models");
    let target = plugin.targets().unwrap().into_iter().find(|t| t.name == GPU).unwrap();
    let options = [("target_config", Value::Text(target.config)), ("topology", Value::Text("1x1x1".into()))];
    let topology = plugin.topology("", &options).unwrap();
    for model in std::fs::read_dir(&models).unwrap().map(|entry| entry.unwrap().path()) {
        let config = Config::load(&model, &[]).unwrap();
        let graph = Trainer::new(config, &native).and_then(|t| t.graph(t.task().batch_size())).unwrap();
        let graph = pass::optimize(&graph, &pass::pipeline(&[]), &mut |_, _, _| ());
        let text = module(&graph, Precision::Highest, &Layout::default());
        let clock = Instant::now();
        let compiled = topology.compile(&text, &CompileOptions::default()).unwrap_or_else(|e| panic!("{GPU}, {model:?}: {e}"));
        assert!(compiled.len() > 1000);
        let (name, lines) = (model.file_stem().unwrap_or_default().display(), text.lines().count());
        println!("{GPU}: {name}: {lines} lines, {} bytes of program, {:.2} s", compiled.len(), clock.elapsed().as_secs_f64());
    }
}
