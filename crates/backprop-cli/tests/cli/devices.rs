//! Accelerators: what is listed, and what cannot be used is told before anything is done.

use super::{
    Workplace,
    bad_input::{GOOD, finished, refuses, refuses_command},
    last_json,
};
use backprop_check::{PLUGIN, report_skipped};
use serde_json::Value;
use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

/// The program in a place whose home, environment and path hold no plugin.
fn command(place: &Workplace, arguments: &[&str]) -> Command {
    let mut command = place.command(arguments);
    for variable in ["BACKPROP_PJRT_PLUGIN", "BACKPROP_PROBE_SECONDS", "TPU_LIBRARY_PATH", "VIRTUAL_ENV", "CONDA_PREFIX"] {
        command.env_remove(variable);
    }
    // Programs that one behaviour of the plugin compiled are not for another.
    command.env("BACKPROP_CACHE", "off");
    command.env("HOME", place.folder.path()).env("PATH", place.folder.path());
    command
}

/// Folder of the programs under test.
fn built() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_backprop")).parent().unwrap()
}

/// The plugin of `backprop-sys/examples/fake_pjrt`, which fails as its environment says. It is built here: nothing else makes sure that
/// it is, and it takes no time where it was.
fn fake_plugin() -> &'static Path {
    static FILE: OnceLock<PathBuf> = OnceLock::new();
    FILE.get_or_init(|| {
        let mut build = Command::new(env::var_os("CARGO").unwrap_or("cargo".into()));
        // Of the workspace: for one package alone, features differ and everything below it is built again.
        build.args(["build", "--quiet", "--offline", "--workspace", "--example", "fake_pjrt", "--target-dir"]);
        build.arg(built().parent().unwrap()).current_dir(env!("CARGO_MANIFEST_DIR"));
        if built().ends_with("release") {
            build.arg("--release");
        }
        assert!(build.status().unwrap().success(), "the plugin for tests was not built");
        let name = format!("{}fake_pjrt{}", env::consts::DLL_PREFIX, env::consts::DLL_SUFFIX);
        built().join("examples").join(name)
    })
}

/// A place with a configuration and the plugin for tests.
fn with_fake() -> Workplace {
    let place = Workplace::new();
    place.write("model.toml", GOOD);
    fs::copy(fake_plugin(), place.path("fake.so")).unwrap();
    place
}

/// A command whose plugin fails in a way.
fn fake(place: &Workplace, behaviour: &str, arguments: &[&str]) -> Command {
    let mut command = command(place, arguments);
    command.env("FAKE_PJRT", behaviour);
    command
}

const TRAIN: [&str; 6] = ["train", "model.toml", "--out", "run", "--device", "pjrt:plugin.so"];
const TRAIN_FAKE: [&str; 6] = ["train", "model.toml", "--out", "run", "--device", "pjrt:fake.so"];

/// Training with a plugin is refused, and leaves nothing behind.
fn refuses_training(name: &str, place: &Workplace, command: &mut Command) {
    refuses_command(name, place, command);
    assert!(!place.path("run").exists(), "{name}: a run folder was left behind");
}

#[test]
fn files_that_are_no_plugins() {
    let place = Workplace::new();
    place.write("model.toml", GOOD);
    let refuses = |name: &str| refuses_training(name, &place, &mut command(&place, &TRAIN));
    refuses("plugin_missing");
    place.write("plugin.so", "not a library at all\n");
    refuses("plugin_text");
    place.write("plugin.so", "");
    refuses("plugin_empty");
    let program = fs::read(env!("CARGO_BIN_EXE_backprop")).unwrap();
    place.write("plugin.so", &program[..4096]);
    refuses_contains(&place, &["plugin.so", "cut short"]);
    fs::remove_file(place.path("plugin.so")).unwrap();
    fs::create_dir(place.path("plugin.so")).unwrap();
    refuses("plugin_folder");
}

/// A message that has a length in it.
fn refuses_contains(place: &Workplace, parts: &[&str]) {
    let output = command(place, &TRAIN).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(parts.iter().all(|part| said.contains(part)), "{said}");
    assert!(!place.path("run").exists(), "a run folder was left behind");
}

/// A shared library of another kind: one of those that the compiler itself loads.
#[test]
fn a_library_that_is_no_plugin() {
    let libraries = fs::read_dir(built().join("deps")).unwrap().flatten().map(|entry| entry.path());
    let macros = |path: &PathBuf| {
        path.extension().is_some_and(|e| e == &env::consts::DLL_SUFFIX[1..]) && path.to_string_lossy().contains("serde_derive-")
    };
    let Some(library) = libraries.into_iter().find(macros) else {
        println!("skipped: no shared library was built");
        return;
    };
    let place = Workplace::new();
    place.write("model.toml", GOOD);
    fs::copy(library, place.path("plugin.so")).unwrap();
    refuses_training("plugin_other_library", &place, &mut command(&place, &TRAIN));
}

