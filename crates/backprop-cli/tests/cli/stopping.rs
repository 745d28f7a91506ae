//! Training that a signal, the clock or a scheduler ends goes on later to the same bits.

use super::{Workplace, metrics, model};
use std::{
    fs,
    io::{BufRead, BufReader},
    process::{Child, Command, Output, Stdio},
    thread::sleep,
    time::{Duration, Instant},
};

/// Runs that must end with the same bits however often they are stopped: a model of the repository and its settings. One line per
/// kind of data and state that training has.
const RUNS: &[(&str, &[&str])] = &[
    // Adam's moments, running statistics, random masks, the best epoch kept, a smaller last batch.
    (
        "cnn-fashion.toml",
        &[
            "data.source=digits",
            "layers.0.out_channels=8",
            "layers.5.out_channels=8",
            "layers.10.out_channels=8",
            "train.epochs=4",
        ],
    ),
    // Two short steps, then a long evaluation: most signals come during it.
    ("cnn-fashion.toml", &["data.validation=0.9774", "train.epochs=3"]),
    // Images that are changed anew in every epoch.
    (
        "cnn-fashion.toml",
        &[
            "data.source=digits",
            "layers.0.out_channels=8",
            "layers.5.out_channels=8",
            "layers.10.out_channels=8",
            "train.epochs=3",
            "data.augment.flip=horizontal",
            "data.augment.rotate=15.0",
        ],
    ),
    (
        "lstm-text.toml",
        &["train.epochs=2", "data.sequence=12", "data.validation=0.88", "data.test=0.9", "layers.1.hidden_size=24"],
    ),
];

/// No checkpoint but those that stopping writes.
const NO_CHECKPOINTS: [&str; 2] = ["--set", "train.checkpoint_every_seconds=1e9"];

/// Starts the program, and waits until signals no longer end it by themselves; what it says is kept.
fn start(place: &Workplace, arguments: &[&str]) -> Child {
    let mut child = place.command(arguments).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    while !catches(&child) && child.try_wait().unwrap().is_none() {
        sleep(Duration::from_millis(1));
    }
    child
}

/// Whether a process has taken SIGTERM over, as far as the system tells.
fn catches(child: &Child) -> bool {
    let Ok(status) = fs::read_to_string(format!("/proc/{}/status", child.id())) else { return true };
    let mask = status.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap();
    u64::from_str_radix(mask.trim(), 16).unwrap() & 1 << (15 - 1) != 0
}

