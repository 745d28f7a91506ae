//! The folder of a run: everything that training leaves behind, and all that is needed to go on.
//!
//! ```text
//! run.json              format of the folder, program, when it was made
//! config.toml           the configuration with every default written out
//! metrics.jsonl         one JSON object per epoch
//! checkpoints/          see [`checkpoint`](crate::checkpoint)
//! weights.safetensors   parameters and statistics under PyTorch's names, when training is done
//! curves.svg            loss and metric
//! summary.json          the outcome
//! preprocessing.json    what raw input is to the network and its output to people: see [`coding`](backprop_data::coding)
//! ```

mod about;

pub use about::{About, FORMAT};

use crate::{
    checkpoint::{Checkpoints, Tensors},
    config::{Config, ConfigError},
    events::{Epoch, Summary},
    files::{self, FileError},
    plot::{self, Line, Panel},
};
use backprop_core::HostTensor;
use backprop_data::coding::{self, Coding};
use serde::Serialize;
use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    path::{Path, PathBuf},
};

const CONFIG: &str = "config.toml";
const METRICS: &str = "metrics.jsonl";
const WEIGHTS: &str = "weights.safetensors";
const CURVES: &str = "curves.svg";
const SUMMARY: &str = "summary.json";
const CODING: &str = "preprocessing.json";

/// Keys that can change while a run goes on: how long it lasts and how it is run, not what its steps compute.
const FREE: [&str; 10] = [
    "train.epochs",
    "train.early_stopping",
    "train.threads",
    "train.device",
    "train.devices",
    "train.loader_threads",
    "train.max_time",
    "train.max_nonfinite_steps",
    "train.checkpoint_every_steps",
    "train.checkpoint_every_seconds",
];

/// Why a run folder could not be made, opened or written.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A file could not be written or read.
    #[error(transparent)]
    File(#[from] FileError),
    /// The configuration cannot be written or read.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The folder to be made exists.
    #[error("{} exists already; choose another folder with --out, or go on with that run with --resume", .0.display())]
    Exists(PathBuf),
    /// The folder is not that of a run.
    #[error("{} is not the folder of a run: it has no {CONFIG}; give the folder that `backprop train` made", .0.display())]
    NotARun(PathBuf),
    /// The folder is of a newer version of this program.
    #[error(
        "the run {} has format {found}, made by {program}; this is backprop {} and reads up to format {FORMAT}: use a newer program",
        folder.display(), env!("CARGO_PKG_VERSION")
    )]
    Newer {
        /// The folder.
        folder: PathBuf,
        /// Its format.
        found: u32,
        /// What made it.
        program: String,
    },
    /// The coding of input and output is of a newer version of this program.
    #[error(
        "{} has format {found}; this is backprop {} and reads up to format {}: use a newer program",
        file.display(), env!("CARGO_PKG_VERSION"), coding::FORMAT
    )]
    NewerCoding {
        /// The file.
        file: PathBuf,
        /// Its format.
        found: u64,
    },
    /// A file of the run is not what was written.
    #[error("{} is damaged: {what}; restore it from a copy, or start the run anew", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// How it shows.
        what: String,
    },
    /// A value that must not change while a run goes on.
    #[error("a run that goes on cannot change `{key}`: {why}; to train with it, start a new run from {}", config.display())]
    Fixed {
        /// The key.
        key: String,
        /// Why not.
        why: String,
        /// The configuration of the run.
        config: PathBuf,
    },
    /// The weights cannot be read.
    #[error("the weights {} are damaged: {what}; take them from a copy, or train again", file.display())]
    Weights {
        /// The file.
        file: PathBuf,
        /// How it shows.
        what: String,
    },
    /// The run has no weights yet.
    #[error("{} has no weights yet: its training is not done; go on with --resume", .0.display())]
    NoWeights(PathBuf),
}

/// The folder of a run.
#[derive(Clone, Debug)]
pub struct Run {
    folder: PathBuf,
}

impl Run {
    /// Makes the folder with the configuration in it. It appears whole: a folder of a run always has its configuration.
    ///
    /// # Errors
    /// If it exists, even empty, or cannot be written.
    pub fn create(folder: &Path, config: &Config) -> Result<Run, RunError> {
        let text = config.to_toml()?;
        if folder.symlink_metadata().is_ok() {
            return Err(RunError::Exists(folder.into()));
        }
        let parent = folder.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        files::create_folder(parent)?;
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let draft = parent.join(format!(".draft-{name}-{}", std::process::id()));
        files::create_folder(&draft)?;
        let written = About::now().write(&draft).and_then(|()| files::write_synced(&draft.join(CONFIG), text.as_bytes()));
        let made = written.and_then(|()| files::rename(&draft, folder));
        if let Err(error) = made {
            // The draft is of no use; the first error is the one to report.
            let _ = fs::remove_dir_all(&draft);
            return Err(if folder.exists() { RunError::Exists(folder.into()) } else { error.into() });
        }
        files::sync_folder(parent)?;
        Ok(Run { folder: folder.into() })
    }

