//! The binding with a real plugin: the one that `BACKPROP_PJRT_PLUGIN` names.

use std::path::Path;

use backprop_sys::pjrt::{Buffer, Client, CompileOptions, ElementType, Plugin, Value};

/// A client of two CPU devices, or nothing where no plugin is named.
fn client() -> Option<Client> {
    let Some(path) = std::env::var_os("BACKPROP_PJRT_PLUGIN") else {
        eprintln!("skipped: no plugin");
        return None;
    };
    let plugin = Plugin::load(Path::new(&path)).unwrap();
    Some(plugin.client(&[("cpu_device_count", Value::Int(2))]).unwrap())
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
    assert_eq!(client.devices().len(), 2);
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
