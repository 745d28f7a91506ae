//! Files written so that a crash leaves the old or the new one, and tensors in safetensors.

use backprop_core::{DType, HostTensor, Type};
use safetensors::{Dtype, SafeTensors, tensor::TensorView};
use std::{
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
    let view = |t: &'t HostTensor| TensorView::new(dtype(t.dtype()), t.shape().to_vec(), t.bytes());
    let views = tensors.into_iter().filter_map(|(name, t)| Some((name, view(t).ok()?)));
    safetensors::serialize(views, None).unwrap_or_default()
}

/// Tensors from a file in safetensors, by name.
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
    Ok(tensors)
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

    #[test]
    fn every_element_type_survives() {
        for (ours, _) in DTYPES {
            let tensor = HostTensor::from_f64(ours, [2, 2], &[0.0, 1.0, 1.0, 0.0]).unwrap();
            let bytes = to_safetensors([("t", &tensor)]);
            assert_eq!(from_safetensors(&bytes).unwrap(), [("t".to_owned(), tensor)]);
        }
    }
}
