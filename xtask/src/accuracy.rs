//! The default training job over five fixed seeds.

use std::process::Command;

/// What the README's first command must reach, as the median of [`SEEDS`].
const WANTED: f64 = 0.88;

const SEEDS: [u32; 5] = [1, 2, 3, 4, 5];

/// Trains the default network once per seed and checks the median test accuracy.
pub fn run() -> Result<String, String> {
    let mut reached = Vec::new();
    for seed in SEEDS {
        let accuracy = train(seed)?;
        eprintln!("seed {seed}: test accuracy {accuracy}");
        reached.push(accuracy);
    }
    reached.sort_by(f64::total_cmp);
    let median = reached[SEEDS.len() / 2];
    let summary = format!("accuracy: median {median} of {reached:?}");
    if median >= WANTED { Ok(summary) } else { Err(format!("{summary}; wanted at least {WANTED}")) }
}

fn train(seed: u32) -> Result<f64, String> {
    let out = format!("target/accuracy/seed-{seed}");
    let _ = std::fs::remove_dir_all(&out);
    let seed = seed.to_string();
    let arguments = ["run", "--release", "--quiet", "--", "train", "--json", "--seed", &seed, "--out", &out];
    let output = Command::new("cargo").args(arguments).output().map_err(|e| format!("cargo: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().unwrap_or("");
    let number = last.split_once("\"test_accuracy\":").and_then(|(_, rest)| rest.split([',', '}']).next()?.parse().ok());
    number.ok_or_else(|| format!("seed {seed}: no test accuracy in `{last}`\n{}", String::from_utf8_lossy(&output.stderr)))
}
