//! Misuse while tracing: the first error is kept, with layer path, operands and source line; nothing panics.

use backprop_core::{
    Builder, DType, Error, Tensor, Type,
    graph::Role,
    op::{Pad, ScanSpec, scan},
};

fn f32s(shape: &[usize]) -> Type {
    Type::new(DType::F32, shape)
}

fn first_error(trace: impl for<'b> FnOnce(&'b Builder, Tensor<'b>)) -> String {
    let b = Builder::new();
    trace(&b, b.input("x", Role::Data, f32s(&[2, 3])));
    match b.finish() {
        Err(Error::Graph(e)) => {
            assert!(e.location.is_some_and(|l| l.file().ends_with("builder.rs")), "{e}");
            e.to_string()
        }
        other => panic!("expected an error of the graph, got {other:?}"),
    }
}

#[test]
fn the_first_error_names_layer_operation_shapes_and_line() {
    let message = first_error(|b, x| {
        let _layer = b.scope("layers.1");
        let bad = x.matmul(x);
        let _inner = b.scope("later");
        let _ = (bad + bad).relu().transpose(&[7]);
    });
    assert!(message.starts_with("layer `layers.1`: dot_general: "), "{message}");
    assert!(message.contains("(operands: f32[2,3], f32[2,3])") && message.contains("tests/builder.rs:"), "{message}");
    assert!(!message.contains("later"), "{message}");
}

#[test]
fn handles_after_an_error_keep_a_shape_and_never_panic() {
    first_error(|b, x| {
        let bad = x.reshape([7]);
        assert_eq!((bad.rank(), bad.dim(5), bad.dim(-9)), (2, 1, 1));
        let _ = bad.slice_dim(9, 1, 0).sum(&[4]).arg_max(3).1.rows(bad).linear(bad).mean(&[8]);
        let _ = bad.pad(bad, Pad { low: vec![], high: vec![-9], interior: vec![] }).t().grad(&[bad, x]);
        let carried = scan(b, ScanSpec { length: 4, reverse: false }, &[bad], &[x], &[bad], |_, _, _| (vec![], vec![]));
        let _ = carried.0[0] + carried.1[0];
    });
}

#[test]
fn each_misuse_says_what_would_be_right() {
    let cases: [(&str, String); 7] = [
        (
            "broadcast one of them",
            first_error(|b, x| {
                let _ = x + b.zeros(f32s(&[4]));
            }),
        ),
        (
            "convert one of them",
            first_error(|b, x| {
                let _ = x + b.zeros(Type::new(DType::F64, [2, 3]));
            }),
        ),
        (
            "reduce it with sum or mean",
            first_error(|_, x| {
                let _ = x.grad(&[x]);
            }),
        ),
        (
            "tensors of different builders cannot be mixed",
            first_error(|b, x| {
                let other = Builder::new();
                let foreign = other.zeros(f32s(&[2, 3]));
                let _ = b.apply(backprop_core::op::Binary::Add, &[x, foreign]);
            }),
        ),
        (
            "names must be unique",
            first_error(|b, _| {
                let _ = b.input("x", Role::Data, f32s(&[1]));
            }),
        ),
        (
            "convert them",
            first_error(|_, x| {
                let _ = x.rows(x);
            }),
        ),
        (
            "indices",
            first_error(|_, x| {
                let _ = x.dynamic_slice(&[x, x], &[1, 1]);
            }),
        ),
    ];
    for (remedy, message) in cases {
        assert!(message.contains(remedy), "expected `{remedy}` in: {message}");
    }
}

#[test]
fn a_state_output_must_replace_a_state_input_of_its_type() {
    let b = Builder::new();
    let w = b.input("w", Role::State, f32s(&[3]));
    b.output("w", Role::State, w.sum_all());
    let message = b.finish().unwrap_err().to_string();
    assert!(message.contains("state `w` is f32[3] but its new value is f32[]"), "{message}");
    let b = Builder::new();
    b.output("v", Role::State, b.zeros(f32s(&[3])));
    assert!(b.finish().unwrap_err().to_string().contains("no state input of that name"));
}