#[test]
fn plugins_that_fail() {
    let place = with_fake();
    for (behaviour, name) in [
        ("old", "plugin_old"),
        ("major", "plugin_major"),
        ("short", "plugin_short"),
        ("nodevice", "plugin_no_device"),
        ("abort", "plugin_crash"),
    ] {
        refuses_training(name, &place, &mut fake(&place, behaviour, &TRAIN_FAKE));
    }
    refuses_training("plugin_hang", &place, fake(&place, "hang", &TRAIN_FAKE).env("BACKPROP_PROBE_SECONDS", "1"));
    let other = ["train", "model.toml", "--out", "run", "--device", "cuda"];
    let named = format!("cuda={}", place.path("absent.so").display());
    let output = command(&place, &other).env("BACKPROP_PJRT_PLUGIN", named).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Every command that computes refuses what cannot be used.
#[test]
fn every_command_refuses_a_plugin_that_fails() {
    let place = finished();
    place.write("plugin.so", "text");
    place.write("points.csv", "1,2,3,4\n");
    let before = contents(&place.path("run"));
    for arguments in [
        &["eval", "run"][..],
        &["predict", "run", "points.csv"],
        &["inspect", "model.toml"],
        &["train", "--resume", "run", "--set", "train.epochs=2"],
    ] {
        let arguments = [arguments, &["--device", "pjrt:plugin.so"]].concat();
        let output = command(&place, &arguments).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {said}");
        assert!(said.contains("text file"), "{arguments:?}: {said}");
    }
    assert_eq!(contents(&place.path("run")), before, "the run was touched");
}

/// Device memory that is used up when tensors are copied there, when a step runs, or when its results come: exit code 2, a sentence
/// that says what helps, and a run that goes on elsewhere to the same bits.
#[test]
fn exhausted_memory_leaves_the_run_intact() {
    let place = with_fake();
    let cpu = ["train", "--resume", "run", "--set", "train.epochs=2"];
    let device = [&cpu[..], &["--device", "pjrt:fake.so"]].concat();
    let train = |out: &str, epochs: &str| {
        place.succeed(&["train", "model.toml", "--out", out, "--set", epochs, "--set", "train.checkpoint_every_steps=1"])
    };
    train("whole", "train.epochs=2");
    for (behaviour, after) in [("exhausted-upload", "0"), ("exhausted-upload", "3"), ("exhausted", "0"), ("late", "0")] {
        train("run", "train.epochs=1");
        let kept = contents(&place.path("run/checkpoints"));
        let output = fake(&place, behaviour, &device).env("FAKE_PJRT_AFTER", after).output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{behaviour}: {said}");
        assert!(said.contains("RESOURCE_EXHAUSTED") && said.contains("train.batch_size"), "{behaviour}: {said}");
        assert_eq!(contents(&place.path("run/checkpoints")), kept, "{behaviour}: the checkpoints were touched");
        place.succeed(&cpu);
        assert!(place.read("run/weights.safetensors") == place.read("whole/weights.safetensors"), "{behaviour}: other weights");
        fs::remove_dir_all(place.path("run")).unwrap();
    }
}

/// Device memory that is used up at any time: what checkpoints there are stay as they are in every further try on the device, and the run
/// goes on elsewhere to its end.
#[test]
fn training_that_fails_in_the_middle_goes_on_elsewhere() {
    let place = with_fake();
    let settings = ["--set", "train.epochs=2", "--set", "train.checkpoint_every_steps=1"];
    for behaviour in ["exhausted-upload", "exhausted", "late"] {
        let mut with_checkpoints = 0;
        for after in 0.. {
            let attempt = |arguments: &[&str], after: usize| {
                let mut command = fake(&place, behaviour, &[arguments, &["--device", "pjrt:fake.so"], &settings].concat());
                command.env("FAKE_PJRT_AFTER", after.to_string()).output().unwrap()
            };
            let output = attempt(&["train", "model.toml", "--out", "run"], after);
            if output.status.success() {
                fs::remove_dir_all(place.path("run")).unwrap();
                break;
            }
            let fails = |output: &std::process::Output| {
                let said = String::from_utf8_lossy(&output.stderr);
                assert_eq!(output.status.code(), Some(2), "{behaviour} after {after}: {said}");
                assert!(said.contains("RESOURCE_EXHAUSTED") && said.contains("train.batch_size"), "{said}");
            };
            fails(&output);
            let kept = contents(&place.path("run"));
            let folder = place.path("run/checkpoints");
            // After the last step the checkpoint is written again, with the time it took.
            let tensors = |file: &PathBuf, _: &mut Vec<u8>| file.extension().is_some_and(|e| e == "safetensors");
            let checkpoints = || -> BTreeMap<PathBuf, Vec<u8>> {
                if folder.exists() { contents(&folder).extract_if(.., tensors).collect() } else { BTreeMap::new() }
            };
            let before = checkpoints();
            with_checkpoints += usize::from(!before.is_empty());
            fails(&attempt(&["train", "--resume", "run"], 0));
            assert!(checkpoints() == before, "{behaviour} after {after}: the checkpoints were touched");
            assert!(contents(&place.path("run")).keys().all(|file| kept.contains_key(file)));
            place.succeed(&["train", "--resume", "run", "--device", "cpu"]);
            place.succeed(&["eval", "run"]);
            fs::remove_dir_all(place.path("run")).unwrap();
        }
        assert!(with_checkpoints > 1, "{behaviour}: training never came as far as its second checkpoint");
    }
}

/// A program that the plugin refuses: the plugin's words, and nothing is made.
#[test]
fn programs_that_do_not_compile() {
    let place = with_fake();
    let output = fake(&place, "nocompile", &TRAIN_FAKE).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(said.contains("INVALID_ARGUMENT"), "{said}");
    assert!(!place.path("run").exists(), "a run folder was left behind");
}

/// All files of a folder.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().flatten().map(|entry| entry.path()) {
        match entry.is_dir() {
            true => files.extend(contents(&entry)),
            false => drop(files.insert(entry.clone(), fs::read(&entry).unwrap())),
        }
    }
    files
}

