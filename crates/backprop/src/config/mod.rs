//! Configurations: what to train on what, as Rust values and as TOML.
//!
//! ```toml
//! [data]
//! source = "digits"
//!
//! [[layers]]
//! type = "flatten"
//! [[layers]]
//! type = "linear"
//! out_features = 10
//!
//! [loss]
//! type = "cross_entropy"
//! [optimizer]
//! type = "adam"
//! learning_rate = 1e-3
//! [schedule]
//! type = "cosine"
//! [train]
//! epochs = 5
//! ```
//!
//! Unknown keys, wrong types and numbers out of range are errors that show the line.

mod decode;
mod document;
mod error;
mod range;
mod reference;
mod schema;
mod tables;
mod time;

pub use error::{ConfigError, Place, Problem};
pub use reference::reference;
pub use schema::json_schema;
pub use tables::{DataConfig, DataOptions, OptimizerConfig, TrainConfig};
pub use time::Time;

use crate::{
    accelerator::DeviceName, loss::LossSpec, metrics::MetricSpec, nn::LayerSpec, optim::OptimizerSpec, schedule::Schedule,
};
use decode::{decode, missing, unknown_key};
use document::{Document, Found, Path, Step};
use serde::{Serialize, de::DeserializeOwned};
use std::{path, sync::Arc};
use toml::{Table, Value};

/// A training run: data, network, loss, optimizer, schedule, training.
#[derive(Clone, Debug, Serialize, schemars::JsonSchema)]
pub struct Config {
    /// Version of the format of configurations: 1. A program refuses one of a later version.
    format: u32,
    /// Where the data come from.
    pub data: DataConfig,
    /// The network: its layers in order, named `layers.0`, `layers.1`, ….
    pub layers: Vec<LayerSpec>,
    /// What is minimised.
    pub loss: LossSpec,
    /// What is reported beside the loss; the first is the one that the best epoch is chosen by. By default what suits the target:
    /// accuracy, of text also perplexity; for numbers rmse, mae and r2; for an autoencoder mse.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub metrics: Vec<MetricSpec>,
    /// How parameters follow their gradients.
    pub optimizer: OptimizerConfig,
    /// How the rates change during training.
    pub schedule: Schedule,
    /// How long and in which portions.
    pub train: TrainConfig,
    /// The text this was read from, for messages.
    #[serde(skip)]
    document: Option<Arc<Document>>,
}

/// Version of the format of configurations. Those of every earlier version can be read; a later one is refused.
pub const FORMAT: u32 = 1;

const SECTIONS: [&str; 8] = ["format", "data", "layers", "loss", "metrics", "optimizer", "schedule", "train"];

impl Config {
    /// A configuration made in Rust, with the default schedule and training.
    ///
    /// ```
    /// use backprop::{config::Config, data::Source, prelude::*};
    ///
    /// let network = Sequential::new().push(Flatten::new()).push(Linear::new(10));
    /// let config = Config::new(Source::Digits {}, network, CrossEntropy::new(), Adam::new(1e-3));
    /// assert!(config.to_toml()?.contains("type = \"linear\""));
    /// # Ok::<(), backprop::config::ConfigError>(())
    /// ```
    pub fn new(
        data: impl Into<DataConfig>,
        layers: impl Into<Vec<LayerSpec>>,
        loss: impl Into<LossSpec>,
        optimizer: impl Into<OptimizerConfig>,
    ) -> Config {
        Config {
            format: FORMAT,
            data: data.into(),
            layers: layers.into(),
            loss: loss.into(),
            metrics: Vec::new(),
            optimizer: optimizer.into(),
            schedule: Schedule::default(),
            train: TrainConfig::default(),
            document: None,
        }
    }

    /// Reads a file. Relative paths in it are taken from its folder. `overrides` are `key=value`, as `train.epochs=5`.
    ///
    /// # Errors
    /// A file that cannot be read; anything in it that is not a configuration, with the line and the remedy.
    pub fn load(file: &path::Path, overrides: &[String]) -> Result<Config, ConfigError> {
        let name = file.display().to_string();
        let text = std::fs::read_to_string(file).map_err(|e| {
            ConfigError::new(format!("cannot read the configuration {name}: {e}")).help("check the path and its permissions")
        })?;
        Config::parse(&name, &text, file.parent().unwrap_or(path::Path::new("")), overrides)
    }

