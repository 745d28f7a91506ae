//! Files written so that a crash leaves the old or the new one, and tensors in safetensors.

use backprop_core::{DType, HostTensor, Type};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::{
    collections::HashMap,
    fs::{self, File},
    io::{self, Write},
    path::{Path, PathBuf},
};

/// A file or folder that the operating system would not read, write, create, rename or remove.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} {}: {source}; check the path, its permissions and the free space", path.display())]
pub struct FileError {
    /// What was tried.
    pub action: &'static str,
    /// With what.
    pub path: PathBuf,
    /// What the operating system said.
    pub source: io::Error,
}

impl FileError {
    pub(crate) fn new(action: &'static str, path: &Path, source: io::Error) -> FileError {
        FileError { action, path: path.into(), source }
    }
}

/// The bytes of a file.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, FileError> {
    fs::read(path).map_err(|e| FileError::new("read", path, e))
}

/// A folder and those above it.
pub(crate) fn create_folder(path: &Path) -> Result<(), FileError> {
    fs::create_dir_all(path).map_err(|e| FileError::new("create the folder", path, e))
}

/// Writes a file and waits until it is on the disk.
pub(crate) fn write_synced(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|e| FileError::new("write", path, e))
}

/// Waits until the names in a folder are on the disk. Only Unix can open a folder to do so.
pub(crate) fn sync_folder(path: &Path) -> Result<(), FileError> {
    if cfg!(unix) {
        let sync = || File::open(path)?.sync_all();
        sync().map_err(|e| FileError::new("synchronise the folder", path, e))?;
    }
    Ok(())
}

/// Renames a file or folder.
pub(crate) fn rename(from: &Path, to: &Path) -> Result<(), FileError> {
    fs::rename(from, to).map_err(|e| FileError::new("rename to", to, e))
}

/// Writes a file so that readers find the old contents or the new, whole, whatever happens.
pub(crate) fn replace(path: &Path, bytes: &[u8]) -> Result<(), FileError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".draft");
    let draft = path.with_file_name(name);
    write_synced(&draft, bytes)?;
    rename(&draft, path)?;
    path.parent().map_or(Ok(()), sync_folder)
}

/// Tensors as a file in safetensors.
pub(crate) fn to_safetensors<'t>(tensors: impl IntoIterator<Item = (&'t str, &'t HostTensor)>) -> Vec<u8> {
    serialize(tensors, None)
}

fn serialize<'t>(
    tensors: impl IntoIterator<Item = (&'t str, &'t HostTensor)>,
    metadata: Option<HashMap<String, String>>,
) -> Vec<u8> {
    let view = |t: &'t HostTensor| TensorView::new(dtype(t.dtype()), t.shape().to_vec(), t.bytes());
    let views = tensors.into_iter().filter_map(|(name, t)| Some((name, view(t).ok()?)));
    safetensors::serialize(views, metadata).unwrap_or_default()
}

/// The entry of a safetensors file's metadata that holds the checksum of its tensors.
const CHECKSUM: &str = "crc32";

/// The same with a checksum in the file's metadata, for files that are on their own.
pub(crate) fn to_checked_safetensors(tensors: &[(String, HostTensor)]) -> Vec<u8> {
    let mut sorted: Vec<(&str, &HostTensor)> = tensors.iter().map(|(name, t)| (name.as_str(), t)).collect();
    sorted.sort_by_key(|(name, _)| *name);
    let metadata = [(CHECKSUM.into(), checksum(sorted.iter().copied()))];
    serialize(sorted, Some(metadata.into()))
}

/// CRC-32 of names, types and contents, in the order given.
fn checksum<'t>(tensors: impl Iterator<Item = (&'t str, &'t HostTensor)>) -> String {
    let mut crc = crc32fast::Hasher::new();
    for (name, tensor) in tensors {
        crc.update(format!("{name} {}\n", tensor.ty()).as_bytes());
        crc.update(tensor.bytes());
    }
    format!("{:08x}", crc.finalize())
}

/// Tensors from a file in safetensors, by name. A checksum in its metadata must be right.
pub(crate) fn from_safetensors(bytes: &[u8]) -> Result<Vec<(String, HostTensor)>, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| format!("not a safetensors file ({e})"))?;
    let read = |(name, view): (String, TensorView<'_>)| {
        let element = element_type(view.dtype())
            .ok_or_else(|| format!("`{name}` has the element type {:?}, which is not known here", view.dtype()))?;
        let tensor = HostTensor::from_bytes(Type::new(element, view.shape()), view.data())?;
        Ok((name, tensor))
    };
    let mut tensors = file.tensors().into_iter().map(read).collect::<Result<Vec<_>, String>>()?;
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(|e| e.to_string())?;
    let expected = header.metadata().as_ref().and_then(|m| m.get(CHECKSUM));
    match expected {
        Some(sum) if *sum != checksum(tensors.iter().map(|(n, t)| (n.as_str(), t))) => Err("its checksum is wrong".into()),
        _ => Ok(tensors),
    }
}

const DTYPES: [(DType, Dtype); 10] = [
    (DType::Bool, Dtype::BOOL),
    (DType::U8, Dtype::U8),
    (DType::I32, Dtype::I32),
    (DType::I64, Dtype::I64),
    (DType::U32, Dtype::U32),
    (DType::U64, Dtype::U64),
    (DType::F16, Dtype::F16),
    (DType::BF16, Dtype::BF16),
    (DType::F32, Dtype::F32),
    (DType::F64, Dtype::F64),
];

fn dtype(ours: DType) -> Dtype {
    DTYPES.iter().find(|(o, _)| *o == ours).map_or(Dtype::U8, |(_, theirs)| *theirs)
}

fn element_type(theirs: Dtype) -> Option<DType> {
    DTYPES.iter().find(|(_, t)| *t == theirs).map(|(ours, _)| *ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every byte matters: flipping a bit of one is noticed, or changes nothing that is read.
    #[test]
    fn damage_to_checked_files_is_noticed() {
        let tensor = |values: &[f64]| HostTensor::from_f64(DType::F32, [values.len()], values).unwrap();
        let tensors = vec![("b".to_owned(), tensor(&[1.0, -2.5])), ("a".to_owned(), tensor(&[0.0]))];
        let whole = to_checked_safetensors(&tensors);
        let read = from_safetensors(&whole).unwrap();
        assert_eq!(read, [tensors[1].clone(), tensors[0].clone()]);
        let mut unnoticed = 0;
        for at in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[at] ^= 4;
            match from_safetensors(&damaged) {
                Ok(back) if back == read => unnoticed += 1,
                Ok(_) => panic!("byte {at} changed what was read"),
                Err(_) => {}
            }
        }
        assert!(unnoticed <= CHECKSUM.len() + 16, "{unnoticed}: only the name of the checksum and blanks do not matter");
    }

    #[test]
    fn every_element_type_survives() {
        for (ours, _) in DTYPES {
            let tensor = HostTensor::from_f64(ours, [2, 2], &[0.0, 1.0, 1.0, 0.0]).unwrap();
            let bytes = to_safetensors([("t", &tensor)]);
            assert_eq!(from_safetensors(&bytes).unwrap(), [("t".to_owned(), tensor)]);
        }
    }
}