fn send(signal: &str, child: &Child) {
    // The shell's own kill: it is everywhere. An error means that the process is done already.
    Command::new("sh").args(["-c", &format!("kill -{signal} {} 2>/dev/null", child.id())]).status().unwrap();
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn sigterm_and_resume_with_other_threads_end_with_the_same_bits() {
    for (name, settings) in RUNS {
        let (place, model) = (Workplace::new(), model(name));
        let mut arguments = vec!["train", &model];
        settings.iter().for_each(|s| arguments.extend(["--set", s]));
        arguments.extend(NO_CHECKPOINTS);
        let with = |more: &[&'static str]| [&arguments[..], more].concat();
        let clock = Instant::now();
        place.succeed(&with(&["--out", "whole", "--threads", "1"]));
        let mut length = clock.elapsed();
        let (mut stops, mut sessions) = (0, 0);
        while stops < 4 {
            sessions += 1;
            assert!(sessions < 60, "{name}: {stops} stops in {sessions} sessions");
            let threads = ["2", "1", "3", "8"][stops];
            let arguments = match place.path("stopped").exists() {
                true => vec!["train", "--resume", "stopped", "--threads", threads],
                false => with(&["--out", "stopped", "--threads", "2"]),
            };
            let child = start(&place, &arguments);
            // Fractions of the run's length, spread by the golden ratio: early, late and in between.
            sleep(length.mul_f64((f64::from(sessions) * 0.618_034).fract() * 0.4));
            send("TERM", &child);
            let output = child.wait_with_output().unwrap();
            let said = said(&output);
            match output.status.code() {
                Some(143) if said.contains("before training began") => {}
                Some(143) => {
                    stops += 1;
                    assert!(said.contains("go on with: backprop train --resume stopped"), "{name}: {said}");
                    assert!(place.path("stopped/checkpoints/latest").exists(), "{name}: {said}");
                    assert!(!place.path("stopped/summary.json").exists(), "{name}: {said}");
                }
                Some(0) => {
                    // It was done before the signal came.
                    length = length.mul_f64(0.7);
                    compare(&place, name);
                    fs::remove_dir_all(place.path("stopped")).unwrap();
                }
                code => panic!("{name}: exit code {code:?}: {said}"),
            }
        }
        place.succeed(&["train", "--resume", "stopped", "--threads", "3"]);
        compare(&place, name);
    }
}

fn compare(place: &Workplace, name: &str) {
    assert!(place.read("whole/weights.safetensors") == place.read("stopped/weights.safetensors"), "{name}: other weights");
    assert_eq!(metrics(place, "whole"), metrics(place, "stopped"), "{name}");
}

/// One step per epoch, on all rows: long enough for a second signal to come during it.
fn long_steps(place: &Workplace) -> (Child, impl Iterator<Item = String>) {
    let model = model("cnn-fashion.toml");
    let mut arguments = vec!["train", &model, "--out", "run", "--set", "train.batch_size=100000", "--set", "train.epochs=1000"];
    arguments.extend(NO_CHECKPOINTS);
    let mut command = Command::new("env");
    // A test that runs in the background ignores SIGINT, and its children would too.
    command.args(["--default-signal=INT", env!("CARGO_BIN_EXE_backprop")]).args(&arguments).current_dir(place.folder.path());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines().map(Result::unwrap);
    while !place.path("run").exists() {
        assert!(child.try_wait().unwrap().is_none(), "it ended by itself");
        sleep(Duration::from_millis(5));
    }
    (child, lines)
}

#[test]
fn a_second_interrupt_ends_at_once() {
    let place = Workplace::new();
    let (mut child, mut lines) = long_steps(&place);
    send("INT", &child);
    assert!(lines.next().unwrap().starts_with("SIGINT: stopping after this step"));
    send("INT", &child);
    let rest: Vec<String> = lines.collect();
    assert_eq!(child.wait().unwrap().code(), Some(130), "{rest:?}");
    assert_eq!(rest, ["ended at once; the last checkpoint is whole"]);
    assert!(!place.path("run/checkpoints/latest").exists(), "it did not end at once");
}

#[test]
fn the_other_signals_finish_the_step() {
    for (signal, again, code) in [("INT", "TERM", 130), ("HUP", "HUP", 129), ("TERM", "TERM", 143)] {
        let place = Workplace::new();
        let (mut child, mut lines) = long_steps(&place);
        send(signal, &child);
        assert!(lines.next().unwrap().starts_with(&format!("SIG{signal}: stopping")));
        // Schedulers send a signal to a process and again to its group: that is one request.
        send(again, &child);
        let rest: Vec<String> = lines.collect();
        assert_eq!(child.wait().unwrap().code(), Some(code), "{rest:?}");
        assert_eq!(rest.len(), 1);
        assert!(rest[0].starts_with(&format!("stopped by SIG{signal} after step ")), "{rest:?}");
        assert!(rest[0].ends_with("of 1000 epochs done); go on with: backprop train --resume run"), "{rest:?}");
        let step: u64 = rest[0].split("after step ").nth(1).unwrap().split(' ').next().unwrap().parse().unwrap();
        assert_eq!(place.text("run/checkpoints/latest"), format!("step-{step:09}"));
    }
}

/// Training that has not begun has nothing to lose.
#[test]
fn a_signal_before_training_ends_at_once() {
    let place = Workplace::new();
    // Opening a pipe that nobody writes to waits forever: data that take long to load.
    assert!(Command::new("mkfifo").arg(place.path("notes.txt")).status().unwrap().success());
    place.write("text.toml", place_text().replace("source = \"shakespeare\"", "source = \"text\"\npath = \"notes.txt\""));
    let child = start(&place, &["train", "text.toml", "--out", "run"]);
    sleep(Duration::from_millis(300));
    send("TERM", &child);
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(143));
    assert_eq!(said(&output), "stopped by SIGTERM before training began; nothing was changed\n");
    assert!(!place.path("run").exists());
}

fn place_text() -> String {
    fs::read_to_string(model("lstm-text.toml")).unwrap()
}

#[test]
fn time_over_is_an_exit_code_of_its_own() {
    let (place, model) = (Workplace::new(), model("mlp-digits.toml"));
    let steps = |arguments: &[&str]| {
        let output = place.run(arguments);
        let said = said(&output);
        assert_eq!(output.status.code(), Some(3), "{said}");
        assert!(said.ends_with("of 1000000 epochs done); go on with: backprop train --resume 'a run'\n"), "{said}");
        let step = said.split("stopped by the end of its time after step ").nth(1).unwrap().split(' ').next().unwrap();
        assert_eq!(place.text("a run/checkpoints/latest"), format!("step-{:09}", step.parse::<u64>().unwrap()));
        step.parse::<u64>().unwrap()
    };
    let first = steps(&["train", &model, "--out", "a run", "--set", "train.epochs=1000000", "--set", "train.max_time=1s"]);
    assert!(first > 0);
    assert!(steps(&["train", "--resume", "a run"]) > first, "the run's own limit holds for every session");
    assert!(steps(&["train", "--resume", "a run", "--max-time", "1s"]) > first);
}