    /// Reads a text, called `name` in messages, whose relative paths are taken from the folder `base`.
    ///
    /// # Errors
    /// Anything that is not a configuration, with the line and the remedy.
    pub fn parse(name: &str, text: &str, base: &path::Path, overrides: &[String]) -> Result<Config, ConfigError> {
        let document = Document::parse(name, text, overrides)?;
        check_format(&document)?;
        if let Some(key) = document.tree.keys().find(|k| !SECTIONS.contains(&k.as_str())) {
            return Err(unknown_key(&document, &Path::default(), key, SECTIONS));
        }
        range::check(&document)?;
        let mut config = Config {
            format: FORMAT,
            data: data(&document)?,
            layers: layers(&document)?,
            loss: section(&document, "loss")?,
            metrics: metrics(&document)?,
            optimizer: optimizer(&document)?,
            schedule: optional(&document, "schedule")?,
            train: optional(&document, "train")?,
            document: None,
        };
        absolute_paths(&mut config, base);
        config.document = Some(Arc::new(document));
        Ok(config)
    }

    /// The configuration in TOML with every default written out; reading it gives the same configuration.
    ///
    /// # Errors
    /// A layer defined outside the library, which has no form in TOML.
    pub fn to_toml(&self) -> Result<String, ConfigError> {
        toml::to_string(self).map_err(|e| ConfigError::new(format!("the configuration cannot be written as TOML: {e}")))
    }

    /// An error about a key, pointing to where it is written.
    pub fn error_at(&self, key: &str, message: impl Into<String>) -> ConfigError {
        let path = Path(key.split('.').map(|part| part.parse().map_or_else(|_| Step::Key(part.into()), Step::Index)).collect());
        self.error_at_path(&path, message.into())
    }

    /// An error about the layer at a path in the network, such as `layers.3.body.layers.0`, pointing to where the layer is written.
    pub fn error_at_layer(&self, layer: &str, message: impl Into<String>) -> ConfigError {
        let path = self.document.as_ref().map_or_else(Path::default, |d| config_path(d, layer));
        self.error_at_path(&path, message.into()).key(layer)
    }

    fn error_at_path(&self, path: &Path, message: String) -> ConfigError {
        let place = self.document.as_ref().and_then(|d| {
            let parents = (0..path.0.len()).rev().map(|n| Path(path.0[..=n].to_vec()));
            parents.into_iter().find_map(|p| d.place(&p.child("type"), false).or_else(|| d.place(&p, false)))
        });
        ConfigError::new(message).key(path.to_string()).at(place).label("here")
    }
}

/// Before all else: a later format may have other sections.
fn check_format(document: &Document) -> Result<(), ConfigError> {
    let message = match document.tree.get("format") {
        None | Some(Value::Integer(1)) => return Ok(()),
        Some(Value::Integer(later)) if *later > FORMAT.into() => format!(
            "this configuration has format {later}; this is backprop {} and reads up to format {FORMAT}: use a newer program",
            env!("CARGO_PKG_VERSION")
        ),
        Some(other) => format!("there is no format {other}; write `format = {FORMAT}` or leave it out"),
    };
    let path = Path::key("format");
    Err(ConfigError::new(message).key("format").at(document.place(&path, false)).label("here"))
}

fn section<T: DeserializeOwned>(document: &Document, name: &str) -> Result<T, ConfigError> {
    let path = Path::key(name);
    match document.tree.get(name) {
        Some(value) => decode(document, &path, value.clone(), &[]),
        None => Err(missing_section(name)),
    }
}

fn optional<T: DeserializeOwned + Default>(document: &Document, name: &str) -> Result<T, ConfigError> {
    if document.tree.contains_key(name) { section(document, name) } else { Ok(T::default()) }
}

fn missing_section(name: &str) -> ConfigError {
    let (table, example) = match name {
        "data" => ("[data]", "source = \"fashion\""),
        "layers" => ("[[layers]]", "type = \"linear\""),
        "loss" => ("[loss]", "type = \"cross_entropy\""),
        _ => ("[optimizer]", "type = \"adam\""),
    };
    ConfigError::new(format!("the configuration has no {table}")).help(format!("add {table} with a line such as {example}"))
}

