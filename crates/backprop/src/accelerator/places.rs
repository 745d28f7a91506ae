//! Where plugins are looked for.

use super::{Platform, Unusable};
use std::{
    collections::HashMap,
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
};

/// The environment variable that names a plugin: a path, taken for the platform that the name of its file contains (`cuda`, `rocm`,
/// `tpu`) and for `--device pjrt` where it contains none; or `cuda=/path;rocm=/path`.
pub const PLUGIN_VARIABLE: &str = "BACKPROP_PJRT_PLUGIN";

/// The variables that say where plugins are.
const VARIABLES: [&str; 6] = [PLUGIN_VARIABLE, "TPU_LIBRARY_PATH", "VIRTUAL_ENV", "CONDA_PREFIX", "HOME", "PATH"];

/// A file that may be a plugin.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Candidate {
    /// What it is for, as far as its place says.
    pub platform: Option<Platform>,
    /// The file.
    pub path: PathBuf,
    /// Package it came in and its version: `jax-cuda13-pjrt 0.12.0`.
    pub package: Option<String>,
}

impl Candidate {
    /// A file that somebody named.
    pub(super) fn named(path: PathBuf, platform: Option<Platform>) -> Candidate {
        let site = path.ancestors().find(|folder| folder.ends_with("jax_plugins")).and_then(Path::parent);
        let package = site.and_then(|site| package(site, &path));
        Candidate { platform, path, package }
    }

    /// The number in `jax_plugins/xla_cuda13`: the major version of CUDA or ROCm that the plugin is made for.
    pub fn major(&self) -> Option<u32> {
        numbered(self.path.parent()?.file_name()?.to_str()?)
    }
}

/// What discovery looks at: environment variables and a file system.
#[derive(Debug)]
pub struct Host {
    root: PathBuf,
    variables: HashMap<&'static str, OsString>,
}

impl Host {
    /// This machine, with the environment of this process.
    pub fn this() -> Host {
        Host::new("/", VARIABLES.into_iter().filter_map(|name| Some((name, env::var_os(name)?))))
    }

