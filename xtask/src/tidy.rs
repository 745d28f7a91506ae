//! House rules a compiler does not check.

use std::{collections::BTreeSet, fs, path::Path, process::Command};

/// Longest file we accept. A file near it is two rooms.
const LINES: usize = 600;

/// Crates whose sources bring in users' input: no unwrapping there.
const USERS_INPUT: [&str; 4] =
    ["crates/backprop-cli/src/", "crates/backprop-data/src/", "crates/backprop/src/", "crates/backprop-core/src/"];

/// Where `unsafe` may live.
const UNSAFE_HOMES: [&str; 3] = ["crates/backprop-kernels/", "crates/backprop-sys/", "crates/backprop-core/src/exec/native/"];

/// Libraries report events and return errors; only the program prints.
const SILENT: [&str; 5] = [
    "crates/backprop-core/src/",
    "crates/backprop-kernels/src/",
    "crates/backprop-data/src/",
    "crates/backprop/src/",
    "crates/backprop-sys/src/",
];

/// Checks every file git knows.
pub fn run() -> Result<String, String> {
    let files = tracked()?;
    let mut problems = Vec::new();
    let mut functions = BTreeSet::new();
    for file in files.iter().filter(|f| f.ends_with(".rs")) {
        let text = fs::read_to_string(file).map_err(|e| format!("{file}: {e}"))?;
        check(file, &text, &mut problems);
        functions.extend(text.lines().filter_map(function_name).map(str::to_string));
    }
    invariants(&functions, &mut problems)?;
    if problems.is_empty() { Ok(format!("tidy: {} files", files.len())) } else { Err(problems.join("\n")) }
}

fn tracked() -> Result<Vec<String>, String> {
    let arguments = ["ls-files", "--cached", "--others", "--exclude-standard"];
    let output = Command::new("git").args(arguments).output().map_err(|e| format!("git: {e}"))?;
    let exists = |f: &&str| Path::new(f).exists();
    Ok(String::from_utf8_lossy(&output.stdout).lines().filter(exists).map(str::to_string).collect())
}

fn check(file: &str, text: &str, problems: &mut Vec<String>) {
    let count = text.lines().count();
    if count > LINES {
        problems.push(format!("{file}: {count} lines; split it (at most {LINES})"));
    }
    let within = |homes: &[&str]| homes.iter().any(|home| file.starts_with(home));
    // Unit tests stand last in a file.
    let code = text.split("#[cfg(test)]").next().unwrap_or(text);
    for (i, line) in code.lines().enumerate() {
        let trimmed = line.trim_start();
        let mut report = |what: &str| problems.push(format!("{file}:{}: {what}", i + 1));
        if file.starts_with("xtask/src/tidy") {
            continue;
        }
        if ["TODO", "FIXME", "todo!(", "unimplemented!(", "dbg!("].iter().any(|w| line.contains(w)) {
            report("unfinished work is an issue, not a comment");
        }
        if trimmed.starts_with("//") {
            continue;
        }
        if (line.contains("unsafe {") || line.contains("unsafe fn") || line.contains("unsafe impl")) && !within(&UNSAFE_HOMES) {
            report("unsafe outside of its homes");
        }
        if ["println!(", "print!(", "eprintln!(", "eprint!("].iter().any(|w| trimmed.contains(w)) && within(&SILENT) {
            report("the library prints; report an event or return an error");
        }
        if (line.contains(".unwrap()") || line.contains(".expect(")) && within(&USERS_INPUT) && !file.contains("/tests") {
            report("unwrap or expect where users bring input; return an error");
        }
    }
}

fn function_name(line: &str) -> Option<&str> {
    let rest = line.trim_start().trim_start_matches("pub ").strip_prefix("fn ")?;
    rest.split(|c: char| !(c.is_alphanumeric() || c == '_')).next()
}

/// Every numbered invariant of ARCHITECTURE.md names tests in backticks after `Test:`; they must exist.
fn invariants(functions: &BTreeSet<String>, problems: &mut Vec<String>) -> Result<(), String> {
    let text = fs::read_to_string("ARCHITECTURE.md").map_err(|e| format!("ARCHITECTURE.md: {e}"))?;
    let (_, section) = text.split_once("## Invariants").ok_or("ARCHITECTURE.md has no section `## Invariants`")?;
    for paragraph in section.split("\n\n").filter(|p| p.starts_with("**I")) {
        let name = paragraph.split("**").nth(1).unwrap_or(paragraph);
        let tests: Vec<&str> =
            paragraph.split_once("Test").map_or(Vec::new(), |(_, tests)| tests.split('`').skip(1).step_by(2).collect());
        if tests.is_empty() {
            problems.push(format!("ARCHITECTURE.md: invariant {name} names no test"));
        }
        for test in tests.iter().filter(|t| !t.contains([' ', '/', '.', ':']) && !functions.contains(**t)) {
            problems.push(format!("ARCHITECTURE.md: invariant {name} names the test `{test}`, which does not exist"));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::check;

    fn problems(file: &str, text: &str) -> usize {
        let mut problems = Vec::new();
        check(file, text, &mut problems);
        problems.len()
    }

    #[test]
    fn each_rule_notices_its_breach() {
        let library = "crates/backprop/src/x.rs";
        for breach in ["// TODO later", "unsafe { f() }", "println!(\"x\");", "f().unwrap();", "f().expect(\"x\");"] {
            assert_eq!(problems(library, breach), 1, "{breach}");
        }
        assert_eq!(problems(library, &"\n".repeat(601)), 1);
        assert_eq!(problems("crates/backprop-kernels/src/x.rs", "unsafe { f() }"), 0);
        assert_eq!(problems(library, "/// unsafe { }\n#[cfg(test)]\nf().unwrap();"), 0);
    }
}
