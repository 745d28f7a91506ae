//! Which numbers a key can hold: one row per key.

use super::document::{Document, Found, Path, Step};
use super::error::ConfigError;
use serde_json::{Map, json};
use toml::Value;

/// What a number must be.
#[derive(Clone, Copy)]
enum Range {
    /// Above 0.
    Positive,
    /// 0 or above.
    NotNegative,
    /// In `[0, 1]`.
    Probability,
    /// In `[0, 1)`.
    BelowOne,
    /// A whole number of 1 or more, and below [`LARGEST`].
    Count,
    /// A whole number of 0 or more.
    Whole,
    /// A whole number of 1 to [`DEEPEST`].
    Depth,
}

/// More layers on top of each other are a mistake: tracing them alone would take minutes.
const DEEPEST: f64 = 10_000.0;

/// No extent reaches 2⁴⁰: products of a few of them stay within 64 bits.
const LARGEST: f64 = (1_u64 << 40) as f64;

/// Keys and what their numbers must be, wherever in the section they stand. Lists are checked entry by entry.
const ROWS: &[(&str, &[&str], Range)] = &[
    ("data", &["validation", "test"], Range::BelowOne),
    ("data", &["image_size", "rows", "features", "classes", "sequence", "stride", "height", "width", "channels"], Range::Count),
    ("data", &["window", "horizon", "max_words", "min_count"], Range::Count),
    ("data", &["seed"], Range::Whole),
    ("layers", &["out_features", "out_channels", "kernel_size", "stride", "dilation", "groups"], Range::Count),
    ("layers", &["hidden_size", "num_embeddings", "embedding_dim"], Range::Count),
    ("layers", &["num_heads", "dim_feedforward", "max_len"], Range::Count),
    ("layers", &["padding_idx"], Range::Whole),
    ("layers", &["dropout"], Range::Probability),
    ("layers", &["num_layers"], Range::Depth),
    ("layers", &["multiplier", "output_size", "num_groups", "scale_factor", "times", "len", "dims"], Range::Count),
    ("layers", &["padding", "output_padding", "start", "indices"], Range::Whole),
    ("layers", &["beta"], Range::Positive),
    ("layers", &["p", "momentum"], Range::Probability),
    ("layers", &["eps"], Range::Positive),
    ("loss", &["label_smoothing"], Range::Probability),
    ("loss", &["delta", "eps"], Range::Positive),
    ("loss", &["beta", "gamma", "alpha", "weight", "pos_weight"], Range::NotNegative),
    ("metrics", &["k"], Range::Count),
    ("optimizer", &["learning_rate", "learning_rate_factor", "eps"], Range::Positive),
    ("optimizer", &["weight_decay", "lr_decay", "momentum_decay", "initial_accumulator_value"], Range::NotNegative),
    ("optimizer", &["momentum", "betas", "dampening", "alpha", "rho"], Range::BelowOne),
    ("schedule", &["warmup_steps", "patience", "cooldown"], Range::Whole),
    ("schedule", &["step_size", "milestones", "total_iters", "t_0", "t_mult"], Range::Count),
    ("schedule", &["pct_start", "base_momentum", "max_momentum"], Range::Probability),
    ("schedule", &["warmup_start_factor", "start_factor", "end_factor"], Range::Probability),
    ("schedule", &["div_factor", "final_div_factor", "gamma"], Range::Positive),
    ("schedule", &["min_learning_rate", "power", "threshold"], Range::NotNegative),
    ("schedule", &["factor"], Range::BelowOne),
    ("train", &["epochs", "batch_size", "threads", "checkpoint_every_steps", "max_nonfinite_steps"], Range::Count),
    ("train", &["early_stopping", "accumulate", "devices"], Range::Count),
    ("train", &["early_stopping_min_delta"], Range::NotNegative),
    ("train", &["ema"], Range::BelowOne),
    ("train", &["clip_norm", "clip_value", "checkpoint_every_seconds"], Range::Positive),
    ("train", &["seed", "loader_threads"], Range::Whole),
];

impl Range {
    /// As keywords of JSON schema.
    fn bounds(self) -> serde_json::Value {
        match self {
            Range::Positive => json!({ "exclusiveMinimum": 0 }),
            Range::NotNegative | Range::Whole => json!({ "minimum": 0 }),
            Range::Probability => json!({ "minimum": 0, "maximum": 1 }),
            Range::BelowOne => json!({ "minimum": 0, "exclusiveMaximum": 1 }),
            Range::Count => json!({ "minimum": 1 }),
            Range::Depth => json!({ "minimum": 1, "maximum": DEEPEST as u64 }),
        }
    }
}

/// The range of a key as keywords of JSON schema.
pub(super) fn bounds(section: &str, key: &str) -> Option<Map<String, serde_json::Value>> {
    match row(section, key)?.bounds() {
        serde_json::Value::Object(bounds) => Some(bounds),
        _ => None,
    }
}

fn row(section: &str, key: &str) -> Option<Range> {
    ROWS.iter().find(|(s, names, _)| *s == section && names.contains(&key)).map(|row| row.2)
}

/// Checks every number of the tree: finite, and in the range of its key.
pub(crate) fn check(document: &Document) -> Result<(), ConfigError> {
    let roots = Found::Table(&document.tree).children(&Path::default());
    roots.into_iter().try_for_each(|(path, value)| check_value(document, &path, value))
}

fn check_value(document: &Document, path: &Path, value: &Value) -> Result<(), ConfigError> {
    match value {
        Value::Table(_) | Value::Array(_) => {
            Found::of(value).children(path).into_iter().try_for_each(|(path, value)| check_value(document, &path, value))
        }
        Value::Float(number) => check_number(document, path, *number, false),
        Value::Integer(number) => check_number(document, path, *number as f64, true),
        _ => Ok(()),
    }
}

fn check_number(document: &Document, path: &Path, number: f64, whole: bool) -> Result<(), ConfigError> {
    let needed = match range_of(path) {
        _ if !number.is_finite() => "a finite number",
        Some(Range::Positive) if number <= 0.0 => "a number above 0",
        Some(Range::NotNegative) if number < 0.0 => "a number of 0 or more",
        Some(Range::Probability) if !(0.0..=1.0).contains(&number) => "a number from 0 to 1",
        Some(Range::BelowOne) if !(0.0..1.0).contains(&number) => "a number from 0 to below 1",
        Some(Range::Count) if number < 1.0 || !whole => "a whole number of 1 or more",
        Some(Range::Count) if number >= LARGEST => "a whole number below 2^40",
        Some(Range::Depth) if !(1.0..=DEEPEST).contains(&number) || !whole => "a whole number from 1 to 10000",
        Some(Range::Whole) if number < 0.0 || !whole => "a whole number of 0 or more",
        _ => return Ok(()),
    };
    Err(ConfigError::new(format!("must be {needed}, not {number}"))
        .key(path.to_string())
        .at(document.place(path, false))
        .label(format!("must be {needed}")))
}

fn range_of(path: &Path) -> Option<Range> {
    let keys = || path.0.iter().filter_map(|step| if let Step::Key(k) = step { Some(k.as_str()) } else { None });
    let (section, key) = (keys().next()?, keys().next_back()?);
    row(section, key)
}
