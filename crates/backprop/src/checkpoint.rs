//! Checkpoints on disk: atomic, versioned, checked.
//!
//! ```text
//! checkpoints/latest                  name of the newest checkpoint
//! checkpoints/step-000000420/         written elsewhere, synchronised, then renamed to this
//!     state.safetensors               parameters, optimizer state, statistics
//!     best.safetensors                parameters and statistics of the best epoch, if they are kept
//!     progress.json                   step, epoch, position in it, sums, history
//!     manifest.json                   format, version, size and CRC-32 of each file
//! ```
//!
//! A process that is killed at any instant leaves the previous checkpoint or the new one, whole.

use crate::files::{self, FileError};
use backprop_core::HostTensor;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
};

const FORMAT: &str = "backprop-checkpoint";

/// Version of the format; a newer one is refused, since it may mean something else.
pub const VERSION: u32 = 1;

/// How many checkpoints are kept, so that one is left should the newest be unreadable.
const KEPT: usize = 2;

const STATE: &str = "state.safetensors";
const BEST: &str = "best.safetensors";
const PROGRESS: &str = "progress.json";
const MANIFEST: &str = "manifest.json";
const LATEST: &str = "latest";

/// Why a checkpoint could not be written or read.
#[derive(Debug, thiserror::Error)]
pub enum CheckpointError {
    /// A file could not be written or read.
    #[error(transparent)]
    File(#[from] FileError),
    /// A file is not what was written.
    #[error("the checkpoint file {} is damaged: {what}; restore it from a copy, or start the run anew", file.display())]
    Damaged {
        /// The file.
        file: PathBuf,
        /// How it shows.
        what: String,
    },
    /// A checkpoint of a newer version of this program.
    #[error("the checkpoint {} has format version {found}, this program reads up to {VERSION}; use a newer program", folder.display())]
    Newer {
        /// The checkpoint.
        folder: PathBuf,
        /// Its version.
        found: u32,
    },
}

impl CheckpointError {
    fn damaged(file: &Path, what: impl Into<String>) -> CheckpointError {
        CheckpointError::Damaged { file: file.into(), what: what.into() }
    }
}

/// Named tensors in order.
pub type Tensors = Vec<(String, HostTensor)>;

/// What a checkpoint holds.
#[derive(Debug)]
pub struct Checkpoint<P> {
    /// Where training stands.
    pub progress: P,
    /// Parameters, optimizer state, statistics.
    pub state: Tensors,
    /// Parameters and statistics of the best epoch.
    pub best: Option<Tensors>,
    /// A message for each newer checkpoint that is damaged.
    pub warnings: Vec<String>,
}

#[derive(Serialize, Deserialize)]
struct Manifest {
    format: String,
    version: u32,
    files: BTreeMap<String, Entry>,
}

#[derive(Serialize, Deserialize, PartialEq)]
struct Entry {
    bytes: u64,
    crc32: u32,
}

/// The checkpoints of a run.
#[derive(Clone, Debug)]
pub struct Checkpoints {
    folder: PathBuf,
}

impl Checkpoints {
    /// The checkpoints in a folder, which need not exist yet.
    pub fn new(folder: impl Into<PathBuf>) -> Checkpoints {
        Checkpoints { folder: folder.into() }
    }

    /// Writes the checkpoint of step `step` and removes all but the newest two. Later checkpoints are of a future that did not
    /// happen (their files were damaged) and are removed too.
    ///
    /// # Errors
    /// What the operating system refuses; the checkpoints there are remain.
    pub fn save<'t, P: Serialize>(
        &self,
        step: u64,
        progress: &P,
        state: impl IntoIterator<Item = (&'t str, &'t HostTensor)>,
        best: Option<&[(String, HostTensor)]>,
    ) -> Result<PathBuf, CheckpointError> {
        files::create_folder(&self.folder)?;
        let name = format!("step-{step:09}");
        let (target, draft) = (self.folder.join(&name), self.folder.join(format!(".draft-{name}")));
        remove(&draft)?;
        files::create_folder(&draft)?;
        let mut contents = vec![(STATE, files::to_safetensors(state)), (PROGRESS, json(progress))];
        if let Some(best) = best {
            contents.push((BEST, files::to_safetensors(best.iter().map(|(n, t)| (n.as_str(), t)))));
        }
        let entry = |bytes: &[u8]| Entry { bytes: bytes.len() as u64, crc32: crc32fast::hash(bytes) };
        let listed = contents.iter().map(|(name, bytes)| ((*name).into(), entry(bytes))).collect();
        contents.push((MANIFEST, json(&Manifest { format: FORMAT.into(), version: VERSION, files: listed })));
        for (name, bytes) in &contents {
            files::write_synced(&draft.join(name), bytes)?;
        }
        files::sync_folder(&draft)?;
        if target.exists() {
            let old = self.folder.join(format!(".old-{name}"));
            remove(&old)?;
            files::rename(&target, &old)?;
        }
        files::rename(&draft, &target)?;
        files::sync_folder(&self.folder)?;
        files::replace(&self.folder.join(LATEST), name.as_bytes())?;
        self.prune(step)?;
        Ok(target)
    }

