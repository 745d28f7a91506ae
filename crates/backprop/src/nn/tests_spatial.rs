//! Layers over space, normalisations, activations and combinators: configuration, names, misuse, first values, dropping, codes.

use super::tests::{image, names, output, parse, specs};
use crate::prelude::*;
use backprop_core::reference::{Array, evaluate};
use schemars::JsonSchema;

/// One or more tables of each type of layer, and an input it takes.
const EVERY_LAYER: &[(&str, &[usize])] = &[
    (r#"{ type = "conv1d", out_channels = 4, kernel_size = 3, padding = "same", groups = 1, init = "he_normal" }"#, &[2, 8, 3]),
    (r#"{ type = "conv1d", out_channels = 4, kernel_size = [3], stride = [2], padding = [1], dilation = [2] }"#, &[2, 8, 3]),
    (r#"{ type = "conv3d", out_channels = 2, kernel_size = [1, 2, 3], padding = "valid", bias = false }"#, &[2, 3, 4, 5, 2]),
    (r#"{ type = "conv_transpose1d", out_channels = 2, kernel_size = 4, stride = 2, padding = 1 }"#, &[2, 5, 3]),
    (
        r#"{ type = "conv_transpose2d", out_channels = 4, kernel_size = [3, 2], stride = 2, output_padding = [1, 0], groups = 2 }"#,
        &[1, 4, 3, 2],
    ),
    (r#"{ type = "conv_transpose3d", out_channels = 1, kernel_size = 2, dilation = 2, bias = false }"#, &[1, 2, 3, 2, 2]),
    (
        r#"{ type = "depthwise_conv2d", kernel_size = 3, multiplier = 2, stride = 2, padding = "valid", dilation = 1 }"#,
        &[2, 6, 6, 3],
    ),
    (r#"{ type = "max_pool1d", kernel_size = 2, stride = 1, ceil_mode = true }"#, &[2, 5, 3]),
    (r#"{ type = "max_pool2d", kernel_size = [2, 3], padding = [1, 0], dilation = 2 }"#, &[2, 6, 6, 3]),
    (r#"{ type = "max_pool3d", kernel_size = 2 }"#, &[2, 4, 4, 4, 3]),
    (r#"{ type = "avg_pool1d", kernel_size = 3, padding = 1, count_include_pad = false }"#, &[2, 5, 3]),
    (r#"{ type = "avg_pool2d", kernel_size = 2, ceil_mode = true }"#, &[2, 5, 5, 3]),
    (r#"{ type = "avg_pool3d", kernel_size = [1, 2, 2], stride = 1 }"#, &[2, 4, 4, 4, 3]),
    (r#"{ type = "adaptive_avg_pool1d", output_size = 3 }"#, &[2, 7, 3]),
    (r#"{ type = "adaptive_avg_pool2d", output_size = [3, 1] }"#, &[2, 7, 5, 3]),
    (r#"{ type = "adaptive_max_pool2d", output_size = 2 }"#, &[2, 7, 5, 3]),
    (r#"{ type = "global_avg_pool" }"#, &[2, 7, 3]),
    (r#"{ type = "global_max_pool" }"#, &[2, 7, 5, 4, 3]),
    (r#"{ type = "batch_norm", track_running_stats = false, affine = false }"#, &[4, 3]),
    (r#"{ type = "group_norm", num_groups = 2, eps = 1e-3, affine = false }"#, &[2, 5, 4]),
    (r#"{ type = "instance_norm", affine = true }"#, &[2, 5, 4]),
    (r#"{ type = "rms_norm", normalized_shape = [5, 4], eps = 1e-6 }"#, &[2, 5, 4]),
    (r#"{ type = "rms_norm", elementwise_affine = false }"#, &[2, 5, 4]),
    (r#"{ type = "spatial_dropout2d", p = 0.25 }"#, &[2, 5, 4, 3]),
    (r#"{ type = "embedding", num_embeddings = 4, embedding_dim = 2 }"#, &[2, 5]),
    (r#"{ type = "columns_embedding", num_embeddings = [4, 3], embedding_dim = 2, init = "ones" }"#, &[5, 2]),
    (r#"{ type = "columns_embedding", num_embeddings = [4, 3], embedding_dim = [2, 5] }"#, &[5, 2]),
    (r#"{ type = "flatten", order = "channels_first" }"#, &[2, 5, 4]),
    (r#"{ type = "reshape", shape = [2, -1] }"#, &[2, 5, 4]),
    (r#"{ type = "permute", dims = [2, 1] }"#, &[2, 5, 4]),
    (r#"{ type = "select", start = 1, len = 2 }"#, &[2, 5, 4]),
    (r#"{ type = "select", indices = [3, 0], dim = 1 }"#, &[2, 5, 4]),
    (r#"{ type = "zero_pad2d", padding = 1 }"#, &[2, 5, 4, 3]),
    (r#"{ type = "zero_pad2d", padding = [0, 1, 2, 3] }"#, &[2, 5, 4, 3]),
    (r#"{ type = "upsample", scale_factor = 2 }"#, &[2, 5, 4, 3]),
    (r#"{ type = "upsample", scale_factor = [2, 3], mode = "bilinear" }"#, &[2, 5, 4, 3]),
    (r#"{ type = "concat", dim = 1, branches = [[{ type = "relu" }], []] }"#, &[2, 5]),
    (r#"{ type = "add", branches = [[{ type = "linear", out_features = 5 }], []] }"#, &[2, 5]),
    (r#"{ type = "multiply", branches = [[{ type = "sigmoid" }], []] }"#, &[2, 5]),
    (r#"{ type = "repeat", times = 2, body = [{ type = "linear", out_features = 5, name = "inner" }] }"#, &[2, 5]),
    (r#"{ type = "glu", dim = 1 }"#, &[2, 4]),
    (r#"{ type = "leaky_relu", negative_slope = 0.2 }"#, &[2, 4]),
    (r#"{ type = "prelu", per_channel = true, init = 0.5 }"#, &[2, 4]),
    (r#"{ type = "elu", alpha = 0.5 }"#, &[2, 4]),
    (r#"{ type = "celu", alpha = 2.0 }"#, &[2, 4]),
    (r#"{ type = "selu" }"#, &[2, 4]),
    (r#"{ type = "silu" }"#, &[2, 4]),
    (r#"{ type = "mish" }"#, &[2, 4]),
    (r#"{ type = "softplus", beta = 2.0, threshold = 10.0 }"#, &[2, 4]),
    (r#"{ type = "softsign" }"#, &[2, 4]),
    (r#"{ type = "hardtanh", min_val = -2.0, max_val = 2.5 }"#, &[2, 4]),
    (r#"{ type = "relu6" }"#, &[2, 4]),
    (r#"{ type = "hardsigmoid" }"#, &[2, 4]),
    (r#"{ type = "hardswish" }"#, &[2, 4]),
];

#[test]
fn layers_are_read_from_toml_and_written_back() {
    for (table, shape) in EVERY_LAYER {
        let model = parse(&format!("layers = [{table}]")).unwrap_or_else(|e| panic!("{table}: {e}"));
        let written = toml::to_string(&model).unwrap();
        let again = parse(&written).unwrap_or_else(|e| panic!("{written}: {e}"));
        assert_eq!(toml::to_string(&again).unwrap(), written);
        // Every key of the table is in what was written, with its value.
        let value = |text: &str| text.parse::<toml::Table>().unwrap()["layers"][0].clone();
        let (given, kept) = (value(&format!("layers = [{table}]")), value(&written));
        for (key, wanted) in given.as_table().unwrap() {
            let same = kept[key.as_str()] == *wanted || matches!(key.as_str(), "branches" | "body");
            assert!(same, "{table}: {key} became {}", kept[key.as_str()]);
        }
        let ty = Type::new(DType::F32, *shape);
        let first = names(&Sequential::from(model.layers), ty.clone());
        assert_eq!(names(&Sequential::from(again.layers), ty), first, "{table}");
    }
}

#[test]
fn every_type_of_layer_is_in_a_test() {
    let recurrent = ["rnn", "gru", "lstm", "attention", "transformer", "position", "last_step"];
    let elsewhere = include_str!("tests.rs");
    for name in AnyLayer::TYPES.iter().filter(|name| !recurrent.iter().any(|r| name.contains(r))) {
        let written = format!("type = \"{name}\"");
        let tested = elsewhere.contains(&written) || EVERY_LAYER.iter().any(|(table, _)| table.contains(&written));
        assert!(tested, "no test reads and writes `{name}`");
    }
}

#[test]
fn a_bad_table_is_an_error_that_names_the_key() {
    let cases = [
        (r#"{ type = "conv1d", out_channels = 1, kernel_size = [3, 3] }"#, "[length], found a list of 2"),
        (r#"{ type = "conv2d", out_channels = 1, kernel_size = [3] }"#, "[height, width], found a list of 1"),
        (r#"{ type = "conv3d", out_channels = 1, kernel_size = 3, padding = [1, 1] }"#, "\"same\""),
        (r#"{ type = "conv_transpose2d", out_channels = 1, kernel_size = 3, padding = "same" }"#, "a list with one for each"),
        (r#"{ type = "max_pool3d", kernel_size = "2" }"#, "a whole number"),
        (r#"{ type = "adaptive_avg_pool2d" }"#, "output_size"),
        (r#"{ type = "group_norm" }"#, "num_groups"),
        (r#"{ type = "leaky_relu", slope = 0.1 }"#, "negative_slope"),
        (r#"{ type = "selu", alpha = 0.1 }"#, "alpha"),
        (r#"{ type = "upsample", scale_factor = 2, mode = "cubic" }"#, "bilinear"),
        (r#"{ type = "zero_pad2d", padding = [1, 2] }"#, "[left, right, top, bottom]"),
        (r#"{ type = "concat", branches = [{ type = "relu" }] }"#, "sequence"),
        (r#"{ type = "columns_embedding", num_embeddings = 3, embedding_dim = 2 }"#, "sequence"),
        (r#"{ type = "columns_embedding", num_embeddings = [3], embedding_dim = "two" }"#, "one for each column"),
    ];
    for (layer, word) in cases {
        let error = parse(&format!("layers = [{layer}]")).map(|_| ()).unwrap_err();
        assert!(error.contains(word), "{layer}: {error}");
    }
}

/// Layers that cannot be applied to an input of a shape, with a word of the message.
fn misuse() -> Vec<(Box<dyn Layer>, &'static [usize], &'static str)> {
    const HUGE: usize = usize::MAX / 2;
    let linear = |n| Sequential::new().push(Linear::new(n));
    vec![
        (Box::new(Conv1d::new(3, 3)), &[2, 6, 6, 3], "[N, length, channels]"),
        (Box::new(Conv1d::new(3, 9)), &[2, 6, 3], "covers 9"),
        (Box::new(Conv3d::new(3, 3)), &[2, 6, 6, 3], "[N, depth, height, width, channels]"),
        (Box::new(Conv3d::new(3, [1, 2, 9])), &[2, 4, 4, 4, 3], "covers 1×2×9"),
        (Box::new(Conv3d::new(3, 2).groups(2)), &[2, 4, 4, 4, 3], "2 groups"),
        (Box::new(Conv2d::new(3, HUGE)), &[2, 6, 6, 3], "kernel_size"),
        (Box::new(Conv2d::new(3, 3).dilation(HUGE)), &[2, 6, 6, 3], "dilation"),
        (Box::new(Conv2d::new(3, 3).padding(HUGE)), &[2, 6, 6, 3], "padding"),
        (Box::new(Conv2d::new(HUGE, 3)), &[2, 6, 6, 3], "larger than any memory"),
        (Box::new(Conv2d::new(3, 3).stride([0, 1])), &[2, 6, 6, 3], "stride"),
        (Box::new(ConvTranspose1d::new(3, 3)), &[2, 3], "[N, length, channels]"),
        (Box::new(ConvTranspose2d::new(0, 3)), &[2, 6, 6, 3], "out_channels"),
        (Box::new(ConvTranspose2d::new(3, 3).output_padding(1)), &[2, 6, 6, 3], "output_padding"),
        (Box::new(ConvTranspose2d::new(3, 3).padding(4)), &[2, 6, 6, 3], "leaves nothing"),
        (Box::new(ConvTranspose2d::new(3, 3).groups(2)), &[2, 6, 6, 3], "2 groups"),
        (Box::new(ConvTranspose2d::new(3, 3)), &[2, 0, 6, 3], "at least one element"),
        (Box::new(ConvTranspose2d::new(3, 1 << 24).stride(1 << 24)), &[2, 600, 600, 3], "larger than any memory"),
        (Box::new(DepthwiseConv2d::new(3).multiplier(0)), &[2, 6, 6, 3], "multiplier"),
        (Box::new(DepthwiseConv2d::new(3).multiplier(HUGE)), &[2, 6, 6, 3], "larger than any memory"),
        (Box::new(DepthwiseConv2d::new(3)), &[2, 6, 6, 0], "channels"),
        (Box::new(DepthwiseConv2d::new(3)), &[6, 6], "[N, height, width, channels]"),
        (Box::new(MaxPool1d::new(7)), &[2, 6, 3], "larger than the input"),
        (Box::new(MaxPool1d::new(3).padding(2)), &[2, 6, 3], "half"),
        (Box::new(MaxPool3d::new(2).dilation(HUGE)), &[2, 4, 4, 4, 3], "dilation"),
        (Box::new(AvgPool3d::new(2)), &[2, 6, 6, 3], "[N, depth, height, width, channels]"),
        (Box::new(AvgPool1d::new(2).stride(0)), &[2, 6, 3], "stride"),
        (Box::new(AdaptiveAvgPool1d::new(0)), &[2, 6, 3], "output_size"),
        (Box::new(AdaptiveAvgPool1d::new(HUGE)), &[2, 6, 3], "output_size"),
        (Box::new(AdaptiveMaxPool2d::new(2)), &[2, 6, 3], "[N, height, width, channels]"),
        (Box::new(AdaptiveMaxPool2d::new(2)), &[2, 6, 0, 3], "at least one element"),
        (Box::new(GlobalAvgPool::new()), &[2, 3], "at least 3 dimensions"),
        (Box::new(GlobalMaxPool::new()), &[2, 0, 3], "at least one element"),
        (Box::new(GroupNorm::new(2)), &[2, 6, 3], "do not divide"),
        (Box::new(GroupNorm::new(0)), &[2, 6, 3], "at least one group"),
        (Box::new(GroupNorm::new(3)), &[2, 3], "more than one value"),
        (Box::new(InstanceNorm::new()), &[2, 1, 3], "more than one value"),
        (Box::new(InstanceNorm::new().eps(-1.0)), &[2, 6, 3], "eps"),
        (Box::new(RmsNorm::new().normalized_shape([6])), &[2, 6, 3], "[6]"),
        (Box::new(RmsNorm::new().eps(f64::NAN)), &[2, 6, 3], "eps"),
        (Box::new(LayerNorm::new().eps(f64::INFINITY)), &[2, 6, 3], "eps"),
        (Box::new(BatchNorm::new().track_running_stats(false)), &[1, 3], "more than one value"),
        (Box::new(SpatialDropout2d::new(0.5)), &[2, 6, 3], "[N, height, width, channels]"),
        (Box::new(SpatialDropout2d::new(-0.5)), &[2, 6, 6, 3], "probability"),
        (Box::new(ColumnsEmbedding::new([2, 2], 3)), &[2, 3], "2], one for each"),
        (Box::new(ColumnsEmbedding::new([2, 2, 2], [3, 3])), &[2, 3], "3 columns"),
        (Box::new(ColumnsEmbedding::new([2, 0, 2], 3)), &[2, 3], "positive"),
        (Box::new(ColumnsEmbedding::new([], 3)), &[2, 0], "at least one column"),
        (Box::new(Reshape::new([4, -1])), &[2, 6], "6 elements"),
        (Box::new(Reshape::new([-1, -1])), &[2, 6], "one of them"),
        (Box::new(Reshape::new([0])), &[2, 6], "positive"),
        (Box::new(Reshape::new([isize::MAX, isize::MAX])), &[2, 6], "positive"),
        (Box::new(Permute::new([1, 1])), &[2, 6, 3], "once"),
        (Box::new(Permute::new([0, 1, 2])), &[2, 6, 3], "from 1 to 2"),
        (Box::new(Select::range(2, 2)), &[2, 3], "extent 3"),
        (Box::new(Select::range(1, usize::MAX)), &[2, 3], "extent 3"),
        (Box::new(Select::range(0, 1).dim(0)), &[2, 3], "batch"),
        (Box::new(Select::indices([3])), &[2, 3], "index 3"),
        (Box::new(Select::indices([])), &[2, 3], "at least one"),
        (Box::new(Select { start: 1, len: None, indices: Some(vec![0]), dim: -1 }), &[2, 3], "not both"),
        (Box::new(ZeroPad2d::new(1)), &[2, 6, 3], "[N, height, width, channels]"),
        (Box::new(ZeroPad2d::new(HUGE)), &[2, 6, 6, 3], "zeros on a side"),
        (Box::new(Upsample::nearest(0)), &[2, 6, 6, 3], "scale_factor"),
        (Box::new(Upsample::bilinear(HUGE)), &[2, 6, 6, 3], "scale_factor"),
        (Box::new(Upsample::bilinear(2)), &[2, 6, 3], "[N, height, width, channels]"),
        (Box::new(Concat::new()), &[2, 3], "at least one branch"),
        (Box::new(Concat::new().branch(linear(2)).dim(0)), &[2, 3], "batch"),
        (Box::new(Concat::new().branch(linear(2)).branch(Sequential::new().push(Reshape::new([1, 3])))), &[2, 3], "differ"),
        (Box::new(Add::new().branch(linear(2)).branch(linear(3))), &[2, 3], "same shape"),
        (Box::new(Multiply::new()), &[2, 3], "at least one branch"),
        (Box::new(Repeat::new(0, linear(3))), &[2, 3], "times"),
        (Box::new(Repeat::new(3, Sequential::new())), &[2, 3], "must have a layer"),
        (Box::new(Repeat::new(2, Sequential::new().push(Conv1d::new(2, 2)))), &[2, 3], "[N, length, channels]"),
        (Box::new(Glu::new()), &[2, 3], "even"),
        (Box::new(Glu { dim: isize::MIN }), &[2, 3], "does not exist"),
        (Box::new(LeakyRelu::new().negative_slope(f64::NAN)), &[2, 3], "finite"),
        (Box::new(Celu::new().alpha(0.0)), &[2, 3], "alpha"),
        (Box::new(Softplus::new().beta(0.0)), &[2, 3], "beta"),
        (Box::new(Hardtanh::new().min_val(1.0)), &[2, 3], "max_val"),
        (Box::new(PRelu::new().init(f64::INFINITY)), &[2, 3], "finite"),
        (Box::new(PRelu::new().per_channel(true)), &[2], "[N, .., channels]"),
    ]
}

#[test]
fn misuse_is_an_error_of_the_graph_and_never_a_panic() {
    let layers = misuse();
    for (layer, shape, word) in &layers {
        let error = specs(&**layer, Type::new(DType::F32, *shape)).map(|_| ()).err().map(|e| e.to_string());
        let error = error.unwrap_or_else(|| panic!("{layer:?} on {shape:?} is accepted"));
        assert!(error.contains(word), "{layer:?}: {error}");
    }
    let shapes: [&[usize]; 9] =
        [&[], &[3], &[2, 3], &[2, 3, 4], &[0, 5, 5, 2], &[2, 1, 1, 2], &[1, 3, 2, 4, 4], &[2, 0, 3, 0], &[1, 1, 2, 1, 1, 2]];
    let every: Vec<_> = EVERY_LAYER.iter().flat_map(|(table, _)| parse(&format!("layers = [{table}]")).unwrap().layers).collect();
    for ty in [DType::F32, DType::I32, DType::Bool].iter().flat_map(|&d| shapes.map(|s| Type::new(d, s))) {
        // Whether an error or not is the layer's affair; a panic is none's.
        layers.iter().for_each(|(layer, ..)| drop(specs(&**layer, ty.clone())));
        every.iter().for_each(|spec| drop(specs(&spec.layer, ty.clone())));
    }
}

#[test]
fn a_fraction_of_whole_numbers_is_an_error() {
    for layer in [&AvgPool1d::new(2) as &dyn Layer, &LeakyRelu::new(), &Hardsigmoid::new(), &GlobalAvgPool::new()] {
        let error = specs(layer, Type::new(DType::I32, [2, 4, 3])).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("floating"), "{layer:?}: {error}");
    }
}

#[test]
fn repeating_without_end_is_refused() {
    let mut layer = Repeat::new(100, Sequential::new().push(Relu::new()));
    for _ in 0..5 {
        layer = Repeat::new(100, Sequential::new().push(layer));
    }
    let error = specs(&layer, Type::new(DType::F32, [1])).map(|_| ()).unwrap_err().to_string();
    assert!(error.contains("repeat less often"), "{error}");
}

#[test]
fn children_have_names() {
    let body = || Sequential::new().push(Linear::new(3)).push_named("last", Linear::new(3).bias(false));
    let ty = || Type::new(DType::F32, [2, 3]);
    let model = Sequential::new().push(Concat::new().branch(body()).branch(Sequential::new()).branch(body()));
    let expected = [
        "0.layers.0.weight",
        "0.layers.0.bias",
        "0.layers.last.weight",
        "2.layers.0.weight",
        "2.layers.0.bias",
        "2.layers.last.weight",
    ];
    assert_eq!(names(&model, ty()), expected.map(|name| format!("layers.0.branches.{name}")));
    let expected = ["layers.0.layers.0.weight", "layers.0.layers.0.bias", "layers.0.layers.last.weight"];
    let second = expected.map(|name| name.replacen("layers.0", "layers.1", 1));
    assert_eq!(names(&Repeat::new(2, body()), ty()), [expected.map(String::from), second].concat());
    let columns = names(&ColumnsEmbedding::new([4, 5, 6], [1, 2, 3]), ty());
    assert_eq!(columns, ["columns.0.weight", "columns.1.weight", "columns.2.weight"]);
}

#[test]
fn first_values_are_pytorchs() {
    let bound = |layer: &dyn Layer, shape: &[usize]| match specs(layer, Type::new(DType::F32, shape)).unwrap()[..] {
        [
            StateSpec { init: Init::Uniform { high: weight, .. }, .. },
            StateSpec { init: Init::Uniform { high: bias, .. }, .. },
        ] => [weight, bias],
        ref other => panic!("{other:?}"),
    };
    // The fan-in of torch.nn is the extent of all but the weight's first dimension.
    assert_eq!(bound(&Conv3d::new(4, [1, 2, 2]).groups(2), &[1, 3, 3, 3, 8]), [0.25; 2]);
    assert_eq!(bound(&ConvTranspose1d::new(4, 4).groups(2), &[1, 3, 2]), [1.0 / 8f64.sqrt(); 2]);
    assert_eq!(bound(&DepthwiseConv2d::new(4), &[1, 5, 5, 3]), [0.25; 2]);
}

#[test]
fn channels_are_dropped_as_a_whole() {
    let layer = SpatialDropout2d::new(0.3);
    let mask = output(&layer, 1, 0, Type::new(DType::F32, [20, 3, 2, 30]));
    let value = |n: usize, position: usize, c: usize| mask[(n * 6 + position) * 30 + c];
    let mut kept = 0;
    for (n, c) in (0..20).flat_map(|n| (0..30).map(move |c| (n, c))) {
        let first = value(n, 0, c);
        assert!((1..6).all(|position| value(n, position, c) == first));
        assert!(first == 0.0 || (first - 1.0 / 0.7).abs() < 1e-6);
        kept += usize::from(first != 0.0);
    }
    // Five standard deviations of a binomial count.
    assert!((kept as f64 - 420.0).abs() < 5.0 * (600.0f64 * 0.3 * 0.7).sqrt(), "{kept}");
    assert_ne!(output(&layer, 1, 1, Type::new(DType::F32, [20, 3, 2, 30])), mask);
}

/// The rows a layer of tables gives for codes; row r of every table holds r.
fn rows(layer: &dyn Layer, codes: HostTensor) -> Vec<f64> {
    let b = Builder::new();
    let x = b.constant(codes);
    let mut cx = Scope::new(&b, DType::F32, Mode::Evaluate);
    let y = layer.forward(&mut cx, x);
    b.output("y", Role::Data, y);
    let specs = cx.specs();
    drop(cx);
    let table = |ty: &Type| Array::float(ty, (0..ty.elements()).map(|i| (i / ty.shape[1]) as f64).collect());
    evaluate(&b.finish().unwrap(), &specs.iter().map(|s| table(&s.ty)).collect::<Vec<_>>())[0].to_f64()
}

#[test]
fn codes_are_rounded_clamped_and_never_made_up() {
    let codes = [0.0f32, 0.999_999, 2.000_001, -3.0, 99.0];
    let table = Embedding::new(4, 1);
    assert_eq!(rows(&table, HostTensor::new([5], &codes).unwrap()), [0.0, 1.0, 2.0, 0.0, 3.0]);
    assert_eq!(rows(&table, HostTensor::new([3], &[2i32, -3, 99]).unwrap()), [2.0, 0.0, 3.0]);
    // A missing code is not code 0.
    let missing = rows(&table, HostTensor::new([3], &[1.0f32, f32::NAN, f32::INFINITY]).unwrap());
    assert!(missing[0] == 1.0 && missing[1].is_nan() && missing[2].is_nan(), "{missing:?}");
    let columns = ColumnsEmbedding::new([3, 5], [1, 2]);
    assert_eq!(rows(&columns, HostTensor::new([2, 2], &[1.0f32, 4.0, 2.0, 3.0]).unwrap()), [1.0, 4.0, 4.0, 2.0, 3.0, 3.0]);
}

#[test]
fn layers_of_several_ranks_have_names_of_their_own() {
    assert_eq!(layer_table(&Sequential::new().push(Conv2d::new(1, 1)), DType::F32, image()).unwrap()[0].kind, "Conv2d");
    let kinds: [(&dyn Layer, &str); 4] = [
        (&Conv1d::new(1, 1), "Conv1d"),
        (&ConvTranspose3d::new(1, 1), "ConvTranspose3d"),
        (&MaxPool3d::new(1), "MaxPool3d"),
        (&AvgPool1d::new(1), "AvgPool1d"),
    ];
    kinds.iter().for_each(|(layer, kind)| assert_eq!(layer.kind(), *kind));
    assert_eq!([Conv1d::schema_name(), Conv3d::schema_name()], ["Conv1d", "Conv3d"]);
    assert_eq!([ConvTranspose2d::schema_name(), Padding::<2>::schema_name()], ["ConvTranspose2d", "Padding2"]);
    assert_eq!([MaxPool1d::schema_name(), AvgPool3d::schema_name()], ["MaxPool1d", "AvgPool3d"]);
    // The schema of a list says how long it is.
    let schema = serde_json::to_string(&schemars::schema_for!(Conv3d)).unwrap();
    assert!(schema.contains("\"maxItems\":3"), "{schema}");
}