    /// Makes the folder `NAME-1` in `parent`, or the next number that is free.
    ///
    /// # Errors
    /// As [`create`](Self::create).
    pub fn create_next(parent: &Path, name: &str, config: &Config) -> Result<Run, RunError> {
        let mut number = 1;
        loop {
            match Run::create(&parent.join(format!("{name}-{number}")), config) {
                Err(RunError::Exists(_)) => number += 1,
                made => return made,
            }
        }
    }

    /// Opens the folder of a run and reads its configuration.
    ///
    /// # Errors
    /// If it is not the folder of a run, or that of a newer version of this program.
    pub fn open(folder: &Path) -> Result<(Run, Config), RunError> {
        Run::open_with(folder, &[])
    }

    /// Opens the folder of a run that is to go on with some values replaced: `key=value`, of the keys that do not change what the
    /// steps do that are done already. [`keep`](Self::keep) writes them to the folder.
    ///
    /// # Errors
    /// As [`open`](Self::open); a key that must not change.
    pub fn open_with(folder: &Path, overrides: &[String]) -> Result<(Run, Config), RunError> {
        let file = folder.join(CONFIG);
        if !file.is_file() {
            return Err(RunError::NotARun(folder.into()));
        }
        About::read(folder)?;
        let config = Config::load(&file, overrides)?;
        let fixed = |key: &str, why: String| RunError::Fixed { key: key.into(), why, config: file.clone() };
        let keys = overrides.iter().filter_map(|o| o.split_once('=')).map(|(key, _)| key.trim());
        if let Some(key) = keys.clone().find(|key| !FREE.contains(key)) {
            let free = FREE.iter().map(|k| format!("`{k}`")).collect::<Vec<_>>().join(", ");
            return Err(fixed(key, format!("its steps so far were done with what it is; free to change are {free}")));
        }
        let before = if overrides.is_empty() { config.train.epochs } else { Config::load(&file, &[])?.train.epochs };
        if config.train.epochs < before {
            return Err(fixed("train.epochs", format!("it can grow, but not from {before} to {}", config.train.epochs)));
        }
        Ok((Run { folder: folder.into() }, config))
    }

    /// Writes the configuration with which the run goes on.
    ///
    /// # Errors
    /// What the operating system refuses.
    pub fn keep(&self, config: &Config) -> Result<(), RunError> {
        Ok(files::replace(&self.folder.join(CONFIG), config.to_toml()?.as_bytes())?)
    }

