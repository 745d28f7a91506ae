//! Plans of training steps of usual sizes: replayed by an account of memory of its own, at most 5 % above the largest live set.

use backprop::{config::Config, prelude::*, train::Trainer};
use backprop_check::check_plan;
use backprop_core::exec::native::Native;

fn check(name: &str, model: impl Layer + 'static, x: Type, y: Type) {
    let step = Step::new(model, CrossEntropy::new(), Sgd::new(0.1).momentum(0.9)).clip_norm(1.0);
    let traced = step.trace(&BatchSpec { x, y }).unwrap_or_else(|e| panic!("{name}: {e}"));
    for graph in [&traced.train, &traced.evaluate, &traced.predict] {
        let program = Native::default().build(graph).unwrap_or_else(|e| panic!("{name}: {e}"));
        let report = check_plan(&program).unwrap_or_else(|e| panic!("{name}: {e}"));
        println!("{name}: {} bytes, {:.4} of the largest live set", report.arena, report.ratio());
        assert!(report.ratio() <= 1.05, "{name}: {report:?}");
    }
}

fn images(batch: usize, extent: usize, channels: usize) -> Type {
    Type::new(DType::F32, [batch, extent, extent, channels])
}

fn classes(batch: usize) -> Type {
    Type::new(DType::I32, [batch])
}

fn convolution(channels: usize, stride: usize) -> Sequential {
    let layer = Conv2d::new(channels, 3).stride(stride).padding(1).bias(false);
    Sequential::new().push(layer).push(BatchNorm::new())
}

/// Two convolutions around which the input is added, projected where its shape changes.
fn block(channels: usize, stride: usize) -> Residual {
    let body = Sequential::new().push(convolution(channels, stride)).push(Relu::new()).push(convolution(channels, 1));
    let block = Residual::new(body);
    if stride == 1 {
        return block;
    }
    let projection = Conv2d::new(channels, 1).stride(stride).bias(false);
    block.shortcut(Sequential::new().push(projection).push(BatchNorm::new()))
}

/// ResNet-18 (He et al., "Deep residual learning for image recognition", 2016) for small images.
#[test]
fn a_residual_network() {
    let mut model = Sequential::new().push(convolution(64, 1)).push(Relu::new());
    for (channels, stride) in [(64, 1), (128, 2), (256, 2), (512, 2)] {
        for stride in [stride, 1] {
            model = model.push(block(channels, stride)).push(Relu::new());
        }
    }
    let model = model.push(GlobalAvgPool::new()).push(Flatten::new()).push(Linear::new(10));
    check("ResNet-18", model, images(32, 32, 3), classes(32));
}

#[test]
fn a_convolutional_network() {
    let model = Sequential::new()
        .push(Conv2d::new(32, 3).padding(1))
        .push(Relu::new())
        .push(MaxPool2d::new(2))
        .push(Conv2d::new(64, 3).padding(1))
        .push(Relu::new())
        .push(MaxPool2d::new(2))
        .push(Flatten::new())
        .push(Linear::new(128))
        .push(Relu::new())
        .push(Dropout::new(0.3))
        .push(Linear::new(10));
    check("CNN", model, images(64, 28, 1), classes(64));
}

#[test]
fn a_recurrent_network() {
    let model = Sequential::new().push(Embedding::new(80, 64)).push(Lstm::new(128).num_layers(2)).push(Linear::new(80));
    let tokens = || Type::new(DType::I32, [16, 100]);
    check("LSTM", model, tokens(), tokens());
}

#[test]
fn a_deep_network() {
    let model = (0..100).fold(Sequential::new(), |m, _| m.push(Linear::new(32)).push(Tanh::new()));
    check("deep", model.push(Linear::new(10)), Type::new(DType::F32, [64, 32]), classes(64));
}

#[test]
fn the_models_of_the_repository() {
    let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the repository has models") {
        let path = entry.expect("readable").path();
        let native = Native::default();
        let trainer = Config::load(&path, &[]).map(|config| Trainer::new(config, &native));
        let trainer = trainer.unwrap_or_else(|e| panic!("{e}")).unwrap_or_else(|e| panic!("{e}"));
        let graph = trainer.graph(trainer.config().train.batch_size).unwrap_or_else(|e| panic!("{e}"));
        let program = native.build(&graph).unwrap_or_else(|e| panic!("{e}"));
        let report = check_plan(&program).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        println!("{}: {:.4} of the largest live set", path.display(), report.ratio());
        assert!(report.ratio() <= 1.05, "{}: {report:?}", path.display());
        count += 1;
    }
    assert!(count >= 5, "{count} models");
}
