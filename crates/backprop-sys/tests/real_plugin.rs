//! The binding with a real plugin: the one that `BACKPROP_PJRT_PLUGIN` names.

use std::path::Path;

use backprop_check::{PLUGIN, report_skipped};
use backprop_sys::pjrt::{Buffer, Client, CompileOptions, ElementType, Error, Plugin, Value};

/// A client, of two devices if it is a CPU's; or nothing where no plugin is named.
fn client() -> Option<Client> {
    let Some(path) = std::env::var_os(PLUGIN) else {
        report_skipped(std::thread::current().name().unwrap_or_default());
        return None;
    };
    let plugin = Plugin::load(Path::new(&path)).unwrap();
    Some(plugin.client(&[("cpu_device_count", Value::Int(2))]).or_else(|_| plugin.client(&[])).unwrap())
}

/// A client of at least two devices.
fn pair() -> Option<Client> {
    let client = client()?;
    if client.devices().len() < 2 {
        eprintln!("skipped: one device: {}", std::thread::current().name().unwrap_or_default());
        return None;
    }
    Some(client)
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn upload(client: &Client, dims: &[usize], values: &[f32]) -> Buffer {
    client.upload(0, ElementType::F32, dims, &bytes(values)).unwrap()
}

fn values(buffer: &Buffer) -> Vec<f32> {
    let mut bytes = vec![0; buffer.bytes()];
    buffer.read(&mut bytes).unwrap();
    bytes.chunks_exact(4).map(|b| f32::from_le_bytes(b.try_into().unwrap())).collect()
}

/// `x · y + z` with a transposed result, and the sum of `x`.
const PROGRAM: &str = r#"
module @test {
  func.func public @main(%x: tensor<2x3xf32>, %y: tensor<3x2xf32>) -> (tensor<2x2xf32>, tensor<3x2xf32>, tensor<f32>) {
    %dot = stablehlo.dot_general %x, %y, contracting_dims = [1] x [0] : (tensor<2x3xf32>, tensor<3x2xf32>) -> tensor<2x2xf32>
    %t = stablehlo.transpose %x, dims = [1, 0] : (tensor<2x3xf32>) -> tensor<3x2xf32>
    %zero = stablehlo.constant dense<0.0> : tensor<f32>
    %sum = stablehlo.reduce(%x init: %zero) applies stablehlo.add across dimensions = [0, 1]
      : (tensor<2x3xf32>, tensor<f32>) -> tensor<f32>
    return %dot, %t, %sum : tensor<2x2xf32>, tensor<3x2xf32>, tensor<f32>
  }
}
"#;

#[test]
fn a_program_is_compiled_run_and_read() {
    let Some(client) = client() else { return };
    let program = client.compile(PROGRAM, &CompileOptions::default()).unwrap();
    let f32s = |dims: &[usize]| (ElementType::F32, dims.to_vec());
    assert_eq!(program.outputs(), [f32s(&[2, 2]), f32s(&[3, 2]), f32s(&[])]);
    assert_eq!(program.arguments().unwrap(), [f32s(&[2, 3]), f32s(&[3, 2])]);
    let x = upload(&client, &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    let y = upload(&client, &[3, 2], &[1.0, 0.0, 0.0, 1.0, 1.0, 1.0]);
    let results = program.execute(&[vec![&x, &y]]).unwrap();
    assert_eq!(values(&results[0][0]), [4.0, 5.0, 10.0, 11.0]);
    assert_eq!(values(&results[0][1]), [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]);
    assert_eq!(values(&results[0][2]), [21.0]);
}

#[test]
fn a_file_is_one_plugin_however_often_it_is_loaded() {
    let Some(client) = pair() else { return };
    let again = Plugin::load(client.plugin().path()).unwrap();
    assert_eq!(again.version(), client.plugin().version());
    assert!(!client.platform().is_empty());
    assert!(!client.platform_version().is_empty());
    assert!(!client.devices()[0].kind.is_empty() && !client.devices()[1].description.is_empty());
    assert_ne!(client.devices()[0].id, client.devices()[1].id);
}

#[test]
fn every_type_comes_back_as_it_went() {
    let Some(client) = client() else { return };
    use ElementType::*;
    for (i, element) in [Bool, U8, I32, I64, U32, U64, F16, BF16, F32, F64].into_iter().enumerate() {
        for dims in [&[][..], &[3], &[2, 3], &[2, 1, 4, 3], &[0], &[2, 0]] {
            let count = dims.iter().product::<usize>() * element.size();
            let bytes: Vec<u8> = (0..count).map(|b| if element == Bool { b % 2 } else { (b * 7 + i) % 120 } as u8).collect();
            let buffer = client.upload(client.devices().len() - 1, element, dims, &bytes).unwrap();
            let ty = format!("tensor<{}{element}>", dims.iter().map(|d| format!("{d}x")).collect::<String>());
            let mut back = vec![0; count];
            buffer.read(&mut back).unwrap();
            assert_eq!(back, bytes, "{ty}");
            let identity = format!("func.func @main(%x: {ty}) -> {ty} {{ return %x : {ty} }}");
            let program = client.compile(&identity, &CompileOptions::default()).unwrap();
            assert_eq!(program.outputs(), [(element, dims.to_vec())]);
            let buffer = client.upload(0, element, dims, &bytes).unwrap();
            let result = program.execute(&[vec![&buffer]]).unwrap().remove(0).remove(0);
            assert_eq!(result.start_read(vec![0; count]).unwrap().wait().unwrap(), bytes, "{ty}");
        }
    }
}

/// One megabyte that is counted up in place.
const COUNTER: &str = "
func.func @main(%x: tensor<512x512xf32> {tf.aliasing_output = 0 : i32}) -> (tensor<512x512xf32>, tensor<f32>) {
  %one = stablehlo.constant dense<1.0> : tensor<512x512xf32>
  %zero = stablehlo.constant dense<0.0> : tensor<f32>
  %y = stablehlo.add %x, %one : tensor<512x512xf32>
  %max = stablehlo.reduce(%y init: %zero) applies stablehlo.maximum across dimensions = [0, 1]
    : (tensor<512x512xf32>, tensor<f32>) -> tensor<f32>
  return %y, %max : tensor<512x512xf32>, tensor<f32>
}";

/// Bytes of this process in memory.
fn resident() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4096
}

/// A leak of the state, of an event or of a list would show: 3,000 steps hold 3 GB of states.
#[test]
fn a_donated_state_stays_where_it_is_and_memory_is_flat() {
    let Some(client) = client() else { return };
    let program = client.compile(COUNTER, &CompileOptions::default()).unwrap();
    let mut state = upload(&client, &[512, 512], &vec![0.0; 512 * 512]);
    let mut addresses = std::collections::BTreeSet::new();
    let mut after_warmup = 0;
    for step in 0..3000 {
        let mut results = program.execute(&[vec![&state]]).unwrap().remove(0);
        let max = results.pop().unwrap();
        if step % 500 == 0 {
            assert!(state.start_read(vec![0; state.bytes()]).and_then(|p| p.wait()).is_err(), "a donated buffer was read");
        }
        state = results.pop().unwrap();
        addresses.insert(state.address().unwrap());
        if step % 100 == 0 {
            assert_eq!(values(&max), [step as f32 + 1.0]);
        }
        if step == 300 {
            after_warmup = resident();
        }
    }
    state.wait().unwrap();
    assert_eq!(values(&state)[7], 3000.0);
    assert!(addresses.len() <= 2, "{} addresses", addresses.len());
    assert!(resident() < after_warmup + 64e6 as u64, "{after_warmup} bytes grew to {}", resident());
    let memory = program.memory().unwrap();
    assert_eq!((memory.arguments, memory.aliased), (1 << 20, 1 << 20), "{memory:?}");
}

#[test]
fn a_mistake_in_a_program_has_its_line_and_column() {
    let Some(client) = client() else { return };
    let wrong = "func.func @main(%x: tensor<2xf32>) -> tensor<2xf32> {\n  %y = stablehlo.add %x, %nothing : tensor<2xf32>\n}";
    let error = client.compile(wrong, &CompileOptions::default()).unwrap_err();
    assert!(matches!(&error, Error::Plugin { .. }), "{error:?}");
    assert!(error.to_string().contains("2:26"), "{error}");
}

#[test]
fn a_serialised_executable_is_loaded_again() {
    let Some(client) = client() else { return };
    let program = client.compile(COUNTER, &CompileOptions::default()).unwrap();
    let bytes = program.serialize().unwrap();
    let loaded = client.load(&bytes, &CompileOptions::default()).unwrap();
    assert_eq!((loaded.outputs(), loaded.arguments()), (program.outputs(), program.arguments()));
    let state = upload(&client, &[512, 512], &vec![4.0; 512 * 512]);
    let results = loaded.execute(&[vec![&state]]).unwrap();
    assert_eq!(values(&results[0][1]), [5.0]);
    let refused = |bytes: &[u8], options: &CompileOptions, words: &str| match client.load(bytes, options) {
        Err(Error::Invalid(reason)) => assert!(reason.contains(words), "{reason}"),
        other => panic!("{other:?}"),
    };
    // Plugins die of damaged bytes: that they are refused is what keeps this test alive.
    let mut damaged = bytes.clone();
    damaged[bytes.len() / 3] ^= 4;
    refused(&damaged, &CompileOptions::default(), "checksum");
    refused(&bytes[..bytes.len() / 2], &CompileOptions::default(), "checksum");
    refused(b"nonsense", &CompileOptions::default(), "no serialised executable");
    refused(&bytes, &CompileOptions { replicas: 2, ..CompileOptions::default() }, "here is `options 1a0420022801`");
}

#[test]
fn what_does_not_fit_is_refused() {
    let Some(client) = client() else { return };
    let invalid = |result: Result<Buffer, Error>, words: &str| match result {
        Err(Error::Invalid(reason)) => assert!(reason.contains(words), "{reason}"),
        other => panic!("{other:?}"),
    };
    invalid(client.upload(0, ElementType::F32, &[2], &[0; 7]), "has 8 bytes; 7 were given");
    invalid(client.upload(0, ElementType::Bool, &[2], &[0, 2]), "0 and 1 only");
    invalid(client.upload(0, ElementType::F32, &[usize::MAX, 2], &[]), "too large");
    invalid(client.upload(9, ElementType::F32, &[], &[0; 4]), "no device 9");

    let program = client.compile(PROGRAM, &CompileOptions::default()).unwrap();
    let x = upload(&client, &[2, 3], &[0.0; 6]);
    let ints = client.upload(0, ElementType::I32, &[3, 2], &[0; 24]).unwrap();
    let invalid = |arguments: &[Vec<&Buffer>], words: &str| match program.execute(arguments) {
        Err(Error::Invalid(reason)) => assert!(reason.contains(words), "{reason}"),
        other => panic!("{other:?}"),
    };
    invalid(&[vec![&x]], "takes 2 arguments; device 0 was given 1");
    invalid(&[vec![&x, &x]], "argument 1 of the program is a tensor<3x2xf32>; a tensor<2x3xf32> was given");
    invalid(&[vec![&x, &ints]], "a tensor<3x2xi32> was given");
    invalid(&[], "takes 1 lists");
    assert!(matches!(x.read(&mut [0; 23]), Err(Error::Invalid(_))));
    assert!(matches!(x.start_read(vec![0; 25]).map(|_| ()), Err(Error::Invalid(_))));
    let many = CompileOptions { replicas: 1000, ..CompileOptions::default() };
    assert!(matches!(client.compile(PROGRAM, &many), Err(Error::Invalid(_))));
}

#[test]
fn an_argument_elsewhere_is_refused() {
    let Some(client) = pair() else { return };
    let program = client.compile(PROGRAM, &CompileOptions::default()).unwrap();
    let y = upload(&client, &[3, 2], &[0.0; 6]);
    let elsewhere = client.upload(1, ElementType::F32, &[2, 3], &[0; 24]).unwrap();
    let wrong = program.execute(&[vec![&elsewhere, &y]]);
    assert!(wrong.and_then(|r| r[0][0].wait()).is_err(), "an argument on another device was taken");
    if client.platform() == "cpu" {
        let other = client.plugin().client(&[]).unwrap();
        let foreign = upload(&other, &[2, 3], &[0.0; 6]);
        let error = program.execute(&[vec![&foreign, &y]]).unwrap_err();
        assert!(error.to_string().contains("another client"), "{error}");
    }
}

#[test]
fn two_replicas_add_up() {
    let Some(client) = pair() else { return };
    let text = "
func.func @main(%x: tensor<2xf32>) -> tensor<2xf32> {
  %sum = \"stablehlo.all_reduce\"(%x) ({
    ^bb0(%a: tensor<f32>, %b: tensor<f32>):
      %c = stablehlo.add %a, %b : tensor<f32>
      stablehlo.return %c : tensor<f32>
  }) {replica_groups = dense<[[0, 1]]> : tensor<1x2xi64>} : (tensor<2xf32>) -> tensor<2xf32>
  return %sum : tensor<2xf32>
}";
    let program = client.compile(text, &CompileOptions { replicas: 2, ..CompileOptions::default() }).unwrap();
    assert_eq!(program.devices(), 2);
    let on = |device: usize, values: &[f32]| client.upload(device, ElementType::F32, &[2], &bytes(values)).unwrap();
    let (a, b) = (on(0, &[1.0, 2.0]), on(1, &[10.0, 20.0]));
    let results = program.execute(&[vec![&a], vec![&b]]).unwrap();
    assert_eq!(values(&results[0][0]), [11.0, 22.0]);
    assert_eq!(values(&results[1][0]), [11.0, 22.0]);
    assert!(matches!(program.execute(&[vec![&a]]), Err(Error::Invalid(_))));
}

