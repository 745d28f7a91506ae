//! Configurations: every model of the repository reads, writes and reads again; every mistake is shown where it is.

use backprop::{
    config::{Config, ConfigError},
    nn::{AnyLayer, Sequential},
};
use std::{fs, path::Path};

const GOOD: &str = r#"[data]
source = "digits"

[[layers]]
type = "flatten"
[[layers]]
type = "residual"
body = [{ type = "linear", out_features = 64 }, { type = "relu" }]
[[layers]]
type = "linear"
out_features = 10

[loss]
type = "cross_entropy"
[optimizer]
type = "adam"
learning_rate = 1e-3
"#;

fn parse(text: &str, overrides: &[&str]) -> Result<Config, ConfigError> {
    let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
    Config::parse("model.toml", text, Path::new("/base"), &overrides)
}

/// The error, with what is written at its place.
fn error(text: &str, overrides: &[&str]) -> (ConfigError, String) {
    let error = parse(text, overrides).unwrap_err();
    let pointed = error.place.as_ref().map_or(String::new(), |p| p.text[p.span.clone()].to_owned());
    (error, pointed)
}

#[test]
fn models_survive_writing_and_reading() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let mut count = 0;
    for entry in ["models", "examples"].into_iter().flat_map(|folder| fs::read_dir(root.join(folder)).unwrap()) {
        let path = entry.unwrap().path();
        let config = Config::load(&path, &[]).unwrap_or_else(|e| panic!("{e}"));
        let text = config.to_toml().unwrap();
        let again = Config::parse("again", &text, Path::new(""), &[]).unwrap_or_else(|e| panic!("{e}\n{text}"));
        assert_eq!(
            format!("{:?}", (&config.data, &config.layers, &config.loss)),
            format!("{:?}", (&again.data, &again.layers, &again.loss))
        );
        assert_eq!((&config.optimizer, &config.schedule), (&again.optimizer, &again.schedule));
        assert_eq!(config.train, again.train);
        assert_eq!(again.to_toml().unwrap(), text, "{}", path.display());
        count += 1;
    }
    assert!(count >= 11, "{count} configurations");
}

#[test]
fn overrides_replace_and_reach_into_lists() {
    let config =
        parse(GOOD, &["train.epochs=3", "layers.1.body.0.out_features=32", "optimizer.type=adamw", "data.normalize=range"])
            .unwrap();
    let text = config.to_toml().unwrap();
    for line in ["epochs = 3", "out_features = 32", "type = \"adamw\"", "normalize = \"range\""] {
        assert!(text.contains(line), "{line} not in\n{text}");
    }
}

#[test]
fn relative_paths_start_at_the_configuration() {
    let text = GOOD.replace("source = \"digits\"", "source = \"text\"\npath = \"notes.txt\"");
    assert!(parse(&text, &[]).unwrap().to_toml().unwrap().contains("path = \"/base/notes.txt\""));
}

#[test]
fn mistakes_are_shown_where_they_are() {
    let cases: &[(&str, &str, &str, &str, &str)] = &[
        // Replaced, by, key, what is pointed at, remedy.
        ("out_features = 10", "out_feature = 10", "layers.2.out_feature", "out_feature", "did you mean `out_features`?"),
        ("out_features = 10", "out_features = \"ten\"", "layers.2.out_features", "\"ten\"", ""),
        ("out_features = 64", "out_features = true", "layers.1.body.0.out_features", "true", ""),
        ("out_features = 64", "out_features = -64", "layers.1.body.0.out_features", "-64", ""),
        ("out_features = 64", "bias = false", "layers.1.body.0", "\"linear\"", "add `out_features = …`"),
        ("type = \"relu\"", "type = \"rellu\"", "layers.1.body.1.type", "\"rellu\"", "did you mean `relu`?"),
        ("type = \"adam\"", "type = \"adam\"\nbetas = [0.9, 1.5]", "optimizer.betas.1", "1.5", ""),
        ("learning_rate = 1e-3", "learning_rate = nan", "optimizer.learning_rate", "nan", ""),
        ("[loss]", "[los]", "los", "los", "did you mean `loss`?"),
        ("source = \"digits\"", "source = \"digit\"", "data.source", "\"digit\"", "did you mean `digits`?"),
        (
            "source = \"digits\"",
            "source = \"digits\"\nvalidaton = 0.2",
            "data.validaton",
            "validaton",
            "did you mean `validation`?",
        ),
        ("source = \"digits\"", "source = \"digits\"\nvalidation = 1.0", "data.validation", "1.0", ""),
        ("source = \"digits\"", "normalize = \"global\"", "data", "[data]", "add `source = …`"),
    ];
    for (from, to, key, pointed, help) in cases {
        let (error, at) = error(&GOOD.replace(from, to), &[]);
        assert_eq!((error.key.as_str(), at.as_str()), (*key, *pointed), "{error}");
        assert!(help.is_empty() || error.help.iter().any(|h| h == help), "{error}");
        assert!(error.to_string().contains("model.toml:"), "{error}");
    }
}

