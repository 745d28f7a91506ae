//! The binding with the plugin of `examples/fake_pjrt`: every failure a plugin can have, and that nothing is lost in it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use backprop_sys::pjrt::{Client, Code, CompileOptions, ElementType, Error, Plugin, Value};

/// Objects are counted for the process: tests that look at the count must be alone.
static ALONE: Mutex<()> = Mutex::new(());

fn alone() -> MutexGuard<'static, ()> {
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The plugin beside this test, built if this test was built without the examples.
fn plugin_file() -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let target = test.parent().and_then(Path::parent).unwrap();
    let name = format!("{}fake_pjrt{}", std::env::consts::DLL_PREFIX, std::env::consts::DLL_SUFFIX);
    let file = target.join("examples").join(name);
    if !file.exists() {
        let build = ["build", "--quiet", "-p", "backprop-sys", "--example", "fake_pjrt"];
        let built = Command::new(env!("CARGO")).args(build).current_dir(env!("CARGO_MANIFEST_DIR")).status().unwrap();
        assert!(built.success() && file.exists(), "{} was not built", file.display());
    }
    file
}

fn plugin() -> Plugin {
    Plugin::load(&plugin_file()).unwrap()
}

fn client(behaviour: &str) -> Result<Client, Error> {
    plugin().client(&[("fake", Value::Text(behaviour.into())), ("cpu_device_count", Value::Int(2))])
}

/// Objects of the plugin that are not freed.
fn live() -> i64 {
    // SAFETY: the plugin is loaded already, so that no initialiser runs; the function has this type.
    unsafe {
        let library = libloading::Library::new(plugin().path()).unwrap();
        let count: libloading::Symbol<unsafe extern "C" fn() -> i64> = library.get(b"fake_pjrt_live\0").unwrap();
        count()
    }
}

const SWAP: &str = "
func.func @main(%a: tensor<2xf32>, %b: tensor<3xi32> {tf.aliasing_output = 0 : i32})
    -> (tensor<3xi32>, tensor<2xf32>, tensor<2x2xf64>) {
  %c = stablehlo.constant dense<0.0> : tensor<2x2xf64>
  return %b, %a, %c : tensor<3xi32>, tensor<2xf32>, tensor<2x2xf64>
}";

fn run(client: &Client) -> Result<(), Error> {
    let program = client.compile(SWAP, &CompileOptions::default())?;
    let a = client.upload(0, ElementType::F32, &[2], &[1, 2, 3, 4, 5, 6, 7, 8])?;
    let b = client.upload(0, ElementType::I32, &[3], &[9; 12])?;
    let address = b.address()?;
    let results = program.execute(&[vec![&a, &b]])?.remove(0);
    results[0].wait()?;
    assert_eq!(results[0].address()?, address);
    assert_eq!(results[0].start_read(vec![0; 12])?.wait()?, [9; 12]);
    assert_eq!(results[1].start_read([0; 8])?.wait()?, [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!(results[2].start_read(vec![0; 32])?.wait()?, 1_f64.to_le_bytes().repeat(4));
    let donated = program.execute(&[vec![&a, &b]]).unwrap_err();
    assert!(donated.to_string().contains("deleted or donated"), "{donated}");
    drop(results[1].start_read(vec![0; 8])?);
    let loaded = client.load(&program.serialize()?, &CompileOptions::default())?;
    assert_eq!(loaded.outputs(), program.outputs());
    assert_eq!(client.devices()[0].memory().map(|m| m.in_use), Some(8 + 12 + 8 + 32));
    Ok(())
}

#[test]
fn nothing_is_lost_in_success_and_in_failure() {
    let _alone = alone();
    let before = live();
    run(&client("ok").unwrap()).unwrap();
    assert_eq!(live(), before);
    for behaviour in ["nocompile", "exhausted-upload", "exhausted", "late"] {
        let error = run(&client(behaviour).unwrap()).unwrap_err();
        assert_eq!(error.is_out_of_memory(), behaviour != "nocompile", "{behaviour}: {error}");
        assert_eq!(live(), before, "{behaviour} lost objects");
    }
    let error = client("nodevice").unwrap_err();
    assert_eq!(error.code(), Some(Code::Unavailable));
    assert!(error.to_string().ends_with("starting the device failed (UNAVAILABLE): No visible fake devices."), "{error}");
    assert_eq!(live(), before);
}

/// What is left of a client lives as long as the last buffer of it.
#[test]
fn a_buffer_outlives_the_client_it_came_from() {
    let _alone = alone();
    let before = live();
    let client = client("ok").unwrap();
    let program = client.compile(SWAP, &CompileOptions::default()).unwrap();
    let buffer = client.upload(1, ElementType::U8, &[3], &[1, 2, 3]).unwrap();
    let pending = buffer.start_read(vec![0; 3]).unwrap();
    drop((client, program, buffer));
    assert!(pending.is_ready().unwrap());
    assert_eq!(pending.wait().unwrap(), [1, 2, 3]);
    assert_eq!(live(), before);
}

/// A failure of one computation is reported by those that need its result, and where it is read.
#[test]
fn a_late_failure_is_reported_by_what_needs_the_result() {
    let _alone = alone();
    let client = plugin().client(&[("fake", Value::Text("late".into())), ("after", Value::Int(1))]).unwrap();
    let text = "func.func @main(%a: tensor<2xi32> {tf.aliasing_output = 0 : i32}) -> tensor<2xi32> { return %a : tensor<2xi32> }";
    let program = client.compile(text, &CompileOptions::default()).unwrap();
    let mut state = client.upload(0, ElementType::I32, &[2], &[1; 8]).unwrap();
    for step in 0..3 {
        state = program.execute(&[vec![&state]]).unwrap().remove(0).remove(0);
        assert_eq!(state.wait().is_ok(), step == 0);
    }
    assert!(state.read(&mut [0; 8]).unwrap_err().is_out_of_memory());
    assert!(state.start_read(vec![0; 8]).unwrap().wait().unwrap_err().is_out_of_memory());
}

#[test]
fn several_devices_have_their_own_lists() {
    let _alone = alone();
    let client = client("ok").unwrap();
    assert_eq!((client.platform(), client.devices().len()), ("fake", 2));
    let text = "func.func @main(%a: tensor<2xui8>) -> tensor<2xui8> { return %a : tensor<2xui8> }";
    let program = client.compile(text, &CompileOptions { replicas: 2, ..CompileOptions::default() }).unwrap();
    let on = |device: usize, bytes: &[u8]| client.upload(device, ElementType::U8, &[2], bytes).unwrap();
    let (a, b) = (on(0, &[1, 2]), on(1, &[3, 4]));
    let results = program.execute(&[vec![&a], vec![&b]]).unwrap();
    assert_eq!(results[1][0].start_read(vec![0; 2]).unwrap().wait().unwrap(), [3, 4]);
    let error = program.execute(&[vec![&b], vec![&a]]).unwrap_err();
    assert!(error.to_string().contains("an argument is on device 1, not 0"), "{error}");
}

#[test]
fn what_a_plugin_does_not_have_is_named() {
    let error = plugin().topology("", &[]).unwrap_err();
    assert!(matches!(error, Error::Missing { function: "PJRT_TopologyDescription_Create", major: 0, .. }), "{error:?}");
    assert!(error.to_string().contains("needed for describing the devices to compile for"), "{error}");
}

#[test]
fn what_is_no_plugin_is_refused_before_it_is_opened() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("plugin.so");
    let refused = |bytes: &[u8], words: &str| {
        fs::write(&file, bytes).unwrap();
        let error = Plugin::load(&file).unwrap_err();
        assert!(matches!(error, Error::File { .. }), "{error:?}");
        let text = error.to_string();
        assert!(text.starts_with(&format!("{}: ", file.display())) && text.contains(words), "{text}");
    };
    let whole = fs::read(plugin_file()).unwrap();
    refused(b"", "empty");
    refused(b"#!/bin/sh\necho hello\n", "text file");
    refused(&whole[..whole.len() / 2], "cut short");
    refused(&[&whole[..18], &[0xf3, 0], &whole[20..]].concat(), "is for riscv64");
    let nothing = Plugin::load(&folder.path().join("nothing.so")).unwrap_err();
    assert!(nothing.to_string().contains("no such file"), "{nothing}");
    let folder = Plugin::load(folder.path()).unwrap_err();
    assert!(folder.to_string().contains("a folder"), "{folder}");
}

/// A library of the system that every process here has open.
#[test]
fn a_library_that_is_no_plugin_is_refused() {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let library = maps.lines().filter_map(|l| l.split_whitespace().last()).find(|p| p.contains("/libc.so")).unwrap();
    let error = Plugin::load(Path::new(library)).unwrap_err();
    assert!(matches!(error, Error::NotAPlugin { .. }), "{error:?}");
}

/// Runs `in_a_child` of this file in a process of its own, with a behaviour in its environment.
fn child(behaviour: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "in_a_child", "--nocapture"]).env("FAKE_PJRT", behaviour);
    command
}