/// The batch is cut over two devices, the weights are on both, and so is the sum over the batch.
#[test]
fn a_program_is_partitioned_by_shardy() {
    let Some(client) = pair() else { return };
    let text = r#"
module @m {
  sdy.mesh @mesh = <["data"=2]>
  func.func @main(%x: tensor<4x2xf32> {sdy.sharding = #sdy.sharding<@mesh, [{"data"}, {}]>},
      %w: tensor<2xf32> {sdy.sharding = #sdy.sharding<@mesh, [{}]>})
      -> (tensor<4x2xf32> {sdy.sharding = #sdy.sharding<@mesh, [{"data"}, {}]>},
          tensor<2xf32> {sdy.sharding = #sdy.sharding<@mesh, [{}]>}) {
    %wide = stablehlo.broadcast_in_dim %w, dims = [1] : (tensor<2xf32>) -> tensor<4x2xf32>
    %y = stablehlo.multiply %x, %wide : tensor<4x2xf32>
    %zero = stablehlo.constant dense<0.0> : tensor<f32>
    %sum = stablehlo.reduce(%y init: %zero) applies stablehlo.add across dimensions = [0]
      : (tensor<4x2xf32>, tensor<f32>) -> tensor<2xf32>
    return %y, %sum : tensor<4x2xf32>, tensor<2xf32>
  }
}"#;
    let options = CompileOptions { partitions: 2, shardy: true, ..CompileOptions::default() };
    let program = client.compile(text, &options).unwrap();
    let on =
        |device: usize, dims: &[usize], values: &[f32]| client.upload(device, ElementType::F32, dims, &bytes(values)).unwrap();
    let (x0, x1) = (on(0, &[2, 2], &[1.0, 2.0, 3.0, 4.0]), on(1, &[2, 2], &[5.0, 6.0, 7.0, 8.0]));
    let (w0, w1) = (on(0, &[2], &[1.0, 10.0]), on(1, &[2], &[1.0, 10.0]));
    let results = program.execute(&[vec![&x0, &w0], vec![&x1, &w1]]).unwrap();
    assert_eq!(results[1][0].dims(), [2, 2]);
    assert_eq!(values(&results[0][0]), [1.0, 20.0, 3.0, 40.0]);
    assert_eq!(values(&results[1][0]), [5.0, 60.0, 7.0, 80.0]);
    assert_eq!(values(&results[0][1]), [16.0, 200.0]);
    assert_eq!(values(&results[1][1]), [16.0, 200.0]);
}

#[test]
fn one_executable_runs_from_several_threads() {
    let Some(client) = client() else { return };
    let program = client.compile(PROGRAM, &CompileOptions::default()).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let (client, program) = (client.clone(), &program);
            scope.spawn(move || {
                for step in 0..50 {
                    let v = (thread * 100 + step) as f32;
                    let x = upload(&client, &[2, 3], &[v; 6]);
                    let results = program.execute(&[vec![&x, &upload(&client, &[3, 2], &[1.0; 6])]]).unwrap();
                    drop(x);
                    assert_eq!(values(&results[0][2]), [6.0 * v]);
                }
            });
        }
    });
}

#[test]
fn options_of_xla_are_known_or_refused() {
    let Some(client) = client() else { return };
    let with = |name: &str, value: Value| CompileOptions { options: vec![(name.into(), value)], ..CompileOptions::default() };
    client.compile(PROGRAM, &with("xla_cpu_enable_fast_math", Value::Bool(false))).unwrap();
    client.compile(PROGRAM, &with("xla_backend_optimization_level", Value::Int(1))).unwrap();
    let error = client.compile(PROGRAM, &with("xla_no_such_option", Value::Bool(true))).unwrap_err();
    assert!(error.to_string().contains("xla_no_such_option"), "{error}");
}
