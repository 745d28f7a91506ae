//! Compiled programs of accelerators, kept on disk: what takes a plugin seconds or minutes to compile is loaded the next time.

use crate::files;
use backprop_core::exec::pjrt::Cache;
use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    time::SystemTime,
};

/// Names the folder; `off` keeps nothing.
pub const VARIABLE: &str = "BACKPROP_CACHE";
/// Bytes all kept programs may take; the oldest go first.
const LIMIT: u64 = 2 << 30;
const EXTENSION: &str = "program";

/// A folder of compiled programs, named by what they depend on: graph, options, plugin, version, devices.
///
/// What cannot be read or written is as if it were not there: programs are compiled again. So are those that are damaged, which shows when
/// they are loaded: the bytes hold a checksum, and what they were compiled for.
#[derive(Clone, Debug)]
pub struct CompileCache {
    folder: PathBuf,
}

impl CompileCache {
    /// In a folder, which is made when the first program is kept.
    pub fn new(folder: impl Into<PathBuf>) -> CompileCache {
        CompileCache { folder: folder.into() }
    }

    /// Where the user wants it: in the folder that [`VARIABLE`] names, else in `backprop` in the user's folder for caches. `None` if the
    /// variable is `off`, or there is no such folder.
    pub fn of_user() -> Option<CompileCache> {
        CompileCache::from_variables(std::env::var_os(VARIABLE), std::env::var_os("XDG_CACHE_HOME"), std::env::var_os("HOME"))
    }

    fn from_variables(own: Option<OsString>, caches: Option<OsString>, home: Option<OsString>) -> Option<CompileCache> {
        let given = |folder: Option<OsString>| folder.filter(|f| !f.is_empty()).map(PathBuf::from);
        if let Some(folder) = given(own) {
            return (folder.as_os_str() != "off").then(|| CompileCache::new(folder));
        }
        let caches = given(caches).or_else(|| given(home).map(|home| home.join(".cache")))?;
        Some(CompileCache::new(caches.join("backprop")))
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    fn file(&self, key: &str) -> PathBuf {
        self.folder.join(format!("{key}.{EXTENSION}"))
    }

    /// Removes the programs kept longest ago until there is room for another.
    fn make_room(&self, bytes: u64) {
        let entry = |entry: std::io::Result<fs::DirEntry>| -> Option<(SystemTime, u64, PathBuf)> {
            let path = entry.ok()?.path();
            let about = fs::metadata(&path).ok().filter(|_| path.extension().is_some_and(|e| e == EXTENSION))?;
            Some((about.modified().ok()?, about.len(), path))
        };
        let mut kept: Vec<_> = fs::read_dir(&self.folder).into_iter().flatten().filter_map(entry).collect();
        kept.sort();
        let mut total = bytes + kept.iter().map(|(_, size, _)| size).sum::<u64>();
        for (_, size, path) in kept {
            if total <= LIMIT {
                break;
            }
            // Another process may have removed it.
            let _ = fs::remove_file(path);
            total -= size;
        }
    }
}

impl Cache for CompileCache {
    fn get(&self, key: &str) -> Option<Vec<u8>> {
        fs::read(self.file(key)).ok()
    }

    fn put(&self, key: &str, program: &[u8]) {
        if program.len() as u64 > LIMIT || files::create_folder(&self.folder).is_err() {
            return;
        }
        self.make_room(program.len() as u64);
        // One process may write what another is reading: names appear when the files are whole.
        let _ = files::replace(&self.file(key), program);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back() {
        let folder = tempfile::tempdir().unwrap();
        let cache = CompileCache::new(folder.path().join("made/when/needed"));
        assert_eq!(cache.get("a"), None);
        cache.put("a", b"program");
        cache.put("b", b"");
        assert_eq!((cache.get("a").as_deref(), cache.get("b").as_deref()), (Some(&b"program"[..]), Some(&b""[..])));
        cache.put("a", b"another");
        assert_eq!(cache.get("a").as_deref(), Some(&b"another"[..]));
    }

    #[test]
    fn the_folder_is_the_users() {
        let of = |own: &str, caches: &str, home: &str| {
            CompileCache::from_variables(Some(own.into()), Some(caches.into()), Some(home.into())).map(|c| c.folder)
        };
        assert_eq!(of("/own", "/caches", "/home/u"), Some("/own".into()));
        assert_eq!(of("", "/caches", "/home/u"), Some("/caches/backprop".into()));
        assert_eq!(of("", "", "/home/u"), Some("/home/u/.cache/backprop".into()));
        assert_eq!((of("off", "/caches", "/home/u"), of("", "", "")), (None, None));
    }
}