fn output(behaviour: &str) -> (Output, String) {
    let output = child(behaviour).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (output, text)
}

/// Not a test by itself: what the tests below run with `FAKE_PJRT` set.
#[test]
fn in_a_child() {
    if std::env::var_os("FAKE_PJRT").is_none() {
        return;
    }
    let tried = Plugin::load(&plugin_file()).and_then(|plugin| plugin.client(&[])).and_then(|client| run(&client));
    println!("log level {:?}", std::env::var("TF_CPP_MIN_LOG_LEVEL"));
    println!("tried: {}", tried.map_or_else(|e| e.to_string(), |()| "worked".into()));
}

#[test]
fn other_versions_are_refused_with_what_is_wanted() {
    let (_, text) = output("old");
    assert!(
        text.contains("speaks version 0.40 of the PJRT C API; versions 0.81 and later are supported; install a newer"),
        "{text}"
    );
    let (_, text) = output("major");
    assert!(text.contains("speaks version 1.0") && text.contains("install an older plugin"), "{text}");
    let (_, text) = output("short");
    assert!(text.contains("does not have the function `PJRT_Executable_OutputElementTypes`"), "{text}");
}

#[test]
fn logging_is_silenced_unless_the_user_asks_for_it() {
    let (_, text) = output("ok");
    assert!(text.contains("log level Ok(\"3\")") && text.contains("tried: worked"), "{text}");
    let loud = child("ok").env("TF_CPP_MIN_LOG_LEVEL", "0").output().unwrap();
    assert!(String::from_utf8_lossy(&loud.stdout).contains("log level Ok(\"0\")"));
}

/// What a caller has to expect of an unknown plugin, and why it is tried in a child process.
#[test]
fn a_plugin_can_take_its_process_down_or_hang() {
    let (output, text) = output("abort");
    assert!(!output.status.success() && !text.contains("tried"), "{text}");
    let mut hanging = child("hang").stdout(std::process::Stdio::null()).spawn().unwrap();
    let until = Instant::now() + Duration::from_millis(300);
    while Instant::now() < until {
        assert!(hanging.try_wait().unwrap().is_none(), "it ended");
        std::thread::sleep(Duration::from_millis(20));
    }
    hanging.kill().unwrap();
    hanging.wait().unwrap();
}
