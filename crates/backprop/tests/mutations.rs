//! Mutated configurations: each is refused with a message or can be trained on; none panics, none hangs.
//!
//! `BACKPROP_MUTATION_SECONDS` says how long to search (default 5); `BACKPROP_MUTATION_SEED` where to begin. A failure prints the case.

use backprop::{
    config::Config,
    core::{Isa, exec::native::Native},
    train::Trainer,
};

use backprop_check::Random;
use std::{
    env, fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};
use toml::{Table, Value};

/// What one case may take, on a busy machine in a test build.
const PATIENCE: Duration = Duration::from_secs(60);

/// A run on few rows, so that each case is quick.
const SMALL: [&str; 3] = [
    r#"
[data]
source = "images"
rows = 60
height = 9
width = 8
channels = 3
classes = 4
[[layers]]
type = "conv2d"
out_channels = 4
kernel_size = 3
padding = "same"
[[layers]]
type = "batch_norm"
[[layers]]
type = "residual"
body = [{ type = "conv2d", out_channels = 4, kernel_size = [3, 3], padding = 1 }, { type = "relu" }]
[[layers]]
type = "max_pool2d"
kernel_size = 2
[[layers]]
type = "flatten"
[[layers]]
type = "repeat"
times = 2
body = [{ type = "linear", out_features = 6 }, { type = "gelu" }, { type = "dropout", p = 0.1 }]
[[layers]]
type = "linear"
out_features = 4
[loss]
type = "cross_entropy"
label_smoothing = 0.1
weight = [1.0, 2.0, 1.0, 0.5]
[optimizer]
type = "adamw"
learning_rate = 0.01
betas = [0.9, 0.99]
[schedule]
type = "one_cycle"
pct_start = 0.2
[train]
epochs = 2
batch_size = 16
clip_norm = 1.0
"#,
    r#"
[data]
source = "clusters"
rows = 50
features = 5
classes = 3
[[layers]]
name = "first"
type = "linear"
out_features = 8
[[layers]]
type = "reshape"
shape = [4, 2]
[[layers]]
type = "lstm"
hidden_size = 3
num_layers = 2
last_step = true
[[layers]]
type = "layer_norm"
[[layers]]
type = "concat"
branches = [[{ type = "relu" }], [{ type = "linear", out_features = 2 }, { type = "tanh" }]]
[[layers]]
type = "linear"
out_features = 3
[loss]
type = "cross_entropy"
[optimizer]
type = "sgd"
learning_rate = 0.1
momentum = 0.9
nesterov = true
[schedule]
type = "cosine"
warmup_steps = 2
[train]
batch_size = 7
checkpoint_every_steps = 3
"#,
    r#"
[data]
source = "digits"
target = "image"
normalize = "range"
[[layers]]
type = "flatten"
[[layers]]
type = "linear"
out_features = 16
[[layers]]
type = "sigmoid"
[[layers]]
type = "linear"
out_features = 64
[loss]
type = "mse"
[optimizer]
type = "gradient_descent"
learning_rate = 0.1
"#,
];

/// Values that somebody or something could write anywhere.
const ODD: &[&str] = &[
    "0",
    "1",
    "-1",
    "2",
    "3",
    "7",
    "64",
    "1000000",
    "4294967296",
    "9223372036854775807",
    "0.0",
    "-0.5",
    "0.5",
    "1.0",
    "1e-300",
    "1e300",
    "nan",
    "inf",
    "\"\"",
    "\"same\"",
    "\"adam\"",
    "\"linear\"",
    "\"ü\\u0000\"",
    "true",
    "false",
    "[]",
    "[0]",
    "[3, 3]",
    "[-1, 2.5]",
    "[[]]",
    "{}",
    "{ type = \"relu\" }",
    "[{ type = \"relu\" }]",
    "1979-05-27",
];

#[test]
fn mutated_configurations_are_refused_or_can_be_trained_on() {
    let number = |name: &str, default: u64| env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
    let (seconds, first) = (number("BACKPROP_MUTATION_SECONDS", 5), number("BACKPROP_MUTATION_SEED", 0));
    let (clock, corpus) = (Instant::now(), corpus());
    let (mut case, mut trained) = (first, 0);
    while clock.elapsed().as_secs() < seconds || case < first + 50 {
        let mut random = Random::new(case);
        let text = mutate(&mut random, &corpus);
        trained += usize::from(attempt(case, text));
        case += 1;
    }
    assert!(trained > 0, "not one of {} cases could be trained on: the mutations are too rough", case - first);
}

/// Configurations as they should be.
fn corpus() -> Vec<String> {
    let models = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../models");
    let files = fs::read_dir(models).unwrap().map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap());
    // The small ones often: the models take longer.
    let mut all: Vec<String> = files.collect();
    (0..all.len()).for_each(|_| all.extend(SMALL.map(String::from)));
    all
}

