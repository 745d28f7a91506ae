//! From a look at a user's own data to a configuration that works: `backprop init`.
//!
//! A proposal is a pure function of the data and of what was asked for. It loads the data once, so that what it proposes can be
//! trained: what is wrong with the data is said now, in one sentence.

mod image;
mod series;
mod table;
mod text;
mod write;

use crate::config::{Config, ConfigError};
use backprop_data::{DataError, LoadError, LoadOptions, Loaded, Source};
use std::{
    fs::File,
    io::{self, Read},
    path::{Path, PathBuf},
};
use write::{Writer, int};

/// What a target is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Task {
    /// One of several classes.
    Classification,
    /// A quantity.
    Regression,
}

impl Task {
    fn name(self) -> &'static str {
        match self {
            Task::Classification => "classification",
            Task::Regression => "regression",
        }
    }
}

/// What a configuration is asked for.
#[derive(Clone, Debug)]
pub struct Request {
    /// The data: a CSV file, a folder of images, a text, IDX images.
    pub data: PathBuf,
    /// The path as the configuration writes it: from the folder of the configuration.
    pub written: PathBuf,
    /// The column to predict, for tables; without it the last.
    pub target: Option<String>,
    /// What the target is, for tables; found if not given.
    pub task: Option<Task>,
}

/// How the model is used after training.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Usage {
    /// `backprop predict RUN FILE`.
    Predict,
    /// `backprop generate RUN --prompt PROMPT`.
    Generate {
        /// The first word of the text: a prompt must be made of its characters.
        prompt: String,
    },
}

/// A configuration and the reasons for it.
#[derive(Clone, Debug)]
pub struct Proposal {
    /// What was found in the data, one sentence each.
    pub found: Vec<String>,
    /// What was chosen, in one sentence.
    pub chosen: String,
    /// The configuration in TOML; comments say why each value was chosen.
    pub toml: String,
    /// How the model is used after training.
    pub usage: Usage,
}

/// Why no configuration can be proposed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProposeError {
    /// The data cannot be read or trained on.
    #[error("{0}")]
    Data(#[from] DataError),
    /// Data of a kind that no configuration can be proposed for.
    #[error("{file}: {why}")]
    Kind {
        /// The file or folder.
        file: String,
        /// What it is, and what would be right.
        why: String,
    },
    /// The proposal is not a valid configuration: this program is at fault.
    #[error("the proposed configuration is not valid, which is a mistake of this program: {0}")]
    Invalid(Box<ConfigError>),
}

impl From<LoadError> for ProposeError {
    fn from(error: LoadError) -> ProposeError {
        ProposeError::Data(error.error)
    }
}

/// Looks at data and proposes a configuration for them.
///
/// # Errors
/// Data that cannot be read, that are of an unknown kind, or that nothing can be learnt from; one sentence says what to do.
///
/// ```
/// use backprop::propose::{Request, propose};
///
/// let folder = std::env::temp_dir().join(format!("backprop-propose-{}", std::process::id()));
/// std::fs::create_dir_all(&folder)?;
/// let file = folder.join("points.csv");
/// let rows: String = (0..40).map(|i| format!("{i},{},{}\n", i % 7, ["low", "high"][usize::from(i > 20)])).collect();
/// std::fs::write(&file, format!("x,y,level\n{rows}"))?;
/// let proposal = propose(&Request { data: file.clone(), written: file, target: None, task: None })?;
/// assert!(proposal.toml.contains("type = \"cross_entropy\""));
/// # std::fs::remove_dir_all(folder)?;
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn propose(request: &Request) -> Result<Proposal, ProposeError> {
    let proposal = match kind(&request.data)? {
        Kind::Folder => image::folder(request),
        Kind::Idx => image::idx(request),
        Kind::Table => table::propose(request),
        Kind::Text => text::propose(request),
    }?;
    Config::parse("proposal", &proposal.toml, Path::new(""), &[]).map_err(|e| ProposeError::Invalid(Box::new(e)))?;
    Ok(proposal)
}

enum Kind {
    Folder,
    Table,
    Text,
    Idx,
}

/// Bytes of a file that are looked at to tell what it is.
const LOOK: u64 = 1 << 16;

fn kind(path: &Path) -> Result<Kind, ProposeError> {
    let file = path.display().to_string();
    if path.is_dir() {
        return Ok(Kind::Folder);
    }
    let error = |why: &str| ProposeError::Kind { file: file.clone(), why: why.into() };
    let name = path.file_name().unwrap_or_default().to_string_lossy().to_lowercase();
    let name = name.trim_end_matches(".gz");
    let ends = |endings: &[&str]| endings.iter().any(|e| name.ends_with(e));
    let mut beginning = Vec::new();
    let io = |source: io::Error| DataError::Io { file: file.clone(), source };
    File::open(path).map_err(io)?.take(LOOK).read_to_end(&mut beginning).map_err(io)?;
    if ends(&[".csv", ".tsv", ".data"]) {
        return Ok(Kind::Table);
    }
    if ends(&["-ubyte", ".idx", ".idx1", ".idx3"]) || beginning.starts_with(&[0, 0, 8]) {
        return Ok(Kind::Idx);
    }
    if ends(&[".txt", ".md", ".text"]) {
        return Ok(Kind::Text);
    }
    if ends(&[".png", ".jpg", ".jpeg"]) {
        return Err(error("is one image; give the folder that has a sub-folder of images for each class"));
    }
    if ends(&[".npy", ".npz"]) {
        return Err(error("holds arrays whose meaning their file does not tell; write the configuration with source = \"npy\""));
    }
    if beginning.contains(&0) {
        return Err(error(
            "is of no kind that this program knows; give a CSV file, a folder of images, a text, or IDX images and labels",
        ));
    }
    Ok(if is_table(&String::from_utf8_lossy(&beginning)) { Kind::Table } else { Kind::Text })
}

