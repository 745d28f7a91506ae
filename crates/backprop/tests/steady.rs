//! Memory over many steps on an accelerator. Alone in its process, so that nothing else takes memory meanwhile.

use backprop::{config::Config, events::Event, train::Trainer};
use backprop_check::plugin;
use std::path::Path;

const CONFIG: &str = r#"
data = { source = "clusters", rows = 12000, features = 6, classes = 3, validation = 0 }
layers = [{ type = "linear", out_features = 16 }, { type = "relu" }, { type = "linear", out_features = 3 }]
loss = { type = "cross_entropy" }
optimizer = { type = "adamw", learning_rate = 0.01 }
train = { epochs = 9, batch_size = 8, seed = 3 }
"#;

/// Bytes of memory this process has, where the system tells.
fn resident() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok().map(|kib: f64| kib * 1024.0)
}

#[test]
fn ten_thousand_steps_take_no_memory() {
    let Some(pjrt) = plugin("ten_thousand_steps_take_no_memory") else { return };
    let config = Config::parse("test", CONFIG, Path::new(""), &[]).unwrap();
    let mut trainer = Trainer::new(config, &pjrt).unwrap();
    let mut seen = Vec::new();
    trainer
        .train(None, &mut |event: &Event| {
            if let Event::Step(step) = event
                && [1000, 10_000].contains(&step.step)
            {
                seen.extend(resident());
            }
        })
        .unwrap();
    if let [early, late] = seen[..] {
        assert!((late / early - 1.0).abs() <= 0.01, "{early} bytes after 1,000 steps, {late} after 10,000");
        println!("{:.1} MiB after 1,000 steps, {:.1} MiB after 10,000", early / f64::from(1 << 20), late / f64::from(1 << 20));
    }
}
