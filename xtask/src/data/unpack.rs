//! What archives hold.

use std::{
    fs::File,
    io::Read,
    path::Path,
    process::{Command, Stdio},
};

/// A file of an archive.
pub struct Entry {
    pub path: String,
    pub bytes: Vec<u8>,
}

/// All files of a wheel, a source distribution or a Debian package, in the order of their paths.
pub fn entries(archive: &Path) -> Result<Vec<Entry>, String> {
    let name = archive.display().to_string();
    let open = || File::open(archive).map_err(|e| format!("{name}: {e}"));
    let found = match archive.extension().and_then(|e| e.to_str()) {
        Some("whl") => zip(open()?).map_err(|e| e.to_string()),
        Some("gz") => tar(flate2::read::GzDecoder::new(open()?)).map_err(|e| e.to_string()),
        Some("deb") => debian(archive),
        _ => Err("not an archive of a known kind".into()),
    };
    let mut entries = found.map_err(|e| format!("{name}: {e}; remove the file to fetch it again"))?;
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(entries)
}

fn zip(file: File) -> zip::result::ZipResult<Vec<Entry>> {
    let mut archive = zip::ZipArchive::new(file)?;
    let mut entries = Vec::new();
    for i in 0..archive.len() {
        let mut file = archive.by_index(i)?;
        if file.is_file() {
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            entries.push(Entry { path: file.name()?.into_owned(), bytes });
        }
    }
    Ok(entries)
}

fn tar(reader: impl Read) -> std::io::Result<Vec<Entry>> {
    let mut entries = Vec::new();
    for file in tar::Archive::new(reader).entries()? {
        let mut file = file?;
        if file.header().entry_type().is_file() {
            let path = file.path()?.to_string_lossy().trim_start_matches("./").to_string();
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes)?;
            entries.push(Entry { path, bytes });
        }
    }
    Ok(entries)
}

/// dpkg-deb stands wherever apt-get does, and knows every compression that Debian has used.
fn debian(archive: &Path) -> Result<Vec<Entry>, String> {
    let mut command = Command::new("dpkg-deb");
    let mut process =
        command.arg("--fsys-tarfile").arg(archive).stdout(Stdio::piped()).spawn().map_err(|e| format!("dpkg-deb: {e}"))?;
    let output = process.stdout.take().ok_or("dpkg-deb: no output")?;
    let entries = tar(output).map_err(|e| e.to_string());
    let status = process.wait().map_err(|e| format!("dpkg-deb: {e}"))?;
    if status.success() { entries } else { Err(format!("dpkg-deb: {status}")) }
}
