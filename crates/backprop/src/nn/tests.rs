//! Layers as configuration, names, misuse, dropout, recomputation, the table. Values and gradients are compared in tests/golden.

use crate::prelude::*;
use backprop_core::{
    random::Randomness,
    reference::{Array, evaluate},
};
use serde::Deserialize;

#[derive(Deserialize, serde::Serialize)]
pub(super) struct Model {
    pub layers: Vec<LayerSpec>,
}

const EVERY_LAYER: &str = r#"
    layers = [
        { type = "conv2d", out_channels = 4, kernel_size = [3, 1], padding = "same", init = "he_normal" },
        { type = "batch_norm", momentum = 0.2 },
        { type = "relu" },
        { type = "residual", body = [{ type = "conv2d", out_channels = 4, kernel_size = 1, bias = false }] },
        { type = "max_pool2d", kernel_size = 2 },
        { type = "avg_pool2d", kernel_size = 2, stride = 1, padding = 1, count_include_pad = false },
        { type = "checkpoint", layer = { type = "gelu", approximate = "tanh" } },
        { type = "flatten", order = "channels_last" },
        { type = "linear", name = "head", out_features = 6, init = { normal = { std = 0.02 } } },
        { type = "sequential", layers = [{ type = "sigmoid" }, { type = "tanh" }] },
        { type = "layer_norm" },
        { type = "dropout", p = 0.1 },
        { type = "softmax" },
        { type = "log_softmax", dim = 1 },
    ]
"#;

pub(super) fn parse(text: &str) -> Result<Model, String> {
    toml::from_str(text).map_err(|e| e.to_string())
}

/// Traces a model for an input type; the specifications, or the error.
pub(super) fn specs(layer: &dyn Layer, ty: Type) -> Result<Vec<StateSpec>, Error> {
    let b = Builder::new();
    let x = b.input("x", Role::Data, ty);
    let zero = b.scalar(DType::U32, 0.0);
    let seed = b.zeros(Type::new(DType::U32, [2]));
    let mut cx =
        Scope::new(&b, DType::F32, Mode::Train).with_randomness(Randomness { seed, step: zero, offset: zero, rows: None });
    let y = layer.forward(&mut cx, x);
    let specs = cx.specs();
    if y.dtype().is_float() {
        b.output("dx", Role::Data, y.sum_all());
    }
    drop(cx);
    b.finish().map(|_| specs)
}

pub(super) fn names(layer: &dyn Layer, ty: Type) -> Vec<String> {
    specs(layer, ty).unwrap().into_iter().map(|s| s.name).collect()
}

pub(super) fn image() -> Type {
    Type::new(DType::F32, [2, 6, 6, 3])
}

#[test]
fn layers_are_read_from_toml_and_written_back() {
    let model = parse(EVERY_LAYER).unwrap();
    let written = toml::to_string(&model).unwrap();
    let again = parse(&written).unwrap();
    assert_eq!(toml::to_string(&again).unwrap(), written);
    let expected = [
        "layers.0.weight",
        "layers.0.bias",
        "layers.1.weight",
        "layers.1.bias",
        "layers.1.running_mean",
        "layers.1.running_var",
        "layers.3.body.layers.0.weight",
        "layers.head.weight",
        "layers.head.bias",
        "layers.10.weight",
        "layers.10.bias",
    ];
    assert_eq!(names(&Sequential::from(model.layers), image()), expected);
    assert_eq!(names(&Sequential::from(again.layers), image()), expected);
}

