//! Values and gradients at kinks and ties, where central differences cannot judge, against PyTorch's.

use backprop_check::execute;
use backprop_core::{
    Builder, DType, HostTensor, Tensor, Type,
    exec::native::Native,
    grad::vjp,
    graph::Role,
    op::{ArgReduce, Reducer, Window},
    reference::{Array, evaluate},
};
use backprop_kernels::Isa;
use safetensors::SafeTensors;
use serde_json::Value;

struct Golden {
    bytes: Vec<u8>,
}

impl Golden {
    fn open() -> Golden {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/golden/ties.safetensors");
        Golden { bytes: std::fs::read(path).unwrap() }
    }

    fn cases(&self) -> serde_json::Map<String, Value> {
        let (_, header) = SafeTensors::read_metadata(&self.bytes).unwrap();
        let meta: Value = serde_json::from_str(&header.metadata().as_ref().unwrap()["meta"]).unwrap();
        meta["cases"].as_object().unwrap().clone()
    }

    fn get(&self, name: &str) -> Option<Array> {
        let tensors = SafeTensors::deserialize(&self.bytes).unwrap();
        let view = tensors.tensor(name).ok()?;
        let dtype = if view.dtype() == safetensors::Dtype::F32 { DType::F32 } else { DType::I32 };
        let host = HostTensor::from_bytes(Type::new(dtype, view.shape()), view.data()).unwrap();
        Some(Array::from_host(&host))
    }
}

fn numbers(value: &Value) -> Vec<usize> {
    value.as_array().unwrap().iter().map(|v| v.as_u64().unwrap() as usize).collect()
}

fn max_pool<'g>(x: Tensor<'g>, case: &Value) -> Tensor<'g> {
    let [kernel, stride, padding] = ["kernel", "stride", "padding"].map(|k| numbers(&case[k]));
    let window = Window {
        stride: vec![1, stride[0], stride[1], 1],
        padding: [0, padding[0], padding[1], 0].map(|p| (p as isize, p as isize)).into(),
        ..Window::new([1, kernel[0], kernel[1], 1])
    };
    x.reduce_window(Reducer::Max, window)
}

/// The outputs of a case: the value, and the index if it has one.
fn apply<'g>(b: &'g Builder, case: &Value, x: &[Tensor<'g>]) -> Vec<Tensor<'g>> {
    let bound = |name: &str| b.scalar(DType::F32, case[name].as_f64().unwrap());
    let indexed = |reducer| b.apply(ArgReduce { reducer, dim: case["dim"].as_u64().unwrap() as usize }, x);
    match case["op"].as_str().unwrap() {
        "relu" => vec![x[0].relu()],
        "abs" => vec![x[0].abs()],
        "sign" => vec![x[0].sign()],
        "clamp" => vec![x[0].clamp(bound("min"), bound("max"))],
        "maximum" => vec![x[0].maximum(x[1])],
        "minimum" => vec![x[0].minimum(x[1])],
        "reduce max" => vec![x[0].max(&numbers(&case["dim"]))],
        "reduce min" => vec![x[0].min(&numbers(&case["dim"]))],
        "max with index" => indexed(Reducer::Max),
        "min with index" => indexed(Reducer::Min),
        "max_pool2d" => vec![max_pool(x[0], case)],
        other => panic!("no such case: {other}"),
    }
}

fn assert_same(expected: &Array, got: &Array, what: &str) {
    let (expected, got) = (expected.to_f64(), got.to_f64());
    // PyTorch rounds thirds and quotients to f32, the oracle does not.
    let same = |(e, g): (&f64, &f64)| *e as f32 == *g as f32 || e.is_nan() && g.is_nan();
    let all = expected.len() == got.len() && expected.iter().zip(&got).all(same);
    assert!(all, "{what}: expected {expected:?}, got {got:?}");
}

fn check(golden: &Golden, name: &str, case: &Value) {
    let names: Vec<&str> = ["x", "a", "b"].into_iter().filter(|n| golden.get(&format!("{name}/input/{n}")).is_some()).collect();
    let inputs: Vec<Array> = names.iter().filter_map(|n| golden.get(&format!("{name}/input/{n}"))).collect();
    let b = Builder::new();
    let xs: Vec<Tensor> = inputs.iter().zip(&names).map(|(x, n)| b.input(*n, Role::Data, x.ty.clone())).collect();
    let ys = apply(&b, case, &xs);
    let cotangent = golden.get(&format!("{name}/cotangent")).unwrap();
    let ct = b.constant(cotangent.to_host()).reshape(ys[0].shape());
    let gradients = vjp(&ys[..1], &[ct], &xs);
    for (i, &t) in ys.iter().chain(&gradients).enumerate() {
        b.output(i.to_string(), Role::Data, t);
    }
    let values = ys.len();
    let graph = b.finish().unwrap();
    let results = evaluate(&graph, &inputs);
    judge(golden, name, case, &names, values, &results);
    let tensors: Vec<HostTensor> = inputs.iter().map(Array::to_host).collect();
    let native = execute(&Native::new(1, Isa::detect()), &graph, &tensors).unwrap();
    judge(golden, name, case, &names, values, &native.iter().map(Array::from_host).collect::<Vec<_>>());
}

/// `values` results come before the gradients.
fn judge(golden: &Golden, name: &str, case: &Value, names: &[&str], values: usize, results: &[Array]) {
    assert_same(&golden.get(&format!("{name}/output")).unwrap(), &results[0], &format!("{name}: value"));
    if values > 1 {
        assert_same(&golden.get(&format!("{name}/indices")).unwrap(), &results[1], &format!("{name}: index"));
    }
    if case["judge"] != "output" {
        for (i, n) in names.iter().enumerate() {
            let expected = golden.get(&format!("{name}/grad/{n}")).unwrap();
            assert_same(&expected, &results[values + i], &format!("{name}: gradient of {n}"));
        }
    }
}

#[test]
fn kinks_and_ties_are_pytorchs() {
    let golden = Golden::open();
    let cases = golden.cases();
    assert!(cases.len() >= 24, "{} cases", cases.len());
    cases.iter().for_each(|(name, case)| check(&golden, name, case));
}