#[test]
fn an_override_is_blamed_for_what_it_says() {
    let (error, at) = error(GOOD, &["optimizer.learning_rate=-1"]);
    assert_eq!((error.place.as_ref().unwrap().name.as_str(), at.as_str()), ("--set", "-1"));
    for bad in ["epochs", "=3", "layers.9.bias=true", "layers.x=1", "loss.type.deep=1"] {
        assert_eq!(self::error(GOOD, &[bad]).0.place.as_ref().unwrap().name, "--set", "{bad}");
    }
}

#[test]
fn layers_of_the_network_are_found_in_the_text() {
    let config = parse(GOOD, &[]).unwrap();
    let place = |layer: &str| config.error_at_layer(layer, "x").place.as_ref().unwrap().line_column();
    assert_eq!(place("layers.2"), (10, 8));
    assert_eq!(place("layers.1.body.layers.1"), (8, 58));
    assert_eq!(place("layers.1"), (7, 8));
}

/// Keys that a layer must have, as its table in TOML has them.
fn required(kind: &str) -> &'static str {
    match kind {
        "linear" => "out_features = 3",
        "conv1d" | "conv2d" | "conv3d" | "conv_transpose1d" | "conv_transpose2d" | "conv_transpose3d" => {
            "out_channels = 3\nkernel_size = 2"
        }
        "depthwise_conv2d" | "max_pool1d" | "max_pool2d" | "max_pool3d" | "avg_pool1d" | "avg_pool2d" | "avg_pool3d" => {
            "kernel_size = 2"
        }
        "adaptive_avg_pool1d" | "adaptive_avg_pool2d" | "adaptive_max_pool2d" => "output_size = 2",
        "group_norm" => "num_groups = 2",
        "embedding" => "num_embeddings = 5\nembedding_dim = 2",
        "columns_embedding" => "num_embeddings = [5, 4]\nembedding_dim = 2",
        "reshape" => "shape = [2, 3]",
        "permute" => "dims = [2, 1]",
        "select" => "dim = 1\nindices = [0, 2]",
        "zero_pad2d" => "padding = 1",
        "upsample" => "scale_factor = 2",
        "rnn" | "gru" | "lstm" => "hidden_size = 3",
        "multi_head_attention" | "transformer_block" => "num_heads = 2",
        "positional_embedding" => "max_len = 7",
        "sequential" => "layers = [{ type = \"relu\" }]",
        "checkpoint" => "layer = { type = \"relu\" }",
        "residual" => "body = [{ type = \"relu\" }]",
        "repeat" => "times = 2\nbody = [{ type = \"relu\" }]",
        "concat" | "add" | "multiply" => "branches = [[{ type = \"relu\" }], [{ type = \"tanh\" }]]",
        _ => "",
    }
}

/// Every layer of the library: from its table in TOML to the Rust value, pushed into a network, to TOML and back.
#[test]
fn every_layer_survives_the_way_through_rust() {
    let other = GOOD.replacen("[[layers]]\ntype = \"flatten\"\n", "LAYER", 1);
    for kind in AnyLayer::TYPES {
        let table = format!("[[layers]]\ntype = \"{kind}\"\n{}\n", required(kind));
        let mut config = parse(&other.replacen("LAYER", &table, 1), &[]).unwrap_or_else(|e| panic!("{kind}: {e}"));
        let pushed = config.layers.iter().fold(Sequential::new(), |network, spec| network.push(spec.layer.clone()));
        let before = format!("{:?}", config.layers);
        config.layers = pushed.layers;
        assert_eq!(format!("{:?}", config.layers), before, "{kind} is another layer after it was pushed");
        let text = config.to_toml().unwrap_or_else(|e| panic!("{kind}: {e}"));
        assert!(text.contains(&format!("type = \"{kind}\"")), "{text}");
        let again = parse(&text, &[]).unwrap_or_else(|e| panic!("{kind}: {e}\n{text}"));
        assert_eq!(format!("{:?}", again.layers), before, "{kind}");
    }
}