    /// A file system whose root is a folder, and variables. Paths in variables are taken as they are.
    pub fn new(root: impl Into<PathBuf>, variables: impl IntoIterator<Item = (&'static str, OsString)>) -> Host {
        let variables = variables.into_iter().filter(|(_, value)| !value.is_empty()).collect();
        Host { root: root.into(), variables }
    }

    /// A path of the file system.
    pub(super) fn file(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    fn folder(&self, variable: &str) -> Option<PathBuf> {
        self.variables.get(variable).map(PathBuf::from)
    }

    /// The plugin that [`PLUGIN_VARIABLE`] names for a platform, or for none in particular.
    pub(super) fn named_plugin(&self, platform: Option<Platform>) -> Result<Option<PathBuf>, Unusable> {
        let Some(value) = self.variables.get(PLUGIN_VARIABLE) else { return Ok(None) };
        let Some(text) = value.to_str().filter(|text| text.contains('=')) else {
            let path = PathBuf::from(value);
            return Ok((Platform::of_file(&path) == platform).then_some(path));
        };
        let mut found = None;
        for part in text.split(';').filter(|part| !part.trim().is_empty()) {
            let pair = part.split_once('=').map(|(name, path)| (name.trim(), path.trim()));
            let known = |name: &str| name == "pjrt" || Platform::ALL.iter().any(|p| p.name() == name);
            let Some((name, path)) = pair.filter(|(name, path)| known(name) && !path.is_empty()) else {
                return Err(Unusable::BadVariable { value: text.into() });
            };
            if name == platform.map_or("pjrt", Platform::name) {
                found = Some(path.into());
            }
        }
        Ok(found)
    }

    /// Files that may be plugins for a platform, the one to try first in front: what a variable names, and nothing else then; the
    /// active environment of Python; the user's packages; the system's; those of the `python3` on the path. Of several versions in
    /// one place the newest is in front.
    ///
    /// # Errors
    /// [`PLUGIN_VARIABLE`] that is neither a path nor `NAME=PATH;…`.
    pub fn candidates(&self, platform: Platform) -> Result<Vec<Candidate>, Unusable> {
        let standard = if platform == Platform::Tpu { self.folder("TPU_LIBRARY_PATH") } else { None };
        if let Some(path) = self.named_plugin(Some(platform))?.or(standard) {
            return Ok(vec![Candidate::named(path, Some(platform))]);
        }
        let files = self.site_folders().into_iter().flat_map(|site| {
            let candidate = |path: PathBuf| Candidate { platform: Some(platform), package: package(&site, &path), path };
            plugins(&site, platform).into_iter().map(candidate).collect::<Vec<_>>()
        });
        Ok(files.collect())
    }

    /// Folders that hold Python packages, each once.
    fn site_folders(&self) -> Vec<PathBuf> {
        let mut folders = Vec::new();
        for prefix in ["VIRTUAL_ENV", "CONDA_PREFIX"].iter().filter_map(|v| self.folder(v)) {
            folders.extend(packages_of(&prefix));
        }
        folders.extend(self.folder("HOME").map(|home| packages_of(&home.join(".local"))).unwrap_or_default());
        folders.push(self.file("/usr/lib/python3/dist-packages"));
        folders.extend(packages_of(&self.file("/usr/local")));
        folders.extend(self.python_prefixes().iter().flat_map(|prefix| packages_of(prefix)));
        let mut seen = Vec::new();
        folders.retain(|folder| match fs::canonicalize(folder) {
            Ok(real) if !seen.contains(&real) => {
                seen.push(real);
                true
            }
            _ => false,
        });
        folders
    }

    /// Where the `python3` on the path is installed: the virtual environment its link is in, and what the link leads to.
    fn python_prefixes(&self) -> Vec<PathBuf> {
        let Some(path) = self.variables.get("PATH") else { return Vec::new() };
        let Some(python) = env::split_paths(path).map(|folder| folder.join("python3")).find(|file| file.is_file()) else {
            return Vec::new();
        };
        let real = fs::canonicalize(&python).ok();
        let prefix = |file: PathBuf| file.ancestors().nth(2).map(Path::to_owned);
        [Some(python), real].into_iter().flatten().filter_map(prefix).collect()
    }
}

/// `lib/python3.*/site-packages` and its like below a prefix, of the newest Python first.
fn packages_of(prefix: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for lib in ["lib", "lib64"] {
        for (python, minor) in numbered_entries(&prefix.join(lib), "python3.") {
            found.extend(["site-packages", "dist-packages"].map(|kind| (minor, python.join(kind))));
        }
    }
    found.sort_by_key(|(minor, _)| std::cmp::Reverse(*minor));
    found.into_iter().map(|(_, folder)| folder).filter(|folder| folder.is_dir()).collect()
}

/// Plugins among installed packages.
fn plugins(site: &Path, platform: Platform) -> Vec<PathBuf> {
    let files = match platform {
        Platform::Tpu => vec![site.join("libtpu/libtpu.so")],
        Platform::Cuda | Platform::Rocm => {
            let (name, folder) = (platform.name(), site.join("jax_plugins"));
            let mut folders = numbered_entries(&folder, &format!("xla_{name}"));
            folders.sort_by_key(|(_, version)| std::cmp::Reverse(*version));
            folders.into_iter().map(|(folder, _)| folder.join(format!("xla_{name}_plugin.so"))).collect()
        }
    };
    files.into_iter().filter(|file| file.exists()).collect()
}

/// Entries of a folder whose name is the prefix and a number.
fn numbered_entries(folder: &Path, prefix: &str) -> Vec<(PathBuf, u32)> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let entry = |entry: fs::DirEntry| {
        let name = entry.file_name();
        let number = name.to_str()?.strip_prefix(prefix)?.parse().ok()?;
        Some((entry.path(), number))
    };
    entries.flatten().filter_map(entry).collect()
}

/// The number at the end of a name.
fn numbered(name: &str) -> Option<u32> {
    name.trim_start_matches(|c: char| !c.is_ascii_digit()).parse().ok()
}

/// Package and version that a plugin came in, by the folder `NAME-VERSION.dist-info` beside it.
fn package(site: &Path, plugin: &Path) -> Option<String> {
    let folder = plugin.parent()?.file_name()?.to_str()?;
    let name = match folder.strip_prefix("xla_") {
        Some(platform) => format!("jax_{platform}_pjrt"),
        None => folder.to_owned(),
    };
    let version = fs::read_dir(site).ok()?.flatten().find_map(|entry| {
        let entry = entry.file_name();
        let version = entry.to_str()?.strip_prefix(&name)?.strip_prefix('-')?.strip_suffix(".dist-info")?;
        Some(version.to_owned())
    });
    version.map(|version| format!("{} {version}", name.replace('_', "-")))
}