#[test]
fn arguments_and_variables_about_devices() {
    let place = with_fake();
    let train = |arguments: &[&str]| fake(&place, "ok", &[&["train", "model.toml", "--out", "run"], arguments].concat());
    refuses("device_unknown", &place, &["train", "model.toml", "--device", "gpu"]);
    refuses_training("device_without_path", &place, &mut train(&["--device", "pjrt"]));
    refuses_training("device_with_threads", &place, &mut train(&["--device", "pjrt:fake.so", "--threads", "2"]));
    refuses_training("device_with_isa", &place, &mut train(&["--device", "pjrt:fake.so", "--isa", "avx2"]));
    refuses_training("cpu_with_devices", &place, &mut train(&["--devices", "2"]));
    refuses_training("too_many_devices", &place, &mut train(&["--device", "pjrt:fake.so", "--devices", "3"]));
    refuses_training("probe_seconds", &place, train(&["--device", "pjrt:fake.so"]).env("BACKPROP_PROBE_SECONDS", "soon"));
    refuses_training("plugin_variable", &place, train(&["--device", "cuda"]).env("BACKPROP_PJRT_PLUGIN", "gpu=/a.so"));
    refuses_training("device_configured", &place, &mut train(&["--set", "train.device=gpu"]));
    refuses_training("devices_configured", &place, &mut train(&["--set", "train.device=cuda", "--set", "train.devices=0"]));
    let set = format!("train.device=pjrt:{}", place.path("fake.so").display());
    refuses_training("device_of_the_configuration", &place, fake(&place, "old", &TRAIN_FAKE[..4]).args(["--set", &set]));
    // The command line goes before the configuration.
    let trained = train(&["--set", &set, "--device", "cpu"]).output().unwrap();
    assert!(trained.status.success(), "{}", String::from_utf8_lossy(&trained.stderr));
    // What was trained on one device is used on another.
    let used = fake(&place, "old", &["eval", "run"]).output().unwrap();
    assert!(used.status.success(), "{}", String::from_utf8_lossy(&used.stderr));
}