    /// Reads the newest checkpoint that is whole. `None` if there is none at all.
    ///
    /// # Errors
    /// If there are checkpoints and none can be read: what is wrong with the newest.
    pub fn load<P: DeserializeOwned>(&self) -> Result<Option<Checkpoint<P>>, CheckpointError> {
        let mut first = None;
        let mut warnings = Vec::new();
        for folder in self.newest_first() {
            match read(&folder) {
                Ok(checkpoint) => return Ok(Some(Checkpoint { warnings, ..checkpoint })),
                // An older checkpoint would lose what the newer program did.
                Err(error @ CheckpointError::Newer { .. }) => return Err(error),
                Err(error) => {
                    warnings.push(format!("{error}; going on from the checkpoint before it"));
                    first.get_or_insert(error);
                }
            }
        }
        first.map_or(Ok(None), Err)
    }

    /// Folders of the checkpoints: the one `latest` names, then the others, newest first.
    fn newest_first(&self) -> Vec<PathBuf> {
        let mut steps: Vec<PathBuf> = self.steps().into_iter().map(|(_, path)| path).collect();
        steps.reverse();
        let latest = fs::read_to_string(self.folder.join(LATEST)).unwrap_or_default();
        if let Some(i) = steps.iter().position(|p| p.file_name().is_some_and(|n| *n == *latest.trim())) {
            steps[..=i].rotate_right(1);
        }
        steps
    }

    /// Step and folder of each checkpoint, oldest first.
    fn steps(&self) -> Vec<(u64, PathBuf)> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let step = |p: &Path| p.file_name()?.to_str()?.strip_prefix("step-")?.parse().ok();
        let mut steps: Vec<(u64, PathBuf)> = entries.filter_map(|e| Some((step(&e.path())?, e.path()))).collect();
        steps.sort();
        steps
    }

    fn prune(&self, newest: u64) -> Result<(), CheckpointError> {
        let (valid, future): (Vec<_>, Vec<_>) = self.steps().into_iter().partition(|(step, _)| *step <= newest);
        let old = &valid[..valid.len().saturating_sub(KEPT)];
        let drafts = fs::read_dir(&self.folder).into_iter().flatten().flatten().map(|e| e.path());
        let drafts = drafts.filter(|p| p.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with('.')));
        drafts.chain(old.iter().chain(&future).map(|(_, p)| p.clone())).try_for_each(|p| remove(&p))
    }
}

fn read<P: DeserializeOwned>(folder: &Path) -> Result<Checkpoint<P>, CheckpointError> {
    let file = folder.join(MANIFEST);
    let manifest: Manifest = parse(&file, &files::read(&file)?)?;
    if manifest.format != FORMAT {
        return Err(CheckpointError::damaged(&file, "it does not describe a checkpoint"));
    }
    if manifest.version > VERSION {
        return Err(CheckpointError::Newer { folder: folder.into(), found: manifest.version });
    }
    let checked = |name: &str| {
        let file = folder.join(name);
        let bytes = files::read(&file)?;
        let Some(entry) = manifest.files.get(name) else {
            return Err(CheckpointError::damaged(&folder.join(MANIFEST), format!("it does not list {name}")));
        };
        if entry.bytes != bytes.len() as u64 {
            return Err(CheckpointError::damaged(&file, format!("it has {} bytes instead of {}", bytes.len(), entry.bytes)));
        }
        if entry.crc32 != crc32fast::hash(&bytes) {
            return Err(CheckpointError::damaged(&file, "its checksum is wrong"));
        }
        Ok((file, bytes))
    };
    let tensors = |name: &str| {
        let (file, bytes) = checked(name)?;
        files::from_safetensors(&bytes).map_err(|what| CheckpointError::damaged(&file, what))
    };
    let (file, progress) = checked(PROGRESS)?;
    let best = manifest.files.contains_key(BEST).then(|| tensors(BEST)).transpose()?;
    Ok(Checkpoint { progress: parse(&file, &progress)?, state: tensors(STATE)?, best, warnings: Vec::new() })
}

fn parse<T: DeserializeOwned>(file: &Path, bytes: &[u8]) -> Result<T, CheckpointError> {
    serde_json::from_slice(bytes).map_err(|e| CheckpointError::damaged(file, e.to_string()))
}