/// `[data]`: one table for two types, so that each key goes to the one that knows it.
fn data(document: &Document) -> Result<DataConfig, ConfigError> {
    let path = Path::key("data");
    let Some(value) = document.tree.get("data") else { return Err(missing_section("data")) };
    let Value::Table(table) = value else {
        return decode::<Table>(document, &path, value.clone(), &[]).and(Err(missing_section("data")));
    };
    if !table.contains_key("source") {
        return Err(missing(document, &path, "source"));
    }
    let (own, source): (Table, Table) = table.clone().into_iter().partition(|(key, _)| DataOptions::KEYS.contains(&key.as_str()));
    let source = decode(document, &path, source.into(), &DataOptions::KEYS)?;
    Ok(DataConfig { source, options: decode(document, &path, own.into(), &[])? })
}

/// `[optimizer]`: its groups are tables of their own, read one by one.
fn optimizer(document: &Document) -> Result<OptimizerConfig, ConfigError> {
    let (path, key) = (Path::key("optimizer"), OptimizerConfig::GROUPS);
    let Some(Value::Table(table)) = document.tree.get("optimizer") else {
        return section::<OptimizerSpec>(document, "optimizer").map(OptimizerConfig::from);
    };
    let mut own = table.clone();
    let groups = match own.remove(key) {
        None => Vec::new(),
        Some(Value::Array(items)) => {
            let at = |i| path.child(key).join(Step::Index(i));
            items.into_iter().enumerate().map(|(i, item)| decode(document, &at(i), item, &[])).collect::<Result<_, _>>()?
        }
        Some(other) => decode(document, &path.child(key), other, &[])?,
    };
    Ok(OptimizerConfig { rule: decode(document, &path, own.into(), &[key])?, groups })
}

/// `[[metrics]]`, one by one.
fn metrics(document: &Document) -> Result<Vec<MetricSpec>, ConfigError> {
    let path = Path::key("metrics");
    match document.tree.get("metrics") {
        None => Ok(Vec::new()),
        Some(Value::Array(items)) => {
            items.iter().enumerate().map(|(i, item)| decode(document, &path.join(Step::Index(i)), item.clone(), &[])).collect()
        }
        Some(_) => Err(ConfigError::new("metrics are a list; write [[metrics]] with two brackets before each of them")
            .key("metrics")
            .at(document.place(&path, true))
            .label("no list")),
    }
}

/// `[[layers]]`, one by one: an error concerns one of them.
fn layers(document: &Document) -> Result<Vec<LayerSpec>, ConfigError> {
    let path = Path::key("layers");
    match document.tree.get("layers") {
        None => Err(missing_section("layers")),
        Some(Value::Array(items)) if items.is_empty() => Err(ConfigError::new("the list of layers is empty")
            .key("layers")
            .at(document.place(&path, false))
            .label("no layers")
            .help("add a table [[layers]] with a line such as type = \"linear\"")),
        Some(Value::Array(items)) => {
            items.iter().enumerate().map(|(i, item)| decode(document, &path.join(Step::Index(i)), item.clone(), &[])).collect()
        }
        Some(other) => decode(document, &path, other.clone(), &[]),
    }
}

/// Where the configuration has the layer that the network calls `layer`. Lists of a residual hold layers directly; in the network
/// each of them is a sequence with its own `layers`.
fn config_path(document: &Document, layer: &str) -> Path {
    let (mut path, mut parts) = (Path::default(), layer.split('.').peekable());
    while let Some(part) = parts.next() {
        let next = path.child(part);
        let Some(Found::Array(items)) = document.value(&next) else { break };
        path = next;
        if part != "layers" && parts.peek() == Some(&"layers") {
            parts.next();
        }
        let Some(name) = parts.next() else { break };
        let named = |item: &Value| item.get("name").and_then(Value::as_str) == Some(name);
        match items.iter().position(named).or_else(|| name.parse().ok().filter(|i| *i < items.len())) {
            Some(i) => path = path.join(Step::Index(i)),
            None => break,
        }
    }
    path
}

fn absolute_paths(config: &mut Config, base: &path::Path) {
    let fix = |p: &mut path::PathBuf| {
        if let Ok(absolute) = path::absolute(base.join(&*p)) {
            *p = absolute;
        }
    };
    config.data.source.paths_mut().into_iter().for_each(fix);
    if let Some(DeviceName::Plugin(Some(path))) = &mut config.train.device {
        fix(path);
    }
}
