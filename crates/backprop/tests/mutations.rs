//! Mutated configurations and runs: each is refused with a message or can be used; none panics, none hangs.
//!
//! `BACKPROP_MUTATION_SECONDS` says how long to search (default 5); `BACKPROP_MUTATION_SEED` where to begin. A failure prints the case.

use backprop::{
    config::Config,
    core::{Isa, exec::native::Native},
    data::coding::RawInput,
    model::Model,
    run::Run,
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
const SMALL: [&str; 4] = [
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
    r#"
[data]
source = "images"
rows = 40
height = 6
width = 8
channels = 1
classes = 2
[data.augment]
flip = "horizontal"
crop = 1
erase = 0.5
[[layers]]
type = "reshape"
shape = [6, 8]
[[layers]]
type = "positional_embedding"
max_len = 6
[[layers]]
type = "transformer_block"
num_heads = 2
dim_feedforward = 12
causal = true
[[layers]]
type = "multi_head_attention"
num_heads = 4
[[layers]]
type = "gru"
hidden_size = 3
bidirectional = true
last_step = true
[[layers]]
type = "linear"
out_features = 1
[loss]
type = "bce_with_logits"
[[metrics]]
type = "roc_auc"
[[metrics]]
type = "top_k"
k = 2
[optimizer]
type = "nadam"
learning_rate = 0.01
[[optimizer.groups]]
match = ["*.bias", "layers.2.*"]
learning_rate_factor = 0.1
weight_decay = 0.0
[schedule]
type = "sequential"
milestones = [1]
[[schedule.parts]]
type = "exponential"
gamma = 0.9
[[schedule.parts]]
type = "cosine"
warmup_steps = 2
[train]
batch_size = 8
accumulate = 3
ema = 0.9
early_stopping = 2
clip_value = 0.5
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
    let (seconds, first) = extent();
    let (clock, corpus) = (Instant::now(), corpus());
    for text in SMALL {
        assert!(attempt(0, text.into(), prepare), "this should be good:\n{text}");
    }
    let (mut case, mut trained) = (first, 0);
    while clock.elapsed().as_secs() < seconds || case < first + 50 {
        let mut random = Random::new(case);
        let text = mutate(&mut random, &corpus);
        trained += usize::from(attempt(case, text, prepare));
        case += 1;
    }
    assert!(trained > 0, "not one of {} cases could be trained on: the mutations are too rough", case - first);
}

/// A folder of a run with some bytes changed is refused with a message, or predicts.
#[test]
fn mutated_runs_are_refused_or_predict() {
    let (seconds, first) = extent();
    let place = tempfile::tempdir().unwrap();
    let folder = place.path().join("run");
    let config = Config::parse("model.toml", SMALL[1], Path::new(""), &["train.epochs=1".into()]).unwrap();
    let (run, backend) = (Run::create(&folder, &config).unwrap(), Native::new(1, Isa::detect()));
    Trainer::new(config, &backend).unwrap().train(Some(&run), &mut |_| {}).unwrap();
    assert!(attempt(0, folder.display().to_string(), predict));
    let files = ["config.toml", "preprocessing.json", "weights.safetensors", "run.json"].map(|name| folder.join(name));
    let whole = files.each_ref().map(|file| fs::read(file).unwrap());
    let (clock, mut case) = (Instant::now(), first);
    while clock.elapsed().as_secs() < seconds || case < first + 50 {
        let mut random = Random::new(case);
        let i = random.below(files.len());
        fs::write(&files[i], damaged(&mut random, &whole[i])).unwrap();
        attempt(case, folder.display().to_string(), predict);
        fs::write(&files[i], &whole[i]).unwrap();
        case += 1;
    }
}

/// Loads the model of a run and predicts. Errors must say something.
fn predict(folder: &str) -> bool {
    let predicted = Model::load(Path::new(folder)).and_then(|model| model.predict(&RawInput::Numbers(&[0.5; 10])));
    predicted.map_err(|e| assert!(e.to_string().len() > 10, "{e}")).is_ok()
}

/// Some bytes changed, removed or put in, mostly near the beginning, where files say what they are.
fn damaged(random: &mut Random, whole: &[u8]) -> Vec<u8> {
    let mut bytes = whole.to_vec();
    for _ in 0..1 + random.below(3) {
        let near = if random.chance(0.6) { bytes.len().min(400) } else { bytes.len() };
        let at = random.below(near);
        match random.below(4) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random.bits() as u8),
            2 => drop(bytes.drain(at..(at + 1 + random.below(8)).min(bytes.len()))),
            _ if at < bytes.len() => bytes[at] = *random.pick(b"0919-e\"{}[],\0\xff"),
            _ => {}
        }
    }
    bytes
}

/// For how many seconds to search, and the first case.
fn extent() -> (u64, u64) {
    let number = |name: &str, default: u64| env::var(name).ok().and_then(|v| v.parse().ok()).unwrap_or(default);
    (number("BACKPROP_MUTATION_SECONDS", 5), number("BACKPROP_MUTATION_SEED", 0))
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

/// Whether the case was good. On another thread, so that one that hangs is noticed.
fn attempt(case: u64, text: String, check: fn(&str) -> bool) -> bool {
    let (sender, receiver) = mpsc::channel();
    let shown = text.clone();
    let work = move || {
        let outcome = catch_unwind(AssertUnwindSafe(|| check(&text)));
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