/// JSON of a value that has a form in it: names, numbers and lists of them.
fn json<T: Serialize>(value: &T) -> Vec<u8> {
    serde_json::to_vec_pretty(value).unwrap_or_default()
}

/// Removes a folder if it is there.
fn remove(folder: &Path) -> Result<(), CheckpointError> {
    match fs::remove_dir_all(folder) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(FileError::new("remove", folder, e).into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tensor(values: &[f32]) -> HostTensor {
        HostTensor::new([values.len()], values).unwrap()
    }

    fn saved(steps: &[u64]) -> (tempfile::TempDir, Checkpoints) {
        let folder = tempfile::tempdir().unwrap();
        let checkpoints = Checkpoints::new(folder.path().join("checkpoints"));
        for &step in steps {
            let state = tensor(&[step as f32, -0.0, f32::MIN_POSITIVE]);
            let best = vec![("w".to_owned(), tensor(&[1.5]))];
            checkpoints.save(step, &step, [("w", &state)], Some(&best)).unwrap();
        }
        (folder, checkpoints)
    }

    #[test]
    fn what_was_saved_comes_back() {
        let (_folder, checkpoints) = saved(&[3]);
        let back = checkpoints.load::<u64>().unwrap().unwrap();
        assert_eq!((back.progress, back.warnings.len()), (3, 0));
        assert_eq!(back.state, [("w".to_owned(), tensor(&[3.0, -0.0, f32::MIN_POSITIVE]))]);
        assert_eq!(back.best.unwrap()[0].1, tensor(&[1.5]));
    }

    #[test]
    fn the_newest_two_are_kept() {
        let (_folder, checkpoints) = saved(&[1, 2, 10]);
        let steps: Vec<u64> = checkpoints.steps().into_iter().map(|s| s.0).collect();
        assert_eq!(steps, [2, 10]);
        assert_eq!(checkpoints.load::<u64>().unwrap().unwrap().progress, 10);
    }

    #[test]
    fn saving_again_replaces_and_removes_the_future() {
        let (_folder, checkpoints) = saved(&[1, 5, 3, 3]);
        let steps: Vec<u64> = checkpoints.steps().into_iter().map(|s| s.0).collect();
        assert_eq!(steps, [1, 3]);
        assert_eq!(fs::read_dir(&checkpoints.folder).unwrap().count(), 3, "two checkpoints and `latest`");
    }

    /// Every byte of every file matters: flipping one is noticed, and the checkpoint before is used.
    #[test]
    fn damage_anywhere_is_noticed() {
        let (_folder, checkpoints) = saved(&[1, 2]);
        let newest = checkpoints.folder.join("step-000000002");
        for name in [STATE, BEST, PROGRESS] {
            let file = newest.join(name);
            let whole = fs::read(&file).unwrap();
            for at in (0..whole.len()).step_by(7) {
                let mut damaged = whole.clone();
                damaged[at] ^= 0x10;
                fs::write(&file, &damaged).unwrap();
                let back = checkpoints.load::<u64>().unwrap().unwrap();
                assert_eq!((back.progress, back.warnings.len()), (1, 1), "{name} byte {at}");
                assert!(back.warnings[0].contains(name), "{}", back.warnings[0]);
            }
            fs::write(&file, &whole[..whole.len() - 1]).unwrap();
            assert_eq!(checkpoints.load::<u64>().unwrap().unwrap().progress, 1, "{name} cut short");
            fs::write(&file, &whole).unwrap();
        }
        fs::remove_file(newest.join(MANIFEST)).unwrap();
        assert_eq!(checkpoints.load::<u64>().unwrap().unwrap().progress, 1);
    }

    #[test]
    fn nothing_readable_is_an_error_and_nothing_at_all_is_none() {
        let (_folder, checkpoints) = saved(&[1]);
        fs::write(checkpoints.folder.join("step-000000001").join(STATE), "x").unwrap();
        let error = checkpoints.load::<u64>().unwrap_err().to_string();
        assert!(error.contains("state.safetensors") && error.contains("damaged"), "{error}");
        let empty = tempfile::tempdir().unwrap();
        assert!(Checkpoints::new(empty.path()).load::<u64>().unwrap().is_none());
    }

    #[test]
    fn a_newer_format_is_refused() {
        let (_folder, checkpoints) = saved(&[1]);
        let manifest = checkpoints.folder.join("step-000000001").join(MANIFEST);
        let text = fs::read_to_string(&manifest).unwrap().replace("\"version\": 1", "\"version\": 2");
        fs::write(&manifest, text).unwrap();
        assert!(matches!(checkpoints.load::<u64>(), Err(CheckpointError::Newer { found: 2, .. })));
    }
}