/// Whether the case could be trained on. On another thread, so that one that hangs is noticed.
fn attempt(case: u64, text: String) -> bool {
    let (sender, receiver) = mpsc::channel();
    let shown = text.clone();
    let work = move || {
        let outcome = catch_unwind(AssertUnwindSafe(|| prepare(&text)));
        // The receiver is gone if this took too long.
        let _ = sender.send(outcome);
    };
    let thread = thread::Builder::new().stack_size(8 << 20).spawn(work).unwrap();
    match receiver.recv_timeout(PATIENCE) {
        Ok(Ok(trained)) => {
            thread.join().unwrap();
            trained
        }
        Ok(Err(_)) => panic!("case {case} panicked:\n{shown}"),
        Err(_) => panic!("case {case} takes more than {PATIENCE:?}:\n{shown}"),
    }
}

/// Reads the configuration, loads its data and traces its step. Errors must say something.
fn prepare(text: &str) -> bool {
    let base = Path::new(env!("CARGO_MANIFEST_DIR"));
    let backend = Native::new(1, Isa::detect());
    let prepared = Config::parse("model.toml", text, base, &[]).map_err(|e| e.to_string());
    match prepared.and_then(|config| Trainer::new(config, &backend).map(|_| ()).map_err(|e| e.to_string())) {
        Ok(()) => true,
        Err(message) => {
            assert!(message.len() > 10, "a message that says nothing: {message:?}");
            false
        }
    }
}

fn mutate(random: &mut Random, corpus: &[String]) -> String {
    let text = random.pick(corpus).clone();
    if random.chance(0.2) {
        return mutate_text(random, text);
    }
    let mut table: Table = text.parse().unwrap();
    let donor: Table = random.pick(corpus).parse().unwrap();
    for _ in 0..1 + random.below(3) {
        mutate_table(random, &mut table, &donor);
    }
    // Making gigabytes of data is slow and teaches nothing; more than memory holds must be refused.
    for size in table.get_mut("data").and_then(Value::as_table_mut).into_iter().flat_map(|data| data.iter_mut().map(|(_, v)| v)) {
        match size {
            Value::Integer(n) if (100..1 << 40).contains(n) => *n = 100,
            _ => {}
        }
    }
    toml::to_string(&table).unwrap_or(text)
}

/// Characters removed, doubled or replaced.
fn mutate_text(random: &mut Random, text: String) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    for _ in 0..1 + random.below(4) {
        let at = random.below(characters.len());
        match random.below(4) {
            0 => drop(characters.drain(at..(at + 1 + random.below(20)).min(characters.len()))),
            1 => characters.insert(at, *random.pick(&['"', '[', ']', '=', '\n', '0', '\u{0}', 'é', '.', '{'])),
            2 => characters[at] = *random.pick(&['9', '-', '"', '#', ' ', '\\', 'x']),
            _ => {
                let piece = characters[at..(at + 30).min(characters.len())].to_vec();
                characters.splice(at..at, piece);
            }
        }
    }
    characters.into_iter().collect()
}

/// A value replaced, removed, renamed, or taken from another configuration.
fn mutate_table(random: &mut Random, table: &mut Table, donor: &Table) {
    let keys: Vec<String> = table.keys().cloned().collect();
    if keys.is_empty() {
        return;
    }
    let key = random.pick(&keys).clone();
    match random.below(12) {
        0 => drop(table.remove(&key)),
        1 => {
            let value = table.remove(&key).unwrap_or(Value::Boolean(true));
            table.insert(format!("{key}s"), value);
        }
        2 => {
            let other = donor.get(&key).cloned().unwrap_or_else(|| odd(random));
            table.insert(key, other);
        }
        3 => drop(table.insert(key, odd(random))),
        _ => {
            let from = donor.get(&key).cloned();
            if let Some(value) = table.get_mut(&key) {
                mutate_value(random, value, from.as_ref());
            }
        }
    }
}

fn mutate_value(random: &mut Random, value: &mut Value, donor: Option<&Value>) {
    match value {
        Value::Table(table) => mutate_table(random, table, donor.and_then(Value::as_table).unwrap_or(&Table::new())),
        Value::Array(items) if !items.is_empty() => {
            let at = random.below(items.len());
            match (random.below(8), donor.and_then(Value::as_array).filter(|d| !d.is_empty())) {
                (0, _) => drop(items.remove(at)),
                (1, _) => items.insert(at, items[at].clone()),
                (2, Some(other)) => items.insert(at, random.pick(other).clone()),
                (3, _) => {
                    let with = random.below(items.len());
                    items.swap(at, with);
                }
                _ => mutate_value(random, &mut items[at], None),
            }
        }
        Value::Integer(n) if random.chance(0.5) => *n = n.saturating_mul(*random.pick(&[-1, 0, 2, 3, 1000])),
        other => *other = odd(random),
    }
}

fn odd(random: &mut Random) -> Value {
    let text = format!("value = {}", random.pick(ODD));
    text.parse::<Table>().ok().and_then(|mut t| t.remove("value")).unwrap_or(Value::Boolean(true))
}
