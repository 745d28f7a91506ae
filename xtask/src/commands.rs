//! Runs every command our pages show, so that none can go stale.

use std::{fs, process::Command, time::Instant};

/// Runs the lines that begin with `$ ` in the `console` blocks of Markdown files, in order, from the root of the workspace.
pub fn run(files: &[String]) -> Result<String, String> {
    let mut count = 0;
    for file in files {
        let text = fs::read_to_string(file).map_err(|e| format!("{file}: {e}"))?;
        for command in shown(&text) {
            eprintln!("$ {command}");
            let start = Instant::now();
            let status = Command::new("sh").args(["-c", command]).status().map_err(|e| format!("sh: {e}"))?;
            if !status.success() {
                return Err(format!("{file}: `{command}` failed: {status}"));
            }
            eprintln!("  ({:.1} s)", start.elapsed().as_secs_f64());
            count += 1;
        }
        if shown(&text).next().is_none() {
            return Err(format!("{file} shows no command; expected ```console blocks with lines that begin with `$ `"));
        }
    }
    Ok(format!("commands: {count} ran"))
}

/// Commands in `console` blocks.
fn shown(text: &str) -> impl Iterator<Item = &str> {
    let mut inside = false;
    text.lines().filter_map(move |line| {
        if line.starts_with("```") {
            inside = line.trim() == "```console";
        }
        line.strip_prefix("$ ").filter(|_| inside)
    })
}

#[cfg(test)]
mod tests {
    use super::shown;

    #[test]
    fn only_console_blocks_count() {
        let text = "```console\n$ a b\noutput\n```\n$ no\n```toml\n$ no\n```\n```console\n$ c\n```\n";
        assert_eq!(shown(text).collect::<Vec<_>>(), ["a b", "c"]);
    }
}
