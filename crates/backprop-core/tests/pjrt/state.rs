//! State on the device: replaced in place, never given out of date, and for several backends.

use crate::common::native;
use backprop_check::plugin;
use backprop_core::{
    Builder, DType, Graph, HostTensor, Type,
    exec::{
        Backend, Store,
        pjrt::{PjrtOptions, program_text},
    },
    graph::Role,
};

/// w ← w + x, with the sum of the old w as output; `other` is read only.
fn counter(n: usize) -> Graph {
    let b = Builder::new();
    let ty = Type::new(DType::F32, [n]);
    let [w, other] = ["w", "other"].map(|name| b.input(name, Role::State, ty.clone()));
    let x = b.input("x", Role::Data, Type::scalar(DType::F32));
    b.output("w", Role::State, w + x.broadcast_to([n]) * other);
    b.output("sum", Role::Data, w.sum_all());
    b.output("x", Role::Data, x + 1.0);
    b.finish().unwrap()
}

fn store(n: usize) -> Store {
    let mut store = Store::new();
    store.insert("w", HostTensor::zeros(Type::new(DType::F32, [n])));
    store.insert("other", HostTensor::new([n], &vec![1f32; n]).unwrap());
    store
}

#[test]
fn state_stays_on_the_device_until_it_is_fetched() {
    let Some(pjrt) = plugin("state_stays_on_the_device_until_it_is_fetched") else { return };
    let (graph, mut store) = (counter(5), store(5));
    let mut program = pjrt.compile(&graph).unwrap();
    let mut outputs = program.signature().output_buffers();
    for step in 0..4 {
        program.run(&mut store, &[&HostTensor::scalar(2f32)], &mut outputs).unwrap();
        assert_eq!(outputs[0].to_f64(), [10.0 * f64::from(step)]);
        assert_eq!(outputs[1].to_f64(), [3.0]);
        assert!(store.get("w").is_none() && store.get("other").is_some());
    }
    store.fetch().unwrap();
    assert_eq!(store.get("w").unwrap().to_f64(), [8.0; 5]);
    // Written on the host, then read by the device.
    store.get_mut("w").unwrap().bytes_mut().fill(0);
    program.run(&mut store, &[&HostTensor::scalar(2f32)], &mut outputs).unwrap();
    assert_eq!(outputs[0].to_f64(), [0.0]);
    // Exchanged while on the device.
    store.swap("w", "other");
    program.run(&mut store, &[&HostTensor::scalar(3f32)], &mut outputs).unwrap();
    store.fetch().unwrap();
    assert_eq!((store.get("w").unwrap().to_f64()[0], store.get("other").unwrap().to_f64()[0]), (7.0, 2.0));
}

#[test]
fn several_backends_share_a_store() {
    let Some(pjrt) = plugin("several_backends_share_a_store") else { return };
    let (graph, mut store, native) = (counter(3), store(3), native());
    let mut programs = [native.compile(&graph).unwrap(), pjrt.compile(&graph).unwrap(), pjrt.clone().compile(&graph).unwrap()];
    let mut outputs = programs[0].signature().output_buffers();
    for step in 0..9 {
        programs[step % 3].run(&mut store, &[&HostTensor::scalar(1f32)], &mut outputs).unwrap();
        assert_eq!(outputs[0].to_f64(), [3.0 * step as f64]);
    }
}

#[test]
fn several_runs_are_under_way_at_once() {
    let Some(pjrt) = plugin("several_runs_are_under_way_at_once") else { return };
    let (graph, mut store) = (counter(4), store(4));
    let mut program = pjrt.build(&graph).unwrap();
    let mut outputs = backprop_core::exec::Signature::of(&graph).output_buffers();
    let pipelined = backprop_core::exec::Program::pipelined(&mut program).unwrap();
    for step in 0..6 {
        pipelined.start(&mut store, &[&HostTensor::scalar(1f32 + step as f32)]).unwrap();
    }
    for (step, sum) in [0.0, 4.0, 12.0, 24.0, 40.0, 60.0].into_iter().enumerate() {
        pipelined.finish(&mut outputs).unwrap();
        assert_eq!((outputs[0].to_f64(), outputs[1].to_f64()), (vec![sum], vec![2.0 + step as f64]));
    }
    assert!(pipelined.finish(&mut outputs).is_err());
}

#[test]
fn wrong_values_are_refused_and_change_nothing() {
    let Some(pjrt) = plugin("wrong_values_are_refused_and_change_nothing") else { return };
    let (graph, mut store) = (counter(4), store(4));
    let mut program = pjrt.compile(&graph).unwrap();
    let mut outputs = program.signature().output_buffers();
    let refused = program.run(&mut store, &[&HostTensor::scalar(1i32)], &mut outputs).unwrap_err().to_string();
    assert!(refused.contains("`x`") && refused.contains("f32[]"), "{refused}");
    assert!(program.run(&mut store, &[], &mut outputs).is_err());
    store.insert("w", HostTensor::zeros(Type::new(DType::F32, [5])));
    let refused = program.run(&mut store, &[&HostTensor::scalar(1f32)], &mut outputs).unwrap_err().to_string();
    assert!(refused.contains("`w`"), "{refused}");
    assert_eq!(store.get("w").unwrap().to_f64(), [0.0; 5]);
}

#[test]
fn inputs_that_travel_together_keep_every_bit() {
    let Some(pjrt) = plugin("inputs_that_travel_together_keep_every_bit") else { return };
    let floats = [f32::from_bits(0x7fc1_2345), -0.0, f32::INFINITY, 1.5, f32::MIN_POSITIVE, -2.0];
    let [numbers, flags] = [[7, -1, i32::MIN, i32::MAX], [0, 1, 2, 3]];
    let inputs = [
        HostTensor::new([2, 3], &floats).unwrap(),
        HostTensor::new([4], &numbers).unwrap(),
        HostTensor::new([1, 1], &[u32::MAX]).unwrap(),
        HostTensor::new([0, 2], &[0f32; 0]).unwrap(),
        HostTensor::new([4], &flags).unwrap(),
        HostTensor::new([20_000], &vec![0.25f32; 20_000]).unwrap(),
        HostTensor::new([3], &[1u8, 2, 255]).unwrap(),
    ];
    let b = Builder::new();
    for (i, input) in inputs.iter().enumerate() {
        let name = format!("input{i}");
        let x = b.input(&name, Role::Data, input.ty().clone());
        // Moved, so that it is no mere alias of an argument.
        b.output(&name, Role::Data, if x.rank() == 2 { x.transpose(&[1, 0]) } else { x.reverse(&[0]) });
    }
    let graph = b.finish().unwrap();
    let text = program_text(&graph, &PjrtOptions::default()).unwrap();
    // Parts of one argument: all but the one without elements, the large one and the one of bytes.
    assert_eq!((text.matches("bitcast_convert").count(), text.matches(": tensor<64xui32>) ->").count()), (3, 1), "{text}");
    let bytes = |backend: &dyn Backend| {
        let mut program = backend.compile(&graph).unwrap();
        let mut outputs = program.signature().output_buffers();
        program.run(&mut Store::new(), &inputs.each_ref(), &mut outputs).unwrap();
        outputs.iter().map(|o| o.bytes().to_vec()).collect::<Vec<_>>()
    };
    assert_eq!(bytes(&pjrt), bytes(&native()));
}
