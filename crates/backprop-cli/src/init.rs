//! `backprop init`.

use crate::{
    args::{InitOptions, TaskName},
    failure::{Failure, quoted},
    output,
};
use backprop::propose::{Proposal, Request, Task, Usage, propose};
use std::{
    fs::{self, OpenOptions},
    io::{ErrorKind, Write},
    path::{self, Path, PathBuf},
};

/// Columns of a terminal that lines are broken at.
const WIDTH: usize = 98;

pub(crate) fn run(options: &InitOptions) -> Result<(), Failure> {
    let out = options.out.clone().unwrap_or_else(|| PathBuf::from(format!("{}.toml", stem(&options.data))));
    if !options.force && out.exists() {
        let message = format!("{} exists; --force overwrites it, --out FILE writes another", out.display());
        return Err(Failure::Arguments(message));
    }
    let request = Request {
        data: options.data.clone(),
        written: written(&options.data, &out)?,
        target: options.target.clone(),
        task: options.task.map(|task| match task {
            TaskName::Classification => Task::Classification,
            TaskName::Regression => Task::Regression,
        }),
    };
    let proposal = propose(&request).map_err(|e| Failure::Arguments(e.to_string()))?;
    write(&out, &proposal.toml, options.force).map_err(|e| Failure::Arguments(format!("cannot write {}: {e}", out.display())))?;
    report(options, &out, &proposal);
    Ok(())
}

/// The name of the data without endings, also `.csv.gz`; of a folder its name.
fn stem(data: &Path) -> String {
    let absolute = path::absolute(data).unwrap_or_else(|_| data.to_path_buf());
    let name = absolute.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let name = name.split('.').find(|part| !part.is_empty()).unwrap_or("model");
    name.chars().map(|c| if c.is_alphanumeric() || c == '-' { c } else { '_' }).collect()
}

/// The path of the data from the folder of the configuration, which relative paths in it start from.
fn written(data: &Path, out: &Path) -> Result<PathBuf, Failure> {
    let absolute = |path: &Path| {
        path::absolute(path).map_err(|e| Failure::Arguments(format!("cannot tell where {} is: {e}", path.display())))
    };
    let (from, to) = (absolute(out)?, absolute(data)?);
    Ok(match to.strip_prefix(from.parent().unwrap_or(&from)) {
        Ok(below) => below.to_path_buf(),
        Err(_) => to,
    })
}

fn write(out: &Path, text: &str, force: bool) -> std::io::Result<()> {
    if force {
        return fs::write(out, text);
    }
    // Made anew or not at all, also if another process makes it meanwhile.
    match OpenOptions::new().write(true).create_new(true).open(out) {
        Ok(mut file) => file.write_all(text.as_bytes()),
        Err(e) if e.kind() == ErrorKind::AlreadyExists => Err(std::io::Error::new(e.kind(), "it exists; --force overwrites it")),
        Err(e) => Err(e),
    }
}

/// Columns that are listed one by one; more would push everything else off the screen.
const LISTED: usize = 24;

fn report(options: &InitOptions, out: &Path, proposal: &Proposal) {
    output::line("found");
    for sentence in proposal.found.iter().take(LISTED) {
        bullet(sentence);
    }
    if proposal.found.len() > LISTED {
        bullet(&format!("… and {} more", proposal.found.len() - LISTED));
    }
    output::line("chosen");
    bullet(&proposal.chosen);
    let file = quoted(&out.display().to_string());
    output::line(&format!("wrote {file}; its comments say why each value was chosen"));
    let run = quoted(&format!("runs/{}", stem(&options.data)));
    output::line("next");
    output::line(&format!("  backprop train {file} --out {run}"));
    output::line(&format!("  backprop eval {run}"));
    match &proposal.usage {
        Usage::Predict => {
            let data = quoted(&options.data.display().to_string());
            output::line(&format!("  backprop predict {run} {data}"));
        }
        Usage::Generate { prompt } => output::line(&format!("  backprop generate {run} --prompt {}", quoted(prompt))),
    }
}

/// A sentence broken into lines.
fn bullet(sentence: &str) {
    let mut line = String::from("  -");
    for word in sentence.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH && line.len() > 3 {
            output::line(&line);
            line = "   ".into();
        }
        line.push(' ');
        line.push_str(word);
    }
    output::line(&line);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_of_data() {
        assert_eq!(stem(Path::new("/a/my data.csv.gz")), "my_data");
        assert_eq!(stem(Path::new("photos/")), "photos");
        assert_eq!(stem(Path::new("/a/.hidden")), "hidden");
    }

    #[test]
    fn data_below_the_configuration_are_named_from_there() {
        let from = |data, out| written(Path::new(data), Path::new(out)).ok();
        assert_eq!(from("/a/b/c.csv", "/a/model.toml"), Some("b/c.csv".into()));
        assert_eq!(from("/b/c.csv", "/a/model.toml"), Some("/b/c.csv".into()));
        assert_eq!(from("a/c.csv", "a/model.toml"), Some("c.csv".into()));
    }
}