fn listed(command: &mut Command) -> (String, BTreeMap<String, Value>) {
    let run = |command: &mut Command| {
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let text = run(command);
    let json = last_json(&run(command.arg("--json")));
    let named = |device: &Value| (device["device"].as_str().unwrap().to_owned(), device.clone());
    (text, json["devices"].as_array().unwrap().iter().map(named).collect())
}

#[test]
fn devices_are_listed() {
    let place = with_fake();
    let (text, devices) = listed(fake(&place, "ok", &["devices"]).env("BACKPROP_PJRT_PLUGIN", place.path("fake.so")));
    assert!(text.starts_with("cpu ") && text.lines().next().unwrap().contains("instruction sets: portable"), "{text}");
    assert!(text.lines().all(|line| line.chars().count() <= 100), "{text}");
    assert_eq!(devices["cpu"]["usable"], true);
    let plugin = &devices["pjrt"];
    assert_eq!((&plugin["usable"], &plugin["platform"]), (&true.into(), &"fake".into()), "{plugin}");
    let memory = plugin["devices"][0]["memory_bytes"].as_u64().unwrap();
    assert!(text.contains("1 × ") && text.contains("16.00 GiB") && memory == 16 << 30, "{text}");
    for (device, command) in [("cuda", "jax-cuda13-plugin[with-cuda]"), ("rocm", "jax-rocm7-pjrt"), ("tpu", "libtpu")] {
        let finding = &devices[device];
        // A machine may have one of them in the folders of its system.
        if finding["usable"] == false && finding["path"].is_null() {
            assert!(
                finding["install"].as_str().is_some_and(|i| i.contains(command)) && text.contains(command),
                "{finding}\n{text}"
            );
        }
    }
}

/// Something found that does not work is listed with the reason, and the rest with it.
#[test]
fn plugins_that_fail_are_listed_too() {
    let place = with_fake();
    for (behaviour, reason) in [("abort", "signal 6"), ("hang", "did not answer within 1 s"), ("old", "0.40")] {
        let mut command = fake(&place, behaviour, &["devices"]);
        command.env("BACKPROP_PJRT_PLUGIN", place.path("fake.so"));
        if behaviour == "hang" {
            command.env("BACKPROP_PROBE_SECONDS", "1");
        }
        let (text, devices) = listed(&mut command);
        assert!(devices["pjrt"]["reason"].as_str().unwrap().contains(reason), "{text}");
        assert_eq!(devices.len(), 5, "{text}");
    }
}

/// A plugin in the active environment, in the folder that its package makes.
#[test]
fn plugins_of_the_active_environment_are_found() {
    let place = with_fake();
    let site = place.path("venv/lib/python3.12/site-packages");
    fs::create_dir_all(site.join("libtpu")).unwrap();
    fs::create_dir_all(site.join("libtpu-0.0.52.dist-info")).unwrap();
    fs::copy(fake_plugin(), site.join("libtpu/libtpu.so")).unwrap();
    let (text, devices) = listed(fake(&place, "ok", &["devices"]).env("VIRTUAL_ENV", place.path("venv")));
    let reason = devices["tpu"]["reason"].as_str().unwrap();
    // With a TPU it is loaded and says what it is; without one it is not.
    assert!(reason.contains("no TPU") || reason.contains("a plugin for fake, not for tpu"), "{text}");
    assert!(!text.contains("pip install libtpu") && text.contains("libtpu/libtpu.so"), "{text}");
}

/// The plugin that the environment of the tests names.
pub(super) fn real_plugin(test: &str) -> Option<OsString> {
    let path = env::var_os(PLUGIN);
    if path.is_none() {
        report_skipped(test);
    }
    path
}

#[test]
fn a_plugin_that_works_is_listed() {
    let Some(path) = real_plugin("a_plugin_that_works_is_listed") else { return };
    let place = Workplace::new();
    let (text, devices) = listed(command(&place, &["devices"]).env("BACKPROP_PJRT_PLUGIN", path));
    let works = devices.values().filter(|d| d["device"] != "cpu" && d["usable"] == true);
    assert!(works.flat_map(|d| d["devices"].as_array()).any(|chips| !chips.is_empty()), "{text}");
}

/// A run goes from a device to the processor and back; every command computes on either, to the same within rounding.
#[test]
fn runs_move_between_devices() {
    let Some(path) = real_plugin("runs_move_between_devices") else { return };
    let place = Workplace::new();
    place.write("model.toml", GOOD);
    place.write("points.csv", "1,2,3,4\n-1,0,2,0.5\n");
    let device = format!("pjrt:{}", Path::new(&path).display());
    let run = |arguments: &[&str], device: &str| {
        let output = command(&place, &[arguments, &["--device", device]].concat()).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    };
    let more = |epochs: &str, device: &str| drop(run(&["train", "--resume", "run", "--set", epochs], device));
    run(&["train", "model.toml", "--out", "run"], &device);
    more("train.epochs=2", "cpu");
    more("train.epochs=3", &device);
    run(&["train", "model.toml", "--out", "whole", "--set", "train.epochs=3"], "cpu");
    let losses = [("run", "cpu"), ("run", device.as_str()), ("whole", "cpu")]
        .map(|(folder, device)| last_json(&run(&["eval", folder, "--json"], device))["test_loss"].as_f64().unwrap());
    assert!(losses.iter().all(|loss| (loss / losses[0] - 1.0).abs() < 1e-4), "{losses:?}");
    let predicted = ["cpu", &device].map(|device| run(&["predict", "run", "points.csv", "--format", "jsonl"], device));
    let classes = |text: &String| -> Vec<Value> {
        text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["label"].clone()).collect()
    };
    assert_eq!(classes(&predicted[0]), classes(&predicted[1]), "{predicted:?}");
    assert!(classes(&predicted[0]).len() == 2 && classes(&predicted[0]).iter().all(Value::is_string), "{predicted:?}");
    assert!(run(&["inspect", "model.toml"], &device).contains("layers.0"));
}