    /// Who made the folder, and when; `None` for one of the time before formats had versions.
    ///
    /// # Errors
    /// If the file is damaged.
    pub fn about(&self) -> Result<Option<About>, RunError> {
        About::read(&self.folder)
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Its checkpoints.
    pub fn checkpoints(&self) -> Checkpoints {
        Checkpoints::new(self.folder.join("checkpoints"))
    }

    /// Opens the metrics for appending after their first `bytes` bytes; what follows them is of a future that did not happen.
    ///
    /// # Errors
    /// What the operating system refuses.
    pub fn metrics(&self, bytes: u64) -> Result<Metrics, FileError> {
        let path = self.folder.join(METRICS);
        let open = || {
            let file = OpenOptions::new().create(true).append(true).open(&path)?;
            file.set_len(bytes.min(file.metadata()?.len()))?;
            Ok(file)
        };
        let file = open().map_err(|e: io::Error| FileError::new("open", &path, e))?;
        Ok(Metrics { file, path, bytes })
    }

    /// Writes weights, curves and summary.
    ///
    /// # Errors
    /// What the operating system refuses.
    pub fn finish(&self, weights: &[(String, HostTensor)], history: &[Epoch], summary: &Summary) -> Result<(), FileError> {
        let bytes = files::to_checked_safetensors(weights);
        files::replace(&self.folder.join(WEIGHTS), &bytes)?;
        self.draw(history, &summary.metric)?;
        files::replace(&self.folder.join(SUMMARY), &line(summary))
    }

    /// Draws the curves of the epochs so far.
    ///
    /// # Errors
    /// What the operating system refuses.
    pub fn draw(&self, history: &[Epoch], metric: &str) -> Result<(), FileError> {
        let curve = |name: &str, value: &dyn Fn(&Epoch) -> Option<f64>| Line {
            name: name.into(),
            points: history.iter().filter_map(|e| Some((e.epoch as f64, value(e)?))).collect(),
        };
        let panel = |title: &str, train: Line, validation: Line| Panel {
            title: title.into(),
            lines: [train, validation].into_iter().filter(|l| !l.points.is_empty()).collect(),
        };
        let loss = panel(
            "loss",
            curve("train", &|e| Some(e.train.loss)),
            curve("validation", &|e| e.validation.as_ref().map(|s| s.loss)),
        );
        let other = panel(
            metric,
            curve("train", &|e| Some(e.train.metric)),
            curve("validation", &|e| e.validation.as_ref().map(|s| s.metric)),
        );
        // Where the loss is the metric, one panel says it all.
        let panels = if metric == "loss" { vec![loss] } else { vec![loss, other] };
        files::replace(&self.folder.join(CURVES), plot::svg(&panels, "epoch").as_bytes())
    }

    /// The weights that training kept.
    ///
    /// # Errors
    /// If training is not done, or the file is damaged.
    pub fn weights(&self) -> Result<Tensors, RunError> {
        let file = self.folder.join(WEIGHTS);
        if !file.exists() {
            return Err(RunError::NoWeights(self.folder.clone()));
        }
        let bytes = files::read(&file)?;
        files::from_safetensors(&bytes).map_err(|what| RunError::Weights { file, what })
    }

    /// The weights that training kept; of a run that is not done, the best so far in its newest checkpoint, else the last.
    ///
    /// # Errors
    /// If there is no checkpoint yet, or it is damaged.
    pub fn newest_weights(&self) -> Result<Tensors, RunError> {
        if self.weights_file().exists() {
            return self.weights();
        }
        let newest = self.checkpoints().load::<serde_json::Value>();
        let newest = newest.map_err(|e| RunError::Weights { file: self.folder.join("checkpoints"), what: e.to_string() })?;
        let checkpoint = newest.ok_or_else(|| RunError::NoWeights(self.folder.clone()))?;
        Ok(checkpoint.best.unwrap_or(checkpoint.state))
    }

    /// Stores how raw input becomes what the network reads, and its output what people read.
    ///
    /// # Errors
    /// What the operating system refuses.
    pub fn keep_coding(&self, coding: &Coding) -> Result<(), FileError> {
        files::replace(&self.folder.join(CODING), &line(coding))
    }

    /// What [`keep_coding`](Self::keep_coding) stored; `None` in a run of the time before it was.
    ///
    /// # Errors
    /// If the file is damaged, or of a later version of this program.
    pub fn coding(&self) -> Result<Option<Coding>, RunError> {
        let file = self.folder.join(CODING);
        if !file.exists() {
            return Ok(None);
        }
        let bytes = files::read(&file)?;
        let damaged = |e: serde_json::Error| RunError::Damaged { file: file.clone(), what: e.to_string() };
        let tree: serde_json::Value = serde_json::from_slice(&bytes).map_err(damaged)?;
        match tree.get("format").and_then(serde_json::Value::as_u64) {
            Some(found) if found > u64::from(coding::FORMAT) => Err(RunError::NewerCoding { file, found }),
            _ => serde_json::from_value(tree).map(Some).map_err(damaged),
        }
    }

    /// The epochs done, as far as `metrics.jsonl` tells. A last line that is still being written is not one.
    ///
    /// # Errors
    /// If the file is damaged.
    pub fn history(&self) -> Result<Vec<Epoch>, RunError> {
        let file = self.folder.join(METRICS);
        if !file.exists() {
            return Ok(Vec::new());
        }
        let bytes = files::read(&file)?;
        let whole = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |end| end + 1);
        let lines = bytes[..whole].split_inclusive(|b| *b == b'\n').enumerate();
        let read = |(i, line): (usize, &[u8])| {
            serde_json::from_slice(line)
                .map_err(|e| RunError::Damaged { file: file.clone(), what: format!("line {} says no epoch ({e})", i + 1) })
        };
        lines.map(read).collect()
    }

    /// The outcome; `None` while training is not done.
    ///
    /// # Errors
    /// If the file is damaged.
    pub fn summary(&self) -> Result<Option<Summary>, RunError> {
        let file = self.folder.join(SUMMARY);
        if !file.exists() {
            return Ok(None);
        }
        let read = serde_json::from_slice(&files::read(&file)?);
        read.map(Some).map_err(|e| RunError::Damaged { file, what: format!("it says no outcome ({e})") })
    }

    /// The file of the weights.
    pub fn weights_file(&self) -> PathBuf {
        self.folder.join(WEIGHTS)
    }
}

/// `metrics.jsonl`, open for appending.
#[derive(Debug)]
pub struct Metrics {
    file: File,
    path: PathBuf,
    bytes: u64,
}

impl Metrics {
    /// Appends one line.
    ///
    /// # Errors
    /// What the operating system refuses.
    pub fn append(&mut self, epoch: &Epoch) -> Result<(), FileError> {
        let bytes = line(epoch);
        self.file.write_all(&bytes).map_err(|e| FileError::new("write", &self.path, e))?;
        self.bytes += bytes.len() as u64;
        Ok(())
    }

    /// Waits until all is on the disk.
    ///
    /// # Errors
    /// What the operating system refuses.
    pub fn sync(&self) -> Result<(), FileError> {
        self.file.sync_all().map_err(|e| FileError::new("write", &self.path, e))
    }

    /// Length so far.
    pub fn bytes(&self) -> u64 {
        self.bytes
    }
}

/// One line of JSON of a value that has a form in it: names and numbers.
fn line(value: &impl Serialize) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(value).unwrap_or_default();
    bytes.push(b'\n');
    bytes
}
