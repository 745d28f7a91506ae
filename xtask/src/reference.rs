//! Writes the pages that the program makes of its own types.

use std::{fs, process::Command};

const PAGES: [(&str, &[&str]); 2] =
    [("docs/backprop.schema.json", &["schema"]), ("docs/configuration.md", &["schema", "--markdown"])];

/// Writes every page anew.
pub fn run() -> Result<String, String> {
    for (file, arguments) in PAGES {
        let cargo = ["run", "--quiet", "-p", "backprop-cli", "--"];
        let output = Command::new("cargo").args(cargo).args(arguments).output().map_err(|e| format!("cargo: {e}"))?;
        if !output.status.success() {
            return Err(format!("backprop {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr)));
        }
        fs::write(file, output.stdout).map_err(|e| format!("{file}: {e}"))?;
    }
    Ok(format!("reference: {} pages written", PAGES.len()))
}
