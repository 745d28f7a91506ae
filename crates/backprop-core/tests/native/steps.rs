//! Whole training steps against the oracle.

use crate::common::{distance, inputs, native, reference, run};
use backprop_core::{
    Builder, DType, Graph, HostTensor, Tensor, Type,
    graph::Role,
    op::{ConvDims, Convolution, Reducer, ScanSpec, Window, scan},
    random::{self, Randomness},
};

fn f32(shape: &[usize]) -> Type {
    Type::new(DType::F32, shape)
}

/// Gradient descent with momentum on all parameters; nothing changes unless the gradients are finite.
fn update<'g>(b: &'g Builder, loss: Tensor<'g>, parameters: &[(&str, Tensor<'g>)]) {
    let tensors: Vec<Tensor<'g>> = parameters.iter().map(|p| p.1).collect();
    let gradients = loss.grad(&tensors);
    let hyper = b.input("hyper", Role::Data, f32(&[2]));
    let entry = |i: usize| hyper.slice_dim(0, i, i + 1).reshape([]);
    let squares = gradients.iter().map(|g| (*g * *g).convert(DType::F64).sum_all());
    let norm = squares.reduce(|a, b| a + b).unwrap();
    let finite = norm.is_finite();
    for (&(name, p), &g) in parameters.iter().zip(&gradients) {
        let momentum = format!("optimizer/{name}");
        let m = b.input(&momentum, Role::State, p.ty());
        let next = m * entry(1) + g;
        b.output(&momentum, Role::State, finite.select(next, m));
        b.output(name, Role::State, finite.select(p - next * entry(0), p));
    }
    b.output("loss", Role::Data, loss);
    b.output("norm", Role::Data, norm);
}

pub fn mlp() -> Graph {
    let b = Builder::new();
    let x = b.input("x", Role::Data, f32(&[17, 20]));
    let y = b.input("y", Role::Data, f32(&[17, 5]));
    let p = |name: &str, shape: &[usize]| b.input(name, Role::State, f32(shape));
    let (w1, b1, w2, b2) = (p("w1", &[33, 20]), p("b1", &[33]), p("w2", &[5, 33]), p("b2", &[5]));
    let out = ((x.linear(w1) + b1).tanh().linear(w2) + b2).relu();
    let error = out - y;
    let loss = (error * error).mean(&[0, 1]);
    update(&b, loss, &[("w1", w1), ("b1", b1), ("w2", w2), ("b2", b2)]);
    b.finish().unwrap()
}

pub fn cnn() -> Graph {
    let b = Builder::new();
    let x = b.input("x", Role::Data, f32(&[3, 9, 8, 2]));
    let label = b.input("label", Role::Data, Type::new(DType::I32, [3]));
    let word = |name: &str, shape: &[usize]| b.input(name, Role::Data, Type::new(DType::U32, shape));
    let random = Randomness { seed: word("seed", &[2]), step: word("step", &[]), offset: word("offset", &[]), rows: None };
    let p = |name: &str, shape: &[usize]| b.input(name, Role::State, f32(shape));
    let (k1, c1, scale, shift) = (p("k1", &[6, 2, 3, 3]), p("c1", &[6]), p("scale", &[6]), p("shift", &[6]));
    let (k2, w) = (p("k2", &[4, 6, 3, 3]), p("w", &[5, 8]));
    let same = Convolution { padding: vec![(1, 1); 2], ..Convolution::new(ConvDims::channels_last(2), DType::F32) };
    let stride = Convolution { stride: vec![2, 2], ..same.clone() };
    let h = x.convolution(k1, same) + c1;
    let mean = h.mean(&[0, 1, 2]);
    let centred = h - mean;
    let variance = (centred * centred).mean(&[0, 1, 2]);
    let h = (centred * (variance + 1e-5).rsqrt() * scale + shift).relu();
    let keep = random::bernoulli(random, 11, 0.8, h.shape());
    let h = keep.select(h * 1.25, b.zeros(h.ty()));
    let pool = Window { stride: vec![1, 2, 2, 1], ..Window::new([1, 2, 2, 1]) };
    let h = h.reduce_window(Reducer::Max, pool).convolution(k2, stride);
    let logits = h.reshape([3, 2 * 2 * 4]).slice_dim(1, 0, 8).linear(w);
    let shifted = logits - logits.max(&[1]).stop_gradient().reshape([3, 1]);
    let log = shifted - shifted.exp().sum(&[1]).log().reshape([3, 1]);
    let hot = b.iota(Type::new(DType::I32, [3, 5]), 1).equal(label.reshape([3, 1]));
    let loss = -hot.select(log, b.zeros(log.ty())).sum_all() / 3.0;
    b.output("predicted", Role::Data, logits.arg_max(1).1);
    update(&b, loss, &[("k1", k1), ("c1", c1), ("scale", scale), ("shift", shift), ("k2", k2), ("w", w)]);
    b.finish().unwrap()
}

