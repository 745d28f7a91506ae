//! From a source to what training needs: parts, the columns used, and the coding that goes with the model.

use std::path::Path;

use crate::coding::{ArrayCoding, Coding, InputCoding, TargetCoding, TextCoding};
use crate::{DataError, Dataset, Kind, Normalise, Parts, Role, Scale};

/// How a source is read: what the `[data]` table says beside the source, and the run's seed.
#[derive(Clone, Copy, Debug)]
pub struct LoadOptions<'a> {
    /// Folder that relative paths start from.
    pub base: &'a Path,
    /// Share of the training part that is split off for validation; 0 is none.
    pub validation: f64,
    /// Seed of the split. The test part does not depend on it.
    pub seed: u64,
    /// How numbers are brought to a common range, measured on the training part without validation.
    pub normalize: Normalise,
    /// How numeric targets are brought to a common range.
    pub normalize_target: NormaliseTarget,
    /// The column (or, for tables, columns separated by commas) that the network reads; without it the source's own.
    pub input: Option<&'a str>,
    /// The column that the loss compares with; the input itself for an autoencoder.
    pub target: Option<&'a str>,
}

/// How numeric targets are brought to a common range. Metrics and predictions are in the original unit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum NormaliseTarget {
    /// `standard` for the columns of tables and series, `none` for other sources and where the loss reads targets as counts or
    /// probabilities.
    #[default]
    Auto,
    /// As they are.
    None,
    /// Mean 0 and standard deviation 1.
    Standard,
    /// As `standard`, of the natural logarithm: for positive quantities of many magnitudes, such as prices.
    Log,
}

impl<'a> LoadOptions<'a> {
    /// The defaults of a configuration, for files below `base`.
    pub fn new(base: &'a Path) -> Self {
        Self {
            base,
            validation: 0.1,
            seed: 0,
            normalize: Normalise::Global,
            normalize_target: NormaliseTarget::Auto,
            input: None,
            target: None,
        }
    }
}

/// Data that are ready to be trained on.
pub struct Loaded {
    /// Training, validation and test part, each with the same columns.
    pub parts: Parts,
    /// Number of the column that the network reads.
    pub input: usize,
    /// Number of the column that the loss compares with.
    pub target: usize,
    /// What [`Dataset::fill_f32`] applies to the input.
    pub scale: Scale,
    /// What [`Dataset::fill_f32`] applies to the target.
    pub target_scale: Scale,
    /// How raw input becomes what the network reads, and its output what people read. Stored with the model.
    pub coding: Coding,
    /// What was found in the data that a person should know, one sentence each.
    pub findings: Vec<String>,
}

/// Why data could not be loaded, with the key of `[data]` that is at fault.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct LoadError {
    /// Key of the `[data]` table, such as `target`.
    pub key: &'static str,
    /// What is wrong.
    #[source]
    pub error: DataError,
}

impl LoadError {
    /// An error about a key; made for `map_err`.
    pub fn at(key: &'static str) -> impl Fn(DataError) -> LoadError {
        move |error| LoadError { key, error }
    }
}

impl From<DataError> for LoadError {
    fn from(error: DataError) -> Self {
        let key = "source";
        LoadError { key, error }
    }
}

impl Loaded {
    /// Data whose columns hold what the network reads, up to a scale: splits off the validation part and measures the
    /// scale on the rest.
    ///
    /// # Errors
    /// A share out of range, columns that are not there, values that are not finite.
    pub fn from_parts(parts: Parts, options: &LoadOptions) -> Result<Self, LoadError> {
        let parts = parts.with_validation(options.validation, options.seed).map_err(LoadError::at("validation"))?;
        let data = parts.train.as_ref();
        let input = column(data, "input", options.input, Role::Input)?;
        let target = column(data, "target", options.target, Role::Target)?;
        let columns = data.columns();
        let numbers = columns[input].kind == Kind::Number;
        let scale = if numbers { Scale::fit(data, input, options.normalize)? } else { Scale::identity() };
        let target_scale = match options.normalize_target {
            // An autoencoder's target is its input as the network sees it.
            _ if target == input => scale.clone(),
            NormaliseTarget::Auto | NormaliseTarget::None => Scale::identity(),
            NormaliseTarget::Standard => Scale::fit(data, target, Normalise::Channel)?,
            NormaliseTarget::Log => {
                let error = DataError::LogTarget { data: data.name().into() };
                return Err(LoadError { key: "normalize_target", error });
            }
        };
        let input_coding = match &columns[input].kind {
            Kind::Token(vocabulary) => {
                InputCoding::Text(TextCoding::characters(vocabulary.as_ref().clone(), columns[input].shape.iter().product()))
            }
            _ => InputCoding::Array(ArrayCoding { shape: columns[input].shape.clone(), scale: scale.clone() }),
        };
        let target_coding = TargetCoding::of(&columns[target], target == input, &target_scale);
        let coding = Coding::new(input_coding, target_coding);
        Ok(Self { parts, input, target, scale, target_scale, coding, findings: Vec::new() })
    }
}

/// The column called `name`, or the first with a role.
fn column(data: &dyn Dataset, key: &'static str, name: Option<&str>, role: Role) -> Result<usize, LoadError> {
    match name {
        Some(name) => data.column(name).map_err(LoadError::at(key)),
        None => data.columns().iter().position(|c| c.role == role).ok_or_else(|| {
            let error = DataError::NoColumnFor { data: data.name().into(), what: key };
            LoadError { key: "source", error }
        }),
    }
}
