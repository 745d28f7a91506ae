//! State in the store, and what is refused.

use crate::common::{inputs, native, reference, run};
use backprop_core::{
    Builder, DType, HostTensor, Type,
    exec::{Backend, Store, native::Native},
    graph::Role,
};
use backprop_kernels::Isa;

fn f32(shape: &[usize]) -> Type {
    Type::new(DType::F32, shape)
}

#[test]
fn state_is_replaced_only_when_nobody_reads_the_old_value_any_more() {
    let b = Builder::new();
    let (x, y) = (b.input("x", Role::State, f32(&[40])), b.input("y", Role::State, f32(&[40])));
    let z = b.input("z", Role::State, f32(&[5, 8]));
    b.output("x", Role::State, y);
    b.output("y", Role::State, x * 2.0);
    b.output("z", Role::State, z.reshape([8, 5]).t().reverse(&[1]));
    b.output("sum", Role::Data, (x + y).sum_all());
    let graph = b.finish().unwrap();
    let values = inputs(&graph, 1);
    let given = run(&native(), &graph, &values);
    for (given, wanted) in given.iter().zip(reference(&graph, &values)).take(3) {
        assert_eq!(given.bytes(), wanted.to_host().bytes());
    }
}

#[test]
fn one_value_may_go_to_several_outputs() {
    let b = Builder::new();
    let x = b.input("x", Role::State, f32(&[3]));
    let constant = b.input("constant", Role::State, f32(&[2]));
    let next = x + 1.0;
    b.output("x", Role::State, next);
    b.output("a", Role::Data, next);
    b.output("b", Role::Data, next.reshape([3, 1]));
    b.output("c", Role::Data, x);
    b.output("d", Role::Data, b.scalar(DType::F32, 4.0));
    b.output("constant", Role::State, constant);
    let graph = b.finish().unwrap();
    let values = [HostTensor::new([3], &[1f32, 2.0, 3.0]).unwrap(), HostTensor::new([2], &[7f32, 8.0]).unwrap()];
    let given = run(&native(), &graph, &values);
    let slices: Vec<&[f32]> = given.iter().map(|t| t.as_slice().unwrap()).collect();
    assert_eq!(slices, [&[2f32, 3.0, 4.0][..], &[2.0, 3.0, 4.0], &[2.0, 3.0, 4.0], &[1.0, 2.0, 3.0], &[4.0], &[7.0, 8.0]]);
}

#[test]
fn programs_share_a_store_and_its_memory() {
    let native = Native::new(2, Isa::detect());
    let program = |n: usize| {
        let b = Builder::new();
        let x = b.input("x", Role::Data, f32(&[n, n]));
        let w = b.input("w", Role::State, f32(&[1]));
        b.output("w", Role::State, w + x.matmul(x).exp().sum_all().reshape([1]));
        native.compile(&b.finish().unwrap()).unwrap()
    };
    let mut store = Store::new();
    store.insert("w", HostTensor::zeros(f32(&[1])));
    let (mut small, mut large) = (program(3), program(50));
    for _ in 0..2 {
        for (program, n) in [(&mut small, 3), (&mut large, 50)] {
            program.run(&mut store, &[&HostTensor::zeros(f32(&[n, n]))], &mut []).unwrap();
        }
    }
    // e⁰ is 1 for every element.
    assert_eq!(store.get("w").unwrap().to_f64(), [2.0 * (9.0 + 2500.0)]);
}

#[test]
fn what_does_not_fit_is_named() {
    let b = Builder::new();
    let (x, w) = (b.input("x", Role::Data, f32(&[2])), b.input("w", Role::State, f32(&[2])));
    b.output("y", Role::Data, x * w);
    let mut program = native().compile(&b.finish().unwrap()).unwrap();
    let (good, bad) = (HostTensor::zeros(f32(&[2])), HostTensor::zeros(f32(&[3])));
    let mut store = Store::new();
    let mut message = |store: &mut Store, x: &HostTensor, y: &HostTensor| {
        let mut outputs = [y.clone()];
        program.run(store, &[x], &mut outputs).map_err(|e| e.to_string())
    };
    assert_eq!(message(&mut store, &good, &good).unwrap_err(), "state `w` (f32[2]) is not in the store");
    store.insert("w", bad.clone());
    assert_eq!(message(&mut store, &good, &good).unwrap_err(), "state `w` must be f32[2], got f32[3]");
    store.insert("w", good.clone());
    assert_eq!(message(&mut store, &bad, &good).unwrap_err(), "input `x` must be f32[2], got f32[3]");
    assert_eq!(message(&mut store, &good, &bad).unwrap_err(), "output `y` must be f32[2], got f32[3]");
    assert!(message(&mut store, &good, &good).is_ok());
}