#[test]
fn a_bad_table_is_an_error_that_names_the_key() {
    let cases = [
        (r#"{ type = "linear", out_feature = 3 }"#, "out_feature"),
        (r#"{ type = "linear" }"#, "out_features"),
        (r#"{ type = "linear", out_features = "many" }"#, "many"),
        (r#"{ type = "liner", out_features = 3 }"#, "linear"),
        (r#"{ type = "relu", slope = 1 }"#, "slope"),
        (r#"{ type = "conv2d", out_channels = 1, kernel_size = 3, padding = "sane" }"#, "same"),
        (r#"{ type = "linear", out_features = 3, name = "a.b" }"#, "name"),
        (r#"{ type = "linear", out_features = 3, init = "he_norm" }"#, "he_normal"),
        (r#"{ out_features = 3 }"#, "type"),
    ];
    for (layer, word) in cases {
        let error = parse(&format!("layers = [{layer}]")).map(|_| ()).unwrap_err();
        assert!(error.contains(word), "{layer}: {error}");
    }
}

#[test]
fn pushed_layers_keep_their_form_in_toml_and_a_users_own_has_none() {
    let model = Sequential::new().push(Linear::new(2)).push(Box::new(Relu::new()) as Box<dyn Layer>);
    assert!(matches!(model.layers[0].layer, AnyLayer::Linear(_)));
    assert!(matches!(model.layers[1].layer, AnyLayer::Custom(_)));
    assert_eq!(model.layers[1].layer.kind(), "Relu");
    assert!(toml::to_string(&model).unwrap_err().to_string().contains("Custom"));
}

#[test]
fn misuse_is_an_error_of_the_graph_and_never_a_panic() {
    let layers: Vec<Box<dyn Layer>> = vec![
        Box::new(Linear::new(0)),
        Box::new(Conv2d::new(3, 0)),
        Box::new(Conv2d::new(3, 9)),
        Box::new(Conv2d::new(3, 3).groups(2)),
        Box::new(Conv2d::new(3, 3).stride(2).padding(Padding::SAME)),
        Box::new(MaxPool2d::new(9)),
        Box::new(MaxPool2d::new(2).padding(2)),
        Box::new(AvgPool2d::new(0)),
        Box::new(BatchNorm::new().eps(f64::NAN)),
        Box::new(LayerNorm::new().normalized_shape([7])),
        Box::new(LayerNorm::new().normalized_shape([])),
        Box::new(Dropout::new(1.5)),
        Box::new(Embedding::new(4, 0)),
        Box::new(Lstm::new(3)),
        Box::new(Lstm::new(1 << 32).bidirectional(true)),
        Box::new(Gru::new(1 << 32)),
        Box::new(Softmax { dim: 7 }),
        Box::new(Residual::new(Sequential::new().push(Conv2d::new(5, 1)))),
        Box::new(checkpoint(Linear::new(0))),
    ];
    for layer in &layers {
        assert!(specs(&**layer, image()).is_err(), "{layer:?}");
    }
    let types = [DType::F32, DType::I32].map(|d| [&[][..], &[3], &[2, 3], &[2, 3, 4], &[0, 5, 5, 2]].map(|s| Type::new(d, s)));
    let every = parse(EVERY_LAYER).unwrap().layers;
    for ty in types.iter().flatten() {
        // Whether an error or not is the layer's affair; a panic is none's.
        layers.iter().for_each(|layer| drop(specs(&**layer, ty.clone())));
        every.iter().for_each(|spec| drop(specs(&spec.layer, ty.clone())));
    }
}

#[test]
fn an_error_names_the_layer() {
    let model = Sequential::new().push(Relu::new()).push(Residual::new(Sequential::new().push(Lstm::new(3))));
    let error = specs(&model, image()).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("layers.1.body.layers.0"), "{error}");
}

#[test]
fn one_name_is_one_parameter() {
    let b = Builder::new();
    let mut cx = Scope::new(&b, DType::F32, Mode::Train);
    let [first, second] = [0, 1].map(|_| cx.param("w", [2], &Init::Ones));
    assert_eq!(first.id(), second.id());
    assert!(b.error().is_none());
    cx.param("w", [3], &Init::Ones);
    assert!(b.error().is_some());
}

/// The output of a model on ones, while training, for a seed and step; parameters are drawn as for seed 1.
pub(super) fn output(model: &dyn Layer, seed: u32, step: u32, ty: Type) -> Vec<f64> {
    let b = Builder::new();
    let x = b.full(ty, 1.0);
    let seed = b.constant(HostTensor::new([2], &[seed, 0]).unwrap());
    let randomness =
        Randomness { seed, step: b.scalar(DType::U32, f64::from(step)), offset: b.scalar(DType::U32, 0.0), rows: None };
    let mut cx = Scope::new(&b, DType::F32, Mode::Train).with_randomness(randomness);
    let y = model.forward(&mut cx, x);
    b.output("y", Role::Data, y);
    let specs = cx.specs();
    drop(cx);
    let state: Vec<Array> = specs.iter().map(|s| Array::from_host(&s.init.sample(&s.name, 1, &s.ty).unwrap())).collect();
    evaluate(&b.finish().unwrap(), &state)[0].to_f64()
}

#[test]
fn dropout_keeps_its_share_and_depends_on_seed_step_and_layer_only() {
    let ty = || Type::new(DType::F32, [40, 50]);
    let plain = Sequential::new().push(Dropout::new(0.3));
    let mask = output(&plain, 1, 0, ty());
    let kept = mask.iter().filter(|&&x| x != 0.0).count() as f64;
    assert!(mask.iter().all(|&x| x == 0.0 || (x - 1.0 / 0.7).abs() < 1e-6));
    // Five standard deviations of a binomial count.
    assert!((kept - 1400.0).abs() < 5.0 * (2000.0f64 * 0.3 * 0.7).sqrt(), "{kept}");
    assert_ne!(output(&plain, 1, 1, ty()), mask);
    assert_ne!(output(&plain, 2, 0, ty()), mask);
    // A longer batch starts with the same masks, and layers elsewhere change nothing.
    assert_eq!(output(&plain, 1, 0, Type::new(DType::F32, [60, 50]))[..2000], mask[..]);
    let before = Sequential::new().push_named("0", Dropout::new(0.3)).push_named("other", Dropout::new(0.0));
    assert_eq!(output(&before, 1, 0, ty()), mask);
    let twice = output(&Sequential::new().push(Dropout::new(0.3)).push(Dropout::new(0.3)), 1, 0, ty());
    assert_ne!(twice.iter().filter(|&&x| x != 0.0).count(), mask.iter().filter(|&&x| x != 0.0).count());
}

#[test]
fn recomputation_changes_no_value_and_no_name() {
    let part = || Sequential::new().push(Linear::new(4)).push(BatchNorm::new()).push(Dropout::new(0.5)).push(Linear::new(3));
    let around = |middle: AnyLayer| Sequential::new().push(Dropout::new(0.2)).push(middle).push(Dropout::new(0.2));
    let (plain, again) = (around(part().into()), around(checkpoint(checkpoint(part())).into()));
    let ty = Type::new(DType::F32, [6, 5]);
    assert_eq!(output(&plain, 3, 2, ty.clone()), output(&again, 3, 2, ty.clone()));
    let sorted = |model: &dyn Layer| {
        let mut names = names(model, ty.clone());
        names.sort();
        names
    };
    assert_eq!(sorted(&plain), sorted(&again));
}

#[test]
fn the_table_counts_parameters_and_work() {
    let model = Sequential::new()
        .push(Conv2d::new(8, 3).padding(1))
        .push(checkpoint(Relu::new()))
        .push(Flatten::new())
        .push(Linear::new(10));
    let rows = layer_table(&model, DType::F32, image()).unwrap();
    let brief: Vec<_> = rows.iter().map(|r| (r.path.as_str(), r.kind.as_str(), r.output.to_string(), r.parameters)).collect();
    assert_eq!(
        brief,
        [
            ("layers.0", "Conv2d", "f32[2,6,6,8]".to_owned(), 8 * 3 * 9 + 8),
            ("layers.1", "Checkpoint", "f32[2,6,6,8]".to_owned(), 0),
            ("layers.2", "Flatten", "f32[2,288]".to_owned(), 0),
            ("layers.3", "Linear", "f32[2,10]".to_owned(), 2890),
        ]
    );
    // A multiplication and an addition per weight and position, an addition of the bias.
    assert_eq!(rows[0].flops, 2 * 6 * 6 * 8 * (2 * 27 + 1));
    assert!(rows[1].flops > 0);
    assert_eq!(rows[2].flops, 0);
    assert_eq!(rows[3].flops, 2 * 10 * (2 * 288 + 1));
}
