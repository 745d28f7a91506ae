//! Bounds and moments of the initialisers, against PyTorch's and Keras's formulas.

use backprop::prelude::*;
use serde_json::Value;
use std::path::Path;

fn statistics() -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/golden/init_statistics.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Fails unless a sample has the recorded bound, standard deviation and mean 0, or the recorded value.
fn judge(what: &str, sample: &[f64], expected: &Value) {
    if let Some(value) = expected["value"].as_f64() {
        assert!(sample.iter().all(|&x| x == value), "{what}");
        return;
    }
    let n = sample.len() as f64;
    let std = expected["std"].as_f64().unwrap();
    let mean = sample.iter().sum::<f64>() / n;
    let actual = (sample.iter().map(|x| (x - mean) * (x - mean)).sum::<f64>() / n).sqrt();
    // Five standard errors; the standard deviation of a normal sample's is std/√(2n), that of the others' is smaller.
    assert!(mean.abs() <= 5.0 * std / n.sqrt(), "{what}: mean {mean}");
    assert!((actual / std - 1.0).abs() <= 5.0 / (2.0 * n).sqrt(), "{what}: std {actual}, expected {std}");
    if let Some(bound) = expected["bound"].as_f64() {
        let largest = sample.iter().fold(0.0f64, |m, x| m.max(x.abs()));
        assert!(largest <= bound * (1.0 + 1e-6) && largest >= 0.9 * bound, "{what}: largest {largest}, bound {bound}");
    }
}

/// Specifications of a layer's state for an input.
fn specs(layer: &dyn Layer, input: Type) -> Vec<StateSpec> {
    let b = Builder::new();
    let x = b.input("x", Role::Data, input);
    let mut cx = Scope::new(&b, DType::F32, Mode::Evaluate);
    layer.forward(&mut cx, x);
    assert!(b.error().is_none(), "{:?}", b.error());
    cx.specs()
}

#[test]
fn layers_start_as_those_of_pytorch() {
    let all = statistics();
    let table = &all["pytorch_defaults"];
    let float = |shape: &[usize]| Type::new(DType::F32, shape);
    let layers: [(&str, Box<dyn Layer>, Type); 6] = [
        ("Linear 300 200", Box::new(Linear::new(200)), float(&[2, 300])),
        ("Conv2d 32 64 kernel 3 groups 2", Box::new(Conv2d::new(64, 3).groups(2)), float(&[1, 5, 5, 32])),
        ("Embedding 500 40", Box::new(Embedding::new(500, 40)), Type::new(DType::I32, [3])),
        ("LSTM 50 64", Box::new(Lstm::new(64)), float(&[2, 3, 50])),
        ("BatchNorm 16", Box::new(BatchNorm::new()), float(&[4, 16])),
        ("LayerNorm 16", Box::new(LayerNorm::new()), float(&[4, 16])),
    ];
    for (name, layer, input) in layers {
        let specs = specs(&*layer, input);
        let expected = table[name].as_object().unwrap();
        assert_eq!(specs.len(), expected.len(), "{name}");
        for spec in specs {
            let expected = &expected[&spec.name];
            let shape: Vec<usize> = serde_json::from_value(expected["shape"].clone()).unwrap_or(spec.ty.shape.to_vec());
            assert_eq!(spec.ty.shape[..], shape[..], "{name} {}", spec.name);
            let sample = spec.init.sample(&spec.name, 1, &spec.ty).unwrap().to_f64();
            judge(&format!("{name} {}", spec.name), &sample, expected);
        }
    }
}

#[test]
fn initialisers_have_the_moments_of_keras() {
    let all = statistics();
    for (name, expected) in all["keras_initialisers"].as_object().unwrap() {
        let (word, _) = name.split_once(' ').unwrap_or((name, ""));
        let init = match word {
            "truncated_normal" => Init::TruncatedNormal { mean: 0.0, std: 0.05 },
            "random_normal" => Init::Normal { mean: 0.0, std: 0.05 },
            "random_uniform" => Init::Uniform { low: -0.05, high: 0.05 },
            "orthogonal" => continue,
            word => serde_json::from_value(word.into()).unwrap(),
        };
        // Keras's kernels are [field…, in, out], PyTorch's [out, in, field…].
        let kernel: Vec<usize> = serde_json::from_value(expected["kernel_shape"].clone()).unwrap_or(vec![300, 200]);
        let shape: Vec<usize> = kernel.iter().rev().copied().collect();
        let sample = init.sample(name, 2, &Type::new(DType::F32, shape)).unwrap().to_f64();
        judge(name, &sample, expected);
    }
}

#[test]
fn orthogonal_matrices_are_orthogonal() {
    for (rows, columns) in [(20, 30), (30, 20), (7, 7), (1, 5)] {
        let ty = Type::new(DType::F64, [rows, columns]);
        let m = Init::Orthogonal { gain: 2.0 }.sample("w", 3, &ty).unwrap().to_f64();
        let row = |i: usize, k: usize| if rows <= columns { m[i * columns + k] } else { m[k * columns + i] };
        for i in 0..rows.min(columns) {
            for j in 0..rows.min(columns) {
                let product: f64 = (0..rows.max(columns)).map(|k| row(i, k) * row(j, k)).sum();
                assert!((product - if i == j { 4.0 } else { 0.0 }).abs() < 1e-12);
            }
        }
    }
}

#[test]
fn a_parameter_is_drawn_from_its_name_and_the_seed_alone() {
    let ty = Type::new(DType::F32, [5, 3]);
    let draw = |name: &str, seed| Init::HeNormal.sample(name, seed, &ty).unwrap();
    assert_eq!(draw("layers.0.weight", 7), draw("layers.0.weight", 7));
    assert_ne!(draw("layers.0.weight", 7), draw("layers.1.weight", 7));
    assert_ne!(draw("layers.0.weight", 7), draw("layers.0.weight", 7 + (1 << 32)));
    assert!(Init::Constant { value: f64::NAN }.sample("w", 0, &ty).is_err());
    assert!(Init::Uniform { low: 1.0, high: 0.0 }.sample("w", 0, &ty).is_err());
}