/// Whether the lines of a file without a telling name have the same number of a delimiter. What a space follows is punctuation.
fn is_table(text: &str) -> bool {
    // The last line may be cut.
    let mut lines: Vec<&str> = text.lines().filter(|l| !l.trim().is_empty()).collect();
    if lines.len() > 2 {
        lines.pop();
    }
    let regular = |delimiter: char| {
        if text.contains(&format!("{delimiter} ")) {
            return false;
        }
        let counts: Vec<usize> = lines.iter().map(|l| l.matches(delimiter).count()).collect();
        counts.len() > 1 && counts[0] > 0 && counts.iter().all(|c| *c == counts[0])
    };
    [',', ';', '\t', '|'].into_iter().any(regular)
}

/// Loads a source written as the lines of a `[data]` table, with the share of validation.
fn load(source: &Source, target: Option<&str>, validation: f64) -> Result<Loaded, ProposeError> {
    let options = LoadOptions { validation, target, ..LoadOptions::new(Path::new("")) };
    Ok(source.load(&options)?)
}

/// Shares of the data that are kept apart, by the number of rows: `(validation, test)`.
fn shares(rows: u64) -> (f64, f64) {
    match rows {
        0..30 => (0.0, 0.0),
        30..300 => (0.2, 0.2),
        _ => (0.1, 0.2),
    }
}

/// Rows per step, by the rows that are trained on: hundreds of steps per epoch at most, and several at least.
fn batch_size(rows: u64) -> u64 {
    match rows {
        0..16 => rows.max(1),
        16..500 => 16,
        500..2_000 => 32,
        2_000..10_000 => 64,
        10_000..100_000 => 256,
        _ => 512,
    }
}

/// Passes over the data that make about so many steps.
fn epochs(rows: u64, batch: u64, steps: u64, least: u64, most: u64) -> u64 {
    (steps / rows.div_ceil(batch).max(1)).clamp(least, most)
}

/// Weights of classes, if the most frequent is more than three times as frequent as the rarest: total / (classes · rows of the class),
/// at most 10.
fn class_weights(counts: &[u64]) -> Option<Vec<f64>> {
    let (least, most) = (*counts.iter().min()?, *counts.iter().max()?);
    if least == 0 || most <= 3 * least {
        return None;
    }
    let total: u64 = counts.iter().sum();
    let weight = |rows: u64| (total as f64 / (counts.len() as f64 * rows as f64)).min(10.0);
    Some(counts.iter().map(|&rows| (weight(rows) * 1e3).round() / 1e3).collect())
}

/// Ends a configuration: optimizer, schedule, training.
fn training(w: &mut Writer, rows: u64, batch: u64, epochs: u64, validated: bool) {
    w.table("[optimizer]");
    w.comment("Adam with decoupled weight decay needs little tuning; the decay holds back overfitting.");
    w.set("type", "adamw");
    w.set("learning_rate", 3e-3);
    w.set("weight_decay", 0.01);
    w.table("[schedule]");
    w.comment("Up to the learning rate and down again: good results in few epochs.");
    w.set("type", "one_cycle");
    w.set("cycle_momentum", false);
    w.table("[train]");
    w.comment(&format!("{rows} rows in batches of {batch} are {} steps per epoch.", rows.div_ceil(batch)));
    w.set("epochs", int(epochs));
    w.set("batch_size", int(batch));
    w.comment("Larger gradients are scaled down to this norm: single odd rows do no harm.");
    w.set("clip_norm", 1.0);
    if validated {
        w.comment("The weights of the epoch that does best on validation are kept.");
    } else {
        w.comment("There is no validation to choose an epoch by: the last weights are kept.");
    }
    w.set("keep_best", validated);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_told_from_texts() {
        for table in ["a,b\n1,2\n", "a;b\n1;2\n3;4\n", "a\tb\n1\t2\n3\t"] {
            assert!(is_table(table), "{table}");
        }
        for text in ["", "Hello, world.\nWhat now?\n", "One, two.\nThree, four.\n", "one line, only"] {
            assert!(!is_table(text), "{text}");
        }
    }

    #[test]
    fn rare_classes_weigh_more() {
        assert_eq!(class_weights(&[50, 50, 20]), None);
        assert_eq!(class_weights(&[90, 10]), Some(vec![0.556, 5.0]));
        assert_eq!(class_weights(&[10_000, 3]), Some(vec![0.5, 10.0]));
        assert_eq!(class_weights(&[]), None);
    }

    #[test]
    fn small_data_are_passed_often() {
        assert_eq!((batch_size(100), epochs(100, 16, 4_000, 10, 100)), (16, 100));
        assert_eq!((batch_size(39_000), epochs(39_000, 256, 4_000, 10, 100)), (256, 26));
        assert_eq!(batch_size(3), 3);
    }
}
