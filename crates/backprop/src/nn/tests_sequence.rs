//! Recurrent layers, attention, transformer blocks, positions and padding: configuration, names, misuse, and that padding changes nothing.

use super::tests::{names, parse, specs};
use crate::prelude::*;
use backprop_core::reference::{Array, evaluate};
use std::collections::HashMap;

const EVERY_LAYER: &[(&str, &[usize])] = &[
    (r#"{ type = "rnn", hidden_size = 4, nonlinearity = "relu", bidirectional = true }"#, &[2, 3, 4]),
    (r#"{ type = "gru", hidden_size = 4, num_layers = 2, bias = false, dropout = 0.5, last_step = true }"#, &[2, 3, 4]),
    (r#"{ type = "lstm", hidden_size = 4, bidirectional = true, last_step = true }"#, &[2, 3, 4]),
    (r#"{ type = "multi_head_attention", num_heads = 2, causal = true, bias = false, dropout = 0.1 }"#, &[2, 3, 4]),
    (r#"{ type = "transformer_block", num_heads = 2, dim_feedforward = 5, norm_first = true, activation = "gelu" }"#, &[2, 3, 4]),
    (r#"{ type = "positional_embedding", max_len = 3 }"#, &[2, 3, 4]),
    (r#"{ type = "sinusoidal_positions" }"#, &[2, 3, 4]),
    (r#"{ type = "embedding", num_embeddings = 4, embedding_dim = 2, padding_idx = 0, mask = true }"#, &[2, 3]),
];

#[test]
fn layers_are_read_from_toml_and_written_back() {
    for (table, shape) in EVERY_LAYER {
        let model = parse(&format!("layers = [{table}]")).unwrap_or_else(|e| panic!("{table}: {e}"));
        let written = toml::to_string(&model).unwrap();
        let value = |text: &str| text.parse::<toml::Table>().unwrap()["layers"][0].clone();
        let (given, kept) = (value(&format!("layers = [{table}]")), value(&written));
        given.as_table().unwrap().iter().for_each(|(key, wanted)| assert_eq!(&kept[key.as_str()], wanted, "{table}: {key}"));
        assert!(specs(&Sequential::from(model.layers), Type::new(DType::F32, *shape)).is_ok(), "{table}");
    }
}

#[test]
fn names_are_pytorchs() {
    let sequence = || Type::new(DType::F32, [2, 3, 4]);
    let expected = ["weight_ih_l0", "weight_hh_l0", "weight_ih_l0_reverse", "weight_hh_l0_reverse"];
    assert_eq!(names(&Gru::new(2).bias(false).bidirectional(true), sequence()), expected);
    let attention = ["in_proj_weight", "in_proj_bias", "out_proj.weight", "out_proj.bias"];
    assert_eq!(names(&MultiHeadAttention::new(2), sequence()), attention);
    let mut block: Vec<String> = attention.iter().map(|name| format!("self_attn.{name}")).collect();
    for layer in ["norm1", "linear1", "linear2", "norm2"] {
        block.extend(["weight", "bias"].map(|name| format!("{layer}.{name}")));
    }
    assert_eq!(names(&TransformerBlock::new(2), sequence()), block);
}

#[test]
fn misuse_is_an_error_that_says_what_would_be_right() {
    let masked = |layer: AnyLayer| Sequential::new().push(Embedding::new(4, 4).padding_idx(0).mask(true)).push(layer);
    let convolved = masked(Conv1d::new(2, 2).into()).push(Gru::new(2));
    let cases: Vec<(Box<dyn Layer>, &[usize], &str)> = vec![
        (Box::new(Rnn::new(0)), &[2, 3, 4], "hidden_size"),
        (Box::new(Gru::new(2)), &[2, 4], "[N, T, F]"),
        (Box::new(Lstm::new(2).num_layers(0)), &[2, 3, 4], "num_layers"),
        (Box::new(MultiHeadAttention::new(3)), &[2, 3, 4], "multiple of num_heads"),
        (Box::new(MultiHeadAttention::new(2).dropout(1.0)), &[2, 3, 4], "dropout"),
        (Box::new(MultiHeadAttention::new(2)), &[2, 4], "[N, T, E]"),
        (Box::new(TransformerBlock::new(2).dim_feedforward(0)), &[2, 3, 4], "dim_feedforward"),
        (Box::new(TransformerBlock::new(3)), &[2, 3, 4], "num_heads"),
        (Box::new(PositionalEmbedding::new(2)), &[2, 3, 4], "max_len = 2"),
        (Box::new(SinusoidalPositions::new()), &[2, 3], "[N, T, E]"),
        (Box::new(Embedding::new(4, 4).padding_idx(4)), &[2, 3], "no row"),
        (Box::new(Embedding::new(4, 4).mask(true)), &[2, 3], "padding_idx"),
        (Box::new(Embedding::new(4, 4).padding_idx(0).mask(true)), &[2], "[N, T]"),
        (Box::new(convolved), &[2, 3], "changed their length"),
        (Box::new(checkpoint(masked(Relu::new().into()))), &[2, 3], "before the checkpoint"),
    ];
    for (layer, shape, word) in cases {
        let error = specs(&*layer, Type::new(DType::F32, shape)).map(|_| ()).err().map(|e| e.to_string());
        let error = error.unwrap_or_else(|| panic!("{layer:?} on {shape:?} is accepted"));
        assert!(error.contains(word), "{layer:?}: {error}");
    }
}

/// A layer's result and the gradients of the sum of its squares, for codes `[N, T]` with 0 as padding.
fn of_codes(layer: &AnyLayer, codes: &[i32], shape: [usize; 2]) -> HashMap<String, Vec<f64>> {
    let model = Sequential::new().push(Embedding::new(6, 4).padding_idx(0).mask(true)).push(layer.clone());
    let b = Builder::new();
    let x = b.constant(HostTensor::new(shape, codes).unwrap());
    let mut cx = Scope::new(&b, DType::F64, Mode::Evaluate);
    let y = model.forward(&mut cx, x);
    let (specs, parameters): (Vec<_>, Vec<_>) = cx.parameters().into_iter().unzip();
    // Of the positions that are no padding, as a loss would have it.
    let counted = match (cx.padding_mask(), y.rank()) {
        (Some(padding), 3) => padding.broadcast_in_dim(y.shape(), &[0, 1]).select(b.zeros(y.ty()), y),
        _ => y,
    };
    let gradients = (counted * counted).sum_all().grad(&parameters);
    b.output("output", Role::Data, counted);
    for (spec, gradient) in specs.iter().zip(gradients) {
        b.output(spec.name.clone(), Role::Data, gradient);
    }
    drop(cx);
    let graph = b.finish().unwrap();
    let value = |i: usize, s: &StateSpec| ((i as f64 + s.name.len() as f64) * 1.7).sin() * 0.7;
    let state: Vec<Array> =
        specs.iter().map(|s| Array::float(&s.ty, (0..s.ty.elements()).map(|i| value(i, s)).collect())).collect();
    let names = std::iter::once("output".to_owned()).chain(specs.into_iter().map(|s| s.name));
    names.zip(evaluate(&graph, &state).iter().map(Array::to_f64)).collect()
}

#[test]
fn padded_sequences_get_what_they_get_alone() {
    let both = |last: bool| Gru::new(3).num_layers(2).bidirectional(true).last_step(last);
    let layers: [AnyLayer; 9] = [
        Rnn::new(3).bidirectional(true).into(),
        both(false).into(),
        both(true).into(),
        Lstm::new(3).bidirectional(true).into(),
        Lstm::new(3).last_step(true).into(),
        MultiHeadAttention::new(2).into(),
        TransformerBlock::new(2).dim_feedforward(5).norm_first(true).causal(true).into(),
        GlobalAvgPool::new().into(),
        GlobalMaxPool::new().into(),
    ];
    for layer in &layers {
        let alone = of_codes(layer, &[3, 5, 1], [1, 3]);
        let padded = of_codes(layer, &[3, 5, 1, 0, 0], [1, 5]);
        let real = alone["output"].len();
        assert_eq!(alone["output"], padded["output"][..real], "{layer:?}");
        for (name, wanted) in alone.iter().filter(|(name, _)| *name != "output") {
            let largest = wanted.iter().fold(0.0_f64, |m, v| m.max(v.abs()));
            for (a, b) in wanted.iter().zip(&padded[name]) {
                assert!((a - b).abs() <= 1e-12 * largest, "{layer:?} {name}: {a} alone, {b} padded");
            }
        }
    }
}

#[test]
fn sequences_of_padding_alone_give_no_nan() {
    let layers: [AnyLayer; 5] = [
        Lstm::new(3).into(),
        MultiHeadAttention::new(2).into(),
        TransformerBlock::new(2).into(),
        GlobalAvgPool::new().into(),
        GlobalMaxPool::new().into(),
    ];
    for layer in &layers {
        let values = of_codes(layer, &[0, 0, 2, 0], [2, 2]);
        assert!(values.values().flatten().all(|v| v.is_finite()), "{layer:?}: {values:?}");
    }
}
