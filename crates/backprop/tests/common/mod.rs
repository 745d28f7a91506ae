//! What several tests train.

use backprop::config::Config;
use std::path::Path;

/// A network with all that training can have: statistics, random draws, and a remainder batch.
const CONFIG: &str = r#"
data = { source = "clusters", rows = 200, features = 6, classes = 3, validation = 0.2 }
layers = [
    { type = "linear", out_features = 16 }, { type = "batch_norm" }, { type = "relu" },
    { type = "dropout", p = 0.2 }, { type = "linear", out_features = 3 },
]
loss = { type = "cross_entropy" }
optimizer = { type = "adamw", learning_rate = 0.01 }
train = { epochs = 4, batch_size = 24, seed = 3 }
"#;

/// The configuration with some of its values replaced.
pub fn config(overrides: &[&str]) -> Config {
    let overrides: Vec<String> = overrides.iter().map(ToString::to_string).collect();
    Config::parse("test", CONFIG, Path::new(""), &overrides).unwrap_or_else(|e| panic!("{e}"))
}