pub fn recurrent(length: usize) -> Graph {
    let b = Builder::new();
    let tokens = b.input("tokens", Role::Data, Type::new(DType::I32, [length, 4]));
    let p = |name: &str, shape: &[usize]| b.input(name, Role::State, f32(shape));
    let (table, w, u, bias) = (p("table", &[7, 6]), p("w", &[20, 6]), p("u", &[20, 5]), p("bias", &[20]));
    let x = table.rows(tokens);
    let zeros = b.zeros(f32(&[4, 5]));
    let spec = ScanSpec { length, reverse: false };
    let (last, all) = scan(&b, spec, &[w, u, bias], &[zeros, zeros], &[x], |constants, carried, slices| {
        let gates = slices[0].linear(constants[0]) + carried[0].linear(constants[1]) + constants[2];
        let gate = |i: usize| gates.slice_dim(1, 5 * i, 5 * i + 5);
        let cell = gate(1).logistic() * carried[1] + gate(0).logistic() * gate(2).tanh();
        let hidden = gate(3).logistic() * cell.tanh();
        (vec![hidden, cell], vec![hidden])
    });
    let loss = (all[0] * all[0]).sum_all() + last[1].sum_all();
    update(&b, loss, &[("table", table), ("w", w), ("u", u), ("bias", bias)]);
    b.finish().unwrap()
}

/// A block of attention over a short sequence.
pub fn attention() -> Graph {
    let b = Builder::new();
    let x = b.input("x", Role::Data, f32(&[2, 7, 12]));
    let p = |name: &str, shape: &[usize]| b.input(name, Role::State, f32(shape));
    let (q, k, v, o) = (p("q", &[12, 12]), p("k", &[12, 12]), p("v", &[12, 12]), p("o", &[12, 12]));
    fn heads(w: Tensor<'_>) -> Tensor<'_> {
        w.reshape([2, 7, 3, 4]).transpose(&[0, 2, 1, 3])
    }
    let (hq, hk, hv) = (heads(x.linear(q)), heads(x.linear(k)), heads(x.linear(v)));
    let scores = hq.matmul(hk.t()) * 0.5;
    let weights = (scores - scores.max(&[3]).stop_gradient().reshape([2, 3, 7, 1])).exp();
    let weights = weights / weights.sum(&[3]).reshape([2, 3, 7, 1]);
    let mixed = weights.matmul(hv).transpose(&[0, 2, 1, 3]).reshape([2, 7, 12]);
    let out = mixed.linear(o) + x;
    let loss = (out * out).mean(&[0, 1, 2]);
    update(&b, loss, &[("q", q), ("k", k), ("v", v), ("o", o)]);
    b.finish().unwrap()
}

/// A pooled value that an elementwise node and, after it, the sum with a convolution read: the first must not take over its memory.
pub fn residual() -> Graph {
    let b = Builder::new();
    let (x, k) = (b.input("x", Role::Data, f32(&[4, 12, 10, 8])), b.input("k", Role::State, f32(&[8, 8, 3, 3])));
    let pool = Window { stride: vec![1, 2, 2, 1], ..Window::new([1, 2, 2, 1]) };
    let same = Convolution { padding: vec![(1, 1); 2], ..Convolution::new(ConvDims::channels_last(2), DType::F32) };
    let pooled = x.reduce_window(Reducer::Max, pool);
    let bent = pooled.tanh();
    b.output("sum", Role::Data, bent.convolution(k, same) + pooled);
    b.output("samples", Role::Data, bent.sum(&[0]));
    b.finish().unwrap()
}

/// All of the above.
pub fn all() -> Vec<(&'static str, Graph)> {
    let recurrent = [0, 1, 2, 5].map(|length| ("recurrent", recurrent(length)));
    let others = [
        ("mlp", mlp()),
        ("cnn", cnn()),
        ("attention", attention()),
        ("residual", residual()),
        ("tables", crate::sparse::tables(false)),
        ("transposed tables", crate::sparse::tables(true)),
    ];
    others.into_iter().chain(recurrent).collect()
}

/// Drawn values; integers that are rates or seeds stay small, labels and tokens in range.
pub fn values(graph: &Graph) -> Vec<HostTensor> {
    let mut values = inputs(graph, 5);
    for (input, value) in graph.inputs.iter().zip(&mut values) {
        if input.name == "label" {
            *value = HostTensor::new([3], &[4i32, 0, 2]).unwrap();
        }
        if input.name == "codes" {
            *value = HostTensor::new([60], &crate::sparse::codes()).unwrap();
        }
        if input.name == "hyper" {
            *value = HostTensor::new([2], &[0.1f32, 0.9]).unwrap();
        }
    }
    values
}

#[test]
fn training_steps_agree_with_the_oracle() {
    for (name, graph) in all() {
        let values = values(&graph);
        let given = run(&native(), &graph, &values);
        for ((output, given), wanted) in graph.outputs.iter().zip(&given).zip(reference(&graph, &values)) {
            let d = distance(given, &wanted, 1e-3);
            assert!(d < 2e-5, "{name}, `{}`: {d:e}", output.name);
        }
    }
}

#[test]
fn what_is_not_finite_changes_nothing() {
    let graph = mlp();
    let mut values = values(&graph);
    values[0].as_mut_slice::<f32>().unwrap()[3] = f32::INFINITY;
    let given = run(&native(), &graph, &values);
    for (output, given) in graph.outputs.iter().zip(&given).filter(|(o, _)| o.role == Role::State) {
        let old = graph.inputs.iter().position(|i| i.name == output.name).unwrap();
        assert_eq!(given.bytes(), values[old].bytes(), "{}", output.name);
    }
}
